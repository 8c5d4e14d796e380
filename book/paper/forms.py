"""The forms of a chapter (book/forms.py) as paper has them: all pages share one space of ids, and nothing folds."""

from docutils import nodes
from sphinx.application import Sphinx

from book import forms
from book.editions import EDITIONS

EPUB_TAG = (
    '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" '
    'lang="{0}" xml:lang="{0}">'
)


def anchor(label: str) -> str:
    """The id of what a label (`page--id`) names: one page may hold all pages, so that it keeps the page's name."""
    return label.lstrip("0123456789_")  # an id begins with a letter


class SectionIds(forms.SectionIds):
    """Give what a label names an id that is the only one in the book."""

    def new_id(self, label: str) -> str:
        return anchor(label)


class Citations(forms.Citations):
    """Lead a citation to its entry in the reference list, wherever that stands."""

    def place(self, key: str) -> str:
        return anchor(f"references--ref-{key}")


def on_one_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Leave in a link one anchor: on the one page Sphinx writes the page's and the section's, #document-a#b."""
    for link in doctree.findall(nodes.reference):
        if link.get("refuri", "").startswith("#document-"):
            link["refuri"] = f"#{link['refuri'].rpartition('#')[2]}"


def frame(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> str:
    """The template of a page: the page to be printed has one of its own; others say their language."""
    lang = EDITIONS[app.config.book_lang].html_lang
    context["html_tag"] = EPUB_TAG.format(lang)
    context["css_files"] = [file for file in context["css_files"] if "mystnb" not in str(file)]
    return "print.html" if app.builder.name == "singlehtml" else templatename


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book_lang", "en", "html")
    for transform in (
        SectionIds,
        forms.Callouts,
        forms.Figures,
        forms.Exercises,
        forms.Formulas,
    ):
        app.add_transform(transform)
    app.add_post_transform(Citations)
    app.connect("doctree-resolved", on_one_page)
    app.connect("html-page-context", frame)
    app.set_html_assets_policy(
        "always"
    )  # MathJax: Sphinx does not look for formulas on the one page
    return {"parallel_read_safe": True}
