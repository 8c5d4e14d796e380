// Remembers which sections were read to their end: in this browser's own storage, and nowhere else. Navigation and
// home page show it; the home page has the button that forgets it. Both editions share it: their sections have the
// same ids.
"use strict";

(() => {
  const KEY = "progress"; // {chapter: {of: how many sections it has, read: [their ids]}, last: [chapter, section]}
  const words = document.currentScript.dataset;
  const chapter = location.pathname.split("/").at(-1).replace(".html", "");
  const chapterOf = (link) => link.getAttribute("href").split("#")[0].replace(".html", "") || chapter;

  /** What is remembered; nothing, where somebody else wrote something else. */
  function remembered() {
    try {
      const kept = Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {});
      return Object.fromEntries(kept.filter(([name, value]) => Array.isArray(name === "last" ? value : value?.read)));
    } catch {
      return {};
    }
  }

  /** The sections of the page that its main road consists of; second readings and lists of works stand beside it. */
  function mainRoad() {
    const beside = (section) => /^(exercises|references)$/.test(section.id)
      || section.querySelector(":scope > details.second-reading");
    return [...document.querySelectorAll(".bd-article > section > section[id]")].filter((section) => !beside(section));
  }

  /** Whether the end of a section stands where one reads: not on the way out at the top. */
  function ends(section) {
    const { bottom } = section.getBoundingClientRect();
    return bottom > 0.3 * innerHeight && bottom < innerHeight;
  }

  /** Note, every second, the sections whose end was in view a second ago and still is. */
  function watch() {
    const sections = mainRoad();
    let before = [];
    setInterval(() => {
      if (document.hidden) return;
      const now = sections.filter(ends);
      const stayed = now.filter((section) => before.includes(section)).map(({ id }) => id);
      before = now;
      const kept = remembered();
      const read = new Set(kept[chapter]?.read);
      if (stayed.every((id) => read.has(id) && kept.last?.[1] === id)) return;
      stayed.forEach((id) => read.add(id));
      const there = sections.map(({ id }) => id).filter((id) => read.has(id)); // a section may have got another name
      kept[chapter] = { of: sections.length, read: there };
      kept.last = [chapter, stayed.at(-1)];
      localStorage.setItem(KEY, JSON.stringify(kept));
      show();
    }, 1000);
  }

  /** A new element of a class, with a text. */
  function element(name, className, text = "") {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  /** Put a mark after a link: a tick, or a ring that fills; and say the same in words. */
  function mark(link, read, of) {
    const done = read >= of;
    const sign = element("span", done ? "read-sign" : "read-sign read-part", done ? "✓" : "");
    sign.style.setProperty("--part", `${Math.round((100 * read) / of)}%`);
    sign.ariaHidden = "true";
    const said = done ? words.read : words.part.replace("{read}", read).replace("{of}", of);
    link.append(sign, element("span", "visually-hidden", ` (${said})`));
    sign.title = said;
  }

  /** Show what is remembered: in the navigation, in the page's own contents, and on the home page. */
  function show() {
    document.querySelectorAll(".read-sign, .read-sign + .visually-hidden, .read-note").forEach((old) => old.remove());
    const kept = remembered();
    for (const link of document.querySelectorAll(".bd-links li > a[href], ol.map a[href]")) {
      const { read, of } = kept[chapterOf(link)] ?? {};
      if (read?.length) mark(link, read.length, of);
    }
    for (const link of document.querySelectorAll(".page-toc .toc-h2 > a[href^='#']"))
      if (kept[chapter]?.read?.includes(link.hash.slice(1))) mark(link, 1, 1);
    const map = document.querySelector("p.map-part");
    if (map && kept.last) map.before(note(kept.last));
  }

  /** The line of the home page: where one was, who knows of it, and the button that forgets it. */
  function note([file, section]) {
    const line = element("p", "read-note");
    const entry = [...document.querySelectorAll(".bd-links a[href]")].find((link) => chapterOf(link) === file);
    const back = element("a", "", entry?.firstChild.textContent ?? file);
    back.href = `${encodeURIComponent(file)}.html#${encodeURIComponent(section)}`;
    const forget = element("button", "", words.forget);
    forget.type = "button";
    forget.addEventListener("click", () => {
      localStorage.removeItem(KEY);
      show();
    });
    line.append(`${words.last} `, back, ` · ${words.where} `, forget);
    return line;
  }

  document.addEventListener("DOMContentLoaded", () => {
    show();
    if (/^\d\d_/.test(chapter)) watch();
  });
  addEventListener("storage", ({ key }) => {
    if (key === KEY) show(); // read in another window
  });
})();
