"""Writes the notebooks that readers download: in English, in Chinese, or in both languages."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book import contents
from book.editions import EDITIONS, EN
from book.languages import in_language

BILINGUAL = "bilingual"


def write_downloads(folder: Path) -> None:
    """Write each chapter into one folder for each kind, so that links between chapters keep working."""
    for kind in (*EDITIONS, BILINGUAL):
        (folder / kind).mkdir(parents=True)
    for chapter in contents.chapters(EN):
        name = f"{chapter.file}.ipynb"
        for lang in EDITIONS:
            nbformat.write(
                one_language(contents.read_notebook(chapter.file), lang), folder / lang / name
            )
        nbformat.write(contents.read_notebook(chapter.file), folder / BILINGUAL / name)


def one_language(notebook: NotebookNode, lang: str) -> NotebookNode:
    """The notebook without the cells of the other language; its first code cell makes the checks answer in `lang`."""
    cells = in_language(notebook.cells, lang)
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    setting = nbformat.v4.new_code_cell(f"%env BOOK_LANG={lang}", id="book-lang")
    notebook.cells = [*cells[:first], setting, *cells[first:]]
    return notebook
