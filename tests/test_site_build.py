"""What stops the build of the site: faults of a chapter that a reader would meet as a dead link or a lost figure."""

import nbformat
import pytest

from book import contents
from book.build import BuildError, build
from book.languages import SourceError


def write_chapter(folder, monkeypatch, en, zh):
    cells = [
        nbformat.v4.new_markdown_cell(text, metadata={"lang": lang})
        for lang, text in (("en", en), ("zh", zh))
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_strings.ipynb")
    monkeypatch.setattr(contents, "CHAPTERS", folder)
    monkeypatch.setattr(contents, "parts", contents.parts.__wrapped__)  # without what it remembers


def test_a_heading_without_its_twin_stops_the_build(tmp_path, monkeypatch):
    write_chapter(tmp_path, monkeypatch, "# 1 A\n## B", "# 1 甲")
    with pytest.raises(SourceError, match="01_strings: 1 Chinese headings follow 2"):
        build(tmp_path / "html")


def test_a_link_to_no_chapter_and_a_caption_to_no_figure_stop_the_build(
    tmp_path, monkeypatch, capfd
):
    en, zh = (
        "See [chapter 15](15_none.ipynb).\n\n**Figure 1.1.** None.",
        "见[第 15 章](15_none.ipynb)。\n\n**图 1.1** 没有图。",
    )
    write_chapter(tmp_path, monkeypatch, f"# 1 A\n{en}", f"# 1 甲\n{zh}")
    with pytest.raises(BuildError):
        build(tmp_path / "html")
    complaints = capfd.readouterr().err
    assert complaints.count("'15_none.ipynb'") == complaints.count("fig-1-1: no image") == 2
    assert not (tmp_path / "html").exists()
