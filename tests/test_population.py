"""The authors: every probability of the book's world, and the draws from it."""

import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest

from dpo_core.task import BookTask, ClassicTask, judge, make_task, read_prompt, stream

TASK = make_task("book")
TINY = BookTask(style=0.4, slip=0.2, largest=2, largest_third=1)


def brute_force(task: BookTask) -> Counter:
    """p(prompt, completion), author by author: the definition, with nothing shared with the table."""
    joint: Counter = Counter()
    numbers, thirds = range(task.largest + 1), range(task.largest_third + 1)
    for a in numbers:
        for b in numbers:
            for s in "+-":
                meant = a + b if s == "+" else a - b
                for slip, p_slip in ((0, 1 - task.slip), (task.slip_size, task.slip)):
                    two = (1 - task.style) * p_slip / (len(numbers) ** 2 * 2)
                    joint[f"S{meant}=", f"{a}{s}{b + slip}E"] += two
                    for c in thirds:
                        for t in "+-":
                            target = meant + c if t == "+" else meant - c
                            three = task.style * p_slip / (len(numbers) ** 2 * 2 * len(thirds) * 2)
                            joint[f"S{target}=", f"{a}{s}{b + slip}{t}{c}E"] += three
    return joint


def test_the_table_is_a_distribution_over_distinct_texts():
    """A text in two rows would make `log_conditional` keep one and lose the other's mass."""
    table = TASK.table
    assert len(table.prompts) == 5_000 * 2 + 100_000 * 2
    assert table.probability.sum() == pytest.approx(1, abs=1e-12)
    assert (table.probability > 0).all()
    assert len(set(zip(table.prompts, table.completions))) == len(table.prompts)


def test_rates_of_the_population_are_exactly_30_and_75_percent():
    """Style and slips are independent: a slip rate applied to two-number texts only would show here."""
    p, style, exact = TASK.table.probability, TASK.table.style, TASK.table.exact
    assert p[style].sum() == pytest.approx(0.30, abs=1e-12)
    assert p[~exact].sum() == pytest.approx(0.25, abs=1e-12)
    assert p[style & ~exact].sum() == pytest.approx(0.30 * 0.25, abs=1e-12)


def test_the_checker_agrees_with_the_table():
    """The table's columns and the parser are two sources for the same fact."""
    for row in np.random.default_rng(0).integers(0, len(TASK.table.prompts), 4000):
        verdict = judge(TASK.table.prompts[row], TASK.table.completions[row])
        assert verdict.well_formed
        assert (verdict.style, verdict.exact) == (TASK.table.style[row], TASK.table.exact[row])


def test_table_equals_a_brute_force_count():
    """Uniform over signs, over numbers, over thirds: any share forgotten changes some probability."""
    expected = brute_force(TINY)
    found = dict(zip(zip(TINY.table.prompts, TINY.table.completions), TINY.table.probability))
    assert found.keys() == expected.keys()
    for text, probability in expected.items():
        assert found[text] == pytest.approx(probability, abs=1e-15)


@pytest.mark.parametrize("task", [TINY, BookTask(style=0.3, slip=0.0, largest=3, largest_third=0)])
def test_entropy_floor_equals_a_brute_force_count(task):
    """H(text | prompt), not H(text): the prompt's own entropy is not the model's to pay."""
    joint = {text: p for text, p in brute_force(task).items() if p > 0}
    prompts: defaultdict[str, float] = defaultdict(float)
    for (prompt, _), p in joint.items():
        prompts[prompt] += p
    expected = -sum(p * math.log(p / prompts[prompt]) for (prompt, _), p in joint.items())
    assert task.entropy == pytest.approx(expected, abs=1e-12)


def test_entropy_floor_of_the_book():
    """The number that chapter 3 prints: 5.74 nats an answer."""
    assert TASK.entropy == pytest.approx(5.7363, abs=5e-5)


def test_conditional_probabilities_sum_to_one_for_each_prompt():
    """Dividing by the wrong prompt's mass."""
    totals: defaultdict[str, float] = defaultdict(float)
    for (prompt, _), logp in TASK.log_conditional.items():
        totals[prompt] += math.exp(logp)
    assert totals.keys() == TASK.prompt_distribution.keys()
    assert max(abs(total - 1) for total in totals.values()) < 1e-9


def test_prompt_distribution_is_ordered_by_target():
    """Text order would put S10= before S9= in every figure over targets."""
    targets = [read_prompt(prompt) for prompt in TASK.prompt_distribution]
    assert targets == sorted(targets)
    assert sum(TASK.prompt_distribution.values()) == pytest.approx(1, abs=1e-12)


def test_class_rates_are_conditional_on_the_prompt():
    """Averaged over prompts they give the population's rates; each row sums to 1."""
    weights = np.array(list(TASK.prompt_distribution.values()))
    assert np.allclose(TASK.class_rates.sum((1, 2)), 1)
    mean = np.einsum("p,pse->se", weights, TASK.class_rates)
    assert np.allclose(mean, [[0.7 * 0.25, 0.7 * 0.75], [0.3 * 0.25, 0.3 * 0.75]])


