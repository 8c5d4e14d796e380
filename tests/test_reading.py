"""A chapter can be taken in: its main road is short, its card says how long it takes, and the reader is asked."""

import re

import nbformat
import pytest

import sources
from book import notebooks, reading
from book.languages import in_language

MOST_WORDS = 3_000
CHAPTERS = pytest.mark.parametrize("path", sources.chapters(), ids=lambda path: path.stem)
CARD = {
    "en": re.compile(r"(\d+) minutes to read(?:, and (\d+) more for the sections? marked ⋆)?[;,]"),
    "zh": re.compile(r"阅读 (\d+) 分钟(?:，带 ⋆ 的[几一]节另需 (\d+) 分钟)?[；，]"),
}


def cells(path):
    return notebooks.read_source(path).cells


def stated(cells, lang):
    """The minutes on the card, for the main road and the second readings."""
    text = "\n".join(c.source for c in in_language(cells, lang) if c.cell_type == "markdown")
    road, second = CARD[lang].search(text).groups()
    return int(road), int(second or 0)


@CHAPTERS
def test_the_main_road_is_short(path):
    road, _ = reading.lengths(cells(path))
    assert road.words <= MOST_WORDS


@CHAPTERS
@pytest.mark.parametrize("lang", CARD)
def test_the_card_states_the_minutes(path, lang):
    """Guards against a card that promises half of the time: chapters grow and nobody counts again."""
    road, second = reading.lengths(cells(path))
    minutes = road.minutes, sum(second.values(), reading.Length()).minutes
    for said, counted in zip(stated(cells(path), lang), minutes, strict=True):
        assert said == pytest.approx(counted, rel=0.1, abs=2.5)


@CHAPTERS
def test_the_reader_is_asked(path):
    """At least three questions before a result, each with an answer that is folded."""
    asked, answers = (
        sum(cell.source.count(mark) for cell in in_language(cells(path), "en"))
        for mark in ("> **Before you run it.**", "<summary>Answer</summary>")
    )
    assert answers >= asked >= 3


@CHAPTERS
def test_what_only_checks_says_what_it_checks(path):
    for cell in cells(path):
        if "proof" in cell.metadata.get("tags", []):
            assert cell.metadata.get("checked_en") and cell.metadata.get("checked_zh"), cell.source


# ---------------------------------------------------------------- the counting's own tests


def markdown(text, lang="en"):
    return nbformat.v4.new_markdown_cell(text, metadata={"lang": lang})


def code(lines, *tags):
    return nbformat.v4.new_code_cell("x = 1\n" * lines, metadata={"tags": list(tags)})


def test_words_formulas_and_lines_make_minutes():
    text = "word " * 230 + "\n\n$$a=b$$\n"
    road, second = reading.lengths([markdown(text), code(10)])
    assert (road.words, road.formulas, road.lines) == (230, 1, 10)
    assert road.minutes == pytest.approx(1 + 1 + 0.5)
    assert second == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Two words.", 2),
        ("A $\\beta\\log x$ counts once.", 4),
        ("`code` is read, [links](https://a.org/b) by their words.", 7),
        ("```python\nnot = here\n```", 0),
        ("One.\n\n<details><summary>Answer</summary>\n\nfolded text\n\n</details>", 1),
        ("It's 3,000 words.", 3),
    ],
)
def test_what_is_a_word(text, words):
    assert reading.length(text).words == words


def test_what_is_folded_or_done_is_not_read():
    parts = [
        markdown("# Title\none two"),
        code(10, "figure"),
        code(10, "proof"),
        markdown("## Exercises"),
        markdown("### Exercise 1.1 · Count\nmany words here"),
        code(3, "exercise"),
        markdown("## References\n- a list"),
    ]
    road, _ = reading.lengths(parts)
    assert (road.words, road.lines) == (3, 0)  # the title's word too


def test_a_second_reading_goes_as_far_as_the_next_section():
    parts = [
        markdown("## A road\none"),
        markdown("## ⋆ A side path\none two three\n### within\nfour"),
        code(20),
        markdown("## The road again\nfive"),
    ]
    road, second = reading.lengths(parts)
    assert road.words == 7 and road.lines == 0
    assert list(second) == ["⋆ A side path"]
    assert second["⋆ A side path"].words == 8 and second["⋆ A side path"].lines == 20


def test_chinese_cells_are_not_counted_twice():
    road, _ = reading.lengths([markdown("one two"), markdown("一 two three", "zh")])
    assert road.words == 2


def test_command_prints_a_chapter_and_refuses_one_that_is_not_there(capsys):
    assert reading.main(["00"]) == 0
    assert re.match(r"00_ten_minutes +main road +\d+ words", capsys.readouterr().out)
    assert reading.main(["42"]) == 2
    assert capsys.readouterr().err.startswith("no chapter 42; there are: 00_")
