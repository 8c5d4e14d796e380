"""Chapters 3 and 8: log-probabilities of sequences, and the DPO loss, against values made by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_core.losses import bradley_terry_loss, preference_loss, sequence_logps, token_logps
from dpo_core.tokenizer import CharTokenizer
from toys import random_ids, small_model

# Three characters, four positions: p[t] is the distribution of token t + 1.
P = torch.tensor(
    [[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.25, 0.25, 0.5], [0.9, 0.05, 0.05]], dtype=torch.float64
)
IDS = torch.tensor([[2, 1, 0, 2]])
# logits are free up to a constant
LOGITS = (P.log() + torch.tensor([[1.0], [-5.0], [30.0], [0.0]]))[None]
MASK = torch.tensor([[0, 0, 1, 1]])
BY_HAND = math.log(0.1) + math.log(0.5)  # token 0 after position 1, token 2 after position 2


def test_token_logps_by_hand():
    """Entry t belongs to token t + 1: 0.3, 0.1, 0.5."""
    assert token_logps(LOGITS, IDS)[0].exp().tolist() == pytest.approx([0.3, 0.1, 0.5], abs=1e-12)


def test_sequence_logps_by_hand():
    """log 0.1 + log 0.5: the two marked tokens, each under the position before it."""
    assert sequence_logps(LOGITS, IDS, MASK).item() == pytest.approx(BY_HAND, abs=1e-12)


def museum(logits, ids, mask):
    """The bugs that public threads report, each as it is usually written."""
    logps = logits.log_softmax(-1)
    same = logps.gather(-1, ids[..., None]).squeeze(-1)  # position t judges token t
    shifted = logps[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    return {
        "no shift": (same * mask).sum(-1),
        "mask not shifted": (shifted * mask[:, :-1]).sum(-1),
        "mask shifted twice": (shifted[:, :-1] * mask[:, 2:]).sum(-1),
        "mean in place of sum": (shifted * mask[:, 1:]).sum(-1) / mask.sum(-1),
        "last token (E) left out": (shifted * mask[:, 1:])[:, :-1].sum(-1),
        "prompt included": shifted.sum(-1),
        "logits for log-probabilities": (
            logits[:, :-1].gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
        ).sum(-1),
    }


@pytest.mark.parametrize("bug", museum(LOGITS, IDS, MASK))
def test_the_hand_made_case_tells_each_bug_apart(bug):
    """A test that a bug passes is no test: every bug of the museum misses the value by more than 0.1 nats."""
    assert abs(museum(LOGITS, IDS, MASK)[bug].item() - BY_HAND) > 0.1


def test_probabilities_of_all_continuations_sum_to_one():
    """Over all 9 continuations of two tokens: a mean, a missed token or a second softmax breaks the sum."""
    total = 0.0
    for last in itertools.product(range(3), repeat=2):
        ids = torch.tensor([[2, 1, *last]])
        total += sequence_logps(LOGITS, ids, MASK).exp().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_empty_completion_has_log_probability_zero():
    """An empty product is 1; a mean over no tokens is NaN."""
    assert sequence_logps(LOGITS, IDS, torch.zeros(1, 4)).tolist() == [0.0]


def test_masked_infinities_do_not_reach_the_sum():
    """0 · (-inf) is NaN: a mask must choose, not multiply."""
    logits = LOGITS.clone()
    logits[0, 0, 1] = -torch.inf  # a prompt token that the model holds impossible
    logits.requires_grad_()
    found = sequence_logps(logits, IDS, MASK)
    assert found.item() == pytest.approx(BY_HAND, abs=1e-12)
    found.sum().backward()
    assert logits.grad[0, 1:].isfinite().all()


def test_logits_of_prompt_and_padding_do_not_matter():
    """The value depends on the logits before marked tokens only, and only through their row."""
    noisy = LOGITS.clone()
    noisy[0, [0, 3]] = (
        torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 50
    )
    assert sequence_logps(noisy, IDS, MASK).item() == pytest.approx(BY_HAND, abs=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(side):
    """The seed's bug: rows aligned to the right, labels masked from the left edge."""
    model, tokenizer = small_model(), CharTokenizer()
    prompts, completions = ["S54=", "S-1=", "S7="], ["27+27-0E", "1-2E", "E"]
    rows = [tokenizer.encode(p + c) for p, c in zip(prompts, completions)]
    ids, mask = tokenizer.pad(rows, side=side)
    marks = [[0] * len(p) + [1] * len(c) for p, c in zip(prompts, completions)]
    completion_mask, _ = tokenizer.pad(marks, side=side)
    with torch.no_grad():
        together = sequence_logps(model(ids, mask), ids, completion_mask)
        for row, (prompt, completion) in enumerate(zip(prompts, completions)):
            one, marked = tokenizer.collate([prompt], [completion])
            assert torch.allclose(
                together[row], sequence_logps(model(one), one, marked)[0], atol=2e-5
            )


