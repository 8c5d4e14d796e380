"""`make read`: notebooks in one language that are the reader's own; what the reader wrote is never replaced."""

import nbformat
import pytest

from book import read

NAME = "00_ten_minutes.ipynb"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "READING", tmp_path)
    return tmp_path / "zh"


def run(*arguments):
    return read.main(["--no-jupyter", *arguments])


def change(path, edit):
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    nbformat.write(notebook, path)


def an_answer(notebook):
    cell = next(c for c in notebook.cells if "exercise" in c.metadata.get("tags", []))
    cell.source = cell.source.replace("...", "0.313", 1)


def test_the_notebooks_are_in_one_language(folder):
    assert run("--lang", "zh") == 0
    notebook = nbformat.read(folder / NAME, as_version=4)
    assert {cell.metadata.get("lang", "zh") for cell in notebook.cells} == {"zh"}
    pictures = [
        output.metadata.get("lang")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures and set(pictures) == {"zh"}
    assert "BOOK_LANG=zh" in "".join(c.source for c in notebook.cells if c.cell_type == "code")


def test_what_the_reader_changed_stays(folder, capsys):
    run("--lang", "zh")
    change(folder / NAME, an_answer)
    mine = (folder / NAME).read_bytes()
    capsys.readouterr()
    assert run("--lang", "zh") == 0
    assert (folder / NAME).read_bytes() == mine
    assert f"{NAME} has changes of yours and stays" in capsys.readouterr().out


def test_a_copy_that_was_only_run_keeps_its_outputs_and_follows_the_book(folder, monkeypatch):
    run("--lang", "zh")

    def outputs(notebook):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], 7

    change(folder / NAME, outputs)
    run("--lang", "zh")
    kept = nbformat.read(folder / NAME, as_version=4)
    assert {c.execution_count for c in kept.cells if c.cell_type == "code"} == {7}

    original = read.contents.read_notebook

    def newer(chapter):
        notebook = original(chapter)
        notebook.cells[1].source += " "  # the Chinese one
        return notebook

    monkeypatch.setattr(read.contents, "read_notebook", newer)
    run("--lang", "zh")
    renewed = nbformat.read(folder / NAME, as_version=4)
    assert {c.execution_count for c in renewed.cells if c.cell_type == "code"} != {7}


def test_a_file_of_another_kind_is_not_replaced(folder):
    folder.mkdir()
    (folder / NAME).write_text("my notes", encoding="utf-8")
    assert run("--lang", "zh") == 0
    assert (folder / NAME).read_text(encoding="utf-8") == "my notes"


@pytest.mark.parametrize("name", ["7", "07", "07_derivation", "chapters/07_derivation.ipynb"])
def test_a_chapter_has_many_names(name):
    assert read.first(name, "en") == "07_derivation.ipynb"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "fr"], "no edition fr; there are: en, zh"),
        (["42"], "no chapter 42; there are: 00_"),
    ],
)
def test_what_there_is_not_is_one_line(folder, arguments, said, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    ("locale", "lang"),
    [("zh_CN.UTF-8", "zh"), ("zh", "zh"), ("en_GB.UTF-8", "en"), ("C", "en"), ("", "en")],
)
def test_the_language_of_a_system(locale, lang):
    assert read.language_of(locale) == lang
