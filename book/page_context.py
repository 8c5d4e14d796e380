"""Tells the templates what a page is: its part of the book, its notebooks and slides, its twin; and what can be had."""

from pathlib import Path

from sphinx.application import Sphinx

from book import contents
from book.downloads import BILINGUAL
from book.editions import EDITIONS
from book.lab import PARTS
from book.paper import files

SEARCH_SCRIPTS = ("search-query.js", "search-results.js")


def add_context(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Fill in what the templates of this book use beyond Sphinx's own variables."""
    edition = EDITIONS[app.config.book_lang]
    chapter = next((c for c in contents.chapters(edition) if c.file == pagename), None)
    context["edition"] = edition
    context["description"] = chapter.question if chapter else edition.tagline
    context["preview"] = f"{app.config.html_baseurl}_static/social-{edition.lang}.png"
    context["twin"] = f"../{edition.other.lang}/{pagename}.html"
    context["chapter"] = chapter
    context["lab"] = [part for part in PARTS if f'data-lab="{part}"' in context.get("body", "")]
    context["slides"] = chapter and f"../slides/{edition.lang}/{chapter.file}.html"
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
    context["machines"] = chapter and machines(
        chapter.file, edition.lang, contents.address().repository
    )
    if pagename == "search":  # the theme loads them, and the index, with every page
        for script in SEARCH_SCRIPTS:
            app.add_js_file(script, defer="defer")


def machines(file: str, lang: str, repository: str) -> list[tuple[str, str]]:
    """Where a chapter's notebook runs in the reader's language without a clone: (address, name).

    Colab opens the notebooks that the site offers for download, from the branch where the workflow puts
    them; Binder those that .binder/postBuild writes.
    """
    if not repository:
        return []
    colab = f"https://colab.research.google.com/github/{repository}/blob/notebooks"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?labpath=reading"
    return [
        (f"{colab}/{lang}/{file}.ipynb", "Colab"),
        (f"{binder}/{lang}/{file}.ipynb", "Binder"),
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book_lang", "en", "html")
    app.add_config_value("book_paper", "nowhere", "html")  # where this edition's PDF and EPUB are
    app.connect("html-page-context", add_context)
    return {"parallel_read_safe": True}
