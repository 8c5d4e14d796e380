// What tests/test_site_access.py has axe look at: a page with all folds open, in light or dark.
async (theme) => {
  await window.MathJax?.startup?.promise;
  document.documentElement.dataset.theme = theme;
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  // Colours take most of its time, and there are ten thousand words of code: of those that look alike, one is looked at.
  const seen = new Set();
  for (const word of document.querySelectorAll(".bd-article pre span[class]:not(:has(*))")) {
    const { color, fontSize, fontWeight } = getComputedStyle(word);
    const look = [word.className, color, fontSize, fontWeight, word.closest("pre").parentElement.parentElement.className];
    if (seen.has(look.join())) word.replaceWith(word.textContent);
    seen.add(look.join());
  }
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
  const { violations } = await axe.run(document, { runOnly: rules, resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => [id, html.slice(0, 120)]));
};
