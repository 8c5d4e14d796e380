"""Selects the cells of one language and labels the headings of both alike.

A cell names its language in its metadata (`lang`), and so does a picture in a cell's output; what
names none belongs to both. The same selection makes the pages of an edition and the notebook that a
reader downloads in one language.
"""

import re
from collections import Counter
from collections.abc import Iterator

from nbformat import NotebookNode

HEADING = re.compile(r"(#{1,6}) +(?P<title>.+?) *#*$")
FENCE = re.compile(r" {0,3}(```+|~~~+)")


class SourceError(Exception):
    """A chapter or a page breaks the format that CONTRIBUTING.md describes; the message says where."""


def in_language(cells: list[NotebookNode], lang: str) -> list[NotebookNode]:
    """The cells that a reader of `lang` sees, in their order, with the pictures drawn in that language."""
    kept = [cell for cell in cells if cell.metadata.get("lang", lang) == lang]
    for cell in kept:
        if "outputs" in cell:
            cell.outputs = [
                output
                for output in cell.outputs
                if output.get("metadata", {}).get("lang", lang) == lang
            ]
    return kept


def headings(source: str) -> list[tuple[int, str]]:
    """The headings of a Markdown cell as (line number, title), code blocks left out."""
    found = []
    for number, line in lines_outside_code(source):
        if match := HEADING.match(line):
            found.append((number, match["title"]))
    return found


def lines_outside_code(source: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a Markdown text that stand in no fenced code block."""
    fence = None
    for number, line in enumerate(source.splitlines()):
        match = FENCE.match(line)
        if fence is None and match:
            fence = match[1]
        elif fence is None:
            yield number, line
        elif match and match[1].startswith(fence):
            fence = None


def slug(title: str) -> str:
    """An id made from an English title: it starts with a letter, so that it is a CSS selector too."""
    name = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
    return name.lstrip("0123456789-") or f"section-{name}".rstrip("-")


def label_headings(cells: list[NotebookNode], page: str) -> None:
    """Label each heading, in place, with the slug of its English twin.

    Both editions then have the same section ids, and the language switch can keep the section. The
    label carries the page's name because Sphinx wants labels unique in the whole book.
    """
    used: Counter[str] = Counter()
    slugs: list[str] = []
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        titles = headings(cell.source)
        if cell.metadata.get("lang") != "zh":
            slugs = [_unique(slug(title), used) for _, title in titles]
        if len(titles) != len(slugs):
            where = cell.source.splitlines()[0] if cell.source else "an empty cell"
            raise SourceError(
                f"{page}: {len(titles)} Chinese headings follow {len(slugs)} English ones, near: {where}"
            )
        lines = cell.source.splitlines()
        for (number, _), name in zip(titles, slugs, strict=True):
            lines[number] = f"\n({page}--{name})=\n{lines[number]}"
        cell.source = "\n".join(lines)


def _unique(name: str, used: Counter[str]) -> str:
    used[name] += 1
    return name if used[name] == 1 else f"{name}-{used[name]}"