def test_batch_order_only_reorders():
    """A reduction over the batch hidden in the function."""
    model, ids = small_model(), random_ids((4, 8))
    mask = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, 0] = False
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        logits = model(ids)
    straight = sequence_logps(logits, ids, mask)
    assert torch.equal(straight[order], sequence_logps(logits[order], ids[order], mask[order]))


def test_long_sequences_of_unlikely_tokens_stay_finite():
    """log(softmax(x)) is -inf where log_softmax(x) is -200."""
    logits = torch.zeros(1, 50, 3)
    logits[..., 0] = 200.0
    ids, mask = torch.ones(1, 50, dtype=torch.long), torch.ones(1, 50)
    mask[:, 0] = 0
    assert sequence_logps(logits, ids, mask).item() == pytest.approx(-200 * 49)


@pytest.mark.parametrize(
    ("logits", "ids", "mask", "message"),
    [
        (LOGITS[:, :-1], IDS, MASK, "do not fit"),
        (LOGITS, IDS, MASK[:, 1:], "do not fit"),
        (LOGITS[0], IDS[0], MASK[0], "do not fit|first token"),
        (LOGITS, IDS, torch.tensor([[1, 0, 1, 1]]), "first token"),
    ],
)
def test_unfit_shapes_are_refused(logits, ids, mask, message):
    """A mask already shifted by the caller (T - 1 wide) must not broadcast."""
    with pytest.raises(ValueError, match=message):
        sequence_logps(logits, ids, mask)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_bradley_terry_loss_by_hand():
    """σ(ln 3) = 3/4. A reward model has no β and no reference: a margin is all that it is held against."""
    margins = numbers(0, math.log(3), -math.log(3))
    hard = [math.log(2), math.log(4 / 3), math.log(4)]
    assert bradley_terry_loss(margins).tolist() == pytest.approx(hard, abs=1e-12)
    assert bradley_terry_loss(margins, numbers(1, 1, 1)).tolist() == pytest.approx(hard, abs=1e-12)
    soft = [
        math.log(2),
        0.9 * math.log(4 / 3) + 0.1 * math.log(4),
        0.2 * math.log(4) + 0.8 * math.log(4 / 3),
    ]
    assert bradley_terry_loss(margins, numbers(0.4, 0.9, 0.2)).tolist() == pytest.approx(
        soft, abs=1e-12
    )


def test_bradley_terry_loss_takes_margins_of_any_shape():
    """A table of margins, or one number: each has its own loss, and nothing is averaged."""
    margins = torch.linspace(-3, 3, 24, dtype=torch.float64)
    labels = torch.linspace(0, 1, 24, dtype=torch.float64)
    flat = bradley_terry_loss(margins, labels)
    assert torch.equal(
        bradley_terry_loss(margins.view(2, 3, 4), labels.view(2, 3, 4)), flat.view(2, 3, 4)
    )
    assert torch.equal(bradley_terry_loss(margins[5], labels[5]), flat[5])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (numbers(0.5), r"preference_prob is \(1,\), margins \(2,\)"),
        (numbers(0.5, 0.5)[:, None], r"preference_prob is \(2, 1\), margins \(2,\)"),
        (numbers(0.5, 1.1), "outside 0 to 1"),
        (numbers(-0.1, 0.5), "outside 0 to 1"),
        (numbers(0.5, math.nan), "outside 0 to 1"),
    ],
)
def test_bradley_terry_loss_refuses_labels_that_are_no_probabilities(label, message):
    """A (B, 1) of labels broadcasts to (B, B) losses; 1.1 rewards a wrong order without bound."""
    with pytest.raises(ValueError, match=message):
        bradley_terry_loss(numbers(1, -1), label)


def at_margin(h, **rest):
    """The loss at a given margin h = β · [(log π - log π_ref)(chosen) - (...)(rejected)], with β = 0.5."""
    policy_chosen = numbers(h).requires_grad_()
    zero = numbers(0)
    losses, *_ = preference_loss(
        policy_chosen / 0.5 - 3, zero - 4, zero - 3, zero - 4, beta=0.5, **rest
    )
    return losses, policy_chosen


