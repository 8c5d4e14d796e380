"""The arithmetic world: who writes the answers, and what makes one right (chapters 1, 5, 9, 10).

A problem is a prompt `S<target>=`, a completion is `<expression>E`. Two data settings share one
interface: `book`, a finite population of authors whose every probability is known, and `classic`,
the setting of Simple_RLHF_DPO. `judge` decides about any completion by parsing it; no text ever
reaches `eval`.
"""

import re
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property
from itertools import product

import numpy as np

EXPRESSION_GRAMMAR = """
expression = term,   { ( "+" | "-" ), term } ;
term       = signed, { ( "*" | "/" ), signed } ;
signed     = [ "-" ], number ;
number     = integer, [ ".", digit, { digit } ] ;
integer    = "0" | nonzero, { digit } ;
"""  # EBNF (ISO/IEC 14977); no unary plus, no double minus as a sign, no leading zero

_NUMBER = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_EXPRESSION = re.compile(rf"-?{_NUMBER}(?:[+\-*/]-?{_NUMBER})*")
_PIECE = re.compile(rf"(-?{_NUMBER})([+\-*/]?)")
_TARGET = re.compile(rf"-?{_NUMBER}")
MAX_EXPRESSION = 120  # characters; with the prompt it stays within the model's 128 positions


def stream(purpose: str, seed: int, step: int = 0) -> np.random.Generator:
    """The random numbers of one step of one purpose: a pure function of its arguments.

    Different purposes ("sft", "pairs", "evaluate", ...) never share numbers, so what is trained on
    and what is reported on are separate draws even under one seed.

    Raises:
        ValueError: a negative seed or step.
    """
    if not 0 <= seed < 2**63 or step < 0:
        raise ValueError(
            f"seed is {seed}, step is {step}; accepted are whole numbers from 0, seeds below 2**63"
        )
    return np.random.default_rng([zlib.crc32(purpose.encode()), seed, step])


@dataclass(frozen=True)
class Verdict:
    """What the checker found in one completion."""

    well_formed: bool
    numbers: int = 0  # how many numbers the expression has; 0 if it is not well formed
    value: Fraction | None = None  # None if not well formed, or if it divides by zero
    exact: bool = False  # the value is the target, within the task's tolerance

    @property
    def style(self) -> bool:
        """True for an expression of three numbers."""
        return self.numbers == 3


def evaluate_expression(text: str) -> tuple[int, Fraction | None]:
    """How many numbers `text` has, and its exact value (None where it divides by zero).

    Raises:
        ValueError: `text` is not an expression of EXPRESSION_GRAMMAR, or is over MAX_EXPRESSION
            long.
    """
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"{len(text)} characters; an expression has at most {MAX_EXPRESSION}")
    if not _EXPRESSION.fullmatch(text):
        raise ValueError(f"{text!r:.60} is not an expression such as 27+27 or -3.5*2-1")
    pieces = _PIECE.findall(text)
    terms: list[Fraction] = []
    operator = "+"
    for number, next_operator in pieces:
        value = Fraction(number)
        if operator == "/" and value == 0:
            return len(pieces), None
        if operator == "+":
            terms.append(value)
        elif operator == "-":
            terms.append(-value)
        elif operator == "*":
            terms[-1] *= value
        else:
            terms[-1] /= value
        operator = next_operator
    return len(pieces), sum(terms, Fraction(0))


def make_prompt(target: str | int | Fraction) -> str:
    """`S<target>=`, from a number or from a prompt that is one already.

    Raises:
        ValueError: the text is no number, or a prompt lacks its `S` or its `=`.
    """
    text = str(target)
    if text.startswith("S") or text.endswith("="):
        read_prompt(text)
        return text
    if not _TARGET.fullmatch(text):
        raise ValueError(
            f"{text!r:.60} is not a target; accepted are numbers such as 54, -12 or 3.25"
        )
    return f"S{text}="


def read_prompt(prompt: str) -> Fraction:
    """The target of a prompt.

    Raises:
        ValueError: `prompt` is not `S<target>=`; a missing `=` is named.
    """
    if not prompt.endswith("="):
        raise ValueError(
            f"prompt {prompt!r:.60} has no '=' at its end; accepted is S<target>=, such as S54="
        )
    if not prompt.startswith("S") or not _TARGET.fullmatch(prompt[1:-1]):
        raise ValueError(f"prompt {prompt!r:.60} is not S<target>=, such as S54= or S-3.25=")
    return Fraction(prompt[1:-1])


def judge(prompt: str, completion: str, tolerance: Fraction = Fraction(0)) -> Verdict:
    """Parse one completion and hold its value against the prompt's target.

    Any text may come as a completion. It is well formed if it is an expression of
    EXPRESSION_GRAMMAR followed by one `E` and nothing else, and exact if its value is within
    `tolerance` of the target.

    Raises:
        ValueError: the prompt (not the completion) is malformed.
    """
    target = read_prompt(prompt)
    try:
        numbers, value = evaluate_expression(completion.removesuffix("E"))
    except ValueError:
        return Verdict(well_formed=False)
    if not completion.endswith("E"):
        return Verdict(well_formed=False)
    exact = value is not None and abs(value - target) <= tolerance
    return Verdict(True, numbers, value, exact)


@dataclass(frozen=True)
class Table:
    """Every text the authors of a population can write, one row a text (`N` rows)."""

    prompts: list[str]
    completions: list[str]
    probability: np.ndarray  # (N,) float64, sums to 1
    style: np.ndarray  # (N,) bool, three numbers
    exact: np.ndarray  # (N,) bool, no slip