def test_draws_follow_the_table():
    """An off-by-one in the search of the cumulative sum gives a neighbour's probability, or a text of rate 0."""
    n = 200_000
    prompts, completions = TINY.demonstrations(n, stream("test", 0))
    counts = Counter(zip(prompts, completions))
    expected = brute_force(TINY)
    assert counts.keys() <= expected.keys()
    chi_square = sum((counts[text] - n * p) ** 2 / (n * p) for text, p in expected.items())
    degrees = len(expected) - 1
    assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees)


def test_an_author_who_never_slips_never_does():
    """Rows of probability 0 must not be drawn, nor stand in `log_conditional`."""
    careful = BookTask(slip=0.0, largest=2, largest_third=1)
    texts = set(zip(*careful.demonstrations(5000, stream("test", 1))))
    assert all(judge(*text).exact for text in texts)
    assert texts == careful.log_conditional.keys()


class Zeros:
    """A random generator whose every number is 0, the least that `random` can return."""

    def random(self, count):
        return np.zeros(count)


def test_the_least_random_number_draws_no_text_of_probability_zero():
    """`searchsorted` on the left finds the first row, whatever its probability: here a text that nobody writes."""
    (prompt,), (completion,) = BookTask(style=1.0, largest=2, largest_third=1).demonstrations(
        1, Zeros()
    )
    assert judge(prompt, completion).style


def test_stream_is_a_pure_function_of_purpose_seed_and_step():
    """A resumed run, another process and a second call must see the same data."""
    first, again = stream("sft", 3, 7).random(5), stream("sft", 3, 7).random(5)
    assert (first == again).all()
    others = [
        stream("evaluate", 3, 7),
        stream("sft", 4, 7),
        stream("sft", 3, 8),
        stream("sft", 7, 3),
    ]
    assert all((first != other.random(5)).all() for other in others)


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1)])
def test_stream_refuses_negative_numbers(seed, step):
    """numpy's own message about SeedSequence entropy would reach the reader."""
    with pytest.raises(ValueError, match="accepted are whole numbers from 0"):
        stream("sft", seed, step)


@pytest.mark.parametrize("numbers", [2, 3])
def test_every_classic_demonstration_is_right_within_half_a_cent(numbers):
    """A target cut instead of rounded is off by up to a cent; a float target by more for large quotients."""
    task = ClassicTask()
    for prompt, completion in zip(
        *task.demonstrations(2000, stream("test", numbers), numbers=numbers)
    ):
        verdict = judge(prompt, completion, task.tolerance)
        assert verdict.exact and verdict.numbers == numbers
        assert abs(verdict.value - read_prompt(prompt)) <= Fraction(1, 200)


def test_classic_covers_operators_signs_and_range():
    """`rng.integers` leaves its upper end out: 100.00 and `/` are the ones lost by an off-by-one."""
    _, completions = ClassicTask().demonstrations(4000, stream("test", 9))
    operators = Counter(text.lstrip("-").strip("0123456789.E-")[0:1] or "-" for text in completions)
    assert set(operators) == set("+-*/")
    firsts = [text[: text.index(".") + 3] for text in completions]
    assert 0.45 < sum(text.startswith("-") for text in firsts) / len(firsts) < 0.55
    assert max(abs(float(text)) for text in firsts) > 99.8


class Scripted:
    """A random generator that says what it is told: cents, then the index of the operator."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def integers(self, *_, size=None):
        answer = self.answers.pop(0)
        return np.array(answer) if size else answer


@pytest.mark.parametrize(
    ("cents", "operator_index", "prompt", "completion"),
    [
        ([1, 50], 2, "S0.00=", "0.01*0.50E"),  # exactly half a cent
        ([-1, 10], 2, "S0.00=", "-0.01*0.10E"),  # no S-0.00=
        ([-5, 10_000], 0, "S99.95=", "-0.05+100.00E"),
        ([500, -300], 1, "S8.00=", "5.00--3.00E"),
        ([-100, 300], 3, "S-0.33=", "-1.00/3.00E"),
    ],
)
def test_classic_worked_examples(cents, operator_index, prompt, completion):
    """Signs below one unit, half cents and double minus: where two-decimal printing goes wrong."""
    found = ClassicTask().demonstrations(1, Scripted(cents, operator_index))
    assert found == ([prompt], [completion])
    assert judge(prompt, completion, ClassicTask().tolerance).exact


def test_classic_draws_again_after_a_division_by_zero():
    """One of 80,000 draws divides by zero: rare enough to crash a long run only."""
    rng = Scripted([500, 0], 3, [500, 200], 3)
    assert ClassicTask().demonstrations(1, rng) == (["S2.50="], ["5.00/2.00E"])
    assert rng.answers == []
