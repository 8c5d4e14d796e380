"""Formulas as MathML, for readers of books that run no scripts: the site's MathJax makes it, in a browser.

So a formula reads in an EPUB as it does on the site, and what the site can draw converts.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from book.paper import browser, files

CONVERT = "([tex, display]) => MathJax.tex2mml(tex, {display})"
OWN = re.compile(r' data-mjx-[\w-]+="[^"]*"')  # MathJax's notes to itself

# log x, not logx; but log(x): TeX knows by itself, a reader of MathML does not
APPLIED = re.compile(r"(<mo[^>]*>&#x2061;</mo>)(?!(?:<mrow>)?<mo[^>]*>[(\[])")


class Formulas:
    """Turns TeX into MathML, and remembers; the browser opens at the first formula."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, bool], str] = {}
        self.opened = ExitStack()
        self.page = None

    def convert(self, tex: str, display: bool) -> str:
        """A formula as a <math> element.

        Raises:
            NoBrowserError: there is no browser to ask.
            ValueError: MathJax does not understand the formula.
        """
        key = tex, display
        if key not in self.known:
            self.known[key] = self.ask(tex, display)
        return self.known[key]

    def ask(self, tex: str, display: bool) -> str:
        if self.page is None:
            self.page = self.opened.enter_context(browser.page())
            self.page.evaluate("window.MathJax = {startup: {typeset: false}}")
            self.page.add_script_tag(path=files.mathjax())
            self.page.evaluate("MathJax.startup.promise")
        found = self.page.evaluate(CONVERT, [tex, display])
        if "<merror" in found:
            raise ValueError(f"no formula: {tex}")
        found = re.sub(r"\n\s*", "", OWN.sub("", found))
        return APPLIED.sub(r'\1<mspace width="0.167em"></mspace>', found)

    def close(self, *event: object) -> None:
        self.opened.close()
        self.page = None


def setup(app: Sphinx) -> dict[str, bool]:
    formulas = Formulas()

    def writer(display: bool) -> Callable[[HTML5Translator, nodes.Element], None]:
        def write(translator: HTML5Translator, node: nodes.Element) -> None:
            math = formulas.convert(node.astext(), display)
            translator.body.append(f'<div class="math">{math}</div>\n' if display else math)
            raise nodes.SkipNode

        return write

    app.add_html_math_renderer("mathml", (writer(False), None), (writer(True), None))
    app.connect("build-finished", formulas.close)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
