"""Policy-gradient losses: against sums over every possible draw, against cases by hand, against TRL's own code."""

import dataclasses
import itertools
import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from dpo_core import tabular
from dpo_core.policy_gradient import (
    advantages,
    clipped_loss,
    generalised_advantages,
    kl_estimate,
    policy_gradient_loss,
    value_loss,
)

SEEDS = range(20)


def problem(seed: int, answers: int = 4):
    """Logits of a policy that learns, a reference, and rewards."""
    logits = 0.8 * torch.randn(
        answers, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    given = tabular.random_problems(1, answers, seed=seed + 1000)
    return logits.requires_grad_(), given.ref_logps[0], given.reward[0]


def gradient(value, logits):
    return torch.autograd.grad(value, logits)[0]


def expected_gradient(loss_of_draw, logits, draws: int):
    """The mean over every tuple of `draws` answers, weighted by its probability, of the gradient of a loss."""
    logps = logits.log_softmax(-1)
    total = torch.zeros_like(logits)
    for picked in itertools.product(range(len(logits)), repeat=draws):
        picked = torch.tensor(picked)
        weight = logps[picked].sum().exp().detach()
        total += weight * gradient(loss_of_draw(logits.log_softmax(-1)[picked], picked), logits)
    return total


# ---------------------------------------------------------------- baselines


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    assert advantages(rewards, "batch").tolist() == [[-1, 0, 4], [-2, -2, 1]]
    assert advantages(rewards, "group").tolist() == [[-2, -1, 3], [-1, -1, 2]]
    assert advantages(rewards, "leave_one_out").tolist() == [
        [1 - 4, 2 - 3.5, 6 - 1.5],
        [-1.5, -1.5, 3],
    ]
    # ((4 + 1 + 9) / 2)
    scaled = advantages(rewards, "group", scale=True)[0] * (math.sqrt(7) + 1e-4)
    assert scaled.tolist() == pytest.approx([-2, -1, 3])
    whole = advantages(rewards, "batch", scale=True) * (math.sqrt(26 / 5) + 1e-4)
    assert whole.flatten().tolist() == pytest.approx([-1, 0, 4, -2, -2, 1])


@pytest.mark.parametrize("baseline", ["batch", "leave_one_out", "group"])
def test_a_group_of_equal_rewards_has_no_advantage(baseline):
    """0 / 0 in a group whose answers all earn the same: one NaN takes every weight with it."""
    assert advantages(torch.full((2, 3), 0.7), baseline, scale=True).abs().max() < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("baseline", "share"), [("leave_one_out", 1.0), ("group", 2 / 3), ("batch", 2 / 3)]
)
def test_the_expected_gradient_is_that_of_the_mean_reward(seed, baseline, share):
    """Leaving one out is unbiased; a mean that includes the answer itself shortens the gradient by 1 - 1/K."""
    logits, _, reward = problem(seed)

    def loss(logps, picked):
        return policy_gradient_loss(logps, advantages(reward[picked][None], baseline)[0]).mean()

    exact = gradient(-(logits.softmax(-1) * reward).sum(), logits)
    assert torch.allclose(expected_gradient(loss, logits, draws=3), share * exact, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_leash_in_the_reward_gives_the_gradient_of_the_objective(seed):
    """J = E[r] - β KL: taking log π - log π_ref off the reward is enough, although it depends on the policy too."""
    logits, ref, reward = problem(seed)

    def loss(logps, picked):
        return policy_gradient_loss(
            logps,
            advantages((reward[picked] - 0.3 * (logps - ref[picked]))[None], "leave_one_out")[0],
        ).mean()

    exact = gradient(
        -tabular.objective(logits.log_softmax(-1), tabular.Problem(ref, reward), 0.3), logits
    )
    assert torch.allclose(expected_gradient(loss, logits, draws=2), exact, atol=1e-12)


# ---------------------------------------------------------------- the clipped surrogate


def test_clipping_by_hand():
    """Eq. 7 of Schulman et al. 2017: only a ratio that has already moved where the advantage wants it is cut off."""
    ratio = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64)
    weight = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0, 3.0], dtype=torch.float64)
    logps = ratio.log().requires_grad_()
    losses = clipped_loss(logps, torch.zeros(6, dtype=torch.float64), weight, clip=0.2)
    assert losses.tolist() == pytest.approx([-2, -1.2, 1.5, -0.5, 0.8, -3.3])
    slopes = torch.autograd.grad(losses.sum(), logps)[0]
    assert slopes.tolist() == pytest.approx([-2, 0, 1.5, -0.5, 0, -3.3])
    higher = clipped_loss(
        logps, torch.zeros(6, dtype=torch.float64), weight, clip=0.2, clip_high=0.4
    )
    assert higher.tolist() == pytest.approx([-2, -1.4, 1.5, -0.5, 0.8, -3.3])


