"""What the tests of the text read: the cells of the chapters and of the pages, each knowing the place it came from."""

from dataclasses import dataclass
from functools import cache

import jupytext

from book import bibliography, notebooks

CHAPTERS = notebooks.CHAPTERS
PAGES = notebooks.ROOT / "book" / "pages"


@dataclass(frozen=True)
class Cell:
    """One cell of a chapter or a page; `number` counts from 1 within `file`."""

    file: str
    number: int
    kind: str
    source: str
    metadata: dict

    @property
    def lang(self):
        return self.metadata.get("lang")

    @property
    def where(self):
        return f"{self.file}, cell {self.number}"


def chapters():
    """The chapters' sources, in order."""
    return notebooks.sources()


def pages():
    """The pages that are no chapters: home, appendices."""
    return sorted(PAGES.glob("**/*.md"))


def cells(path):
    """The cells of a chapter (.py) or a page (.md, its languages marked by `<!-- #region lang="en" -->`)."""
    return list(_parsed(path, path.read_bytes()))


@cache
def _parsed(path, content):
    """What `path` holds, parsed once for as long as it has this content; nobody may change the cells."""
    notebook = (
        notebooks.read_source(path) if path.suffix == ".py" else jupytext.read(path, fmt="md")
    )
    return from_notebook(notebook, path.name)


def from_notebook(notebook, file):
    """The cells of a notebook that is already in memory."""
    return [
        Cell(file, number, cell.cell_type, cell.source, dict(cell.metadata))
        for number, cell in enumerate(notebook.cells, 1)
    ]


def citable():
    """The addresses that are citations when a link leads there."""
    return frozenset(bibliography.by_url())
