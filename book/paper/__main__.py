"""Makes the PDF and the EPUB of both editions: `python -m book.paper pdf epub` writes them into book/_build/paper.

Both need Chromium: it prints the PDF, and MathJax in it makes the EPUB's formulas. A file that was there stays until the
new one is complete.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from book.build import shown
from book.contents import BOOK
from book.editions import EDITIONS, ZH, Edition
from book.languages import SourceError
from book.paper import browser, files
from book.paper.sources import write_sources

BUILDERS = {"pdf": "singlehtml", "epub": "epub"}
CHINESE = ("Noto Serif CJK SC", "Source Han Serif SC", "Songti SC", "SimSun")  # as in print.css


class PaperError(Exception):
    """A file could not be made; what failed has said why."""


def main(forms: list[str]) -> int:
    """Returns the exit code: 2 where a form is unknown or the browser is missing, 1 where the book is at fault."""
    if not forms or set(forms) - set(files.FORMS):
        print(f"book: name one or both of: {', '.join(files.FORMS)}", file=sys.stderr)
        return 2
    try:
        with sync_playwright() as playwright:
            browser.find(playwright)
    except browser.NoBrowserError as error:
        print(f"book: {error}", file=sys.stderr)
        return 2
    if "pdf" in forms and (line := chinese_font_missing()):
        print(f"book: {line}", file=sys.stderr)
    try:
        for form in forms:
            make(form, files.FOLDER)
    except (SourceError, PaperError) as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    for form in forms:
        for edition in EDITIONS.values():
            made = files.File(form, files.path(edition, form))
            print(f"{shown(made.path)}: {made.megabytes}")
    return 0


def make(form: str, folder: Path) -> None:
    """Make one form of both editions in `folder`; the two are made at the same time.

    Raises:
        SourceError: a chapter or a page breaks the format.
        PaperError: Sphinx or the browser reports a problem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".work-", dir=folder) as own:  # no other run writes there
        work = {edition: Path(own) / edition.lang for edition in EDITIONS.values()}
        for edition in work:
            write_sources(edition, work[edition] / "source", form)
        finish({edition: start_sphinx(edition, form, work[edition]) for edition in work})
        if form == "pdf":
            finish({edition: start_printing(work[edition]) for edition in work})
        for edition in work:
            (work[edition] / "out" / f"book.{form}").replace(files.path(edition, form, folder))


def finish(runs: dict[Edition, subprocess.Popen]) -> None:
    """Wait for what was started for each edition."""
    if failed := [edition.name for edition, run in runs.items() if run.wait() != 0]:
        raise PaperError(f"problems in: {', '.join(failed)}")


def start_sphinx(edition: Edition, form: str, folder: Path) -> subprocess.Popen:
    """Start making one edition's EPUB, or the page to be printed, from `folder`/source in `folder`/out."""
    command = f"-m sphinx -b {BUILDERS[form]} -q -W --keep-going -t {edition.lang} -t {form}"
    places = [folder / "doctrees", folder / "source", folder / "out"]
    conf = ["-c", BOOK / "paper", "-d"]
    return subprocess.Popen(
        [sys.executable, *command.split(), *map(str, [*conf, *places])], cwd=BOOK.parent
    )


def start_printing(folder: Path) -> subprocess.Popen:
    """Start printing the page that Sphinx has written."""
    out = folder / "out"
    command = ["-m", "book.paper.printing", out / "index.html", out / "book.pdf"]
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=BOOK.parent)


def chinese_font_missing() -> str | None:
    """What to say on a machine that lists its fonts and has none for Chinese text."""
    if not shutil.which("fc-list"):
        return None
    command = ["fc-list", ":lang=zh-cn", "family"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if any(name in found for name in CHINESE):
        return None
    return (
        f"{ZH.name} is set in the sans serif of the figures: none of {', '.join(CHINESE)} is "
        "installed (Debian: apt install fonts-noto-cjk)"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
