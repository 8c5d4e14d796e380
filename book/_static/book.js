// The language switch keeps the section that is being read, the site remembers the edition, and an address or a
// printer finds what is folded.
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

addEventListener("hashchange", unfoldTarget);
addEventListener("DOMContentLoaded", unfoldTarget);
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.second-reading")) fold.open = true;
});

localStorage.setItem("edition", document.documentElement.lang.slice(0, 2));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.language-switch");
  if (!link) return;
  link.search = location.search;
  link.hash = placeToKeep();
});