@pytest.mark.parametrize(
    ("h", "loss"),
    [
        (0.0, math.log(2)),
        (math.log(3), math.log(4 / 3)),
        (-math.log(3), math.log(4)),
        (math.log(9), math.log(10 / 9)),
    ],
)
def test_loss_at_margins_known_by_hand(h, loss):
    """σ(ln 3) = 3/4: a missing β, a flipped sign or a base-2 logarithm gives another number."""
    assert at_margin(h)[0].item() == pytest.approx(loss, abs=1e-12)


def test_worked_example():
    """β 0.1; chosen -10 against -12, rejected -14 against -11: rewards 0.2 and -0.3, margin 0.5, loss 0.4741."""
    losses, chosen, rejected = preference_loss(
        numbers(-10), numbers(-14), numbers(-12), numbers(-11), beta=0.1
    )
    assert chosen.item() == pytest.approx(0.2) and rejected.item() == pytest.approx(-0.3)
    assert losses.item() == pytest.approx(0.474076984, abs=1e-9)
    soft = preference_loss(
        numbers(-10),
        numbers(-14),
        numbers(-12),
        numbers(-11),
        beta=0.1,
        preference_prob=numbers(0.8),
    )
    # each wrong-way tenth costs h / 10
    assert soft[0].item() == pytest.approx(0.574076984, abs=1e-9)


def test_the_start_is_ln_2_whatever_the_answers():
    """Policy = reference: 0.693 at step 0; any other number means that the two are not the same model."""
    chosen, rejected = numbers(-1, -200, -3.5), numbers(-40, -2, -3.5)
    losses, *rewards = preference_loss(chosen, rejected, chosen, rejected, beta=3.0)
    assert losses.tolist() == pytest.approx([math.log(2)] * 3)
    assert all((reward == 0).all() for reward in rewards)


def test_minimum_over_the_margin_is_the_log_odds_of_the_label():
    """Soft labels: the loss is least where σ(h) = q, and is the label's entropy there."""
    q = 0.8
    best = math.log(q / (1 - q))
    entropy = -q * math.log(q) - (1 - q) * math.log(1 - q)
    least = at_margin(best, preference_prob=numbers(q))[0].item()
    assert least == pytest.approx(entropy, abs=1e-12)
    for step in (-0.1, 0.1):
        assert at_margin(best + step, preference_prob=numbers(q))[0].item() > least


real = st.floats(-30, 0)


@given(real, real, real, real, st.floats(0, 1), st.floats(0.01, 5))
def test_swapping_the_answers_is_the_label_1_minus_q(a, b, c, d, q, beta):
    """A soft label weights both directions; code that only scales the hard loss by q is not symmetric."""
    a, b, c, d = map(numbers, (a, b, c, d))
    one, chosen, rejected = preference_loss(a, b, c, d, beta=beta, preference_prob=numbers(q))
    two, rejected_too, chosen_too = preference_loss(
        b, a, d, c, beta=beta, preference_prob=numbers(1 - q)
    )
    assert one.item() == pytest.approx(two.item(), abs=1e-9)
    assert (chosen.item(), rejected.item()) == (chosen_too.item(), rejected_too.item())


@given(real, real, st.floats(0, 0.49))
def test_label_smoothing_is_the_soft_label_1_minus_epsilon(a, b, epsilon):
    """cDPO with the roles of ε and 1 - ε exchanged would prefer the rejected answer."""
    zero = numbers(0)
    smooth = preference_loss(numbers(a), numbers(b), zero, zero, beta=0.3, label_smoothing=epsilon)
    soft = preference_loss(
        numbers(a), numbers(b), zero, zero, beta=0.3, preference_prob=numbers(1 - epsilon)
    )
    assert smooth[0].item() == pytest.approx(soft[0].item(), abs=1e-12)


