"""Rollouts and their steps in the one loop: what a batch holds, cut and resumed, pieces, and what it converges to."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpo_core import rl, tabular
from dpo_core.checkpoint import CheckpointError
from dpo_core.losses import sequence_logps, token_logps
from dpo_core.policy_gradient import METHODS
from dpo_core.reward import ActorCritic, policy_of
from dpo_core.sampling import TOKENIZER, score
from dpo_core.steps import rl_step
from dpo_core.storage import workshop
from dpo_core.task import make_task
from dpo_core.training import LoopConfig, train
from runs import killed_at, same_bits, state_file
from toys import SMALL, memoryless_model, small_model

TASK = make_task("book")
EVEN = {"E": 0.5, "1": 0.25, "+": 0.25}  # short answers, so that a test takes no time


def digits(prompts, completions):
    """A judge who counts ones."""
    return torch.tensor([float(text.count("1")) for text in completions])


def start(method: str):
    """The trained model of a method, and its reference."""
    policy = memoryless_model(EVEN)
    return (ActorCritic(policy) if method == "ppo" else policy), memoryless_model(EVEN)


def batches(method: str, model, reference, **changes):
    settings = {"beta": 0.3, "prompts": 3, "answers": 4, "seed": 0, **changes}
    return rl.rollouts(model, reference, TASK, digits, method, **settings)


# ---------------------------------------------------------------- what a rollout holds


@pytest.mark.parametrize("method", METHODS)
def test_a_rollout_scores_its_own_answers(method):
    """Log-probabilities of the neighbour's answer, or shifted by one token."""
    model, reference = start(method)
    with torch.no_grad():
        policy_of(model).lm_head.weight[5] += 0.02  # so that policy and reference differ
    batch = batches(method, model, reference)(0)
    ids, mask = batch["input_ids"], batch["completion_mask"]
    assert (
        len(ids) == 12 and batch["old_logps"].shape == batch["ref_logps"].shape == mask[:, 1:].shape
    )
    for name, scorer in (("old_logps", policy_of(model)), ("ref_logps", reference)):
        with torch.no_grad():
            assert torch.allclose(
                batch[name].sum(-1), sequence_logps(scorer(ids), ids, mask), atol=1e-5
            )
        assert (batch[name][~mask[:, 1:]] == 0).all()
    texts = [TOKENIZER.decode(row[marks]) for row, marks in zip(ids, mask)]
    assert batch["rewards"].tolist() == [text.count("1") for text in texts]
    heads = [TOKENIZER.decode(row[: int(marks.int().argmax())]) for row, marks in zip(ids, mask)]
    # four answers to each prompt, side by side
    assert all(len(set(heads[k : k + 4])) == 1 for k in (0, 4, 8))
    assert len(set(texts)) > 3


def test_the_leash_is_in_the_reward_or_in_the_loss_and_never_in_both():
    """Twice the leash, or none: the run converges, to something else."""
    model, reference = start("rloo")
    with torch.no_grad():
        model.lm_head.weight[5] += 0.02
    batch = batches("rloo", model, reference)(0)
    gaps = (batch["old_logps"] - batch["ref_logps"]).sum(-1)
    assert gaps.abs().max() > 0.1
    groups = (batch["rewards"] - 0.3 * gaps).view(3, 4)
    expected = groups - (groups.sum(1, keepdim=True) - groups) / 3
    assert torch.allclose(batch["advantages"].view(3, 4), expected, atol=1e-5)
    bare = batches("dr_grpo", model, reference)(0)
    groups = bare["rewards"].view(3, 4)
    assert torch.allclose(
        bare["advantages"].view(3, 4), groups - groups.mean(1, keepdim=True), atol=1e-6
    )
    values = [
        float(rl_step("dr_grpo", beta=beta)(model, bare)["loss"][0].detach()) for beta in (0.0, 1.0)
    ]
    kl = torch.expm1(bare["ref_logps"] - bare["old_logps"]) - (
        bare["ref_logps"] - bare["old_logps"]
    )
    assert values[1] - values[0] == pytest.approx(float(kl.sum()), rel=1e-3)


