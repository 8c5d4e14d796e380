// Shows what a link of the text leads to, in a small card beside it: a term's meaning, a figure, an equation, a
// chapter's question, a cited work. The mouse rests on the link, the keyboard reaches it, a finger taps it; Escape
// closes the card. What the cards say comes from scripts that the build wrote (book/aids.py), loaded when wanted.
"use strict";

(() => {
  const { src, dataset: words } = document.currentScript;
  const LINKS = ".bd-article :is(a.term, a.xref, a.citation)";
  const OPENS_AFTER = 250; // milliseconds that the mouse rests
  const CLOSES_AFTER = 250; // enough to reach the card
  const SMALLEST = 0.65; // of the text's size, for a formula that is wider than its card
  const loaded = {};
  let card, text, more, owner, timer;

  /** The cards of the glossary, or of a chapter: {anchor: what its card shows}. */
  function cardsOf(name) {
    loaded[name] ??= new Promise((resolve, reject) => {
      const file = name === "glossary" ? "glossary.js" : `previews/${name}.js`;
      const script = Object.assign(document.createElement("script"), { src: new URL(file, src) });
      script.onload = () => resolve(window.BOOK_CARDS[name]);
      script.onerror = reject;
      document.head.append(script);
    });
    return loaded[name];
  }

  /** A new element with these properties and contents. */
  function element(name, properties = {}, ...contents) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...contents);
    return made;
  }

  /** What the card of a link shows, as elements; none where there is nothing to show. */
  async function contents(link) {
    if (link.matches(".citation")) return [element("p", { textContent: link.dataset.work })];
    const page = link.pathname.split("/").at(-1).replace(".html", "");
    const anchor = decodeURIComponent(link.hash.slice(1));
    const found = (await cardsOf(page))[anchor];
    if (!found) return [];
    if (link.matches(".term")) {
      const [name, counterpart, meaning] = found;
      const other = { className: "aid-other", textContent: counterpart, lang: words.otherLang };
      const head = [element("strong", { textContent: name }), " ", element("span", other)];
      return [element("p", {}, ...head), element("p", { textContent: meaning })];
    }
    const shown = [];
    if (found.title) shown.push(element("p", {}, element("strong", { textContent: found.title })));
    if (found.image) {
      const picture = { src: new URL(`../${found.image}`, src), alt: found.alt };
      shown.push(element("img", { ...picture, onload: () => owner && place() }));
    }
    if (found.tex) shown.push(element("div", { className: "math", textContent: `\\[${found.tex}\\]` }));
    if (found.text) shown.push(element("p", { innerHTML: found.text }));
    return shown;
  }

  /** The one card of the page. Its text describes the link; the way onward below it is for fingers. */
  function makeCard() {
    text = element("div", { id: "aid-text", role: "tooltip" });
    more = element("a", { className: "aid-more", tabIndex: -1 });
    card = element("div", { className: "aid", hidden: true }, text, more);
    card.popover = "manual"; // above everything, where the browser can
    card.addEventListener("pointerenter", () => clearTimeout(timer));
    card.addEventListener("pointerleave", closeSoon);
    document.getElementById("main-content").append(card);
  }

  /** Put the card below the line of its link, or above it where only there is room; no higher than the room is. */
  function place() {
    const gap = 8;
    const line = owner.getClientRects()[0];
    const page = document.documentElement.clientWidth;
    const header = document.querySelector(".bd-header")?.getBoundingClientRect().bottom ?? 0;
    const [under, over] = [innerHeight - line.bottom, line.top - header].map((room) => room - 2 * gap);
    card.style.maxHeight = "";
    const below = under >= over || card.offsetHeight <= under;
    card.style.maxHeight = `${Math.max(below ? under : over, 160)}px`;
    const { width, height } = card.getBoundingClientRect();
    card.style.left = `${scrollX + Math.max(gap, Math.min(line.left - gap, page - width - gap))}px`;
    card.style.top = `${scrollY + (below ? line.bottom + gap : line.top - gap - height)}px`;
  }

  async function open(link) {
    clearTimeout(timer);
    if (owner === link) return;
    close();
    owner = link;
    const shown = await contents(link).catch(() => []);
    if (owner !== link || shown.length === 0) return;
    if (!card) makeCard();
    text.replaceChildren(...shown);
    more.href = link.href;
    more.textContent = link.matches(".term") ? words.glossary : words.onward;
    card.className = "aid";
    card.classList.toggle("aid-figure", shown.some(({ localName }) => localName === "img"));
    card.classList.toggle("aid-equation", shown.some(({ className }) => className === "math"));
    card.hidden = false;
    card.showPopover?.();
    link.setAttribute("aria-describedby", text.id);
    place();
    if (text.querySelector(".math") && window.MathJax?.typesetPromise) {
      await MathJax.startup.promise;
      await MathJax.typesetPromise([text]);
      for (const { scrollWidth, clientWidth, parentElement } of text.querySelectorAll("mjx-container[display]")) {
        if (scrollWidth > clientWidth) parentElement.style.fontSize = `${Math.max(SMALLEST, clientWidth / scrollWidth)}em`;
      }
      if (owner === link) place();
    }
  }

  function close() {
    clearTimeout(timer);
    owner?.removeAttribute("aria-describedby");
    owner = undefined;
    if (!card || card.hidden) return;
    window.MathJax?.typesetClear?.([text]);
    card.hidePopover?.();
    card.hidden = true;
  }

  function closeSoon() {
    clearTimeout(timer);
    timer = setTimeout(close, CLOSES_AFTER);
  }

  /** The link with a card that an event is about. */
  const linkOf = (event) => event.target.closest?.(LINKS);

  document.addEventListener("pointerover", (event) => {
    const link = linkOf(event);
    if (!link || event.pointerType !== "mouse") return;
    clearTimeout(timer);
    timer = setTimeout(() => open(link), OPENS_AFTER);
  });
  document.addEventListener("pointerout", (event) => {
    if (linkOf(event) && event.pointerType === "mouse") closeSoon();
  });
  document.addEventListener("focusin", (event) => {
    const link = linkOf(event);
    if (link?.matches(":focus-visible")) open(link);
  });
  document.addEventListener("focusout", (event) => {
    if (linkOf(event) === owner) closeSoon();
  });

  let pointer = "mouse";
  document.addEventListener("pointerdown", (event) => {
    pointer = event.pointerType;
    if (owner && !event.target.closest?.(".aid") && linkOf(event) !== owner) close();
  }, true);
  document.addEventListener("click", (event) => {
    const link = linkOf(event);
    if (link && pointer !== "mouse" && link !== owner) { // the first tap shows, the second leads there
      event.preventDefault();
      open(link);
    } else if (event.target.closest?.("a")) close();
    pointer = "mouse"; // a click without a pointer is the keyboard's
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  addEventListener("beforeprint", close);
  addEventListener("resize", close);

  document.addEventListener("DOMContentLoaded", () => {
    for (const link of document.querySelectorAll("a.citation[title]")) {
      link.dataset.work = link.title; // shown in the card, to fingers and keyboards too
      link.removeAttribute("title");
    }
    // at hand before a screen reader asks for the first description
    const ahead = () => cardsOf("glossary").catch(() => {});
    if (document.querySelector("a.term")) (window.requestIdleCallback ?? setTimeout)(ahead);
  });
})();
