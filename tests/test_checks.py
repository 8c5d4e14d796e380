"""`check` prints one line whatever the answer, and helpers say in both languages what an answer is not."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import checks


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(checks, "_CHECKS", {})
    monkeypatch.delenv("BOOK_LANG", raising=False)

    @checks.exercise("99.1")
    def ten(answer):
        checks.number(answer)
        checks.expect(answer == 10, "Count E as well.", "E 也要算。")


@pytest.mark.parametrize(
    ("language", "answer", "line"),
    [
        ("", 10, "99.1 ✓ right · 对了"),
        ("", 9, "99.1 ✗ Count E as well. · E 也要算。"),
        ("", ..., "99.1 … not answered yet · 还没有作答"),
        ("en", 9, "99.1 ✗ Count E as well."),
        ("zh", 9, "99.1 ✗ E 也要算。"),
        ("zh", ..., "99.1 … 还没有作答"),
    ],
)
def test_one_line_in_the_language_asked_for(capsys, monkeypatch, language, answer, line):
    monkeypatch.setenv("BOOK_LANG", language)
    checks.check("99.1", answer)
    assert capsys.readouterr().out == line + "\n"


class Hostile:
    """Fails at whatever one does with it."""

    def __eq__(self, other):
        raise RuntimeError("first line\nsecond line")

    __hash__ = None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "ten",
        True,
        float("nan"),
        [10],
        {},
        torch.ones(3),
        np.ones(2),
        10j,
        print,
        Hostile(),
        Exception,
    ],
)
def test_no_answer_breaks_a_chapter(capsys, answer):
    checks.check("99.1", answer)
    out = capsys.readouterr().out
    assert out.startswith("99.1 ✗ ")
    assert out.count("\n") == 1


def test_crash_names_the_exception_in_one_line(capsys):
    @checks.exercise("99.2")
    def compares(answer):
        checks.expect(answer == 10, "a", "甲")

    checks.check("99.2", Hostile())
    assert capsys.readouterr().out == (
        "99.2 ✗ the check cannot use this answer: RuntimeError: first line"
        " · 检查用不了这个答案：RuntimeError: first line\n"
    )


def stub(x): ...


def stub_with_words(x):
    """Says what to do."""
    return ...


def answered(x):
    return x[..., 0]


@pytest.mark.parametrize(
    "answer", [..., (1, ...), [...], {"a": 1, "b": ...}, stub, stub_with_words, lambda: None]
)
def test_empty(answer):
    assert checks.is_empty(answer)


@pytest.mark.parametrize(
    "answer", [None, 0, "", (), [], {}, answered, lambda: 0, len, torch.zeros(2)]
)
def test_answered(answer):
    assert not checks.is_empty(answer)


@pytest.mark.parametrize(
    "value",
    [10, 10.0, Fraction(10), np.float32(10), np.int64(10), torch.tensor(10), torch.tensor([10.0])],
)
def test_number_takes_every_kind_of_number(value):
    assert checks.number(value) == 10
    assert checks.verdict("99.1", value).state == "right"


def test_close_tensor_text():
    checks.close(0.6931472, 0.69314718, "no", "不", within=1e-6)
    with pytest.raises(checks.Wrong):
        checks.close(0.7, 0.69314718, "no", "不")
    with pytest.raises(checks.Wrong, match="shape"):
        checks.tensor(torch.zeros(2, 3), (3, 2))
    with pytest.raises(checks.Wrong, match="list"):
        checks.tensor([1.0])
    with pytest.raises(checks.Wrong, match="int"):
        checks.text(5)
    assert checks.tensor(torch.zeros(2), (2,)).shape == (2,)


def test_function_that_raises_is_told_with_its_arguments():
    shout = checks.function(lambda text: text.uppercase())
    with pytest.raises(checks.Wrong, match=r"AttributeError.*'a'") as caught:
        shout("a")
    assert "AttributeError" in caught.value.zh


def test_unknown_exercise_and_double_check_are_the_authors_errors():
    with pytest.raises(LookupError, match=r"99\.7"):
        checks.check("99.7", 1)
    with pytest.raises(ValueError, match="two checks"):

        @checks.exercise("99.1")
        def another(answer): ...