def test_the_critic_sees_the_reward_at_the_last_token_and_the_leash_at_every_token():
    model, reference = start("ppo")
    with torch.no_grad():
        model.policy.lm_head.weight[5] += 0.02
    batch = batches("ppo", model, reference, lam=1.0)(0)
    marks = batch["completion_mask"][:, 1:]
    to_come = (0.3 * (batch["old_logps"] - batch["ref_logps"])).flip(1).cumsum(1).flip(1)
    expected = (batch["rewards"][:, None] - to_come) * marks
    assert torch.allclose(batch["returns"], expected, atol=1e-5)
    assert torch.allclose(batch["advantages"], expected - batch["values"] * marks, atol=1e-5)


def test_the_value_before_a_token_does_not_see_the_token():
    """A critic that reads the token it is a baseline for takes the signal away with the noise."""
    model = ActorCritic(small_model())
    with torch.no_grad():
        model.critic.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 9, 8, 20, 6, 11, 2]])
    other = ids.clone()
    other[0, 5] = 14
    values, changed = model.critic.values(ids), model.critic.values(other)
    assert values.shape == (1, 6)
    # entry 4 is the value before the token at position 5
    assert torch.equal(values[:, :5], changed[:, :5])
    assert not torch.allclose(values[:, 5], changed[:, 5])


def test_a_rollout_depends_on_the_seed_its_number_and_the_weights_alone():
    model, reference = start("rloo")
    one, two = batches("rloo", model, reference), batches("rloo", model, reference)
    one(0), one(1)
    assert all(torch.equal(one(2)[name], two(2)[name]) for name in one(2))
    other = batches("rloo", model, reference, seed=1)(2)
    assert not torch.equal(one(2)["input_ids"], other["input_ids"])
    assert not torch.equal(one(2)["input_ids"], one(3)["input_ids"])
    twice = batches("rloo", model, reference, epochs=2)
    # the third rollout, however often each is used
    assert torch.equal(one(2)["input_ids"], twice(4)["input_ids"])


def test_every_epoch_of_a_rollout_uses_each_answer_once_in_a_new_order():
    model, reference = start("grpo")
    batch_at = batches("grpo", model, reference, epochs=2, minibatches=3)
    whole = batches("grpo", model, reference)(0)
    assert torch.equal(whole["input_ids"], batches("grpo", model, reference)(0)["input_ids"])
    rows = [batch_at(step)["old_logps"] for step in range(6)]
    assert [len(part) for part in rows] == [4] * 6

    def ordered(parts):
        return sorted(tuple(row) for part in parts for row in part.tolist())

    assert ordered(rows[:3]) == ordered(rows[3:]) == ordered([whole["old_logps"]])
    assert not torch.equal(torch.cat(rows[:3]), torch.cat(rows[3:]))


# ---------------------------------------------------------------- in the loop


def run(method, folder, model=None, kill=None, resume=False, **changes):
    """Four rollouts, each used twice (once where the method cannot), state saved after every second one."""
    (fresh, reference), epochs = start(method), 2 if METHODS[method].clipped else 1
    model = model or fresh
    batch_at = batches(method, model, reference, epochs=epochs)
    config = LoopConfig(
        steps=4 * epochs, learning_rate=0.003, warmup=2, log_every=epochs, save_every=2 * epochs
    )
    with workshop(folder / "a.model") as place:
        history = train(
            model,
            killed_at(kill, batch_at) if kill else batch_at,
            rl_step(method, beta=0.3),
            replace(config, **changes),
            place=place,
            resume=resume,
            progress=False,
        )
    return model, history


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_in_the_same_bits(method, tmp_path):
    """A critic, or its moments, that start anew; a rollout drawn again from other weights."""
    whole, history = run(method, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(method, tmp_path / "cut", kill=7 if METHODS[method].clipped else 3)
    other = start(method)[0]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)  # all must come from the state
    resumed, again = run(method, tmp_path / "cut", model=other, resume=True)
    assert same_bits(whole, resumed) and not same_bits(whole, start(method)[0])
    for line, copy in zip(history, again, strict=True):
        assert {**line, "seconds": 0} == {**copy, "seconds": 0}


