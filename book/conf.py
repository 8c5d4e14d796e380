"""Sphinx configuration of both editions; `sphinx -t zh` builds the Chinese one. `python -m book.build` calls it."""

from book.contents import address
from book.editions import EDITIONS, FORMULAS

edition = EDITIONS["zh" if tags.has("zh") else "en"]  # noqa: F821  (Sphinx provides `tags`)
book_lang = edition.lang

project = edition.title
author = "DPO from Zero"
language = edition.sphinx_language
extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "book.forms",
    "book.aids",
    "book.search",
    "book.page_context",
]
templates_path = ["_templates"]

# Chapters: stored outputs, plain Markdown with dollar mathematics.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = edition.show_code
nb_code_prompt_hide = edition.hide_code
myst_enable_extensions = ["attrs_block", "dollarmath", "amsmath"]
myst_dmath_double_inline = True

html_theme = "pydata_sphinx_theme"
html_title = edition.title
# Where the site will stand, for those who show a link to it with its picture; the pages do not need it.
html_baseurl = f"{url}{edition.lang}/" if (url := address().url) else ""
html_static_path = ["_static"]
html_css_files = [f"css/{name}.css" for name in ("type", "look", "parts", "aids", "print")]
html_js_files = [
    # after Sphinx's own scripts (200), before its catalogue (500)
    ("plurals.js", {"priority": 400}),
    "book.js",
    (
        "aids.js",
        {
            "defer": "defer",
            "data-glossary": edition.in_glossary,
            "data-onward": edition.onward,
            "data-other-lang": edition.other.html_lang,
        },
    ),
    (
        "progress.js",
        {
            "defer": "defer",
            "data-read": edition.read,
            "data-part": edition.read_part,
            "data-last": edition.read_last,
            "data-where": edition.read_where,
            "data-forget": edition.forget,
        },
    ),
]
html_favicon = "_static/mark.svg"
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_sidebars = {"**": ["book-nav.html"]}
# light or dark as the system says, until the reader chooses
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {
        "text": edition.title,
        "image_light": "_static/mark.svg",
        "image_dark": "_static/mark.svg",
        "alt_text": "",
    },
    "search_bar_text": edition.search_prompt,
    "navbar_align": "left",
    "navbar_center": [],
    "navbar_persistent": ["search-button", "language-switch"],
    "navbar_end": ["light-or-dark"],
    "primary_sidebar_end": [],
    "article_header_start": ["page-place"],
    "article_header_end": ["notebook-links"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["colophon"],
    "footer_end": [],
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "back_to_top_button": False,
}

# Mathematics: the vendored MathJax 3, without its menu, which would make every formula a stop for the
# Tab key; screen readers get MathML without it.
mathjax_path = "mathjax/mathjax.js"
mathjax3_config = {"chtml": FORMULAS}
