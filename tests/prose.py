"""Markdown taken apart: what is code, what is mathematics, where links lead, and the words that remain."""

import re

FENCE = re.compile(
    r"^[> \t]*(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)\n"
    r"(?P<body>.*?)"
    r"^[> \t]*(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
INLINE = re.compile(r"(?<![\\$])\$(?![\s$])((?:[^$\n]|\n(?!\s*\n))+?)(?<![\s\\])\$(?!\d)")
CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
LINK = re.compile(
    r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(\s*([^()\s]*(?:\([^()]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\s*\)"
)
COMMENT = re.compile(r"<!--.*?-->", re.S)
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
BARE = re.compile(r"https?://[^\s<>()（）\"，。]+")
ATTRIBUTE = re.compile(r"\b(?:href|src)=\"([^\"]+)\"")


def fenced(markdown):
    """The fenced blocks of code, as (language, body)."""
    return [(found["info"].strip(), found["body"]) for found in FENCE.finditer(markdown)]


def without_code(markdown):
    """`markdown` without its fenced blocks, code in a line and comments."""
    return CODE.sub("", COMMENT.sub("", FENCE.sub("", markdown)))


def displayed(markdown):
    """The display mathematics, in order."""
    return DISPLAY.findall(without_code(markdown))


def targets(markdown):
    """Where links and pictures lead, in order of their kind: [text](target), href= and src=, bare addresses."""
    rest = without_code(markdown)
    found = [target for _, target in LINK.findall(rest)]
    rest = LINK.sub(lambda match: match[1], rest)
    found += ATTRIBUTE.findall(rest)
    return found + BARE.findall(ATTRIBUTE.sub("", rest))


def words(markdown, stand_in=""):
    """The prose alone: no code, mathematics, addresses, tags or emphasis.

    `stand_in` takes the place of code and mathematics in a line, for rules about what stands beside them.
    """
    rest = COMMENT.sub("", FENCE.sub("", markdown))
    rest = CODE.sub(stand_in, rest)
    rest = INLINE.sub(stand_in, DISPLAY.sub("", rest))
    rest = LINK.sub(lambda match: match[1], rest)
    rest = re.sub(r"<br\s*/?>", "\n", rest)
    rest = BARE.sub(stand_in, TAG.sub("", rest))
    return re.sub(r"(?<!\\)\*+(?=\S)|(?<=\S)\*+", "", rest)