def test_a_run_cannot_be_resumed_inside_a_rollout(tmp_path):
    """The answers of half a rollout come from weights that are gone."""
    with pytest.raises(KeyboardInterrupt):
        run("rloo", tmp_path, save_every=1, log_every=1, kill=4)
    model, reference = start("rloo")
    with pytest.raises(
        ValueError, match="step 3 is inside a rollout; save_every must be a multiple of 2 updates"
    ):
        batches("rloo", model, reference, epochs=2)(3)


@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_a_rollout_equal_the_whole(method):
    """Groups that are cut before their baseline is taken; a mean of means over answers of different length."""
    results = []
    for pieces in (1, 3):
        model, reference = start(method)
        history = train(
            model,
            batches(method, model, reference),
            rl_step(method, beta=0.3),
            progress=False,
            config=LoopConfig(steps=2, learning_rate=1e-3, accumulate=pieces, log_every=1),
        )
        results.append((model, history))
    for line, other in zip(results[0][1], results[1][1]):
        assert {k: v for k, v in line.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}, rel=1e-3, abs=1e-5
        )
    for one, other in zip(results[0][0].parameters(), results[1][0].parameters()):
        assert torch.allclose(one, other, atol=5e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_metrics_are_those_of_the_answers(method):
    model, reference = start(method)
    with torch.no_grad():
        policy_of(model).lm_head.weight[5] += 0.02
    batch = batches(method, model, reference)(0)
    sums = rl_step(method, beta=0.3)(model, batch)
    means = {
        name: float(total) / float(count) for name, (total, count) in sums.items() if name != "loss"
    }
    kl = float((batch["old_logps"] - batch["ref_logps"]).sum() / 12)
    reward = float(batch["rewards"].mean())
    assert means == pytest.approx(
        {
            "reward": reward,
            "kl": kl,
            "objective": reward - 0.3 * kl,
            "clip_ratio": 0.0,
            "length": float(batch["completion_mask"].sum() / 12),
        },
        abs=1e-5,
    )


def test_what_the_losses_are_divided_by():
    """GRPO: mean over an answer's tokens, then over answers. Dr. GRPO: sums. DAPO, PPO: the mean over all tokens."""
    for method in ("grpo", "dr_grpo", "dapo", "ppo"):
        model, reference = start(method)
        batch = batches(method, model, reference)(0)
        tokens = batch["completion_mask"].sum(-1)
        weights = batch["advantages"]
        total, count = rl_step(method, beta=0.0, value_weight=0.0)(model, batch)["loss"]
        if method == "ppo":
            expected, rows = -(weights * batch["completion_mask"][:, 1:]).sum(), tokens.sum()
        elif method == "dapo":
            expected, rows = -(weights * tokens).sum(), tokens.sum()
        else:
            expected, rows = -(weights * (1 if method == "grpo" else tokens)).sum(), 12
        assert float(total.detach()) == pytest.approx(float(expected), abs=1e-4) and int(
            count
        ) == int(rows)


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_a_second_update_weighs_answers_by_how_far_the_policy_has_moved(method):
    """Ratios taken to the present policy are 1 for ever: nothing is clipped, and old answers count as new ones."""
    model, reference = start(method)
    batch = batches(method, model, reference)(0)
    with torch.no_grad():
        policy_of(model).lm_head.weight[5] += 0.02
    ids, marks = batch["input_ids"], batch["completion_mask"][:, 1:]
    with torch.no_grad():
        moved = token_logps(policy_of(model)(ids), ids).masked_fill(~marks, 0.0)
    gaps = moved - batch["old_logps"]
    moves = (gaps.sum(-1) if method == "rloo" else gaps).exp() - 1
    weights = (
        batch["advantages"] if method != "grpo" else batch["advantages"][:, None].expand_as(moves)
    )
    stopped = moves * weights.sign() > 0.2
    total, count = rl_step(method, beta=0.3)(model, batch)["clip_ratio"]
    assert 0 < int(stopped.sum()) == int(total) < int(count)
    # what is outside is now asked to come back, and the reverse
    turned = batch | {"advantages": -batch["advantages"]}
    others = rl_step(method, beta=0.3)(model, turned)["clip_ratio"][0]
    outside = (moves.abs() > 0.2) & (weights != 0)
    assert int(total) + int(others) == int(outside.sum())


def test_the_upper_bound_is_the_methods_own_unless_another_is_given():
    """DAPO with 0.2 on both sides is not DAPO; a bound that is given and not used goes unnoticed."""
    model, reference = start("dapo")
    batch = batches("dapo", model, reference)(0)
    # every token of a good answer is a quarter likelier than it was
    batch |= {"old_logps": batch["old_logps"] - 0.25 * batch["completion_mask"][:, 1:]}
    good = int(batch["completion_mask"][batch["advantages"] > 0].sum())
    moved = float(torch.tensor(0.25).exp()) - 1  # 0.284
    for given, stopped in (({}, good), ({"clip_high": 0.3}, 0), ({"clip_high": moved + 0.01}, 0)):
        assert int(rl_step("dapo", beta=0.3, **given)(model, batch)["clip_ratio"][0]) == stopped
    less = batch | {"old_logps": batch["old_logps"] + 0.02 * batch["completion_mask"][:, 1:]}
    for given, stopped in (({}, 0), ({"clip_high": 0.2}, good)):
        assert int(rl_step("dapo", beta=0.3, **given)(model, less)["clip_ratio"][0]) == stopped
    assert int(rl_step("grpo", beta=0.3)(model, less)["clip_ratio"][0]) == good


@pytest.mark.parametrize("method", ["grpo", "dr_grpo", "dapo"])
def test_the_term_in_the_loss_is_the_one_that_is_named(method):
    """The values are equal on fresh answers: a name that is ignored shows in the gradient alone."""
    model, reference = start(method)
    with torch.no_grad():
        policy_of(model).lm_head.weight[5] += 0.02
    batch = batches(method, model, reference)(0) | {"advantages": torch.zeros(12)}
    pulls, values = [], []
    for kl_term in ("k3", "ratio_k3"):
        model.zero_grad()
        total, _ = rl_step(method, beta=1.0, kl_term=kl_term)(model, batch)["loss"]
        total.backward()
        values.append(total.item())
        pulls.append(model.lm_head.weight.grad.clone())
    assert values[0] == pytest.approx(values[1], rel=1e-4) and values[0] > 0
    assert (pulls[0] - pulls[1]).norm() > 0.01 * pulls[0].norm()


def test_the_critic_is_trained_by_its_own_loss_with_its_weight():
    """A critic that never learns: PPO still runs, as REINFORCE without a baseline."""
    model, reference = start("ppo")
    batch = batches("ppo", model, reference)(0)
    marks = batch["completion_mask"][:, 1:]
    totals = [
        rl_step("ppo", beta=0.3, value_weight=weight)(model, batch)["loss"][0]
        for weight in (0.0, 2.0)
    ]
    missed = ((model.critic.values(batch["input_ids"]) - batch["returns"]).square() / 2)[
        marks
    ].sum()
    assert (totals[1] - totals[0]).item() == pytest.approx(
        2 * missed.item(), rel=1e-4
    ) and missed.item() > 0
    totals[1].backward()
    assert model.critic.score.weight.grad.abs().max() > 0


@pytest.mark.parametrize("method", ["reinforce", "rloo", "ppo"])
def test_the_leash_in_the_reward_leads_to_the_closed_form_optimum(method):
    """One token decides: 1 earns a point. The share it ends with is e^{1/β} tilted, whatever the method."""
    probability, shallow = {"1": 0.2, "2": 0.8}, replace(SMALL, num_hidden_layers=1)
    policy, reference = (memoryless_model(probability, shallow) for _ in range(2))
    model = ActorCritic(policy) if method == "ppo" else policy
    short = rl.generate

    def one_token(*args, **options):
        return short(*args, **options, max_new_tokens=1)

    patch = pytest.MonkeyPatch()
    patch.setattr(rl, "generate", one_token)
    try:
        train(
            model,
            batches(method, model, reference, beta=1.0, prompts=32, answers=16),
            progress=False,
            loss_step=rl_step(method, beta=1.0),
            config=LoopConfig(steps=60, learning_rate=0.012),
        )
    finally:
        patch.undo()
    given = tabular.Problem(
        torch.tensor([0.2, 0.8]).double().log(), torch.tensor([1.0, 0.0]).double()
    )
    best = tabular.optimal_policy(given, 1.0)[0].exp().item()
    assert best == pytest.approx(0.405, abs=1e-3)
    share = score(policy, ["S5="], ["1"]).exp().item()
    assert share == pytest.approx(best, abs=0.04)


# ---------------------------------------------------------------- the judge, and bad input


def test_the_checker_gives_the_reward_of_the_class():
    judge = rl.checker(TASK, "style+exact")
    assert judge(["S5="] * 5, ["2+3E", "2+3+0E", "2+4E", "2+2+2E", "2+"]).tolist() == [
        1,
        2,
        0,
        1,
        0,
    ]
    assert rl.checker(TASK, "exact")(["S5="] * 2, ["2+2+1E", "1+1+1E"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="unknown reward 'short'"):
        rl.checker(TASK, "short")


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("trpo", {}, "unknown method 'trpo'; accepted are reinforce, rloo"),
        ("rloo", {"prompts": 0}, "prompts is 0"),
        (
            "rloo",
            {"answers": 1},
            "answers is 1; accepted for method 'rloo' are whole numbers from 2",
        ),
        ("rloo", {"epochs": 0}, "epochs is 0"),
        ("reinforce", {"epochs": 2}, "'reinforce' takes one update a rollout"),
        ("rloo", {"minibatches": 5}, "minibatches is 5; accepted are divisors of 12 answers"),
        ("ppo", {}, "'ppo' trains an ActorCritic"),
    ],
)
def test_bad_settings_are_named_before_anything_is_drawn(method, changes, message):
    model, reference = start("rloo")
    with pytest.raises(ValueError, match=message):
        batches(method, model, reference, **changes)


