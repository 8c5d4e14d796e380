// What tests/test_site.py asks of a page once it is drawn; formulas are drawn when MathJax says so.
async () => {
  await window.MathJax?.startup?.promise;
  const pictures = [...document.querySelectorAll(".bd-article img")];
  await Promise.all(pictures.map((image) => ((image.loading = "eager"), image.decode().catch(() => {}))));
  const all = (selector, take) => [...document.querySelectorAll(selector)].map(take);
  const prose = document.querySelector(".bd-article").cloneNode(true);
  prose.querySelectorAll("pre, code, mjx-container, .math").forEach((element) => element.remove());
  return {
    lang: document.documentElement.lang,
    title: document.title,
    width: document.documentElement.scrollWidth,
    ids: all("[id]", (element) => element.id),
    sections: all(".bd-article section[id], .bd-article figure[id]", (element) => element.id),
    links: all("a[href], link[rel=stylesheet], link[rel=icon]", (element) => element.href),
    images: all(".bd-article img", (image) => [image.alt, image.naturalWidth]),
    formulas: all(".bd-article .math", (element) => element.querySelectorAll("mjx-container").length),
    errors: all("mjx-merror, .bd-article .problematic, .bd-article .system-message", (element) => element.textContent),
    copy: all(".bd-article .cell_input", (cell) => cell.querySelectorAll("button.copybtn").length),
    exercises: all("section.exercise", (section) => section.id),
    solutions: all("details.solution", (fold) => fold.closest("section.exercise")?.id),
    back: all("p.to-exercise a", (link) => link.hash),
    callouts: all(".callout", (card) => ["opening", "remember", "hides"].find((kind) => card.classList.contains(kind))),
    figures: all("figure.book-figure:has(img):has(figcaption)", (figure) => figure.id),
    notebooks: all(".notebook-links a", (link) => link.href),
    prose: prose.textContent,
    next: document.querySelector("a.right-next")?.href,
  };
}
