"""Tells the templates what a page is: its part of the book, its notebooks, its twin; and what can be downloaded."""

from pathlib import Path

from sphinx.application import Sphinx

from book import contents
from book.downloads import BILINGUAL
from book.editions import EDITIONS
from book.lab import PARTS
from book.paper import files


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
    context["paper"] = [
        (f"../paper/{file.path.name}", file.name, file.megabytes)
        for file in files.made(edition, Path(app.config.book_paper))
    ]
    context["notebooks"] = chapter and [
        (f"../notebooks/{kind}/{chapter.file}.ipynb", kind, name)
        for kind, name in (
            *((lang, EDITIONS[lang].name) for lang in EDITIONS),
            (BILINGUAL, edition.bilingual),
        )
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book_lang", "en", "html")
    app.add_config_value("book_paper", "nowhere", "html")  # where this edition's PDF and EPUB are
    app.connect("html-page-context", add_context)
    return {"parallel_read_safe": True}
