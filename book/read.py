"""Opens the book in Jupyter in one language: the reader's own notebooks, in reading/LANGUAGE, begin at chapter 0.

    python -m book.read                in the language of the system (LANG), or English
    python -m book.read --lang zh      in Chinese
    python -m book.read 07             at another chapter
    python -m book.read --no-jupyter   write the notebooks only

The notebooks in chapters/ hold both languages and are compared with their sources, so a reader gets copies. A copy that
the reader has changed is theirs: it stays as it is when the book changes. One that was not changed is renewed.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from book import contents
from book.downloads import one_language
from book.editions import EDITIONS, EN

READING = contents.BOOK.parent / "reading"
MARK = "dpo_from_zero"  # in a copy's metadata: the digest of the cells that the book wrote


def digest(notebook: NotebookNode) -> str:
    """What a notebook's cells say, outputs aside."""
    text = "\0".join(f"{cell.cell_type}\n{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(text.encode()).hexdigest()


def write(folder: Path, lang: str) -> tuple[list[str], list[str]]:
    """Write the chapters of `lang` into `folder`. Returns the names of those written and those kept."""
    folder.mkdir(parents=True, exist_ok=True)
    written, kept = [], []
    for chapter in contents.chapters(EN):
        path = folder / f"{chapter.file}.ipynb"
        notebook = one_language(contents.read_notebook(chapter.file), lang)
        notebook.metadata[MARK] = digest(notebook)
        if path.exists():
            if belongs_to_reader(path):
                kept.append(path.name)
                continue
            if nbformat.read(path, as_version=4).metadata[MARK] == notebook.metadata[MARK]:
                continue  # the outputs of a reader's run stay
        with TemporaryDirectory(prefix=".draft-", dir=folder) as own:  # no other run writes there
            draft = Path(own) / path.name
            nbformat.write(notebook, draft)
            draft.replace(path)
        written.append(path.name)
    return written, kept


def belongs_to_reader(path: Path) -> bool:
    """Whether the notebook at `path` says something else than what this command wrote, or is none of its own."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception:  # whatever stands there, it is not ours to replace
        return True
    return notebook.metadata.get(MARK) != digest(notebook)


def language_of(locale: str) -> str:
    """The edition for a locale such as zh_CN.UTF-8: Chinese for Chinese, else English."""
    return "zh" if locale.lower().startswith("zh") else "en"


def first(name: str, lang: str) -> str:
    """The file of the chapter that `name` means: a number or the beginning of a name. Raises LookupError."""
    stem = name.zfill(2) if name.isdigit() else Path(name).stem
    files = [chapter.file for chapter in contents.chapters(EDITIONS[lang])]
    for file in files:
        if file == stem or file.startswith(f"{stem}_"):
            return f"{file}.ipynb"
    raise LookupError(f"no chapter {name}; there are: {', '.join(files)}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: that of Jupyter, or 2 for a chapter or a language that there is not."""
    parser = argparse.ArgumentParser(
        prog="python -m book.read", description="Open the book in Jupyter, in one language."
    )
    parser.add_argument(
        "chapter", nargs="?", default="00", help="where to begin: 07, 07_derivation"
    )
    parser.add_argument("--lang", default=language_of(os.environ.get("LANG", "")), help="en or zh")
    parser.add_argument("--no-jupyter", action="store_true", help="write the notebooks only")
    options = parser.parse_args(arguments)
    if options.lang not in EDITIONS:
        print(f"no edition {options.lang}; there are: {', '.join(EDITIONS)}", file=sys.stderr)
        return 2
    try:
        start = first(options.chapter, options.lang)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    folder = READING / options.lang
    written, kept = write(folder, options.lang)
    print(f"{folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}: "
          f"{len(written)} notebooks written")  # fmt: skip
    for name in kept:
        print(f"  {name} has changes of yours and stays; to have the book's again, rename it")
    if options.no_jupyter:
        return 0
    jupyter = shutil.which("jupyter", path=str(Path(sys.executable).parent)) or "jupyter"
    try:
        return subprocess.call([jupyter, "lab", str(folder / start)])
    except KeyboardInterrupt:  # how one leaves Jupyter
        return 0


if __name__ == "__main__":
    sys.exit(main())
