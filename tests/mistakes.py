"""Plausible mistakes for every exercise: what a reader who misunderstood one thing would answer.

tests/test_exercises.py gives each to the exercise's check, which must call it wrong in words of its own. An entry is
(what went wrong, the answer), at least three for an exercise. The answer is one of

    12                             the value itself: a number, a string, a tensor, a function
    Edit("[:, 1:]", "[:, :-1]")    the solution's code with one piece replaced, for answers that are code
    Crash("twelve")                an answer about which only the exception's name can be said

    MISTAKES["1.1"] = [
        ("forgets E", 9),
        ("counts numbers, not characters", 3),
        ("gives the text back", "S54=27+27E"),
    ]

Values that are long to write are made by small functions above their chapter's entries.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """The solution with `old` replaced by `new`, wherever it stands."""

    old: str
    new: str

    def apply(self, solution):
        if self.old not in solution:
            raise LookupError(f"the solution does not contain {self.old!r}")
        return solution.replace(self.old, self.new)


@dataclass(frozen=True)
class Crash:
    """A mistake that may be reported by its exception alone."""

    answer: object


MISTAKES = {}

# ---------------------------------------------------------------- chapter 1

MISTAKES["1.1"] = [
    ("takes a digit for its id", [1, 8, 20, 9, 15, 1, 2]),
    ("forgets E", [1, 12, 20, 13, 15, 5]),
    ("confuses + and -", [1, 12, 20, 13, 14, 5, 2]),
    ("counts ids from 1", [2, 13, 21, 14, 16, 6, 3]),
    ("gives the text back", "S8=9-1E"),
]
MISTAKES["1.2"] = [
    ("counts padding against real tokens", 3 / 27),
    ("gives the number of cells", 3),
    ("counts the prompt as well", 14 / 30),
    ("gives the share that is real", 0.9),
]
MISTAKES["1.3"] = [
    ("marks from the left edge, as if padded on the right", Edit("width - completion_lengths", "torch.tensor(prompt_lengths)")),
    ("leaves E out", Edit("torch.arange(width) >=", "torch.arange(1, width + 1) % width >=")),
    ("starts one token late", Edit(">=", ">")),
    ("marks prompt and completion", Edit("torch.tensor(lengths) - torch.tensor(prompt_lengths)", "torch.tensor(lengths)")),
]
MISTAKES["1.4"] = [
    ("does not shift the mask", Edit("~completion_mask[:, 1:]", "~completion_mask[:, :-1]")),
    ("does not shift the ids", Edit("input_ids[:, 1:]", "input_ids[:, :-1]")),
    ("masks the completion instead", Edit("~completion_mask", "completion_mask")),
    ("fills with the padding id", Edit("-100", "0")),
]

# ---------------------------------------------------------------- chapter 2

# ---------------------------------------------------------------- chapter 3

# ---------------------------------------------------------------- chapter 4

# ---------------------------------------------------------------- chapter 9
