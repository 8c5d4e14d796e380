"""Chapter 11: every loss of the family, against what TRL's own code computed, and against what each claims to be."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sources
from dpo_core.family import FAMILY
from dpo_core.losses import LOSS_TYPES, kto_loss, preference_loss, sequence_logps
from dpo_core.steps import dpo_step, kto_step
from toys import random_ids, small_model

STORED = json.loads((sources.CHAPTERS / "data" / "trl_losses.json").read_text(encoding="utf-8"))
NAMES = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
LENGTHS = ("chosen_lengths", "rejected_lengths")
NEEDED = {"exo_pair": {"label_smoothing": 0.1}}
SETTING = ("loss_type", "beta", "label_smoothing", "gamma_beta_ratio", "discopop_tau", "sft_weight")


def column(name):
    return torch.tensor([pair[name] for pair in STORED["pairs"]], dtype=torch.float64)


def title(case):
    return " ".join(
        f"{case[name]:g}" if name != "loss_type" else case[name] for name in SETTING if name in case
    )


PAIRED = [case for case in STORED["cases"] if case["loss_type"] != "kto"]
UNPAIRED = [case for case in STORED["cases"] if case["loss_type"] == "kto"]


@pytest.mark.parametrize("case", PAIRED, ids=title)
def test_losses_and_gradients_equal_those_of_trl(case):
    """A sign, a missing β, a sum where TRL takes a mean: any of them changes a value or a gradient."""
    four = [column(name).requires_grad_() for name in NAMES]
    lengths = {name: column(name) for name in LENGTHS}
    losses, *_ = preference_loss(
        *four, **lengths, **{name: case[name] for name in SETTING if name in case}
    )
    gradients = torch.autograd.grad(losses.sum(), four[:2], allow_unused=True)
    # TRL takes these log-probabilities, or this ε, in float32
    single = {"orpo": 1e-5, "exo_pair": 1e-6}
    within = dict.fromkeys(("rtol", "atol"), single.get(case["loss_type"], 1e-9))
    for found, name in zip(
        (losses, *gradients), ("loss", "grad_chosen", "grad_rejected"), strict=True
    ):
        found = torch.zeros(len(losses), dtype=torch.float64) if found is None else found
        torch.testing.assert_close(found, torch.tensor(case[name], dtype=torch.float64), **within)


@pytest.mark.parametrize("case", UNPAIRED, ids=title)
def test_kto_equals_that_of_trl(case):
    """The roles of desirable and undesirable exchanged, or the reference point added twice."""
    four = [column(name).requires_grad_() for name in NAMES]
    options = {
        name: case[name] for name in ("beta", "kl", "desirable_weight", "undesirable_weight")
    }
    yes = torch.ones(len(four[0]), dtype=torch.bool)
    losses = (
        kto_loss(four[0], four[2], yes, **options)[0]
        + kto_loss(four[1], four[3], ~yes, **options)[0]
    )
    gradients = torch.autograd.grad(losses.sum(), four[:2])
    for found, name in zip(
        (losses, *gradients), ("loss", "grad_chosen", "grad_rejected"), strict=True
    ):
        torch.testing.assert_close(
            found, torch.tensor(case[name], dtype=torch.float64), rtol=1e-9, atol=1e-9
        )


def test_every_loss_that_trl_has_is_compared():
    """Ours are those whose name or reading TRL has not."""
    ours = {"slic", "ipo_sum"}
    assert {case["loss_type"] for case in PAIRED} | ours == set(LOSS_TYPES) == set(FAMILY)
    assert any(case["grad_chosen"][0] != case["grad_chosen"][2] for case in PAIRED)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def family_loss(
    name, chosen, rejected, ref_chosen=-7.0, ref_rejected=-9.0, lengths=(5, 8), beta=0.4, **options
):
    four = [x if x is None else numbers(x) for x in (chosen, rejected, ref_chosen, ref_rejected)]
    sizes = {key: torch.full_like(four[0], value) for key, value in zip(LENGTHS, lengths)}
    return preference_loss(
        *four, beta=beta, loss_type=name, **sizes, **{**NEEDED.get(name, {}), **options}
    )


ARITHMETIC = {  # chosen log-ratio 2, rejected log-ratio -1 (3 apart), lengths 5 and 8, β = 0.4
    "sigmoid": math.log(1 + math.exp(-1.2)),
    "hinge": 0.0,
    "slic": 0.0,
    "ipo": (2 / 5 + 1 / 8 - 1.25) ** 2,
    "ipo_sum": (3 - 1.25) ** 2,
    "sppo_hard": (2 - 1.25) ** 2 + (-1 + 1.25) ** 2,
    "sigmoid_sft": math.log(1 + math.exp(-1.2)) + 5 / 5,
    "simpo": math.log(1 + math.exp(-0.4 * (-5 / 5 + 10 / 8 - 0.5))),
    "bco_pair": math.log(1 + math.exp(-0.8)) + math.log(1 + math.exp(-0.4)),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_values_by_hand(name):
    """Policy -5 and -10 against reference -7 and -9."""
    assert family_loss(name, -5.0, -10.0)[0].item() == pytest.approx(ARITHMETIC[name], abs=1e-12)


def test_hinges_by_hand_before_they_close():
    """At a margin beyond 1 both are 0 whatever β is: 1 - 0.4 · 1 with a log-ratio, or a log-probability, of 1."""
    assert family_loss("hinge", -5.0, -8.0)[0].item() == pytest.approx(1 - 0.4 * (2 - 1))
    assert family_loss("slic", -5.0, -6.0)[0].item() == pytest.approx(1 - 0.4)


REWARDS = {
    "sigmoid": (2.0, -1.0),
    "sigmoid_norm": (2.0, -1.0),
    "simpo": (-5 / 5, -10 / 8),
    "slic": (-5.0, -10.0),
}


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_are_beta_times_what_the_loss_compares(name):
    """Log-ratios with a reference (TRL's metric, of sums); without one, the log-probability, a token or whole."""
    _, chosen, rejected = family_loss(name, -5.0, -10.0)
    assert (chosen.item(), rejected.item()) == pytest.approx(
        tuple(0.4 * score for score in REWARDS[name])
    )


@pytest.mark.parametrize("name", LOSS_TYPES)
def test_soft_labels_are_the_expectation_over_who_is_preferred(name):
    """A label that scales the loss in place of turning the pair round."""
    chosen, rejected = numbers(-5.0, -6.0), numbers(-10.0, -3.0)
    reference = numbers(-7.0, -7.5), numbers(-9.0, -2.0)
    q, sizes = (
        numbers(0.8, 0.3),
        {"chosen_lengths": numbers(5, 4), "rejected_lengths": numbers(8, 2)},
    )
    turned = {
        "chosen_lengths": sizes["rejected_lengths"],
        "rejected_lengths": sizes["chosen_lengths"],
    }
    settings = {"beta": 0.4, "loss_type": name, **NEEDED.get(name, {})}
    soft, *_ = preference_loss(chosen, rejected, *reference, preference_prob=q, **sizes, **settings)
    one, *_ = preference_loss(chosen, rejected, *reference, **sizes, **settings)
    two, *_ = preference_loss(rejected, chosen, *reference[::-1], **turned, **settings)
    torch.testing.assert_close(soft, q * one + (1 - q) * two)


@pytest.mark.parametrize("name", [name for name in LOSS_TYPES if not FAMILY[name].reference])
def test_a_loss_without_reference_does_not_read_one(name):
    """SimPO with a reference is another loss."""
    absent = family_loss(name, -5.0, -10.0, None, None)
    for one, other in zip(absent, family_loss(name, -5.0, -10.0, -1.0, -2.0), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in LOSS_TYPES if FAMILY[name].reference])
