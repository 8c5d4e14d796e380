// What a search result quotes: the text of the chapter rather than the page around it, where the query stands.
// Sphinx looks for the stem of the query's last word ("entropi"), which the text need not contain.
"use strict";

(() => {
  /** The text of a page, or of the part of it that an anchor names, formulas as plain TeX. */
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const article = page.getElementById((anchor || "#").slice(1)) ?? page.querySelector(".bd-article, .bd-search-container");
    article.querySelectorAll(".headerlink, script, style, div.math").forEach((element) => element.remove());
    article.querySelectorAll("span.math").forEach((formula) => (formula.textContent = formula.textContent.slice(2, -2)));
    return article.textContent;
  };

  /** How the text writes a term of the query: its reference to something numbered, or the longest beginning of a stem. */
  const written = (stem, text) => {
    const reference = Search.reference(stem, text);
    if (reference) return reference;
    while (stem.length > 2 && !text.includes(stem)) stem = stem.slice(0, -1);
    return stem;
  };

  // The Chinese catalogue of Sphinx lacks the line above the results.
  if (document.documentElement.lang === "zh-CN")
    Documentation.TRANSLATIONS["Search finished, found one page matching the search query."] = Array(2).fill("找到 ${resultCount} 页。");

  const summary = Search.makeSearchSummary;
  Search.makeSearchSummary = (html, stems, anchor) => {
    const text = Search.htmlToText(html, anchor).toLowerCase();
    const query = Search.plainQuery(new URLSearchParams(location.search).get("q")).trim().toLowerCase();
    const words = text.includes(query) ? [query] : [...stems].map((stem) => written(stem, text));
    return summary(html, words, anchor);
  };
})();
