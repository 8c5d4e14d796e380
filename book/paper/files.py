"""Where the PDF and the EPUB of each edition lie, and what the site needs to offer those that were made."""

from dataclasses import dataclass
from pathlib import Path

from book.contents import BOOK
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


def made(edition: Edition, folder: Path = FOLDER) -> list[File]:
    """The files of an edition that have been made."""
    files = [File(form, path(edition, form, folder)) for form in FORMS]
    return [file for file in files if file.path.exists()]