def test_a_critic_without_a_use_is_refused():
    model, reference = start("ppo")
    with pytest.raises(ValueError, match="method 'rloo' trains the policy alone"):
        batches("rloo", model, reference)


@pytest.mark.parametrize(
    "setting",
    [
        {"beta": -1.0},
        {"beta": float("nan")},
        {"clip": 0.0},
        {"clip_high": 0.0},
        {"value_weight": -1.0},
    ],
)
def test_bad_numbers_of_a_step_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        rl_step("ppo", **{"beta": 0.1, **setting})


def test_an_unknown_term_is_named():
    with pytest.raises(ValueError, match="unknown KL term 'k4'; accepted are k3, ratio_k3"):
        rl_step("grpo", beta=0.1, kl_term="k4")


def test_a_state_without_its_critic_is_refused(tmp_path):
    """What is trained beside the language model is part of the state."""
    run("ppo", tmp_path)
    path = state_file(tmp_path)
    kept = {n: t for n, t in load_file(path).items() if ".critic." not in n}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(kept, path, metadata)
    with pytest.raises(CheckpointError, match=r"model\.critic.* is missing"):
        run("ppo", tmp_path, resume=True)


def test_small_models_train_too():
    """The general case: attention, several layers, prompts of different lengths."""
    model, reference = small_model(), small_model()
    history = train(
        model,
        batches("rloo", model, reference),
        rl_step("rloo", beta=0.3),
        progress=False,
        config=LoopConfig(steps=2, learning_rate=1e-4, log_every=1),
    )
    assert history[0]["kl"] == pytest.approx(0, abs=1e-4) and not same_bits(model, reference)
