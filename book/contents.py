"""What the book consists of: the plan in contents.toml, met with the notebooks and pages that exist."""

import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from book.editions import Edition
from book.languages import SourceError, headings, in_language

BOOK = Path(__file__).parent
CHAPTERS = BOOK.parent / "chapters"
PAGES = BOOK / "pages"
LAB = "lab"  # the page that is alive, after the first chapter
APPENDICES = (
    "notation",
    "glossary",
    "troubleshooting",
    "conformance",
    "solutions",
    "references",
)
# how a title may say its number
NUMBER = re.compile(r"(Chapter\s+|第\s*)?\d+(\s*章)?(\s*[·.:：、])?\s+")


@dataclass(frozen=True)
class Address:
    """Where the project is published; empty where nobody has said."""

    repository: str = ""  # on GitHub: owner/name
    url: str = ""  # of the folder that holds both editions

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([\w.-]+/[\w.-]+)?", self.repository):
            raise SourceError(f"book/contents.toml: {self.repository!r} is no owner/name")
        if not re.fullmatch(r"(https?://[^\s\"<>]+/)?", self.url):
            raise SourceError(f"book/contents.toml: {self.url!r} is no address that ends in /")


def address() -> Address:
    """The address that contents.toml gives the project, or for one build BOOK_REPOSITORY and BOOK_URL."""
    given = _plan()["site"]
    repository = os.environ.get("BOOK_REPOSITORY", given["repository"])
    url = os.environ.get("BOOK_URL", given["url"])
    return Address(repository, f"{url.rstrip('/')}/" if url else "")


@dataclass(frozen=True)
class Chapter:
    file: str
    part: str  # "Part I", by edition language; the title of a part without a number
    title: str
    question: str
    exists: bool

    @property
    def number(self) -> int:
        return int(self.file[:2])


@dataclass(frozen=True)
class Part:
    label: str  # "Part I"; empty for one without a number
    title: str
    chapters: tuple[Chapter, ...]

    @property
    def heading(self) -> str:
        """How the navigation names it."""
        return f"{self.label} · {self.title}" if self.label else self.title


@cache
def parts(edition: Edition) -> tuple[Part, ...]:
    """The parts of the book with their chapters, in one language."""
    plan = _plan()["part"]
    known = {chapter["file"] for part in plan for chapter in part["chapter"]}
    if unknown := {path.stem for path in CHAPTERS.glob("*.ipynb")} - known:
        raise SourceError(f"book/contents.toml does not know chapters/{min(unknown)}.ipynb")
    return tuple(_part(part, edition) for part in plan)


def _plan() -> dict:
    return tomllib.loads((BOOK / "contents.toml").read_text(encoding="utf-8"))


def chapters(edition: Edition) -> list[Chapter]:
    """The chapters that exist."""
    return [chapter for part in parts(edition) for chapter in part.chapters if chapter.exists]


def _part(part: dict, edition: Edition) -> Part:
    label = edition.part.format(part["number"][edition.lang]) if "number" in part else ""
    title = part["title"][edition.lang]
    members = tuple(_chapter(chapter, label or title, edition) for chapter in part["chapter"])
    return Part(label, title, members)


def _chapter(plan: dict, label: str, edition: Edition) -> Chapter:
    exists = notebook_path(plan["file"]).exists()
    title = written_title(plan["file"], edition) if exists else plan["title"][edition.lang]
    return Chapter(plan["file"], label, title, plan["question"][edition.lang], exists)


def notebook_path(chapter: str) -> Path:
    return CHAPTERS / f"{chapter}.ipynb"


def read_notebook(chapter: str) -> NotebookNode:
    """The stored notebook of a chapter, outputs included."""
    return nbformat.read(notebook_path(chapter), as_version=4)


def read_page(name: str) -> list[NotebookNode]:
    """A page of pages/, as cells: its language regions are jupytext's."""
    return jupytext.read(PAGES / f"{name}.md").cells


def written_title(chapter: str, edition: Edition) -> str:
    """The title in a chapter's first heading, without its number."""
    for cell in in_language(read_notebook(chapter).cells, edition.lang):
        if cell.cell_type == "markdown" and (found := headings(cell.source)):
            return NUMBER.sub("", found[0][1], count=1)
    raise SourceError(f"chapters/{chapter}.ipynb has no title in {edition.name}")
