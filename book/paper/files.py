"""Where the PDF and the EPUB of each edition lie, and what the site needs to offer those that were made."""

from dataclasses import dataclass
from pathlib import Path

from book.contents import BOOK, CHAPTERS, PAGES
from book.editions import Edition

FOLDER = BOOK / "_build" / "paper"
FORMS = ("pdf", "epub")


@dataclass(frozen=True)
class File:
    form: str  # "pdf" or "epub"
    path: Path

    @property
    def name(self) -> str:
        """What readers call the form."""
        return self.form.upper()

    @property
    def megabytes(self) -> str:
        return f"{self.path.stat().st_size / 1e6:.1f} MB"


def path(edition: Edition, form: str, folder: Path = FOLDER) -> Path:
    """Where the edition lies in one form."""
    return folder / f"dpo-from-zero-{edition.lang}.{form}"


def cover(edition: Edition) -> Path:
    """The picture of the book's cover."""
    return BOOK / "_static" / f"cover-{edition.lang}.png"


def mathjax() -> Path:
    """The site's MathJax."""
    return next((BOOK / "_static" / "mathjax").glob("*.js"))


def outdated(file: Path) -> bool:
    """Whether a chapter or a page was changed after the file was made."""
    sources = (*CHAPTERS.glob("*.ipynb"), *PAGES.glob("*.md"), BOOK / "references.bib")
    return any(source.stat().st_mtime > file.stat().st_mtime for source in sources)


def made(edition: Edition, folder: Path = FOLDER) -> list[File]:
    """The files of an edition that have been made."""
    files = [File(form, path(edition, form, folder)) for form in FORMS]
    return [file for file in files if file.path.exists()]
