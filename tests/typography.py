"""What each language's own typography asks: spaces, punctuation and words, in Chinese; no Chinese, in English."""

import re

import prose

HAN = r"[\u3400-\u4dbf\u4e00-\u9fff]"
FULL_WIDTH = r"[\u3000-\u303f\uff01-\uff60]"
LATIN = r"[A-Za-z0-9\u0370-\u03ff]"
BOOK = "从零推导 DPO"

# What the book does not say, and what it says instead.
WORDS = {"令牌": "词元"}

CHINESE = {
    "space": (rf"{HAN}{LATIN}|{LATIN}{HAN}", "a half-width space belongs between"),
    "punctuation": (
        rf"{HAN}[,.;:?!()\"]|[,.;:?!()\"]{HAN}|[,;:?!] {HAN}",
        "half-width punctuation beside a Chinese character",
    ),
    "full-width": (r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]", "full-width letters or digits"),
    "no space": (r"[^\S\n][，。；：？！、）」』》]", "no space before full-width punctuation"),
    "one line": (
        rf"^(?!#|\|)[^\n]*(?:{HAN}|{FULL_WIDTH})\n(?:> ?)*(?:{HAN}|{FULL_WIDTH})",
        "a line break inside a paragraph shows as a space; a paragraph is one line",
    ),
    "word": (r"(?<![「“])(?:" + "|".join(WORDS) + ")", "not our word"),
}


def faults(markdown, language):
    """(rule, detail) for each place where a text breaks the typography of its language, `en` or `zh`."""
    return list((_chinese if language == "zh" else _english)(markdown))


def _chinese(markdown):
    text = prose.words(markdown, stand_in="x")
    for rule, (pattern, why) in CHINESE.items():
        for found in re.finditer(pattern, text, re.M):
            here = text[max(0, found.start() - 6) : found.end() + 6].replace("\n", "⏎")
            if rule == "one line":
                here = text[max(0, found.end() - 8) : found.end() + 6].replace("\n", "⏎")
            instead = f": {WORDS[found[0]]}" if found[0] in WORDS else ""
            yield rule, f"{why}{instead}: {here}"


def _english(markdown):
    named = prose.LINK.sub(
        lambda link: "" if re.fullmatch(rf"(?:{HAN}|\s)+", link[1]) else link[1], markdown
    )
    text = re.sub(r"“[^”]*”|\"[^\"\n]*\"", "", prose.words(named).replace(BOOK, ""))
    if found := re.search(rf"(?:{HAN}|{FULL_WIDTH})+", text):
        yield "english", f"Chinese outside code and quotation marks: {found[0]}"