def test_at_the_old_policy_the_clipped_loss_pulls_as_reinforce_does():
    logps = torch.linspace(-5, -0.1, 8, dtype=torch.float64).requires_grad_()
    weight = torch.linspace(-1, 2, 8, dtype=torch.float64)
    one = torch.autograd.grad(clipped_loss(logps, logps.detach(), weight).sum(), logps)[0]
    two = torch.autograd.grad(policy_gradient_loss(logps, weight).sum(), logps)[0]
    assert torch.allclose(one, two) and torch.allclose(one, -weight)


def test_no_gradient_flows_into_advantages_or_old_policies():
    """An advantage that is differentiated turns the estimator into another one."""
    inputs = [
        torch.randn(3, generator=torch.Generator().manual_seed(n)).requires_grad_()
        for n in range(3)
    ]
    clipped_loss(*inputs).sum().backward()
    assert inputs[0].grad is not None and inputs[1].grad is None and inputs[2].grad is None
    policy_gradient_loss(inputs[0], inputs[2]).sum().backward()
    kl_estimate(inputs[0], inputs[1]).sum().backward()
    value_loss(inputs[0], inputs[1]).sum().backward()
    assert inputs[1].grad is None and inputs[2].grad is None


# ---------------------------------------------------------------- three estimates of a KL


@pytest.mark.parametrize("seed", SEEDS)
def test_k1_and_k3_have_the_kl_as_their_mean_and_k3_is_never_negative(seed):
    logits, ref, _ = problem(seed)
    logps = logits.detach().log_softmax(-1)
    means = {
        kind: (logps.exp() * kl_estimate(logps, ref, kind)).sum() for kind in ("k1", "k2", "k3")
    }
    true = tabular.kl(logps, ref)
    assert torch.isclose(means["k1"], true) and torch.isclose(means["k3"], true)
    assert not torch.isclose(means["k2"], true, rtol=1e-3)
    assert (kl_estimate(logps, ref, "k3") >= 0).all() and (kl_estimate(logps, ref, "k1") < 0).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_estimators_pull_at_when_they_stand_in_a_loss(seed):
    """k3 in the loss, as GRPO has it, pulls towards the least KL(π_ref || π), not the least KL(π || π_ref)."""
    logits, ref, _ = problem(seed)
    logps = logits.log_softmax(-1)
    pull = {
        kind: gradient(
            (logps.exp().detach() * kl_estimate(logits.log_softmax(-1), ref, kind)).sum(), logits
        )
        for kind in ("k1", "k2", "k3")
    }
    assert pull["k1"].abs().max() < 1e-12
    assert torch.allclose(pull["k2"], gradient(tabular.kl(logits.log_softmax(-1), ref), logits))
    assert torch.allclose(pull["k3"], gradient(tabular.kl(ref, logits.log_softmax(-1)), logits))


