// What tests/test_site_access.py has axe look at: a page with all folds open, in light or dark.
async (theme) => {
  await window.MathJax?.startup?.promise;
  document.documentElement.dataset.theme = theme;
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  // Colours take most of its time, and there are ten thousand words of code: of those that look alike, one is looked at.
  const words = [...document.querySelectorAll(".bd-article pre span[class]:not(:has(*))")];
  const looks = words.map((word) => {
    const { color, fontSize, fontWeight } = getComputedStyle(word);
    return [word.className, color, fontSize, fontWeight, word.closest("pre").parentElement.parentElement.className].join();
  });
  words.forEach((word, i) => looks.indexOf(looks[i]) < i && word.replaceWith(word.textContent));
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const every = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
  // What the second theme changes is colours.
  const runOnly = theme === "light" ? every : { type: "rule", values: ["color-contrast", "link-in-text-block"] };
  const { violations } = await axe.run(document, { runOnly, resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => [id, html.slice(0, 120)]));
};
