"""Search in Chinese text, which has no spaces: every character and every pair of neighbours is a term.

Sphinx splits Chinese with a dictionary when it indexes and not at all when it searches, so that most
queries find nothing (sphinx-doc/sphinx#14229). Pairs need no dictionary and no luck: a query of any
length finds exactly the pages that contain all of its pairs.
"""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

HAN = r"\u3400-\u9fff\uf900-\ufaff"
RUN = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")


def pairs(run: str) -> list[str]:
    """The neighbouring pairs of a run of Chinese characters."""
    return [run[i : i + 2] for i in range(len(run) - 1)]


class SearchChinese(SearchEnglish):
    """Chinese by characters and pairs; the Latin words within it as in English."""

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = rf"""
var splitQuery = (query) =>
  (query.match(/[{HAN}]+|(?:(?![{HAN}])[\p{{Letter}}\p{{Number}}_])+/gu) || []).flatMap((run) =>
    /^[{HAN}]{{2}}/.test(run) ? [...run].slice(1).map((character, i) => run[i] + character) : [run]
  );
"""

    def split(self, input: str) -> list[str]:
        terms = []
        for run in RUN.findall(input):
            terms += [*run, *pairs(run)] if re.match(f"[{HAN}]", run) else [run]
        return terms


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(SearchChinese)
    return {"parallel_read_safe": True}
