"""The glossary as data: its terms in each language, and where a text uses one of them.

The page book/pages/glossary.md is the only source. A chapter's first use of a term becomes a link to
it (book/aids.py), so this module also knows how a term may be written, and which words only look like
one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from book import contents
from book.languages import in_language, slug

# Other ways in which the chapters write a term, by its name in the English glossary.
ALSO = {
    "en": {
        "KL divergence": ("KL",),
        "Bradley–Terry model": ("Bradley–Terry",),
        "optimiser": ("optimizer",),
        "chosen, rejected": ("chosen answer", "rejected answer", "chosen and rejected"),
    },
    "zh": {"KL divergence": ("KL",), "Bradley–Terry model": ("Bradley–Terry",)},
}
# Terms that are everyday words too: the way in which the glossary writes them is not looked for.
NOT_BY_NAME = {"en": {"exact", "chosen", "rejected"}, "zh": {"运算"}}
# A sense that a word has in these chapters only; elsewhere it is an everyday word.
ONLY_IN = {
    "advantage": {"12_rl", "14_world"},
    "baseline": {"12_rl"},
    "clipping": {"12_rl"},
    "fused": {"13_fast"},
    "packing": {"08_tensors", "13_fast"},
    "profile": {"13_fast"},
}
# Longer words around a term that mean something else.
UNLIKE = {
    "en": (
        "Preference Optimization",
        "disagreement ties",
        "gradient checkpoint",
        "the leash slips",
        "the surprises are",
    ),
    "zh": ("在线上", "梯度检查点", "温度取", "采样器", "凸显"),
}
HAN = r"\u3400-\u9fff"


@dataclass(frozen=True)
class Term:
    name: str  # as the glossary of its language writes it
    counterpart: str  # the same in the other language; empty where there is none of its own
    meaning: str
    english: str

    @property
    def anchor(self) -> str:
        """The id of its row on the glossary page, the same in both editions."""
        return f"term-{slug(self.english)}"


@cache
def terms(lang: str) -> tuple[Term, ...]:
    """The terms of the glossary in one language, in its order: the rows below the rules of its tables."""
    found = []
    for cell in in_language(contents.read_page("glossary"), lang):
        in_body = False
        for line in cell.source.splitlines():
            if line.startswith("|") and in_body:
                name, counterpart, meaning = (part.strip() for part in line.strip("|").split("|"))
                english = name if lang == "en" else counterpart or name
                found.append(Term(name, counterpart.strip("“”"), meaning, english))
            in_body = line.startswith("|---") or (in_body and line.startswith("|"))
    return tuple(found)


def forms(term: Term, lang: str) -> Iterator[str]:
    """The ways of writing a term: each name of a row that has several, an abbreviation beside its name."""
    names = re.split(r", |、", term.name)
    for name in names:
        for part in re.split(r"[()（）]", name):
            part = part.strip().removeprefix("比较里叫")
            if part and part not in NOT_BY_NAME[lang]:
                yield part
    yield from ALSO[lang].get(term.english, ())


def written(form: str) -> str:
    """The pattern of a form: plural and capitals in words, neither in abbreviations, no part of a longer word."""
    if re.search(rf"[{HAN}]", form):
        pattern = r"\s*".join(map(re.escape, form.split()))
    else:
        pattern = re.sub(r"(?:\\?[ –-])+", r"[\\s–-]", re.escape(form))
        if not re.search(r"[A-Z].*[A-Z]", form):
            plural = r"(?:y|ies)" if form.endswith("y") and form[-2] not in "aeiou" else None
            pattern = f"(?i:{pattern[:-1] + plural if plural else pattern + '(?:e?s)?'})"
        elif not form.endswith("s"):
            pattern += "s?"
    before = r"(?<![\w–-])" if form[0].isascii() else ""
    after = r"(?![\w–-])" if form[-1].isascii() else ""
    return f"{before}{pattern}{after}"


@cache
def pattern(lang: str) -> tuple[re.Pattern, tuple[Term | None, ...]]:
    """What finds every term of a language, the longest form first, and the terms of its groups."""
    known = {form: term for term in terms(lang) for form in forms(term, lang)}
    patterns = {form: written(form) for form in known} | {
        words: f"(?i:{re.escape(words)})" for words in UNLIKE[lang]
    }
    order = sorted(patterns, key=len, reverse=True)
    whole = re.compile("|".join(f"({patterns[form]})" for form in order), re.ASCII)
    return whole, tuple(known.get(form) for form in order)


def uses(text: str, lang: str, chapter: str) -> Iterator[tuple[int, int, Term]]:
    """Where a text of a chapter uses a term: (start, end, term)."""
    whole, owners = pattern(lang)
    for match in whole.finditer(text):
        term = owners[match.lastindex - 1]
        if term and chapter in ONLY_IN.get(term.english, {chapter}):
            yield match.start(), match.end(), term