def test_k3_keeps_its_digits_near_zero():
    """e^{-d} - 1 + d by subtraction is noise for a policy that has hardly moved."""
    gap = torch.tensor([1e-4, -1e-4], dtype=torch.float32)
    assert kl_estimate(gap, torch.zeros(2)).tolist() == pytest.approx([5e-9, 5e-9], rel=0.02)


# ---------------------------------------------------------------- the critic

REWARDS = torch.tensor([[0.0, 1.0, -1.0, 5.0, 9.0]], dtype=torch.float64)
VALUES = torch.tensor([[9.0, 2.0, 1.0, 3.0, 9.0]], dtype=torch.float64)
MASK = torch.tensor([[0, 1, 1, 1, 0]])  # the nines stand outside the answer


def test_generalised_advantages_by_hand():
    """δ = 1 + 1 - 2, -1 + 3 - 1, 5 - 3 = 0, 1, 2; what stands outside the answer counts nothing."""
    gained, returns = generalised_advantages(REWARDS, VALUES, MASK, lam=0.5)
    assert gained.tolist() == [[0, 0 + 0.5 * (1 + 0.5 * 2), 1 + 0.5 * 2, 2, 0]]
    assert returns.tolist() == [[0, 3, 3, 5, 0]]
    gained, _ = generalised_advantages(REWARDS, VALUES, MASK, gamma=0.9, lam=0.5)
    errors = [1 + 0.9 * 1 - 2, -1 + 0.9 * 3 - 1, 2]
    last = errors[1] + 0.45 * errors[2]
    assert gained[0].tolist() == pytest.approx([0, errors[0] + 0.45 * last, last, 2, 0])


def test_lambda_one_is_return_minus_value_and_lambda_zero_one_step():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor([[3], [9], [1], [5], [7], [2]])
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1)
    gained, returns = generalised_advantages(rewards, values, mask, lam=1.0)
    assert torch.allclose(gained, (to_come - values) * mask) and torch.allclose(
        returns, to_come * mask
    )
    gained, _ = generalised_advantages(rewards, values, mask, lam=0.0)
    following = torch.cat((values[:, 1:], torch.zeros(6, 1)), 1) * torch.cat(
        (mask[:, 1:], torch.zeros(6, 1)), 1
    )
    assert torch.allclose(gained, (rewards + following - values) * mask)


def test_value_loss_by_hand():
    values = torch.tensor([1.0, 3.0, 0.0]).requires_grad_()
    returns, old = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([0.9, 2.0, 1.5])
    assert value_loss(values, returns).tolist() == [0.5, 0.5, 2.0]
    clipped = value_loss(values, returns, old, clip=0.2)
    # the larger of the two, element by element
    assert clipped.tolist() == pytest.approx([0.5, 0.5, 2.0])
    closer = value_loss(torch.tensor([1.9]), torch.tensor([2.0]), torch.tensor([1.0]), clip=0.2)
    # held at 1.2: closer in one leap does not pay
    assert closer.tolist() == pytest.approx([0.8**2 / 2])


# ---------------------------------------------------------------- bad input