def test_a_loss_with_a_reference_needs_one(name):
    """None taken for zeros would be a uniform reference."""
    with pytest.raises(ValueError, match=f"'{name}' needs ref_chosen_logps"):
        family_loss(name, -5.0, -10.0, None, None)


@pytest.mark.parametrize("name", [name for name in LOSS_TYPES if FAMILY[name].lengths])
def test_a_loss_that_divides_by_the_length_needs_it(name):
    """Without lengths a mean is a sum."""
    with pytest.raises(ValueError, match=f"'{name}' needs chosen_lengths"):
        preference_loss(*[numbers(-5)] * 4, beta=0.4, loss_type=name)


OPTIONS = {"label_smoothing": 0.1, "gamma_beta_ratio": 0.7, "discopop_tau": 0.2, "sft_weight": 0.3}


@pytest.mark.parametrize("name", LOSS_TYPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_the_loss_or_is_refused(name, option):
    """Silently ignored options: TRL's label_smoothing on sigmoid."""
    if option not in FAMILY[name].options:
        with pytest.raises(ValueError, match=f"{option} has no effect on loss_type '{name}'"):
            family_loss(name, -5.0, -10.0, **{option: OPTIONS[option]})
        return
    other = {**OPTIONS, "label_smoothing": 0.3}
    one = family_loss(name, -5.0, -10.0, **{option: OPTIONS[option] * 0.9})[0].item()
    assert abs(one - family_loss(name, -5.0, -10.0, **{option: other[option]})[0].item()) > 1e-6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exo_pair", {"label_smoothing": 0.0}, "needs label_smoothing above 0"),
        ("robust", {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ("discopop", {"discopop_tau": 0.0}, "discopop_tau is 0.0"),
        ("simpo", {"gamma_beta_ratio": -1.0}, "gamma_beta_ratio is -1.0"),
        ("sigmoid_sft", {"sft_weight": math.nan}, "sft_weight is nan"),
        (
            "sigmoid",
            {"label_smoothing": 0.1, "preference_prob": numbers(0.5)},
            "excludes label_smoothing",
        ),
    ],
)
def test_numbers_out_of_range_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        family_loss(name, -5.0, -10.0, **options)


@pytest.mark.parametrize("name", LOSS_TYPES)
@pytest.mark.parametrize("side", [-1, 1])
def test_extreme_ratios_stay_finite_in_float32(name, side):
    """TRL's DiscoPOP is exp(100) · 0 = NaN here; log(1 - p) of a certain answer is -inf only at p = 1."""
    chosen = torch.tensor([-300.0 if side < 0 else -0.5], requires_grad=True)
    rejected = torch.tensor([-0.5 if side < 0 else -300.0])
    reference, sizes = torch.tensor([-3.0]), dict.fromkeys(LENGTHS, torch.tensor([4.0]))
    losses, *_ = preference_loss(
        chosen,
        rejected,
        reference,
        reference,
        beta=1.0,
        loss_type=name,
        **sizes,
        **NEEDED.get(name, {}),
    )
    (gradient,) = torch.autograd.grad(losses.sum(), chosen)
    assert losses.isfinite().all() and gradient.isfinite().all()


@given(st.floats(-20, 0), st.floats(-20, 0), st.floats(0.0, 0.45))
def test_the_robust_loss_is_unbiased_under_flips(a, b, epsilon):
    """Averaged over labels that are flipped with probability ε it is the loss of clean ones."""
    clean = family_loss("sigmoid", a, b)[0]
    kept = family_loss("robust", a, b, label_smoothing=epsilon)[0]
    flipped = family_loss("robust", b, a, -9.0, -7.0, lengths=(8, 5), label_smoothing=epsilon)[0]
    assert ((1 - epsilon) * kept + epsilon * flipped).item() == pytest.approx(
        clean.item(), abs=1e-9
    )


def test_exo_is_least_where_the_policy_agrees_with_the_label():
    """KL(σ(h) || 1 - ε) is 0 at h = log((1 - ε)/ε), and positive elsewhere."""
    best = math.log(0.9 / 0.1) / 0.4
    assert family_loss("exo_pair", best - 16.0, -16.0, -8.0, -8.0)[0].item() == pytest.approx(
        0, abs=1e-12
    )
    assert family_loss("exo_pair", best - 15.0, -16.0, -8.0, -8.0)[0].item() > 1e-3


def test_ipo_asks_for_one_margin():
    """The loss is 0 where the log-ratios (a token, or whole) differ by 1/(2β), and grows on both sides."""
    for name, margin in (("ipo_sum", 1.25), ("ipo", 1.25 * 5)):
        at = [family_loss(name, -7.0 + margin + d, -9.0)[0].item() for d in (-1.0, 0.0, 1.0)]
        assert (
            at[1] == pytest.approx(0, abs=1e-12) and at[0] == pytest.approx(at[2]) and at[0] > 1e-3
        )


@pytest.mark.parametrize("name", LOSS_TYPES)
def test_the_step_of_training_takes_every_loss(name):
    """A loss whose lengths, options or name the training step does not hand on."""
    model, ids = small_model(), random_ids((8, 9))
    mask = torch.zeros(8, 9, dtype=torch.bool)
    for row in range(8):
        mask[row, 3 : 5 + row % 4] = True
    batch = {
        "chosen_ids": ids[:4],
        "rejected_ids": ids[4:],
        "chosen_mask": mask[:4],
        "rejected_mask": mask[4:],
        "ref_chosen_logps": torch.full((4,), -9.0),
        "ref_rejected_logps": torch.full((4,), -8.0),
    }
    options = {**NEEDED.get(name, {}), **{key: OPTIONS[key] for key in FAMILY[name].options}}
    total, count = dpo_step(0.3, name, **options)(model, batch)["loss"]
    logps = [
        sequence_logps(model(ids[part]), ids[part], mask[part]) for part in (slice(4), slice(4, 8))
    ]
    sizes = dict(zip(LENGTHS, mask.sum(-1).chunk(2)))
    references = batch["ref_chosen_logps"], batch["ref_rejected_logps"]
    losses, *_ = preference_loss(*logps, *references, beta=0.3, loss_type=name, **sizes, **options)
    assert count == 4 and total.requires_grad
    torch.testing.assert_close(total, losses.sum(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="has no effect"):
        dpo_step(
            0.3, name, **{option: 0.1 for option in OPTIONS if option not in FAMILY[name].options}
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref_logps": numbers(-1)}, "needed is"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"kl": -0.1}, "kl is -0.1"),
        ({"desirable_weight": -1.0}, "desirable_weight is -1.0"),
    ],
)
def test_kto_names_what_it_does_not_take(change, message):
    good = {
        "policy_logps": numbers(-1, -2),
        "ref_logps": numbers(-2, -2),
        "desirable": torch.tensor([True, False]),
    }
    with pytest.raises(ValueError, match=message):
        kto_loss(**{**good, "beta": 0.1, "kl": 0.0, **change})


def test_kto_pushes_apart_and_lets_no_gradient_into_its_reference_point():
    """A reference point that learns would lower the loss by leaving."""
    policy, point = (
        numbers(-3, -3).requires_grad_(),
        torch.tensor(0.5, dtype=torch.float64, requires_grad=True),
    )
    losses, rewards = kto_loss(
        policy, numbers(-3, -3), torch.tensor([True, False]), beta=0.2, kl=point
    )
    gradient, none = torch.autograd.grad(losses.sum(), (policy, point), allow_unused=True)
    assert gradient[0] < 0 < gradient[1] and none is None and not rewards.requires_grad
    _, rewards = kto_loss(policy, numbers(-5, -2), torch.tensor([True, False]), beta=0.2, kl=point)
    assert rewards.tolist() == pytest.approx([0.4, -0.2])


def kto_batch():
    model, ids = small_model(), random_ids((8, 9))
    mask = torch.zeros(8, 9, dtype=torch.bool)
    mask[:, 3:7] = True
    batch = {
        "input_ids": ids[:4],
        "completion_mask": mask[:4],
        "ref_logps": torch.full((4,), -9.0),
        "desirable": torch.tensor([True, False, False, True]),
        "kl_ids": ids[4:],
        "kl_mask": mask[4:],
    }
    return model, batch | {
        "kl_ref_logps": sequence_logps(model(ids[4:]), ids[4:], mask[4:]).detach()
    }


@pytest.mark.parametrize(("shift", "point"), [(1.5, 1.5), (-1.5, 0.0)])
def test_the_kto_step_measures_its_reference_point_on_mismatched_answers(shift, point):
    """A point below 0, a point that learns, or one taken from the answers that are judged."""
    model, batch = kto_batch()
    batch["kl_ref_logps"] = batch["kl_ref_logps"] - shift
    sums = kto_step(0.3, undesirable_weight=2.0)(model, batch)
    logps = sequence_logps(model(batch["input_ids"]), batch["input_ids"], batch["completion_mask"])
    given = logps, batch["ref_logps"], batch["desirable"]
    losses, rewards = kto_loss(*given, beta=0.3, kl=point, undesirable_weight=2.0)
    assert sums["kl"][0].item() == pytest.approx(point, abs=1e-5) and sums["loss"][1] == 4
    torch.testing.assert_close(sums["loss"][0], losses.sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums["rewards/rejected"][0], rewards[1:3].sum())
    gradients = [
        torch.autograd.grad(total, list(model.parameters()))
        for total in (sums["loss"][0], losses.sum())
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_kto_step_needs_no_undesirable_answer_and_names_a_bad_setting_at_once():
    """A mean over no answers is NaN; a bad weight found after an hour of sampling."""
    model, batch = kto_batch()
    batch["desirable"] = torch.ones(4, dtype=torch.bool)
    sums = kto_step(0.3)(model, batch)
    assert sums["loss"][0].isfinite() and "rewards/rejected" not in sums
    with pytest.raises(ValueError, match="desirable_weight is -1"):
        kto_step(0.3, desirable_weight=-1.0)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_table_of_chapter_11_lists_the_family(lang):
    """A loss added to the code and not to the book, or renamed in one language."""
    text = (sources.CHAPTERS / "11_family.py").read_text(encoding="utf-8")
    cell = next(
        part
        for part in text.split("\n# %%")
        if f'lang="{lang}"' in part and "| `loss_type` |" in part
    )
    rows = [line.split("`")[1] for line in cell.splitlines() if line.startswith("# | `")]
    assert sorted(rows) == sorted(["loss_type", *LOSS_TYPES, "kto_loss"])


def test_trls_defaults_are_those_that_chapter_11_names():
    """A reader who carries settings over; a release that changes one must be noticed here first."""
    import trl
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig

    named = {
        trl.DPOConfig: {
            "beta": 0.1,
            "label_smoothing": 0.0,
            "discopop_tau": 0.05,
            "precompute_ref_log_probs": False,
        },
        trl.KTOConfig: {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        CPOConfig: {"beta": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 1.0},
        ORPOConfig: {"beta": 0.1},
    }
    assert trl.__version__ == "1.16.0"
    for config, settings in named.items():
        found = {field.name: field.default for field in dataclasses.fields(config)}
        assert {name: found[name] for name in settings} == settings
