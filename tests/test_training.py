"""The one training loop: one batch and its pieces, what a line of the metrics says, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dpo_core import steps
from dpo_core.losses import sequence_logps
from dpo_core.model import Llama, ModelConfig
from dpo_core.packing import completion_logps
from dpo_core.sampling import score
from dpo_core.steps import dpo_step, live_reference, reward_step, sft_step
from dpo_core.tokenizer import CharTokenizer
from dpo_core.training import LoopConfig, train
from runs import RUNS, pairs, run, same_bits, sft_batch, stored_progress
from toys import small_model


def uneven(_: int) -> dict[str, torch.Tensor]:
    """Four short answers, then four long ones: pieces of a step with very different counts of tokens."""
    ids, mask = CharTokenizer().collate(
        [f"S{n}=" for n in range(8)], ["1E"] * 4 + ["27+27-0+3-40E"] * 4
    )
    return {"input_ids": ids, "completion_mask": mask}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("pieces", [2, 3, 4, 8])
def test_accumulated_pieces_equal_one_batch(name, pieces):
    """A mean of the pieces' means weights tokens by the length of their neighbours (transformers #35856)."""
    batches = uneven if name.startswith("sft") else pairs().batches(8, seed=0)
    whole, parts = small_model(), small_model()
    one = run(name, whole, batch_at=batches, steps=3, log_every=1, save_every=0)
    many = run(name, parts, batch_at=batches, steps=3, log_every=1, save_every=0, accumulate=pieces)
    for line, other in zip(one, many):
        numbers = line.keys() - {"seconds"}
        assert {k: line[k] for k in numbers} == pytest.approx(
            {k: other[k] for k in numbers}, rel=2e-4, abs=1e-5
        )
    for a, b in zip(whole.parameters(), parts.parameters()):
        assert torch.allclose(a, b, atol=2e-4)


def test_the_uneven_batch_tells_a_mean_of_means_apart():
    """The planted bug: dividing inside each piece changes loss and gradient by far more than rounding."""

    def mean_of_means(model, batch):
        total, count = sft_step(model, batch)["loss"]
        return {"loss": (total / count, 1)}

    right = run("sft, muon", small_model(), batch_at=uneven, steps=1, accumulate=4, save_every=0)[0]
    wrong = run(
        "sft, muon",
        small_model(),
        batch_at=uneven,
        steps=1,
        accumulate=4,
        save_every=0,
        loss_step=mean_of_means,
    )[0]
    assert abs(right["loss"] / wrong["loss"] - 1) > 0.002  # ten times the tolerance above
    assert abs(right["grad_norm"] / wrong["grad_norm"] - 1) > 0.002  # ten times the tolerance above


def test_more_pieces_than_rows():
    """A batch of 3 cut in 4 has an empty piece, whose mean would be NaN."""
    one, four = (
        run(
            "sft, muon",
            small_model(),
            batch_at=lambda s: sft_batch(s, rows=3),
            steps=2,
            save_every=0,
            accumulate=n,
        )[-1]
        for n in (1, 4)
    )
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_state(tmp_path):
    """Training on through NaN overwrites the last good state with NaN."""

    def breaks_at_six(model, batch):
        result = sft_step(model, batch)
        calls.append(1)
        total, count = result["loss"]
        return {**result, "loss": (total * (math.nan if len(calls) == 7 else 1), count)}

    calls = []
    model = small_model()
    with pytest.raises(FloatingPointError, match="loss or gradient at step 6 is not finite"):
        run("sft, muon", model, folder=tmp_path, loss_step=breaks_at_six)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert stored_progress(tmp_path)["step"] == 4


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_update(tmp_path):
    """A finite loss with a NaN gradient: the weights would be NaN one step before anybody notices."""

    def breaks_backwards(model, batch):
        result = sft_step(model, batch)
        total, count = result["loss"]
        # slope of sqrt at 0
        return {**result, "loss": (total + 0 * (total - total.detach()).sqrt(), count)}

    model = small_model()
    with pytest.raises(FloatingPointError, match="loss or gradient at step 0 is not finite"):
        run("sft, muon", model, folder=tmp_path, loss_step=breaks_backwards)
    assert same_bits(model, small_model())


