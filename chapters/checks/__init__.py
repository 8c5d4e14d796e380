"""The exercises' checks: `check("1.1", answer)` says in one line whether an answer is right and, if not, what is wrong.

A check is a function in chNN.py, the module of its chapter, imported when first needed:

    @exercise("1.1")
    def count_the_tokens(answer):
        number(answer)                                            # raises Wrong for anything that is no number
        expect(answer == 10, "Count E as well.", "E 也要算。")

It raises Wrong(en, zh), by itself or through a helper below, and returns nothing when the answer is right. No answer
can break a chapter: whatever else a check raises (for an answer of a wrong type, say) is told as a wrong answer too.
The line is in both languages, or in one when BOOK_LANG is `en` or `zh`.
"""

import dis
import importlib
import math
import numbers
import os
from dataclasses import dataclass

_CHECKS = {}


class Wrong(Exception):
    """What is wrong with an answer, in both languages; one line each, a hint rather than the solution."""

    def __init__(self, en, zh):
        super().__init__(en)
        self.en, self.zh = en, zh


@dataclass(frozen=True)
class Verdict:
    """What a check found: state is `empty`, `right`, `wrong`, or `crash` when the check could not use the answer."""

    state: str
    en: str
    zh: str


EMPTY = Verdict("empty", "not answered yet", "还没有作答")
RIGHT = Verdict("right", "right", "对了")
_MARKS = {"empty": "…", "right": "✓", "wrong": "✗", "crash": "✗"}


def exercise(name):
    """Register the decorated function as the check of exercise `name`, such as "1.1"."""

    def register(function):
        if name in _CHECKS and _CHECKS[name].__qualname__ != function.__qualname__:
            raise ValueError(
                f"two checks for exercise {name}: {_CHECKS[name].__name__} and {function.__name__}"
            )
        _CHECKS[name] = function
        return function

    return register


def registered(chapter):
    """The checks of a chapter: {exercise name: function}."""
    try:
        importlib.import_module(f"{__name__}.ch{chapter:02d}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.ch{chapter:02d}":
            raise
    return {
        name: function for name, function in _CHECKS.items() if int(name.split(".")[0]) == chapter
    }


def verdict(name, answer):
    """The Verdict on `answer` to exercise `name`. Raises LookupError if the book has no such exercise."""
    function = registered(int(name.split(".")[0])).get(name)
    if function is None:
        raise LookupError(f"no check for exercise {name}")
    if is_empty(answer):
        return EMPTY
    try:
        function(answer)
    except Wrong as wrong:
        return Verdict("wrong", wrong.en, wrong.zh)
    except Exception as error:
        fault = _name(error)
        return Verdict(
            "crash", f"the check cannot use this answer: {fault}", f"检查用不了这个答案：{fault}"
        )
    return RIGHT


def check(name, answer):
    """Print the verdict on `answer` to exercise `name`, in one line."""
    found = verdict(name, answer)
    texts = {"en": [found.en], "zh": [found.zh]}.get(
        os.environ.get("BOOK_LANG", ""), [found.en, found.zh]
    )
    print(name, _MARKS[found.state], " · ".join(" ".join(text.split()) for text in texts))


def is_empty(answer):
    """Whether `answer` is as shipped: `...`, a collection that still holds one, or a function whose body is `...`."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (tuple, list)):
        return any(item is Ellipsis for item in answer)
    return answer is Ellipsis or _is_stub(answer)


def _is_stub(answer):
    """Whether `answer` is a plain function that does nothing but return None or `...`."""
    if not hasattr(answer, "__code__"):
        return False
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP")]
    if any(not step.opname.startswith(("LOAD_CONST", "RETURN_")) for step in steps):
        return False
    return all(step.argval in (None, Ellipsis) for step in steps if step.opname != "RETURN_VALUE")


def _name(error):
    """An exception in one line: its type and the first line of its message."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__


# ---------------------------------------------------------------- helpers for checks


def expect(condition, en, zh):
    """Raise Wrong(en, zh) unless `condition` (a bool, or a tensor with one element) holds."""
    if not bool(condition):
        raise Wrong(en, zh)


def number(answer):
    """`answer` as an int or a float; Wrong for anything that is no number: text, True, nan, a tensor of several."""
    value = (
        answer.item() if callable(getattr(answer, "item", None)) and _size(answer) == 1 else answer
    )
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
        raise Wrong(
            f"The answer is a number; this is {_kind(answer)}.",
            f"答案应是一个数，这里是 {_kind(answer)}。",
        )
    return value if isinstance(value, int) else float(value)


def close(answer, expected, en, zh, *, within=1e-6):
    """Raise Wrong(en, zh) unless `answer` is a number at most `within` from `expected`."""
    expect(abs(number(answer) - float(expected)) <= within, en, zh)


def text(answer):
    """`answer`, if it is a string."""
    if not isinstance(answer, str):
        raise Wrong(
            f"The answer is a string; this is {_kind(answer)}.",
            f"答案应是字符串，这里是 {_kind(answer)}。",
        )
    return answer


def tensor(answer, shape=None):
    """`answer`, if it is a torch tensor, of `shape` where one is given."""
    import torch  # here, so that a chapter whose answers are numbers does not wait for it

    if not isinstance(answer, torch.Tensor):
        raise Wrong(
            f"The answer is a tensor; this is {_kind(answer)}.",
            f"答案应是张量，这里是 {_kind(answer)}。",
        )
    if shape is not None and tuple(answer.shape) != tuple(shape):
        want, have = tuple(shape), tuple(answer.shape)
        raise Wrong(f"The shape is {have}; it should be {want}.", f"形状是 {have}，应为 {want}。")
    return answer


def function(answer):
    """`answer`, if it can be called; what it raises becomes Wrong with the arguments that made it fail."""
    if not callable(answer):
        raise Wrong(
            f"The answer is a function; this is {_kind(answer)}.",
            f"答案应是函数，这里是 {_kind(answer)}。",
        )

    def guarded(*args, **kwargs):
        try:
            return answer(*args, **kwargs)
        except Exception as error:
            given = ", ".join(
                [*map(_short, args), *(f"{key}={_short(value)}" for key, value in kwargs.items())]
            )
            raise Wrong(
                f"Your function raised {_name(error)}, when given ({given}).",
                f"你的函数在参数为 ({given}) 时抛出了 {_name(error)}。",
            ) from None

    return guarded


def _size(answer):
    """How many elements a tensor or an array has."""
    return math.prod(getattr(answer, "shape", ()))


def _kind(answer):
    """The type of `answer`, as a reader knows it; with the shape of a tensor."""
    shape = getattr(answer, "shape", None)
    name = "nan" if isinstance(answer, float) and math.isnan(answer) else type(answer).__name__
    return f"{name} {tuple(shape)}" if isinstance(shape, tuple) and shape else name


def _short(value):
    """`value` in a few characters."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 40 else shown[:37] + "..."
