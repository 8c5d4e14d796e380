"""Every exercise has its form, and every check is checked: on the solution, on nothing, on plausible mistakes."""

import re

import pytest

import cards
import checks
import sample
import sources
import typography
from book import notebooks
from mistakes import MISTAKES, Crash, Edit

FEWEST_EXERCISES = 3
FEWEST_MISTAKES = 3


def exercises_of(path):
    """The exercises of a chapter that can be read; the tests of its form say what is wrong with another."""
    try:
        return cards.find(sources.cells(path))[0]
    except notebooks.ChapterError:
        return []


CHAPTERS = pytest.mark.parametrize("path", sources.chapters(), ids=lambda path: path.stem)
FOUND = [exercise for path in sources.chapters() for exercise in exercises_of(path)]
EXERCISES = pytest.mark.parametrize("exercise", FOUND, ids=[exercise.name for exercise in FOUND])
PAIRS = [
    (exercise, name, answer)
    for exercise in FOUND
    for name, answer in MISTAKES.get(exercise.name, [])
]


@pytest.fixture(autouse=True)
def like_a_kernel(monkeypatch):
    """The folder and the drawing backend that a chapter's code has in its kernel."""
    monkeypatch.chdir(sources.CHAPTERS)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("BOOK_LANG", raising=False)


def verdict_on_mistake(exercise, answer):
    """(the check's verdict, whether it may be a crash) on one entry of MISTAKES."""
    may_crash = isinstance(answer, Crash)
    answer = answer.answer if may_crash else answer
    if isinstance(answer, Edit):
        answer = exercise.answer(answer.apply(exercise.solution))
    return checks.verdict(exercise.name, answer), may_crash


# ---------------------------------------------------------------- the book's exercises


@CHAPTERS
def test_exercises_have_their_form(path):
    exercises, faults = cards.find(sources.cells(path))
    assert not faults, "\n".join(faults)
    names = [exercise.name for exercise in exercises]
    assert names == [f"{int(path.stem[:2])}.{n}" for n in range(1, len(names) + 1)], (
        "exercises are numbered in order"
    )
    fewest = 1 if path.stem.startswith("00") else FEWEST_EXERCISES  # ten minutes, one exercise
    assert len(names) >= fewest, f"{path.stem} has {len(names)} exercises"


@CHAPTERS
def test_checks_and_exercises_are_the_same_set(path):
    names = {exercise.name for exercise in exercises_of(path)}
    assert set(checks.registered(int(path.stem[:2]))) == names


def test_mistakes_belong_to_exercises():
    assert set(MISTAKES) <= {exercise.name for exercise in FOUND}


@EXERCISES
def test_as_shipped_is_not_answered(exercise):
    assert checks.verdict(exercise.name, exercise.answer()).state == "empty"


@EXERCISES
def test_solution_is_right(exercise):
    verdict = checks.verdict(exercise.name, exercise.answer(exercise.solution))
    assert verdict.state == "right", verdict


@EXERCISES
def test_three_mistakes_are_listed(exercise):
    assert len(MISTAKES.get(exercise.name, [])) >= FEWEST_MISTAKES, (
        "tests/mistakes.py lists too few"
    )


@pytest.mark.parametrize(
    ("exercise", "mistake", "answer"), PAIRS, ids=[f"{e.name}-{name}" for e, name, _ in PAIRS]
)
def test_mistake_is_called_wrong_in_both_languages(exercise, mistake, answer):
    verdict, may_crash = verdict_on_mistake(exercise, answer)
    assert verdict.state in (("wrong", "crash") if may_crash else ("wrong",)), (
        f"{mistake}: {verdict}"
    )
    assert re.search(typography.HAN, verdict.zh), verdict
    assert re.search("[A-Za-z]", verdict.en), verdict
    assert not re.search(typography.HAN, verdict.en), verdict


# ---------------------------------------------------------------- the tests' own tests


@pytest.fixture
def sample_cells(tmp_path):
    def read(text=sample.CHAPTER):
        path = tmp_path / "99_sample.py"
        path.write_text(text, encoding="utf-8")
        return sources.cells(path)

    return read


@pytest.fixture
def sample_check(monkeypatch):
    monkeypatch.setattr(checks, "_CHECKS", {})
    exec(sample.CHECKS, {"__name__": "ch99"})


@pytest.fixture
def sample_exercise(sample_cells, sample_check):
    return cards.find(sample_cells())[0][0]


def test_sample_exercise_is_found(sample_cells):
    exercises, faults = cards.find(sample_cells())
    assert faults == []
    assert [exercise.name for exercise in exercises] == ["99.1"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("### Exercise 99.1 ·", "### Exercise 99.1:", "title"),
        ("### 练习 99.1", "### 练习 99.2", "twins disagree"),
        ("99.1", "98.1", "stands in 99_sample.py"),
        ("★☆☆ · 5 minutes", "easy", "second line"),
        ("★☆☆ · 5 分钟", "★☆☆ · 6 分钟", "twins disagree"),
        ("<summary>提示", "<summary>线索", "no hint"),
        ('tags=["exercise"]', "", "no tags"),
        ('check("99.1"', 'check("99.2"', "does not call"),
        ("= ...  #", "= 10  #", "does not ship"),
        ("<summary>Solution", "<summary>Answer", "no folded solution"),
        ("#\n# 十个", "#\n# ```python\n# y = 1\n# ```\n#\n# 十个", "code differs"),
        ("answer_99_1 = len(text)", "len(text)", "does not define"),
        (
            '# %% tags=["exercise"]',
            '# %% [markdown]\n# between\n\n# %% tags=["exercise"]',
            "an exercise is card",
        ),
        ("### Exercise 99.1", "### 99.1", "without its card"),
    ],
)
def test_form_notices(sample_cells, old, new, fault):
    assert old in sample.CHAPTER
    _, faults = cards.find(sample_cells(sample.CHAPTER.replace(old, new)))
    assert any(fault in line for line in faults), faults


def test_solution_sees_first_code_cell_setup_cells_and_own_cell(sample_cells, sample_check):
    text = sample.CHAPTER.replace("len(text)", "math.floor(half * 2 + len(text) / 2)")
    text = text.replace(
        '# %% tags=["figure"]',
        '# %% tags=["setup"]\nhalf = 2.5\n\n# %%\nhalf = 0\n\n# %% tags=["figure"]',
        1,
    )
    (exercise,), faults = cards.find(sample_cells(text))
    assert faults == []
    assert exercise.answer(exercise.solution) == 10


def test_verdicts_on_the_sample(sample_exercise):
    assert checks.verdict("99.1", sample_exercise.answer()).state == "empty"
    assert checks.verdict("99.1", sample_exercise.answer(sample_exercise.solution)).state == "right"
    assert (
        verdict_on_mistake(sample_exercise, Edit("len(text)", "len(text) - 1"))[0].state == "wrong"
    )
    assert verdict_on_mistake(sample_exercise, 9)[0].state == "wrong"
    assert verdict_on_mistake(sample_exercise, 10)[0].state == "right"
    with pytest.raises(LookupError):
        verdict_on_mistake(sample_exercise, Edit("no such code", ""))