@dataclass(frozen=True)
class BookTask:
    """A population of authors who write small sums; every rate is known.

    An author means `a ± b`, or `a ± b ± c` with probability `style`, all numbers and signs uniform;
    the target is the value that was meant. With probability `slip` the author slips and writes `b`
    `slip_size` too large, so that the text misses its target.
    """

    style: float = 0.30
    slip: float = 0.25
    slip_size: int = 10
    largest: int = 49  # a and b are 0 … largest
    largest_third: int = 9  # c is 0 … largest_third
    name: str = field(default="book", init=False)
    tolerance: Fraction = field(default=Fraction(0), init=False)

    @cached_property
    def table(self) -> Table:
        """All texts with their probabilities; each (prompt, completion) occurs in one row only."""
        first, third, signs = range(self.largest + 1), range(self.largest_third + 1), (1, -1)
        symbol, rates = {1: "+", -1: "-"}, np.array([1 - self.slip, self.slip])
        meant = [
            (a + s * b, f"{a}{symbol[s]}{b}", f"{a}{symbol[s]}{b + self.slip_size}")
            for a, s, b in product(first, signs, first)
        ]
        prompts, completions, probability, style = [], [], [], []
        for three in (False, True):
            tails = (
                [(s * c, f"{symbol[s]}{c}E") for s in signs for c in third] if three else [(0, "E")]
            )
            for (value, right, slipped), (tail_value, tail) in product(meant, tails):
                prompt = f"S{value + tail_value}="
                prompts += prompt, prompt
                completions += right + tail, slipped + tail
            count = len(meant) * len(tails)
            share = (self.style if three else 1 - self.style) / count
            probability.append(np.tile(share * rates, count))
            style.append(np.full(2 * count, three))
        exact = np.arange(len(prompts)) % 2 == 0
        return Table(
            prompts, completions, np.concatenate(probability), np.concatenate(style), exact
        )

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(self.table.probability)

    def demonstrations(self, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """`count` texts of the population: prompts and completions."""
        draws = rng.random(count) * self._cumulative[-1]
        rows = np.searchsorted(self._cumulative, draws, side="right")
        return [self.table.prompts[r] for r in rows], [self.table.completions[r] for r in rows]

    @cached_property
    def prompt_distribution(self) -> dict[str, float]:
        """The probability of each prompt, in order of target."""
        total: dict[str, float] = {}
        for prompt, probability in zip(self.table.prompts, self.table.probability):
            total[prompt] = total.get(prompt, 0.0) + float(probability)
        return dict(sorted(total.items(), key=lambda item: read_prompt(item[0])))

    @cached_property
    def class_rates(self) -> np.ndarray:
        """What the population writes, by class: (prompts, 2, 2) float64, `[prompt, style, exact]`.

        Rows follow `prompt_distribution` and each sums to 1.
        """
        row_of = {prompt: row for row, prompt in enumerate(self.prompt_distribution)}
        rates = np.zeros((len(row_of), 2, 2))
        rows = np.array([row_of[prompt] for prompt in self.table.prompts])
        np.add.at(
            rates,
            (rows, self.table.style.astype(int), self.table.exact.astype(int)),
            self.table.probability,
        )
        return rates / rates.sum(axis=(1, 2), keepdims=True)

    @cached_property
    def log_conditional(self) -> dict[tuple[str, str], float]:
        """log p(completion | prompt) of the population, in nats, for every text it can write."""
        rows = zip(self.table.prompts, self.table.completions, self.table.probability)
        of = self.prompt_distribution
        return {(prompt, text): float(np.log(p / of[prompt])) for prompt, text, p in rows if p > 0}

    @cached_property
    def entropy(self) -> float:
        """The entropy floor: the mean of -log p(completion | prompt), in nats a completion."""
        rows = zip(self.table.prompts, self.table.completions, self.table.probability)
        return float(
            -sum(p * self.log_conditional[prompt, text] for prompt, text, p in rows if p > 0)
        )


@dataclass(frozen=True)
class ClassicTask:
    """The setting of Simple_RLHF_DPO: two-decimal numbers in [-100, 100], `+ - * /`.

    Demonstrations have two numbers; a third, for the preferred answers of `pairs`, is added with
    `+`. The target is the value rounded to two decimals, so an answer is right within 1/200.
    """

    name: str = field(default="classic", init=False)
    tolerance: Fraction = field(default=Fraction(1, 200), init=False)

    def _expression(self, rng: np.random.Generator, numbers: int) -> str:
        cents = [f"{value / 100:.2f}" for value in rng.integers(-10_000, 10_001, size=numbers)]
        expression = cents[0] + "+-*/"[rng.integers(4)] + cents[1]
        return expression + "".join(f"+{number}" for number in cents[2:])

    def demonstrations(
        self, count: int, rng: np.random.Generator, numbers: int = 2
    ) -> tuple[list[str], list[str]]:
        """`count` texts of `numbers` numbers each; a division by zero is drawn again."""
        prompts, completions = [], []
        while len(prompts) < count:
            expression = self._expression(rng, numbers)
            value = evaluate_expression(expression)[1]
            if value is not None:
                prompts.append(f"S{_two_decimals(value)}=")
                completions.append(f"{expression}E")
        return prompts, completions


Task = BookTask | ClassicTask
TASKS: dict[str, type[Task]] = {"book": BookTask, "classic": ClassicTask}


@cache
def make_task(name: str) -> Task:
    """The task of that name; always the same object, so that its tables are made once a process.

    Raises:
        ValueError: no such task; the message lists the names.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; accepted are {', '.join(TASKS)}")
    return TASKS[name]()


def _two_decimals(value: Fraction) -> str:
    cents = round(value * 100)
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"
