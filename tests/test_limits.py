"""At the ends of what numbers can be: certainty, nothing at all, the smallest share, the largest seed."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_core import tabular
from dpo_core.checkpoint import save_model
from dpo_core.family import FAMILY
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.pairs import Pairs, check_same_start, with_reference
from dpo_core.sampling import draw, generate, next_token_probs, score
from dpo_core.storage import json_bytes
from dpo_core.training import metrics_text
from toys import memoryless_model, random_ids, small_model

PROFILE = settings(max_examples=200, deadline=None, derandomize=True)
NAMES = st.sampled_from(sorted(FAMILY))
# log-probabilities of an answer: certain, as certain as float32 can tell, ordinary, hopeless
LOGPS = st.one_of(
    st.sampled_from([0.0, -0.0, -1e-45, -1e-38, -6e-8, -1.2e-7, -1e-3, -0.69, -88.0, -104.0, -1e4]),
    st.floats(-200, 0, width=32),
)


def loss_of(name, chosen, rejected, reference, lengths, dtype=torch.float32):
    """The loss of one pair and its gradient with respect to both log-probabilities."""
    member = FAMILY[name]
    answers = [torch.tensor([x], dtype=dtype, requires_grad=True) for x in (chosen, rejected)]
    given = {}
    if member.reference:
        given["ref_chosen_logps"], given["ref_rejected_logps"] = (
            torch.tensor([x], dtype=dtype) for x in reference
        )
    if member.lengths:
        given["chosen_lengths"], given["rejected_lengths"] = (torch.tensor([n]) for n in lengths)
    if member.required:
        given["label_smoothing"] = 0.1
    losses, *rewards = preference_loss(*answers, beta=0.25, loss_type=name, **given)
    return losses, torch.autograd.grad(losses.sum(), answers, allow_unused=True), rewards


@PROFILE
@given(NAMES, LOGPS, LOGPS, st.tuples(LOGPS, LOGPS), st.tuples(*[st.integers(1, 64)] * 2))
def test_every_loss_has_a_finite_gradient_where_answers_are_certain_or_hopeless(
    name, chosen, rejected, reference, lengths
):
    """ORPO's odds of an answer that has become certain: the gradient was NaN, and the run with it."""
    losses, gradients, rewards = loss_of(name, chosen, rejected, reference, lengths)
    assert torch.isfinite(losses).all() and all(torch.isfinite(r).all() for r in rewards)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


@pytest.mark.parametrize("name", [name for name, member in FAMILY.items() if member.lengths])
@pytest.mark.parametrize("lengths", [(0, 3), (3, 0), (-1, 3)])
def test_a_length_below_one_is_an_error(name, lengths):
    """0/0 is NaN, and a mean over nothing."""
    with pytest.raises(ValueError, match="has a length below 1"):
        loss_of(name, -1.0, -2.0, (-1.0, -2.0), lengths)


@pytest.mark.parametrize("seed", [2**32, 2**32 + 7, 2**63, -1])
@pytest.mark.parametrize(
    "use",
    [
        lambda seed: generate(small_model(), ["S5="], seed=seed),
        lambda seed: small_model().reset_parameters(seed),
        lambda seed: tabular.random_policies(2, 3, seed=seed),
        lambda seed: tabular.random_problems(2, 3, seed=seed),
        lambda seed: tabular.draw_comparisons(torch.ones(2, 2), 2, seed=seed),
    ],
    ids=["generate", "reset_parameters", "random_policies", "random_problems", "draw_comparisons"],
)
def test_a_seed_beyond_32_bits_is_an_error(use, seed):
    """`--seed 4294967296` was `--seed 0`: the generator drops the bits above."""
    with pytest.raises(ValueError, match=r"accepted are whole numbers from 0 to 4294967295"):
        use(seed)


def test_the_largest_seed_is_none_of_the_others():
    """Seeds that agree in their low bits, or that are taken for negative ones."""
    drawn = {s: generate(small_model(), ["S5="] * 40, seed=s) for s in (0, 1, 2**31, 2**32 - 1)}
    assert len({tuple(texts) for texts in drawn.values()}) == 4


@PROFILE
@given(
    st.lists(st.floats(-60, 60, width=32), min_size=22, max_size=22),
    st.sampled_from([1e-50, 1e-320, 1e-8, 0.1, 0.5, 1 - 1e-9, 1.0]),
    st.sampled_from([0.0, 1e-300, 1e-38, 1e-3, 1.0, 1e3, 1e38, 1e300]),
    st.sampled_from([None, 1, 2, 22, 10**9]),
    st.sampled_from([0.0, 0.5, 1 - 2**-24]),
)
def test_next_token_probs_is_a_distribution_at_every_setting(logits, top_p, temperature, top_k, u):
    """`--top-p 1e-50` kept no token at all, and divided by zero."""
    probs = next_token_probs(torch.tensor([logits]), temperature, top_k, top_p)
    assert torch.isfinite(probs).all() and (probs >= 0).all()
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    token = draw(probs, torch.tensor([u])).item()
    assert probs[0, token] > 0
    if top_p < 1e-6:
        assert probs.max() == 1


def test_half_precision_logits_are_normalised_in_float32():
    """In bfloat16 itself the log-probabilities of a long answer were two nats off."""
    logits = 8 * torch.randn(4, 60, 22, generator=torch.Generator().manual_seed(0))
    ids, mask = random_ids((4, 60)), torch.ones(4, 60, dtype=torch.bool)
    mask[:, 0] = False
    for dtype in (torch.bfloat16, torch.float16):
        rounded = logits.to(dtype)
        found = sequence_logps(rounded, ids, mask)
        assert found.dtype == torch.float32
        assert torch.equal(found, sequence_logps(rounded.float(), ids, mask))
        assert (found - sequence_logps(rounded.double(), ids, mask)).abs().max() < 1e-3
    assert sequence_logps(logits.double(), ids, mask).dtype == torch.float64


@torch.no_grad()
def too_large():
    """A model of finite weights which computes NaN."""
    model = memoryless_model({"E": 1.0})
    model.lm_head.weight.fill_(3e38)
    return model


def test_a_model_that_computes_nan_is_named_where_it_answers_and_where_it_scores(tmp_path):
    """The token of id 22, a file of NaN, or a report of it."""
    for use in (
        lambda: generate(too_large(), ["S54="]),
        lambda: score(too_large(), ["S54="], ["27+27E"]),
        lambda: with_reference(too_large(), ["S54="], ["27+27E"], ["5E"], [1.0]),
    ):
        with pytest.raises(FloatingPointError, match="the model computes NaN"):
            use()
    weights = small_model()
    with torch.no_grad():
        weights.lm_head.weight[0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"lm_head\.weight is not finite"):
        save_model(weights, tmp_path / "a.model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_file_of_ours_has_nan_in_it(number, tmp_path):
    """Python writes NaN into JSON, and no other reader takes it."""
    with pytest.raises(ValueError):
        json_bytes({"a": [number]})
    data = Pairs(["S5="], ["5E"], ["4E"], [1.0], [number], [-1.0])
    with pytest.raises(ValueError):
        data.write(tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError):
        check_same_start(memoryless_model({"E": 0.5, "5": 0.5}), data)
    with pytest.raises(ValueError):
        save_model(small_model(), tmp_path / "a.model", {"loss": number})
    assert json.loads(metrics_text([{"step": 1, "loss": None}])) == {"step": 1, "loss": None}
