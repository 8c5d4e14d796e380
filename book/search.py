"""The search of both editions: what a page's text, and a query, are made into before they are compared.

Sphinx splits Chinese with a dictionary when it indexes and not at all when it searches, so that most
queries find nothing (sphinx-doc/sphinx#14229). Here every character and every pair of neighbours is a
term. Pairs need no dictionary and no luck: a query of any length finds exactly the pages that contain
all of its pairs. Sphinx also drops numbers from a query; here 9.2 is one term, and "figure 9.2" another.

_static/search-query.js does to a query what is done here to the text.
"""

import json
import re
import unicodedata
from functools import cache

import opencc
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

HAN = r"\u3400-\u9fff\uf900-\ufaff"
NUMBER = r"[0-9]+(?:\.[0-9]+)*"
PARTED = r"[0-9]+(?:\.[0-9]+)+"  # 9.2, 0.25
RUN = re.compile(rf"[{HAN}]+|{PARTED}|[^\W{HAN}]+")
# What has numbers, and how that is written: the book's own equations have two parts, those that it cites mostly one.
# Patterns for Python and JavaScript alike; the number is their only group.
NUMBERED = {
    kind: rf"(?:{words})\s*[(（]?({NUMBER})[)）]?"
    for kind, words in {
        "figure": r"\bfig(?:ure)?s?\b\.?|图",
        "equation": r"\beq(?:n|uation)?s?\b\.?|公?式",
        "exercise": r"\bexercises?\b|练习",
    }.items()
}


@cache
def simplified() -> dict[str, str]:
    """The simplified character of each traditional one."""
    han = [
        character
        for character in map(chr, range(0x3400, 0xFB00))
        if re.match(f"[{HAN}]", character)
    ]
    converted = opencc.OpenCC("t2s").convert("\n".join(han)).split("\n")
    return {before: after for before, after in zip(han, converted, strict=True) if before != after}


@cache
def simplifying() -> dict[int, str]:
    """`simplified` as the table that `str.translate` takes; a build asks for it at every piece of text."""
    return str.maketrans(simplified())


def plain(text: str) -> str:
    """The text in ordinary width and simplified characters."""
    return unicodedata.normalize("NFKC", text).translate(simplifying())


def pairs(run: str) -> list[str]:
    """The neighbouring pairs of a run of Chinese characters."""
    return [run[i : i + 2] for i in range(len(run) - 1)]


def terms(text: str) -> list[str]:
    """The terms under which a text is found."""
    text = plain(text)
    found = [
        f"{kind} {number}"
        for kind, pattern in NUMBERED.items()
        for number in re.findall(pattern, text, re.ASCII | re.IGNORECASE)
    ]
    for run in RUN.findall(text):
        found += [*run, *pairs(run)] if re.match(f"[{HAN}]", run) else [run]
    return found


class SearchBook(SearchEnglish):
    """Chinese by characters and pairs; Latin words, in both editions, as Sphinx treats English."""

    def init(self, options: dict[str, set[str]]) -> None:
        """Write down for search-query.js what it shares with this file."""
        super().init(options)
        written = set(plain("".join([*options["characters"], *NUMBERED.values()])))
        shared = {
            "han": HAN,
            "number": NUMBER,
            "parted": PARTED,
            "numbered": NUMBERED,
            "simplified": {old: new for old, new in simplified().items() if new in written},
        }
        self.js_splitter_code = f"var BOOK_SEARCH = {json.dumps(shared, ensure_ascii=False)};"

    def split(self, input: str) -> list[str]:
        return terms(input)


class SearchEnglishEdition(SearchBook):
    lang = "en"


class SearchChineseEdition(SearchBook):
    lang = "zh"


def collect_characters(app: Sphinx, doctree: nodes.document) -> None:
    """Let the search know the characters of the book: the page is sent no others."""
    options = app.config.html_search_options
    options["characters"] = options.get("characters", set()) | set(doctree.astext())


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(SearchEnglishEdition)
    app.add_search_language(SearchChineseEdition)
    app.connect("doctree-read", collect_characters)
    return {"parallel_read_safe": False}  # the characters are collected in one process
