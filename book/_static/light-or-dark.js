// Sets light or dark before a page is drawn: as the reader chose, else as the system says. The theme's own script comes
// when the page is there, which would flash.
"use strict";

(() => {
  const mode = localStorage.getItem("mode");
  const page = document.documentElement.dataset;
  page.mode = ["light", "dark"].includes(mode) ? mode : "auto";
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  page.theme = page.mode === "auto" ? system : page.mode;
})();
