"""Where a text mentions a chapter, a figure, an equation or an exercise by its number.

"Figure 9.2", "chapters 5 to 8", "eq. (7.3)", 「图 9.2」「第 6、7 章」「式 7.3」: a number alone is a mention
only in a list that begins with the word.
"""

import re
from collections.abc import Iterator

PARTED = r"[0-9]+\.[0-9]+"
WORDS = {
    "en": {
        "figure": r"[Ff]ig(?:ures?|s?\.)",
        "equation": r"[Ee]q(?:uations?|n?s?\.)",
        "exercise": r"[Ee]xercises?",
    },
    "zh": {"figure": "图", "equation": "公?式", "exercise": "练习"},
}
AND = {"en": r"(?:, and|,| and| to| or|–) ?", "zh": r" ?(?:、|，|和|与|或|到) ?"}
CHAPTERS = {
    "en": re.compile(rf"\b[Cc]hapters? [0-9]+\b(?!\.[0-9])(?:{AND['en']}[0-9]+\b(?!\.[0-9]))*"),
    "zh": re.compile(rf"第 ?[0-9]+(?:{AND['zh']}[0-9]+)* ?章"),
}
ANCHOR = {"figure": "fig", "equation": "eq", "exercise": "exercise"}


def numbered(word: str, lang: str) -> re.Pattern:
    """The pattern of a word with a number of two parts, or with a list of them."""
    number = rf"(?:[(（]{PARTED}[)）]|{PARTED})"
    begin = r"\b" if lang == "en" else ""
    return re.compile(rf"{begin}{word}\s?{number}(?:{AND[lang]}{number})*")


PATTERNS = {
    lang: {"chapter": CHAPTERS[lang]}
    | {kind: numbered(word, lang) for kind, word in WORDS[lang].items()}
    for lang in WORDS
}


def mentions(text: str, lang: str) -> Iterator[tuple[int, int, str, str]]:
    """The mentions in a text, in their order: (start, end, kind, number).

    A single mention covers its word, "Figure 9.2"; in a list, each number is one.
    """
    found = []
    for kind, pattern in PATTERNS[lang].items():
        for match in pattern.finditer(text):
            numbers = list(re.finditer(r"[0-9]+(?:\.[0-9]+)?", match[0]))
            for number in numbers:
                alone = len(numbers) == 1
                start, end = (
                    match.span()
                    if alone
                    else (
                        match.start() + number.start(),
                        match.start() + number.end(),
                    )
                )
                found.append((start, end, kind, number[0]))
    return iter(sorted(found))
