"""The rules that keep the two languages together: what an English cell and its Chinese twin must have in common.

A rule is a function of two Markdown texts that returns what differs, as a line for the author, or None. `compare`
applies all of them; `pair` walks through the cells of a file. tests/typography.py has the rules about one language.
"""

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import prose
import typography

# Pages that exist in each language; a link to one of a pair is compared as far as the pair goes.
SAME_PAGE = [
    ("https://en.wikipedia.org/", "https://zh.wikipedia.org/"),
    ("https://docs.python.org/3/", "https://docs.python.org/zh-cn/3/"),
    ("https://d2l.ai/", "https://zh.d2l.ai/"),
    ("https://zh-v2.d2l.ai/", "https://d2l.ai/"),
    ("README.md", "README.zh.md"),
]
FORMS = {
    "the card": ("> **In this chapter.**", "> **本章。**"),
    "the paragraph to remember": ("> **To remember.**", "> **记住。**"),
    "what the toy hides": ("> **What the toy hides.**", "> **玩具没告诉你的。**"),
    "a question": ("> **Before you run it.**", "> **先猜一猜。**"),
    "its answer": ("<summary>Answer</summary>", "<summary>答案</summary>"),
    "hint": ("<summary>Hint</summary>", "<summary>提示</summary>"),
    "solution": ("<summary>Solution</summary>", "<summary>解答</summary>"),
}
NUMBERED = {
    "figure": (r"\*\*Figure (\d+\.\d+)\.\*\*", r"\*\*图 (\d+\.\d+)\*\*"),
    "exercise": (r"^### Exercise (\d+\.\d+) · ", r"^### 练习 (\d+\.\d+) · "),
}
COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*$")  # in a fenced block of code
UNITS = {  # powers of ten
    "k": 3,
    "K": 3,
    "M": 6,
    "B": 9,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
    "千": 3,
    "万": 4,
    "百万": 6,
    "亿": 8,
    "万亿": 12,
}
NUMERAL = re.compile(
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<unit>[kKMB](?![A-Za-z0-9])| ?(?:thousand|million|billion|trillion)\b| ?(?:万亿|百万|千|万|亿))?"
)


@dataclass(frozen=True)
class Fault:
    """One broken rule, told so that an author can act: place, rule, what is wrong, and the texts."""

    where: str
    rule: str
    detail: str
    texts: tuple = ()

    def __str__(self):
        texts = ("    " + text.replace("\n", "\n    ") for text in self.texts)
        return "\n".join([f"{self.where}: {self.rule}: {self.detail}", *texts])


def differ(en, zh):
    """What two sequences have that the other lacks, as a line; None if they hold the same, in whatever order."""
    only_en, only_zh = Counter(en) - Counter(zh), Counter(zh) - Counter(en)
    parts = [
        f"only in {language}: {', '.join(map(str, only.elements()))}"
        for language, only in (("English", only_en), ("Chinese", only_zh))
        if only
    ]
    return "; ".join(parts) or None


def headings(en, zh):
    """The same headings, level by level."""
    levels = [
        [len(mark) for mark in re.findall(r"^(#{1,6}) ", prose.without_code(text), re.M)]
        for text in (en, zh)
    ]
    return (
        None if levels[0] == levels[1] else f"levels {levels[0]} in English, {levels[1]} in Chinese"
    )


def citations(en, zh, bibliography=frozenset()):
    """The same works cited equally often: links whose address is in the bibliography."""
    return differ(
        *([link for link in prose.targets(text) if link in bibliography] for text in (en, zh))
    )


def links(en, zh, bibliography=frozenset()):
    """The other links lead to the same places, or to the two languages of one page."""

    def place(target):
        base = target.partition("#")[0] or "#"  # a section's name has a language
        return next((pair[0] for pair in SAME_PAGE if base.startswith(pair)), base)

    return differ(
        *(
            [place(link) for link in prose.targets(text) if link not in bibliography]
            for text in (en, zh)
        )
    )


def labels(en, zh):
    """The same labels: the book's forms, figures, exercises, anchors, labelled and tagged equations."""
    found = []
    for side, text in enumerate((en, zh)):
        text = prose.FENCE.sub("", text)
        names = [name for name, forms in FORMS.items() for _ in range(text.count(forms[side]))]
        names += [
            f"{name} {n}"
            for name, forms in NUMBERED.items()
            for n in re.findall(forms[side], text, re.M)
        ]
        names += [
            f"id {name}" for name in re.findall(r"<\w+[^<>]*\b(?:id|name)=\"([^\"]+)\"", text)
        ]
        names += re.findall(r"\\(?:label|tag)\{[^{}]*\}", text)
        found.append(names)
    return differ(*found)


