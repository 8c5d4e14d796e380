// What a search result quotes: the text of the chapter rather than the page around it, where the query stands.
// Sphinx looks for the stem of the query's last word ("entropi"), which the text need not contain.
"use strict";

(() => {
  /** The text of a page, formulas as plain TeX. */
  Search.htmlToText = (html) => {
    const article = new DOMParser().parseFromString(html, "text/html").querySelector(".bd-article, .bd-search-container");
    article.querySelectorAll(".headerlink, script, style, div.math").forEach((element) => element.remove());
    article.querySelectorAll("span.math").forEach((formula) => (formula.textContent = formula.textContent.slice(2, -2)));
    return article.textContent;
  };

  /** The longest beginning of a stem that the text contains. */
  const written = (stem, text) => {
    while (stem.length > 2 && !text.includes(stem)) stem = stem.slice(0, -1);
    return stem;
  };

  // The Chinese catalogue of Sphinx lacks the line above the results.
  if (document.documentElement.lang === "zh-CN")
    Documentation.TRANSLATIONS["Search finished, found one page matching the search query."] = Array(2).fill("找到 ${resultCount} 页。");

  const summary = Search.makeSearchSummary;
  Search.makeSearchSummary = (html, stems, anchor) => {
    const text = Search.htmlToText(html).toLowerCase();
    const query = new URLSearchParams(location.search).get("q").trim().toLowerCase();
    const words = text.includes(query) ? [query] : [...stems].map((stem) => written(stem, text));
    return summary(html, words, anchor);
  };
})();
