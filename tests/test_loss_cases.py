"""Chapter 8's hand-computed cases: the library gives the written numbers, and the numbers are their closed forms.

chapters/data/loss_cases.json was computed on paper. A quantity is [closed form, value]; the form is evaluated here
with 120 digits, by arithmetic that shares nothing with torch, so a slip in a written number fails as well.
"""

import ast
import json
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch

import sources
from dpo_core.losses import LOSS_TYPES, preference_loss, sequence_logps

CASES = json.loads((sources.CHAPTERS / "data" / "loss_cases.json").read_text(encoding="utf-8"))
LOGPS = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
LOSSES = pytest.mark.parametrize("case", CASES["losses"], ids=lambda case: case["name"])
SEQUENCES = pytest.mark.parametrize("case", CASES["sequences"], ids=lambda case: case["name"])


def evaluate(form):
    """The value of a closed form: numbers, + - * /, ln and exp, nothing else."""
    operations = {
        ast.Add: Decimal.__add__,
        ast.Sub: Decimal.__sub__,
        ast.Mult: Decimal.__mul__,
        ast.Div: Decimal.__truediv__,
    }

    def value(node):
        match node:
            case ast.Constant(value=int() | float() as number):
                return Decimal(str(number))
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner)
            case ast.BinOp(left=left, op=op, right=right):
                return operations[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id="ln" | "exp" as name), args=[inner]):
                return getattr(value(inner), name)()
        raise ValueError(f"not a closed form: {ast.dump(node)}")

    with localcontext(prec=120):
        return value(ast.parse(form, mode="eval").body)


def quantities(case):
    return {
        name: value
        for name, value in case.items()
        if isinstance(value, list) and isinstance(value[0], str)
    }


def loss(case, dtype=torch.float64, loss_type="sigmoid"):
    """(losses, chosen_rewards, rejected_rewards, the two gradients) of one case."""
    logps = [torch.tensor([case[name][1]], dtype=dtype, requires_grad=True) for name in LOGPS]
    options = {
        "beta": case["beta"],
        "label_smoothing": case.get("label_smoothing", 0.0),
        "loss_type": loss_type,
    }
    if "preference_prob" in case:
        options["preference_prob"] = torch.tensor([case["preference_prob"]], dtype=dtype)
    outputs = preference_loss(*logps, **options)
    return [x.item() for x in (*outputs, *torch.autograd.grad(outputs[0].sum(), logps[:2]))]


@pytest.mark.parametrize(
    "case", CASES["losses"] + CASES["sequences"], ids=lambda case: case["name"]
)
def test_written_numbers_are_their_closed_forms(case):
    """A typing slip of one digit, in form or in number."""
    assert quantities(case)
    for name, (form, written) in quantities(case).items():
        exact = evaluate(form)
        assert abs(Decimal(repr(written)) - exact) <= abs(exact) * Decimal("1e-14"), name


@LOSSES
def test_loss_rewards_and_gradients(case):
    """A missing beta, a swapped pair, a dropped half of a soft label, a rounded sigmoid: each misses some case."""
    written = [
        case[name][1]
        for name in ("loss", "chosen_reward", "rejected_reward", "grad_chosen", "grad_rejected")
    ]
    assert loss(case) == pytest.approx(written, rel=1e-9, abs=1e-12)


@LOSSES
def test_float32_keeps_six_digits(case):
    """log(sigmoid) is -inf at -200 in float32, and log-ratios of thousands of nats lose their digits in float16."""
    found = loss(case, torch.float32)
    assert found[0] == pytest.approx(case["loss"][1], rel=1e-5, abs=1e-6)
    assert found[3] == pytest.approx(case["grad_chosen"][1], rel=1e-5, abs=1e-6)


@SEQUENCES
def test_sequence_log_probability(case):
    logits = torch.tensor(
        [[[float(Fraction(p)) for p in row] for row in case["probs"]]], dtype=torch.float64
    ).log()
    found = sequence_logps(logits, torch.tensor([case["ids"]]), torch.tensor([case["mask"]]))
    assert found.item() == pytest.approx(case["logp"][1], abs=1e-12)


def test_the_cases_cover_what_they_promise():
    """Cases at beta 1 only, or at h = 0 only, would let most bugs pass."""
    assert len(CASES["losses"]) >= 12 and len(CASES["sequences"]) >= 5
    assert {0.1, 0.25, 0.5, 1.0, 2.0} <= {case["beta"] for case in CASES["losses"]}
    assert any("preference_prob" in case for case in CASES["losses"])
    assert any("label_smoothing" in case for case in CASES["losses"])
    assert {200, -200} <= {
        round(c["chosen_reward"][1] - c["rejected_reward"][1]) for c in CASES["losses"]
    }
    assert "sigmoid" in LOSS_TYPES


BUGS = {
    "beta twice": lambda case: case["beta"] ** 2,
    "beta forgotten": lambda case: 1.0,
    "beta inverted": lambda case: 1 / case["beta"],
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_beta_misses_a_case(bug):
    """The cases can fail: with each wrong beta at least five of them do."""
    missed = 0
    for case in CASES["losses"]:
        found = loss({**case, "beta": BUGS[bug](case)})
        written = [case["loss"][1], case["grad_chosen"][1]]
        missed += [found[0], found[3]] != pytest.approx(written, rel=1e-6)
    assert missed >= 5