def test_training_leaves_the_callers_random_state_alone_and_ignores_it():
    """A loop that draws from the global generators cannot be resumed, and disturbs the notebook around it."""
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        numpy_before = np.random.get_state()[1].copy()
        results.append(small_model())
        before = torch.get_rng_state()
        run("dpo, adamw", results[-1], steps=3, save_every=0)
        assert torch.equal(torch.get_rng_state(), before)
        assert (np.random.get_state()[1] == numpy_before).all()
    assert same_bits(*results)


def test_a_line_of_the_metrics_is_the_mean_over_its_steps():
    """The last step's loss in place of the window's mean: jagged curves, and a floor that is passed by luck."""
    single = run("sft, muon", small_model(), steps=6, log_every=1, save_every=0)
    window = run("sft, muon", small_model(), steps=6, log_every=4, save_every=0)
    assert [line["step"] for line in window] == [4, 6]
    rows = [line["nats_per_completion"] for line in single]
    assert [line["nats_per_completion"] for line in window] == pytest.approx(
        [np.mean(rows[:4]), np.mean(rows[4:])]
    )
    tokens = [int(sft_batch(step)["completion_mask"].sum()) for step in range(4)]
    expected = np.average([line["loss"] for line in single[:4]], weights=tokens)
    assert window[0]["loss"] == pytest.approx(expected)


def test_the_learning_rate_of_each_group_follows_the_schedule():
    """A schedule that multiplies the last rate in place of the peak decays twice."""
    lines = run("sft, muon", small_model(), steps=12, log_every=1, save_every=0)
    expected = [
        0.01 * f
        for f in (1 / 3, 2 / 3, 1, *(0.5 * (1 + math.cos(math.pi * k / 9)) for k in range(9)))
    ]
    assert [line["learning_rate"] for line in lines] == pytest.approx(expected)


def test_clipping_shortens_a_long_gradient_and_reports_its_length():
    """Clipping before the division by the count, or piece by piece, clips another gradient."""
    moved = []
    for limit in (math.inf, 1e-12):
        model = small_model()
        line = run("dpo, adamw", model, steps=1, max_grad_norm=limit, save_every=0)[0]
        assert line["grad_norm"] > 0.01
        start = small_model().state_dict()
        moved.append(max(float((p - start[n]).abs().max()) for n, p in model.state_dict().items()))
    assert moved[1] < moved[0] / 100  # 1e-12 is far below Adam's eps


@pytest.mark.parametrize("name", RUNS)
def test_every_step_starts_without_a_gradient(name):
    """One optimiser of two cleared: the other's gradients pile up, and Muon hides their scale."""

    def step(model, batch):
        assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
        return RUNS[name][1](model, batch)

    run(name, small_model(), loss_step=step, steps=3, save_every=0)


def test_gradients_shorter_than_the_limit_are_left_alone():
    """Clipping the sum before it is divided, or the gradient of each piece, shortens what is short enough."""
    plain, clipped, cut = small_model(), small_model(), small_model()
    settings = {"steps": 4, "log_every": 1, "save_every": 0, "accumulate": 2}
    norms = [line["grad_norm"] for line in run("dpo, adamw", plain, **settings)]
    run("dpo, adamw", clipped, max_grad_norm=1.01 * max(norms), **settings)
    run("dpo, adamw", cut, max_grad_norm=0.9 * min(norms), **settings)
    assert same_bits(plain, clipped) and not same_bits(plain, cut)


