"""Builds the site: `python -m book.build` writes both editions into book/_build/html, warnings as errors."""

import shutil
import subprocess
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from book.contents import BOOK
from book.downloads import write_downloads
from book.editions import EDITIONS, Edition
from book.lab import write_lab
from book.languages import SourceError
from book.llms import write_llms
from book.paper import files
from book.policy import protect
from book.slides import write_slides
from book.sources import write_sources
from book.trim import trim

HTML = BOOK / "_build" / "html"


class BuildError(Exception):
    """The site could not be built; Sphinx has said why."""


def main() -> int:
    """Build the site where readers look for it."""
    try:
        build(HTML)
    except (SourceError, BuildError) as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    print(f"The book is built. Open {shown(HTML / 'index.html')}, or serve it with `make serve`.")
    return 0


def build(html: Path, paper: Path = files.FOLDER) -> None:
    """Build both editions anew into `html`. When a build fails, the site that was there stays.

    Args:
        paper: the folder of the PDFs and EPUBs; the site offers those that are there.

    Raises:
        SourceError: a chapter or a page breaks the format.
        BuildError: Sphinx warns of something.
    """
    work = html.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    for edition in EDITIONS.values():
        write_sources(edition, work / edition.lang / "source")
    site = work / "html"
    offer(paper, site / "paper")
    runs = {
        edition: start_sphinx(edition, work / edition.lang, site / "paper")
        for edition in EDITIONS.values()
    }
    if failed := [edition.name for edition, run in runs.items() if run.wait() != 0]:
        raise BuildError(f"Sphinx reports problems in: {', '.join(failed)}")
    for edition in EDITIONS.values():
        shutil.move(work / edition.lang / "html", site / edition.lang)
    write_downloads(site / "notebooks")
    write_lab(site / "lab")
    write_llms(site)
    write_front_door(site / "index.html")
    for template in site.glob("*/_static/**/*.html"):
        template.unlink()  # the theme's, which Sphinx copies along; no page stands there
    for edition in EDITIONS:
        trim(site / edition)
    write_slides(site)
    protect(site)
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(site, html)


def offer(paper: Path, folder: Path) -> None:
    """Copy the PDFs and EPUBs that were made to where the site's links lead; say which ones the text has left behind."""
    folder.mkdir(parents=True)
    for edition in EDITIONS.values():
        for file in files.made(edition, paper):
            shutil.copy2(file.path, folder)
            if files.outdated(file.path):
                print(
                    f"book: {file.path.name} is older than the chapters; make {file.form} renews it",
                    file=sys.stderr,
                )


def start_sphinx(
    edition: Edition, folder: Path, paper: Path = files.FOLDER, **options: object
) -> subprocess.Popen:
    """Start building one edition, from `folder`/source into `folder`/html, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-q",
        "-W",
        "--keep-going",
        "-c",
        str(BOOK),
    ]
    command += [
        "-t",
        edition.lang,
        "-D",
        f"book_paper={paper}",
        "-d",
        str(folder / "doctrees"),
        str(folder / "source"),
        str(folder / "html"),
    ]
    return subprocess.Popen(command, cwd=BOOK.parent, **options)


def write_front_door(path: Path) -> None:
    """The page at the site's root, which sends visitors to the edition of their language."""
    templates = Environment(loader=FileSystemLoader(BOOK / "_templates"), autoescape=True)
    path.write_text(
        templates.get_template("front-door.html").render(editions=list(EDITIONS.values())),
        encoding="utf-8",
    )


def shown(path: Path) -> Path:
    """A path as a reader would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
