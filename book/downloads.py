"""Writes the notebooks that readers download: in English, in Chinese, or in both languages.

A chapter imports the exercises' checks and reads the data that stand beside it in the clone. A browser puts a download
into a folder of its own, so a downloaded notebook begins with a cell that goes to the chapters of the clone whose
dpo_core is installed. It is added here, once, and no chapter needs to know of it.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book import contents
from book.editions import EDITIONS, EN
from book.languages import in_language

BILINGUAL = "bilingual"
LANGUAGE = "%env BOOK_LANG={lang}\n"  # makes the checks answer in one language
FETCH = """
import importlib.util, subprocess, sys
from pathlib import Path

if "google.colab" in sys.modules and importlib.util.find_spec("dpo_core") is None:
    clone = Path("project").resolve()
    address = "https://github.com/REPOSITORY"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", address, clone], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", clone], check=True)
    sys.path.insert(0, str(clone))
""".strip()  # on a machine of Colab's, which has the notebook and nothing else
START = """
import importlib.util, os, sys
from pathlib import Path

spec = importlib.util.find_spec("dpo_core")
installed = [Path(spec.origin).resolve().parent.parent / "chapters"] if spec and spec.origin else []
found = [place for place in (Path.cwd(), *installed) if (place / "checks" / "__init__.py").exists()]
if not found:
    sys.exit("Move this notebook into chapters/ of the project's clone, or choose the Python that `make env` made there. "
             "· 请把这个笔记本移到项目克隆的 chapters/ 目录里，或者选用在那里由 `make env` 装好的 Python。")
os.chdir(found[0])
if str(found[0]) not in sys.path:
    sys.path.insert(0, str(found[0]))
""".strip()


def write_downloads(folder: Path) -> None:
    """Write each chapter into one folder for each kind, so that links between chapters keep working."""
    for kind in (*EDITIONS, BILINGUAL):
        (folder / kind).mkdir(parents=True)
    for chapter in contents.chapters(EN):
        name = f"{chapter.file}.ipynb"
        for lang in EDITIONS:
            notebook = one_language(contents.read_notebook(chapter.file), lang)
            nbformat.write(notebook, folder / lang / name)
        notebook = at_home_anywhere(contents.read_notebook(chapter.file))
        nbformat.write(notebook, folder / BILINGUAL / name)


def one_language(notebook: NotebookNode, lang: str) -> NotebookNode:
    """The notebook without the cells of the other language; its checks answer in `lang`."""
    notebook.cells = in_language(notebook.cells, lang)
    return at_home_anywhere(notebook, LANGUAGE.format(lang=lang))


def fetch(repository: str) -> str:
    """What gets the project where only its notebook is; nothing while nobody has said where it is published."""
    return f"{FETCH.replace('REPOSITORY', repository)}\n\n" if repository else ""


def at_home_anywhere(notebook: NotebookNode, settings: str = "") -> NotebookNode:
    """The notebook with a first code cell that finds the chapters' folder, from wherever it is opened."""
    cells = notebook.cells
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    start = nbformat.v4.new_code_cell(
        settings + fetch(contents.address().repository) + START, id="start"
    )
    notebook.cells = [*cells[:first], start, *cells[first:]]
    return notebook
