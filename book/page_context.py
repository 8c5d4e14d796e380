"""Tells the templates what a page is: its part of the book, its notebooks, its slides, its twin."""

from sphinx.application import Sphinx

from book import contents
from book.downloads import BILINGUAL
from book.editions import EDITIONS
from book.lab import PARTS


def add_context(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Fill in what the templates of this book use beyond Sphinx's own variables."""
    edition = EDITIONS[app.config.book_lang]
    chapter = next((c for c in contents.chapters(edition) if c.file == pagename), None)
    context["edition"] = edition
    context["twin"] = f"../{edition.other.lang}/{pagename}.html"
    context["chapter"] = chapter
    context["lab"] = [part for part in PARTS if f'data-lab="{part}"' in context.get("body", "")]
    context["slides"] = chapter and f"../slides/{edition.lang}/{chapter.file}.html"
    context["notebooks"] = chapter and [
        (f"../notebooks/{kind}/{chapter.file}.ipynb", kind, name)
        for kind, name in (
            *((lang, EDITIONS[lang].name) for lang in EDITIONS),
            (BILINGUAL, edition.bilingual),
        )
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book_lang", "en", "html")
    app.connect("html-page-context", add_context)
    return {"parallel_read_safe": True}
