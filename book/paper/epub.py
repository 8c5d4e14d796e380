"""Sphinx's EPUB with what its package file leaves unsaid: where MathML is, which picture is the cover, who can read it."""

import html
import re

from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder

from book.editions import EDITIONS

ITEM = re.compile(r'<item id="[^"]*" href="(?P<href>[^"]*)" media-type="[^"]*"(?= />)')
ACCESS = {  # https://www.w3.org/TR/epub-a11y-11/
    "accessMode": ("textual", "visual"),
    "accessModeSufficient": ("textual",),
    "accessibilityFeature": (
        "MathML",
        "alternativeText",
        "displayTransformability",
        "structuralNavigation",
        "tableOfContents",
    ),
    "accessibilityHazard": ("none",),
}


class BookEpub(Epub3Builder):
    """Writes the EPUB of one edition."""

    def init(self) -> None:
        """Name the parts of the book in its language: Sphinx has English words here."""
        super().init()
        edition = EDITIONS[self.config.book_lang]
        self.guide_titles = {"toc": edition.contents, "cover": edition.cover}

    def build_content(self) -> None:
        """Write the package file, and complete it."""
        super().build_content()
        path = self.outdir / "content.opf"
        package = ITEM.sub(self.with_properties, path.read_text(encoding="utf-8"))
        package = package.replace("</metadata>", f"{self.access()}  </metadata>", 1)
        path.write_text(package, encoding="utf-8")

    def with_properties(self, item: re.Match) -> str:
        """An entry of the list of files, with what reading systems want to know before they open it."""
        path = self.outdir / item["href"]
        if item["href"] == self.config.epub_cover[0]:
            return f'{item[0]} properties="cover-image"'
        if path.suffix == ".xhtml" and "<math" in path.read_text(encoding="utf-8"):
            return f'{item[0]} properties="mathml"'
        return item[0]

    def access(self) -> str:
        """By which senses the book can be read, and what it has for those who need it."""
        edition = EDITIONS[self.config.book_lang]
        facts = [(name, value) for name, values in ACCESS.items() for value in values]
        facts.append(("accessibilitySummary", html.escape(edition.access)))
        return "".join(
            f'  <meta property="schema:{name}">{value}</meta>\n' for name, value in facts
        )


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.builders.epub3")
    app.add_builder(BookEpub, override=True)
    return {"parallel_read_safe": True}