ONE, TWO = torch.zeros(1), torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: advantages(torch.zeros(4), "group"), r"rewards are \(4,\); needed is \(G, K\)"),
        (
            lambda: advantages(torch.zeros(2, 2), "none"),
            "unknown baseline 'none'; accepted are batch",
        ),
        (lambda: advantages(torch.zeros(2, 1), "group"), "needs at least two answers"),
        (lambda: advantages(torch.zeros(1, 1), "batch"), "needs at least two answers"),
        (lambda: policy_gradient_loss(ONE, TWO), r"logps is \(1,\), advantages is \(2,\)"),
        (lambda: clipped_loss(ONE, ONE, TWO), "shapes differ"),
        (lambda: clipped_loss(ONE, ONE, ONE, clip=0.0), "clip is 0.0"),
        (lambda: clipped_loss(ONE, ONE, ONE, clip=1.0), "clip is 1.0"),
        (lambda: clipped_loss(ONE, ONE, ONE, clip_high=math.inf), "clip_high inf"),
        (lambda: kl_estimate(ONE, TWO), "shapes differ"),
        (lambda: kl_estimate(ONE, ONE, "k4"), "unknown KL estimator 'k4'; accepted are k1, k2, k3"),
        (lambda: generalised_advantages(REWARDS, VALUES, MASK[:, :2]), "shapes differ"),
        (
            lambda: generalised_advantages(REWARDS, VALUES, MASK, lam=1.1),
            "lam is 1.1; accepted are 0 to 1",
        ),
        (lambda: value_loss(ONE, TWO), "shapes differ"),
        (lambda: value_loss(ONE, ONE, clip=0.2), "go together"),
        (lambda: value_loss(ONE, ONE, ONE), "go together"),
        (lambda: value_loss(ONE, ONE, ONE, clip=0.0), "clip is 0.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- TRL's own code


@pytest.fixture(scope="module")
def trl():
    """Loaded here, where it is needed: it takes seconds, and every worker collects this file."""
    import trl

    return trl


def trl_loss(method, setting, logps, old, ref, mask, weight):
    """What a TRL trainer's `_compute_loss` makes of given log-probabilities of tokens."""
    accelerator = SimpleNamespace(
        gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1
    )
    me = SimpleNamespace(
        accelerator=accelerator,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        importance_sampling_level="token",
        epsilon_low=0.2,
        epsilon_high=0.2,
        current_gradient_accumulation_steps=1,
        max_completion_length=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        **setting,
    )
    empty = torch.zeros(len(logps), 0, dtype=torch.long)
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": mask.long(),
        "completion_mask": mask,
        "advantages": weight,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "old_logps": (old * mask).sum(1),
    }
    return method(me, SimpleNamespace(training=True), inputs)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
def test_loss_and_gradient_equal_trls(trl, name, seed):
    """The reduction, the clip and the KL term of TRL's GRPO, of its Dr. GRPO (which divides by a constant) and RLOO."""
    generator = torch.Generator().manual_seed(seed)
    logps, moved, ref = -3 * torch.rand(3, 4, 6, generator=generator, dtype=torch.float64)
    logps.requires_grad_()
    # some ratios inside the interval, some outside on either side
    old = (logps + 0.3 * (moved + 1.5)).detach()
    mask = (torch.arange(6) < torch.tensor([[6], [2], [4], [3]])).double()
    weight = torch.randn(4, generator=generator, dtype=torch.float64)
    if name == "rloo":
        theirs = trl_loss(trl.RLOOTrainer._compute_loss, {}, logps, old, ref, mask, weight)
        ours = clipped_loss((logps * mask).sum(1), (old * mask).sum(1), weight).mean()
    else:
        theirs = trl_loss(
            trl.GRPOTrainer._compute_loss,
            {"beta": 0.3, "loss_type": name},
            logps,
            old,
            ref,
            mask,
            weight,
        )
        tokens = clipped_loss(logps, old, weight[:, None].expand_as(logps)) + 0.3 * kl_estimate(
            logps, ref
        )
        sums = (tokens * mask).sum(1)
        ours = (sums / mask.sum(1) if name == "grpo" else sums).mean()
    assert torch.isclose(ours, theirs, rtol=1e-12)
    assert torch.allclose(gradient(ours, logps), gradient(theirs, logps), atol=1e-12)


def test_trls_defaults_are_those_that_chapter_12_warns_of(trl):
    """A reader who carries settings over: without beta no leash, and another loss than either name in the chapter."""
    grpo, rloo = (
        {f.name: f.default for f in dataclasses.fields(c)} for c in (trl.GRPOConfig, trl.RLOOConfig)
    )
    assert grpo["beta"] == 0 and rloo["beta"] == 0.05
    assert grpo["loss_type"] not in ("grpo", "dr_grpo") and {"num_generations"} <= set(grpo) & set(
        rloo
    )