@pytest.mark.parametrize("q", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("h", [-4.0, -0.5, 0.0, 2.0])
def test_gradient_equals_the_formula_and_finite_differences(h, q):
    """dL/d(log π chosen) = -β (q - σ(h)), which is -β σ(-h) for a hard label; the rejected one is its negative."""
    beta, label = 0.7, None if q is None else numbers(q)
    reference = numbers(-5.0), numbers(-6.0)
    policy = [numbers(-5.0 + h / beta).requires_grad_(), numbers(-6.0).requires_grad_()]

    def loss(chosen, rejected):
        return preference_loss(chosen, rejected, *reference, beta=beta, preference_prob=label)[
            0
        ].sum()

    gradients = torch.autograd.grad(loss(*policy), policy)
    by_hand = -beta * ((1 if q is None else q) - 1 / (1 + math.exp(-h)))
    assert [g.item() for g in gradients] == pytest.approx([by_hand, -by_hand], abs=1e-12)
    step = 1e-6
    by_differences = (loss(policy[0] + step, policy[1]) - loss(policy[0] - step, policy[1])) / (
        2 * step
    )
    assert by_differences.item() == pytest.approx(by_hand, abs=1e-8)


@pytest.mark.parametrize("q", [None, 0.25])
@pytest.mark.parametrize("margin", [1000.0, -1000.0])
def test_extreme_margins_stay_finite_in_float32(margin, q):
    """log(sigmoid(-89)) is -inf in float32, and its gradient NaN; logsigmoid is exact."""
    chosen = torch.tensor([margin], requires_grad=True)
    zero = torch.zeros(1)
    losses, *_ = preference_loss(
        chosen, zero, zero, zero, beta=1.0, preference_prob=None if q is None else torch.tensor([q])
    )
    (gradient,) = torch.autograd.grad(losses.sum(), chosen)
    weight = 1.0 if q is None else q
    assert losses.item() == pytest.approx(1000 * (weight if margin < 0 else 1 - weight))
    assert gradient.item() == pytest.approx(-weight if margin < 0 else 1 - weight)


def test_rewards_are_detached_and_a_detached_reference_gets_no_gradient():
    """A reward kept in the graph holds the memory of every step; a reference that learns is no leash."""
    policy = [torch.randn(3).requires_grad_() for _ in range(2)]
    reference = [torch.randn(3).requires_grad_() for _ in range(2)]
    losses, chosen, rejected = preference_loss(*policy, *(r.detach() for r in reference), beta=0.1)
    assert not chosen.requires_grad and not rejected.requires_grad
    losses.sum().backward()
    assert all(p.grad is not None for p in policy) and all(r.grad is None for r in reference)


def test_losses_are_one_per_pair():
    """A mean inside the function makes accumulation a mean of means (transformers PR #34191)."""
    four = [torch.randn(5) for _ in range(4)]
    outputs = preference_loss(*four, beta=0.1)
    assert [tuple(output.shape) for output in outputs] == [(5,)] * 3
    alone = torch.cat(
        [preference_loss(*(t[i : i + 1] for t in four), beta=0.1)[0] for i in range(5)]
    )
    assert torch.allclose(outputs[0], alone)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta": math.inf}, "beta is inf"),
        ({"beta": math.nan}, "beta is nan"),
        ({"loss_type": "sigmod"}, "'sigmod'; accepted are sigmoid"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"label_smoothing": math.nan}, "label_smoothing is nan"),
        ({"label_smoothing": 0.1, "preference_prob": torch.ones(2)}, "excludes"),
        ({"preference_prob": torch.tensor([0.5, 1.1])}, "outside 0 to 1"),
        ({"preference_prob": torch.tensor([0.5, -0.1])}, "outside 0 to 1"),
        ({"preference_prob": torch.tensor([0.5, math.nan])}, "outside 0 to 1"),
        ({"preference_prob": torch.tensor([0.5])}, r"preference_prob is \(1,\)"),
        ({"policy_rejected_logps": torch.zeros(1)}, r"policy_rejected_logps is \(1,\)"),
        ({"ref_chosen_logps": torch.zeros(2, 1)}, r"ref_chosen_logps is \(2, 1\)"),
        ({"ref_rejected_logps": torch.zeros(())}, "ref_rejected_logps is"),
    ],
)
def test_bad_input_is_named(changed, message):
    """A (B, 1) against a (B,) broadcasts to (B, B) in silence; an ignored option is worse than an error."""
    names = (
        "policy_chosen_logps",
        "policy_rejected_logps",
        "ref_chosen_logps",
        "ref_rejected_logps",
    )
    with pytest.raises(ValueError, match=message):
        preference_loss(**{**{name: torch.zeros(2) for name in names}, "beta": 0.1, **changed})


def test_token_losses_are_refused():
    """(B, T) log-probabilities would give a loss per token: DPO compares whole answers."""
    with pytest.raises(ValueError, match="one number a sequence"):
        preference_loss(*(torch.zeros(2, 3) for _ in range(4)), beta=0.1)
