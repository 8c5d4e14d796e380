// Makes the page that holds the book ready to be printed: contents, running heads, page numbers.
"use strict";

/** Let links lead to headings: a printed page knows the place of a line, not always that of what spans pages. */
function moveIds() {
  for (const mark of document.querySelectorAll("span[id^=document-]")) { // where a page of the site begins
    const section = mark.nextElementSibling;
    section.classList.add("page");
    for (const link of document.querySelectorAll(`a[href="#${mark.id}"]`)) link.hash = section.id;
    mark.remove();
  }
  for (const heading of document.querySelectorAll("section[id] > :is(h1, h2, h3, h4)")) {
    heading.id = heading.parentElement.id;
    heading.parentElement.removeAttribute("id");
  }
}

/** Put the contents behind the title: parts, chapters, and their sections. */
function fillContents() {
  const contents = document.getElementById("contents");
  document.querySelector(".page").before(contents);
  for (const heading of document.querySelectorAll("h1, h2, h3")) {
    if (heading.parentElement.matches(".exercise")) continue;
    const link = document.createElement("a");
    link.href = `#${heading.id}`;
    link.append(document.createElement("span"));
    link.firstChild.append(...[...heading.childNodes].map((node) => node.cloneNode(true)));
    const line = document.createElement("p");
    const level = heading.parentElement.matches(".page") ? heading.tagName.slice(1) : 3;
    line.className = `level-${level}`;
    line.append(link);
    contents.append(line);
  }
}

/** Give each chapter pages of its own, with its title at their head. */
function nameHeads() {
  const style = document.createElement("style");
  document.querySelectorAll(".page").forEach((section, number) => {
    if (section.querySelector(".toctree-wrapper")) {
      section.classList.add("part");
      return;
    }
    const title = JSON.stringify(section.querySelector("h1, h2").textContent);
    section.style.page = `chapter${number}`;
    style.textContent += `@page chapter${number} { @top-left { content: ${title} } }\n`;
  });
  document.head.append(style);
}

/** Make each line of code a block, and let a page end only behind an empty line, with six lines on either side. */
function splitCode() {
  for (const code of document.querySelectorAll("pre")) {
    const lines = code.innerHTML.replace(/\n$/, "").split("\n"); // a highlighted word ends with its line
    const isEmpty = (number) => !lines[number].replace(/<[^>]*>/g, "").trim();
    const mayBreak = (number) => number > 5 && number < lines.length - 5 && isEmpty(number - 1) && !isEmpty(number);
    code.innerHTML = lines
      .map((line, number) => `<span class="line${mayBreak(number) ? " may-break" : ""}">${line}\n</span>`)
      .join("");
  }
}

/** Give each formula one shape, for all readers: MathJax has one that is seen and, as wide as it likes, one that is read. */
function settleFormulas() {
  for (const unseen of document.querySelectorAll("mjx-assistive-mml")) unseen.remove();
  for (const seen of document.querySelectorAll("mjx-math")) seen.removeAttribute("aria-hidden");
}

/** All that must be done once, before the book is printed for the first time. */
function arrange() {
  settleFormulas();
  moveIds();
  fillContents();
  nameHeads();
  splitCode();
}

/** Write into the contents, and behind the ways to an exercise or a solution, the pages they lead to. */
function showPages(numbers) {
  const words = document.documentElement.dataset.page;
  for (const link of document.querySelectorAll("#contents a, .to-solution a, .to-exercise a")) {
    const page = numbers[link.hash.slice(1)];
    if (!page) throw new Error(`no page for ${link.hash}`);
    const number = document.createElement("span");
    number.className = "page-number";
    number.textContent = link.closest("#contents") ? page : words.replace("{}", page);
    link.append(number);
  }
}
