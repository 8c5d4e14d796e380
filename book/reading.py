"""How long a chapter takes to read: its main road, and its second readings, the sections marked ⋆.

    python -m book.reading            every chapter: words and minutes
    python -m book.reading 07         this one

230 English words a minute, a minute for each displayed formula, half a minute for ten lines of code that
the page does not fold. Exercises and the list of references are not counted: they are done, not read. Code
that only draws, or only checks (tags `figure` and `proof`), and folded text are left out. The cards of the
chapters state these minutes, the site those of each second reading.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from nbformat import NotebookNode

from book import contents
from book.languages import headings, in_language, slug

STAR = "⋆"
WORDS_A_MINUTE, MINUTES_A_FORMULA, MINUTES_A_LINE = 230, 1.0, 0.05
FOLDED = {"figure", "proof", "exercise"}
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*|\d[\d.,]*")
MARKUP = (
    re.compile(r"```.*?```|~~~.*?~~~", re.S),  # code
    re.compile(r"<details>.*?</details>", re.S),  # an answer, until one asks for it
    re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.S),
    re.compile(r"(?<=\])\([^()\s]*\)"),  # where a link leads
)
DISPLAYED = re.compile(r"\$\$.+?\$\$", re.S)
INLINE = re.compile(r"\$[^$\n]+\$")
LEFT_OUT = re.compile(r"(Exercises?|References|Further reading|练习|参考文献)\b")


@dataclass(frozen=True)
class Length:
    """What there is to read."""

    words: int = 0
    formulas: int = 0
    lines: int = 0

    def __add__(self, other: "Length") -> "Length":
        return Length(
            self.words + other.words, self.formulas + other.formulas, self.lines + other.lines
        )

    @property
    def minutes(self) -> float:
        reading = self.words / WORDS_A_MINUTE
        return reading + self.formulas * MINUTES_A_FORMULA + self.lines * MINUTES_A_LINE


def lengths(cells: Iterable[NotebookNode]) -> tuple[Length, dict[str, Length]]:
    """The main road of a chapter, and each section marked ⋆ by its English title."""
    road, second, section = Length(), {}, None
    for title, level, part in passages(in_language(list(cells), "en")):
        if title is not None and level <= 2:
            section = title
        if section and LEFT_OUT.match(section):
            continue
        if section and section.startswith(STAR):
            second[section] = second.get(section, Length()) + part
        else:
            road += part
    return road, second


@cache
def second_minutes(chapter: str) -> dict[str, int]:
    """The minutes of each section marked ⋆, by the id that it has on the site."""
    second = lengths(contents.read_notebook(chapter).cells)[1]
    return {slug(title): max(1, round(length.minutes)) for title, length in second.items()}


def passages(cells: Iterable[NotebookNode]) -> Iterable[tuple[str | None, int, Length]]:
    """The text between two headings, and each cell of code: (the heading before it or None, its level, length)."""
    for cell in cells:
        if cell.cell_type == "code":
            if not FOLDED & set(cell.metadata.get("tags", [])):
                yield None, 0, Length(lines=len(cell.source.splitlines()))
            continue
        lines = cell.source.splitlines()
        starts = [number for number, _ in headings(cell.source)]
        titles = dict(headings(cell.source))
        for begin, end in zip([0, *starts], [*starts, len(lines)], strict=True):
            if begin == end:
                continue
            title = titles.get(begin) if begin in starts else None
            level = len(lines[begin]) - len(lines[begin].lstrip("#")) if title else 0
            yield title, level, length("\n".join(lines[begin:end]))


def length(markdown: str) -> Length:
    """What a piece of Markdown has to read."""
    for pattern in MARKUP:
        markdown = pattern.sub(" ", markdown)
    formulas = len(DISPLAYED.findall(markdown))
    prose = INLINE.sub(" x ", DISPLAYED.sub(" ", markdown))
    return Length(words=len(WORD.findall(prose)), formulas=formulas)


def main(arguments: list[str]) -> int:
    """Print the lengths of the chapters named, or of all."""
    from book.notebooks import CHAPTERS, read_source, select  # tools that a page does not need

    try:
        chosen = select(arguments, CHAPTERS)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    for path in chosen:
        road, second = lengths(read_source(path).cells)
        whole = sum(second.values(), Length())
        print(f"{path.stem:16} main road {road.words:5} words, {road.minutes:3.0f} minutes", end="")
        print(f"; second readings {whole.words:5} words, {whole.minutes:3.0f} minutes")
        if arguments:
            for title, part in second.items():
                print(f"    {part.minutes:3.0f} minutes  {title}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