def test_sft_step_of_one_batch_by_hand():
    """The marked tokens, each under the position before it, `E` included; a count of tokens and one of texts."""
    prompts, completions = ["S54=", "S-12=", "S7="], ["27+27-0E", "1-13E", "E"]
    ids, mask = CharTokenizer().collate(prompts, completions)
    sums = sft_step(small_model(), {"input_ids": ids, "completion_mask": mask})
    nats = pytest.approx(-score(small_model(), prompts, completions).sum().item(), rel=1e-5)
    found = {name: (total.item(), int(count)) for name, (total, count) in sums.items()}
    assert found == {"loss": (nats, 8 + 5 + 1), "nats_per_completion": (nats, 3)}
    assert [name for name, (total, _) in sums.items() if total.requires_grad] == ["loss"]


def test_dpo_starts_at_ln_2_with_hard_labels_and_its_margin_grows():
    """Policy = reference at step 0; a reversed sign would make the margin fall."""
    data = pairs(soft=False)
    lines = run(
        "dpo, adamw",
        small_model(),
        batch_at=lambda _: data.batch(np.arange(8)),
        steps=12,
        log_every=1,
    )
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["rewards/accuracies"] == pytest.approx(0.5, abs=0.5)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["rewards/accuracies"] == 1
    for line in lines:
        assert line["rewards/margins"] == pytest.approx(
            line["rewards/chosen"] - line["rewards/rejected"], abs=1e-5
        )


def test_dpo_metrics_of_one_batch_by_hand():
    """Means over pairs of what the docstring says; a tie counts half."""
    data, model = pairs(), small_model(seed=3)
    batch = data.batch(np.arange(5))
    with torch.no_grad():
        sums = dpo_step(0.5)(model, batch)
    logps = {
        kind: score(model, data.prompt[:5], getattr(data, kind)[:5])
        for kind in ("chosen", "rejected")
    }
    rewards = {
        k: 0.5 * (v - torch.tensor(getattr(data, f"ref_{k}_logps")[:5])) for k, v in logps.items()
    }
    margin = rewards["chosen"] - rewards["rejected"]
    expected = {
        "loss": -(0.8 * margin.sigmoid().log() + 0.2 * (-margin).sigmoid().log()).mean(),
        "rewards/chosen": rewards["chosen"].mean(),
        "rewards/rejected": rewards["rejected"].mean(),
        "rewards/margins": margin.mean(),
        "rewards/accuracies": (margin > 0).float().mean(),
        "logps/chosen": logps["chosen"].mean(),
        "logps/rejected": logps["rejected"].mean(),
    }
    assert {k: float(total) / count for k, (total, count) in sums.items()} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, rel=1e-4
    )


def test_only_the_loss_of_dpo_has_a_gradient_and_it_reaches_both_answers():
    """A metric kept in the graph holds the memory of the step; an answer cut out of it is not learnt from."""
    model, batch = small_model(seed=3), pairs().batch(np.arange(5))
    sums = dpo_step(0.5)(model, batch)
    assert [name for name, (total, _) in sums.items() if total.requires_grad] == ["loss"]
    (found,) = torch.autograd.grad(sums["loss"][0], [model.lm_head.weight])
    chosen, rejected = (
        sequence_logps(model(batch[f"{k}_ids"]), batch[f"{k}_ids"], batch[f"{k}_mask"])
        for k in ("chosen", "rejected")
    )
    margin = 0.5 * (chosen - rejected - batch["ref_chosen_logps"] + batch["ref_rejected_logps"])
    pull = -0.5 * (0.8 - margin.sigmoid()).detach()  # the loss by log π of the chosen answer
    (expected,) = torch.autograd.grad((pull * (chosen - rejected)).sum(), [model.lm_head.weight])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_live_reference_gives_what_was_stored():
    """A reference that drifts with the policy, or that is read where it should be computed, gives another loss."""
    model, reference, batch = small_model(seed=3), small_model(), pairs().batch(np.arange(8))
    bare = {k: v for k, v in batch.items() if not k.startswith("ref_")}
    wrong = bare | {f"ref_{kind}_logps": torch.zeros(8) for kind in ("chosen", "rejected")}
    stored = dpo_step(0.5)(model, batch)
    stored["loss"][0].backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    for given in (bare, wrong):
        model.zero_grad()
        live = live_reference(dpo_step(0.5), reference)(model, given)
        assert {k: float(total) / count for k, (total, count) in live.items()} == pytest.approx(
            {k: float(total) / count for k, (total, count) in stored.items()}, rel=1e-5, abs=1e-5
        )
        live["loss"][0].backward()
        for parameter, gradient in zip(model.parameters(), expected):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in reference.parameters())
    assert given is wrong and not wrong["ref_chosen_logps"].any()


