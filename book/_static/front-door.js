// Opens the edition that was read last, else the first language of the browser that is one of the editions.
"use strict";

(() => {
  const editions = document.currentScript.dataset.editions.split(" ");
  const wanted = [localStorage.getItem("edition"), ...navigator.languages.map((tag) => tag.split("-")[0])];
  location.replace(`${wanted.find((edition) => editions.includes(edition)) ?? editions[0]}/index.html`);
})();
