"""A notebook downloaded from the site runs wherever a browser has put it, if a clone is installed."""

import shutil
from pathlib import Path

import nbformat
import pytest

import sources
from book import downloads, notebooks

CHAPTER = """
# %% [markdown] lang="en"
# # 99 A sample
# %% [markdown] lang="zh"
# # 99 样章
# %%
from pathlib import Path

from checks import check
from data.llama_reference import TEXTS

stored = Path("data/llama_reference.json").read_text(encoding="utf-8")
print(sorted(text for text in TEXTS if text in stored))
# %%
check("1.1", ...)
"""
FOUND = "['S-7=2-9E', 'S54=27+27E']\n"


@pytest.fixture
def sample(tmp_path):
    """A chapter's notebook, as yet in both languages, that needs the checks and the data of the clone."""
    path = tmp_path / "99_sample.py"
    path.write_text(CHAPTER.lstrip(), encoding="utf-8")
    return notebooks.read_source(path)


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "Downloads").mkdir()
    return tmp_path / "Downloads"


def printed(notebook):
    return [
        "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize(("lang", "answer"), [("en", "not answered yet"), ("zh", "还没有作答")])
def test_a_notebook_in_one_language_runs_from_any_folder(sample, elsewhere, lang, answer):
    """Guards against a chapter that finds checks and data only where it was written."""
    notebook = notebooks.execute(downloads.one_language(sample, lang), elsewhere)
    nbformat.validate(notebook)
    assert printed(notebook)[1:] == [FOUND, f"1.1 … {answer}\n"]
    assert list(elsewhere.iterdir()) == []


def test_a_notebook_in_both_languages_runs_from_any_folder(sample, elsewhere):
    notebook = notebooks.execute(downloads.at_home_anywhere(sample), elsewhere)
    assert printed(notebook) == ["", FOUND, "1.1 … not answered yet · 还没有作答\n"]


def test_the_first_cell_may_run_twice_and_brings_its_own_path(sample, elsewhere):
    """Not every front end's kernel looks for modules in the folder that it works in."""
    notebook = downloads.at_home_anywhere(sample)
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    start = notebook.cells[first].source
    strict = "import sys; sys.path = [place for place in sys.path if place]"
    notebook.cells[first:first] = map(nbformat.v4.new_code_cell, (strict, start))
    assert printed(notebooks.execute(notebook, elsewhere))[3] == FOUND


def test_the_folder_of_the_notebook_comes_first(sample, elsewhere):
    """Whoever has put the notebook beside checks and data of their own means these."""
    shutil.copytree(sources.CHAPTERS / "checks", elsewhere / "checks")
    (elsewhere / "data").mkdir()
    for name in ("llama_reference.py", "llama_reference.json"):
        text = (sources.CHAPTERS / "data" / name).read_text(encoding="utf-8")
        (elsewhere / "data" / name).write_text(
            text.replace("S-7=2-9", "S-7=3-9+"), encoding="utf-8"
        )
    notebook = notebooks.execute(downloads.at_home_anywhere(sample), elsewhere)
    assert printed(notebook)[1] != FOUND


def test_without_a_clone_one_line_says_where_to_put_it(sample, elsewhere, monkeypatch):
    """A library that was copied without its chapters: the notebook says so, and goes no further."""
    package = elsewhere.parent / "site" / "dpo_core"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    environment = notebooks.kernel_environment() | {"PYTHONPATH": str(package.parent)}
    monkeypatch.setattr(notebooks, "kernel_environment", lambda: environment)
    with pytest.raises(notebooks.ChapterError) as failure:
        notebooks.execute(downloads.one_language(sample, "en"), elsewhere)
    message = str(failure.value)
    assert "SystemExit: Move this notebook into chapters/" in message and "请把" in message
    assert not any(line.startswith("  line") and "import" in line for line in message.splitlines())


def test_every_chapter_that_exists_can_be_downloaded(tmp_path):
    downloads.write_downloads(tmp_path / "notebooks")
    names = {path.stem for path in sources.CHAPTERS.glob("[0-9]*.ipynb")}
    for kind in ("en", "zh", "bilingual"):
        assert {path.stem for path in Path(tmp_path, "notebooks", kind).iterdir()} == names