def test_a_live_reference_of_another_size_reads_the_rows_its_own_way():
    """What the policy made of the rows, heads and angles, must not serve a model with others."""
    model, batch = small_model(seed=3), pairs().batch(np.arange(8))
    reference = Llama(ModelConfig(hidden_size=24, num_attention_heads=3)).reset_parameters(1)
    stored = {
        f"ref_{kind}_logps": sequence_logps(
            reference(batch[f"{kind}_ids"]), batch[f"{kind}_ids"], batch[f"{kind}_mask"]
        )
        for kind in ("chosen", "rejected")
    }
    live = live_reference(dpo_step(0.5), reference)(model, batch)
    expected = dpo_step(0.5)(model, batch | stored)
    assert live["loss"][0].item() == pytest.approx(expected["loss"][0].item(), rel=1e-5)


def test_label_smoothing_of_a_step_is_the_soft_label_1_minus_epsilon():
    """An option that is checked, and then not passed on: every run is trained on hard labels."""
    model, hard = small_model(seed=3), pairs(soft=False).batch(np.arange(5))
    smooth, plain = (
        dpo_step(0.5, label_smoothing=epsilon)(model, hard)["loss"][0] for epsilon in (0.2, 0.0)
    )
    soft = dpo_step(0.5)(model, pairs().batch(np.arange(5)))["loss"][0]
    assert smooth.item() == pytest.approx(soft.item(), rel=1e-6)
    assert abs(smooth.item() - plain.item()) > 0.01


def given_rewards(*rewards):
    """A judge, and a batch of pairs, with the given rewards of the chosen and of the rejected answers."""
    rewards = torch.tensor(rewards, requires_grad=True)  # (2, B)
    ids = torch.zeros(rewards.shape[1], 1, dtype=torch.long)
    batch = dict.fromkeys(("chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask"), ids)
    return rewards, lambda ids, mask: rewards.flatten(), batch


