// The language switch keeps the section that is being read, the site remembers the edition, an address or a printer
// finds what is folded, and the keyboard reaches what is pushed sideways.
"use strict";

/** The id of the section at the top of the window, or "" above the first heading below the title. */
function sectionInView() {
  const header = document.querySelector(".bd-header");
  const top = (header ? header.offsetHeight : 0) + 0.25 * window.innerHeight;
  const started = [...document.querySelectorAll(".bd-article section section[id]")]
    .filter((section) => section.getBoundingClientRect().top < top);
  return started.length ? started.at(-1).id : "";
}

/** The place to arrive at: the address's own anchor while it is in view, else the section in view. */
function placeToKeep() {
  const target = document.querySelector(":target"); // the browser reads the address, "#%" too
  if (target) {
    const { top, bottom } = target.getBoundingClientRect();
    if (bottom > 0 && top < window.innerHeight) return target.id;
  }
  return sectionInView();
}

/** Unfold the second reading that the address leads into. */
function unfoldTarget() {
  const target = document.getElementById(location.hash.slice(1));
  for (let at = target; at; at = at.parentElement) {
    if (at.matches("details")) at.open = true;
    for (const fold of at.querySelectorAll(":scope > details.second-reading")) fold.open = true;
    if (at.matches(".bd-article")) break;
  }
}

/** Make a stop for the Tab key of what is wider than its place, and of nothing else. */
function stopWhereWide(element) {
  const scrolls = ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  if (scrolls && element.scrollWidth > element.clientWidth) element.tabIndex = 0;
  else element.removeAttribute("tabindex");
}

/** Once formulas are drawn: watch what may be too wide, which changes with the window, and when a fold opens. */
async function openToAll() {
  await window.MathJax?.startup?.promise;
  const watch = new ResizeObserver((changes) => changes.forEach(({ target }) => stopWhereWide(target)));
  const wide = "pre, mjx-container, .math, figure, .pst-scrollable-table-container, .cell_output .output";
  const places = [...document.querySelectorAll(`.bd-article :is(${wide})`)];
  for (const element of places) watch.observe(element);
  // What is in a place may get narrower while the place keeps its size: then nobody tells the observer.
  const again = () => requestAnimationFrame(() => places.forEach(stopWhereWide));
  addEventListener("resize", again);
  document.addEventListener("load", again, true); // a picture that waited
  // A head that is a formula says its letters too: not every reader of a page's structure reads MathML.
  for (const head of document.querySelectorAll("th math")) head.setAttribute("aria-label", head.textContent);
}

addEventListener("load", openToAll);
addEventListener("hashchange", unfoldTarget);
addEventListener("DOMContentLoaded", unfoldTarget);
/** Make ready what a printer would lack: open what is folded and read, load what waits, take the light colours. */
function beforePrinting() {
  const page = document.documentElement.dataset;
  const folds = [...document.querySelectorAll("details:is(.second-reading, .answer):not([open])")];
  const { theme } = page;
  page.theme = "light";
  for (const fold of folds) fold.open = true;
  for (const image of document.images) image.loading = "eager";
  addEventListener("afterprint", () => {
    page.theme = theme;
    for (const fold of folds) fold.open = false;
  }, { once: true });
}

addEventListener("beforeprint", beforePrinting);

localStorage.setItem("edition", document.documentElement.lang.slice(0, 2));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.language-switch");
  if (!link) return;
  link.search = location.search;
  link.hash = placeToKeep();
});
