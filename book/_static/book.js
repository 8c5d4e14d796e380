// The language switch keeps the section that is being read, and the site remembers the edition.
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

localStorage.setItem("edition", document.documentElement.lang.slice(0, 2));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.language-switch");
  if (!link) return;
  link.search = location.search;
  link.hash = placeToKeep();
});