@pytest.mark.parametrize("soft", [False, True])
def test_reward_step_survives_margins_of_200(soft):
    """log(sigmoid) of its own in place of the library's loss: -inf at -200 in float32, and a NaN gradient."""
    rewards, judge, batch = given_rewards([-100.0, 100.0], [100.0, -100.0])
    if soft:
        batch["preference_prob"] = torch.ones(2)
    loss, _ = reward_step(judge, batch)["loss"]
    (gradient,) = torch.autograd.grad(loss, rewards)
    assert loss.item() == pytest.approx(200)
    assert gradient.tolist() == [[-1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("lead", "accuracy"), [(1e-6, 0.5), (-1e-6, 0.5), (1e-4, 1.0), (-1e-4, 0.0)]
)
def test_log_probabilities_that_differ_by_rounding_are_a_tie_in_dpo(lead, accuracy):
    """At the start policy and reference are one model, and sums in another order made a lead of nothing."""
    model, batch = small_model(), pairs().batch(np.arange(8))
    ids, mask = (
        torch.stack([batch[f"{k}_{n}"] for k in ("chosen", "rejected")], 1) for n in ("ids", "mask")
    )
    chosen, rejected = completion_logps(model, ids, mask).detach().sum(-1).unbind(1)
    batch |= {"ref_chosen_logps": chosen - lead, "ref_rejected_logps": rejected}
    assert dpo_step(0.5)(model, batch)["rewards/accuracies"][0].item() == 8 * accuracy


def test_a_live_reference_is_compiled_with_its_policy(monkeypatch):
    """One that is left behind costs more than the policy's whole forward pass saves."""
    model, reference, followed = small_model(seed=3), small_model(), []
    monkeypatch.setattr(steps, "follow", lambda *models: followed.append(models))
    live_reference(dpo_step(0.5), reference)(model, pairs().batch(np.arange(8)))
    assert followed == [(reference, model)]


def test_only_equal_rewards_are_a_tie():
    """A tolerance, or sixteen bits, where a comparison is right: a small lead in a young run is a lead."""
    _, judge, batch = given_rewards([1e-8, 1e-8, 0.0, 2.0], [0.0, 0.0, 1e-8, 2.0])
    assert reward_step(judge, batch)["rewards/accuracies"][0].item() == 1 + 1 + 0 + 0.5


@pytest.mark.parametrize("soft", [False, True])
def test_reward_step_of_of_one_batch_by_hand(soft):
    """Chosen less rejected: the halves of the forward pass exchanged. A tie counts half; a count is of pairs."""

    def largest_marked_id(ids, mask):  # a judge whose rewards are read off the page
        return (ids * mask).amax(-1).float().requires_grad_()

    batch = {
        "chosen_ids": torch.tensor([[1, 0, 3], [1, 2, 0], [9, 1, 1], [1, 4, 0]]),
        "rejected_ids": torch.tensor([[9, 1, 0], [1, 3, 0], [1, 1, 0], [1, 1, 2]]),
        "chosen_mask": torch.tensor([[0, 1, 1]] * 4),
        "rejected_mask": torch.tensor([[0, 1, 1]] * 4),
    }
    margins, labels = [2.0, -1.0, 0.0, 2.0], [0.9, 0.8, 0.3, 0.6] if soft else [1.0] * 4
    if soft:
        batch["preference_prob"] = torch.tensor(labels)
    sums = reward_step(largest_marked_id, batch)
    losses = [
        q * math.log1p(math.exp(-h)) + (1 - q) * math.log1p(math.exp(h))
        for h, q in zip(margins, labels)
    ]
    assert all(count == 4 for _, count in sums.values())
    assert {name: total.item() for name, (total, _) in sums.items()} == pytest.approx(
        {
            "loss": sum(losses),
            "rewards/chosen": 10,
            "rewards/rejected": 7,
            "rewards/margins": 3,
            "rewards/accuracies": 2.5,
        }
    )
    assert [name for name, (total, _) in sums.items() if total.requires_grad] == ["loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": -5}, "steps is -5"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"save_every": -4}, "save_every is -4"),
        ({"save_every": 3}, "multiples of log_every, 2"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
        ({"optimizer": "sgd"}, "'sgd'; accepted are muon, adamw"),
    ],
)
def test_a_config_out_of_range_is_refused(changes, message):
    """Named when the run is described, not when the first state is written."""
    with pytest.raises(ValueError, match=message):
        replace(RUNS["sft, muon"][2], **changes)


@pytest.mark.parametrize(
    "settings",
    [{"beta": 0.0}, {"beta": 0.1, "loss_type": "ipoo"}, {"beta": 0.1, "label_smoothing": 0.6}],
)
def test_a_loss_out_of_range_is_refused_before_the_first_step(settings):
    """An error at step 0 comes after the pairs are made and the metrics file is emptied."""
    with pytest.raises(ValueError, match="accepted"):
        dpo_step(**settings)


def test_the_gradient_is_that_of_the_mean_loss():
    """A sum that is never divided: Adam and Muon hide the scale, clipping and the logged norm do not."""
    batch = sft_batch(0)
    twin = small_model()
    total, count = sft_step(twin, batch)["loss"]
    (total / count).backward()
    expected = (
        torch.cat([parameter.grad.flatten() for parameter in twin.parameters()]).norm().item()
    )
    config = LoopConfig(steps=1, learning_rate=1e-3, log_every=1, accumulate=3)
    (line,) = train(small_model(), lambda step: batch, sft_step, config, progress=False)
    assert line["grad_norm"] == pytest.approx(expected, rel=1e-4)
