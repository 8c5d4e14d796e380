"""Sphinx configuration of what is read on paper: `-t zh` for the Chinese edition, `-t pdf` for the page to be printed."""

from book.contents import BOOK
from book.editions import EDITIONS, FORMULAS
from book.paper.files import cover, mathjax

edition = EDITIONS["zh" if tags.has("zh") else "en"]  # noqa: F821  (Sphinx provides `tags`)
book_lang = edition.lang
STATIC = BOOK / "_static"

project = html_title = edition.title
author = "The DPO from Zero authors"
copyright = edition.colophon
version = "0.1.0"
language = edition.sphinx_language
extensions = ["myst_nb", "book.paper.forms", "book.paper.mathml", "book.paper.epub"]
templates_path = ["templates"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["attrs_block", "dollarmath", "amsmath"]
myst_dmath_double_inline = True
pygments_style = "friendly_grayscale" if tags.has("pdf") else "github-light"  # noqa: F821

html_theme = "basic"
html_copy_source = False
html_permalinks = False
html_use_index = False
html_context = {"edition": edition, "author": author}

if tags.has("pdf"):  # noqa: F821
    html_static_path = ["static", str(STATIC), str(BOOK.parent / "dpo_core" / "fonts")]
    html_math_renderer = "mathjax"
    mathjax_path = f"mathjax/{mathjax().name}"
    mathjax3_config = {"options": {"enableMenu": False}, "chtml": FORMULAS}
else:
    html_static_path = ["static/epub.css", str(cover(edition))]
    html_math_renderer = "mathml"

epub_basename = "book"
epub_language = edition.html_lang
epub_description = edition.tagline
epub_publisher = epub_contributor = author
epub_identifier = epub_uid = f"dpo-from-zero-{edition.lang}"
epub_theme = "epub"
epub_show_urls = "no"
epub_use_index = False
epub_tocdepth = 3
epub_tocdup = False
epub_tocscope = "includehidden"
epub_cover = (f"_static/{cover(edition).name}", "epub-cover.html")