def mathematics(en, zh):
    """The same display mathematics in the same order, but for spaces, final punctuation and words."""

    def bare(formula):
        formula = re.sub(r"\\(?:text(?:rm|it|bf)?|mbox)\{(?:[^{}]|\{[^{}]*\})*\}", "", formula)
        formula = re.sub(r"\s|^>", "", formula.replace("\n>", "\n"))
        return re.sub(r"[.,;:。，；：]+(?=(?:\\end\{\w+\*?\})*$)", "", formula)

    ours, theirs = ([bare(formula) for formula in prose.displayed(text)] for text in (en, zh))
    if len(ours) != len(theirs):
        return f"{len(ours)} formulas in English, {len(theirs)} in Chinese"
    return next(
        (f"{a}  is in Chinese  {b}" for a, b in zip(ours, theirs, strict=True) if a != b), None
    )


def code(en, zh):
    """The same fenced blocks, but for comments, which are in the page's language."""
    ours, theirs = (
        [(language, COMMENT.sub("", body)) for language, body in prose.fenced(text)]
        for text in (en, zh)
    )
    if len(ours) != len(theirs):
        return f"{len(ours)} blocks in English, {len(theirs)} in Chinese"
    return next(
        (
            f"block {n} differs"
            for n, (a, b) in enumerate(zip(ours, theirs, strict=True), 1)
            if a != b
        ),
        None,
    )


def numerals(en, zh):
    """The same Arabic numerals in the prose; 1,200 is 1200, and 10 thousand is 1 万. Numbers in words are words."""
    return differ(*(list(map(_value, NUMERAL.finditer(prose.words(text)))) for text in (en, zh)))


def _value(found):
    digits = found["digits"].replace(",", "")
    digits = f"0{digits}" if digits.startswith(".") else digits
    if not found["unit"]:
        return digits
    return format((Decimal(digits).scaleb(UNITS[found["unit"].strip()])).normalize(), "f")


def folds(en, zh):
    """The same number of folded blocks, each closed."""
    counts = [
        (text.count("<details"), text.count("</details>"))
        for text in map(prose.without_code, (en, zh))
    ]
    if counts[0] == counts[1] and counts[0][0] == counts[0][1]:
        return None
    return "<details> opened and closed: {} and {} in English, {} and {} in Chinese".format(
        *counts[0], *counts[1]
    )


RULES = {
    rule.__name__: rule
    for rule in (headings, citations, links, labels, mathematics, code, numerals, folds)
}


def compare(en, zh, bibliography=frozenset(), free=False):
    """(rule, detail) for each rule that the twin texts break. `free` twins may differ in numerals."""
    for name, rule in RULES.items():
        if name == "numerals" and free:
            continue
        extra = (bibliography,) if name in ("citations", "links") else ()
        if detail := rule(en, zh, *extra):
            yield name, detail


def pair(cells, bibliography=frozenset()):
    """Every Fault of a file: cells without their twin, twins that differ, and each language's own rules."""
    faults, waiting = [], None  # waiting: an English cell whose twin is due
    for cell in [*cells, None]:
        lang = cell.lang if cell else None
        if waiting and lang != "zh":
            faults.append(
                _fault(waiting, "twin", "an English cell without a Chinese one right after it")
            )
        elif waiting:
            faults += _differences(waiting, cell, bibliography)
        elif lang == "zh":
            faults.append(
                _fault(cell, "twin", "a Chinese cell without an English one right before it")
            )
        if lang not in (None, "en", "zh"):
            faults.append(_fault(cell, "lang", f"lang is {lang!r}, neither en nor zh"))
        waiting = cell if lang == "en" else None
        if cell:
            faults += _within(cell)
    return faults


def _differences(en, zh, bibliography):
    free = any(cell.metadata.get("free") for cell in (en, zh))
    found = compare(en.source, zh.source, bibliography, free)
    return [Fault(en.where, rule, detail, (en.source, zh.source)) for rule, detail in found]


def _within(cell):
    """Faults of one cell alone: its language's typography, and the texts of its metadata as twins of their own."""
    for key, name in (("alt", "alt texts"), ("checked", "what was checked")):
        texts = {lang: cell.metadata.get(f"{key}_{lang}", "") for lang in ("en", "zh")}
        if detail := numerals(texts["en"], texts["zh"]):
            yield Fault(cell.where, name, detail, tuple(texts.values()))
        for lang, text in texts.items():
            for rule, why in typography.faults(text, lang):
                yield Fault(cell.where, f"{key}_{lang}: {rule}", why, (text,))
    if cell.lang in ("en", "zh"):
        yield from (
            _fault(cell, rule, why) for rule, why in typography.faults(cell.source, cell.lang)
        )


def _fault(cell, rule, detail):
    return Fault(cell.where, rule, detail, (cell.source,))
