"""`python -m book.notebooks`: a notebook is a function of its source; a failing chapter is told in one block."""

import json
import shutil
import struct
import zlib

import nbformat
import pytest

import sample
import sources
from book import notebooks


@pytest.fixture
def folder(tmp_path):
    """A book of one chapter, with its check."""
    (tmp_path / "checks").mkdir()
    shutil.copy(sources.CHAPTERS / "checks" / "__init__.py", tmp_path / "checks")
    (tmp_path / "checks" / "ch99.py").write_text(sample.CHECKS, encoding="utf-8")
    (tmp_path / "99_sample.py").write_text(sample.CHAPTER, encoding="utf-8")
    return tmp_path


def edit(folder, old, new):
    path = folder / "99_sample.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_executing_twice_gives_the_same_bytes_and_writes_once(folder, capfd):
    assert notebooks.main([], folder) == 0
    stored = (folder / "99_sample.ipynb").read_bytes()
    assert "99_sample: written" in capfd.readouterr().out
    assert notebooks.main(["99"], folder) == 0
    assert "99_sample: unchanged" in capfd.readouterr().out
    assert (folder / "99_sample.ipynb").read_bytes() == stored

    notebook = nbformat.reads(stored.decode(), as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == notebooks.NOTEBOOK_METADATA
    assert notebook.cells[0].metadata == {"lang": "en"}
    figure, exercise = (
        cell for cell in notebook.cells if cell.metadata.keys() & {"alt_en", "tags"}
    )
    assert figure.metadata.alt_zh == "从 0 到 1 的一条线。"
    assert "image/png" in figure.outputs[0].data
    assert exercise.outputs[0].text == "99.1 … not answered yet · 还没有作答\n"
    assert notebooks.main(["--check"], folder) == 0


def test_failing_cell_is_reported_and_the_old_notebook_stays(folder, capfd):
    (folder / "99_sample.ipynb").write_text("old", encoding="utf-8")
    edit(folder, "import math\n", "import math\n\nassert math.pi == 3, 'pi is\\nnot 3'\n")
    assert notebooks.main([], folder) == 1
    error = capfd.readouterr().err
    assert "99_sample.py fails; its notebook stays as it was\n  cell 3: import math\n" in error
    assert "assert math.pi == 3" in error
    assert "AssertionError: pi is\n  not 3" in error
    assert (folder / "99_sample.ipynb").read_text(encoding="utf-8") == "old"


def test_stderr_is_told_and_not_stored(folder, capfd):
    (folder / "99_sample.py").write_text(
        "# %%\nimport sys\n\nprint('a warning', file=sys.stderr)\n", encoding="utf-8"
    )
    assert notebooks.main([], folder) == 0
    out = capfd.readouterr().out
    assert "wrote to stderr, which is not stored: import sys\n    a warning" in out
    assert (
        json.loads((folder / "99_sample.ipynb").read_text(encoding="utf-8"))["cells"][0]["outputs"]
        == []
    )


def test_check_notices_a_missing_and_an_old_notebook(folder, capfd):
    assert notebooks.main(["--check"], folder) == 1
    assert "there is no notebook yet" in capfd.readouterr().err
    nbformat.write(notebooks.read_source(folder / "99_sample.py"), folder / "99_sample.ipynb")
    assert notebooks.main(["--check"], folder) == 0
    edit(folder, "You count 10", "You count all 10")
    assert notebooks.main(["--check"], folder) == 1
    assert "cell 1 differs" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You count 10", "You count all 10"),
        ('alt_en="A line', 'alt_en="The line'),
        ('# %% tags=["exercise"]', '# %%\nx = 1\n\n# %% tags=["exercise"]'),
        ('tags=["exercise"]', ""),
    ],
)
def test_out_of_sync_in_text_metadata_or_cells(folder, old, new):
    stored = notebooks.read_source(folder / "99_sample.py")
    edit(folder, old, new)
    assert notebooks.out_of_sync(notebooks.read_source(folder / "99_sample.py"), stored)


def test_an_edit_changes_the_id_of_its_own_cell_alone(folder):
    before = [cell.id for cell in notebooks.read_source(folder / "99_sample.py").cells]
    edit(folder, "import math\n", "import math  # for later\n")
    after = [cell.id for cell in notebooks.read_source(folder / "99_sample.py").cells]
    assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1
    assert len(set(after)) == len(after)


def test_equal_cells_have_different_ids(folder):
    (folder / "99_sample.py").write_text("# %%\nx = 1\n\n# %%\nx = 1\n", encoding="utf-8")
    first, second = notebooks.read_source(folder / "99_sample.py").cells
    assert first.id != second.id


@pytest.mark.parametrize("name", ["99", "99_sample", "chapters/99_sample.py", "99_sample.ipynb"])
def test_a_chapter_has_many_names(folder, name):
    assert notebooks.select([name], folder) == [folder / "99_sample.py"]


def test_unknown_chapter_is_one_line(folder, capfd):
    assert notebooks.main(["42"], folder) == 2
    assert capfd.readouterr().err == "no chapter 42; there are: 99_sample\n"


def test_no_chapters_is_no_error(tmp_path):
    assert notebooks.main([], tmp_path) == 0


def test_png_keeps_its_picture_and_loses_its_text():
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head, picture, end = chunk(b"IHDR", bytes(13)), chunk(b"IDAT", b"abc"), chunk(b"IEND", b"")
    signature = b"\x89PNG\r\n\x1a\n"
    named = signature + head + chunk(b"tEXt", b"Software\0Matplotlib") + picture + end
    assert notebooks.without_text(named) == signature + head + picture + end
