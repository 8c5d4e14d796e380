"""Policy-gradient losses: against sums over every possible draw, against cases by hand, against TRL's own code."""

import dataclasses
import inspect
import itertools
import math
import textwrap
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from dpo_core import tabular
from dpo_core.policy_gradient import (
    KL_TERMS,
    METHODS,
    advantages,
    clipped_loss,
    generalised_advantages,
    kl_estimate,
    kl_penalty,
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


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ratio_before_k3_turns_its_pull_to_the_kl_itself(seed):
    """A ratio that is detached, or clipped, is 1 and changes nothing: then the other KL is held down, in silence."""
    logits, ref, _ = problem(seed)
    logps = logits.log_softmax(-1)
    for drawn_by in (logps.detach(), torch.randn(4).double().log_softmax(-1)):  # on and off policy
        mean = (drawn_by.exp() * kl_penalty(logps, drawn_by, ref, "ratio_k3")).sum()
        assert torch.isclose(mean, tabular.kl(logps, ref))
        pull = gradient(mean, logits)
        assert torch.allclose(pull, gradient(tabular.kl(logits.log_softmax(-1), ref), logits))
        logps = logits.log_softmax(-1)
    # on policy even draw by draw: d ∇log π, as k2
    for answer in range(4):
        pulls = []
        for kind in ("ratio_k3", "k2"):
            logps = logits.log_softmax(-1)
            drawn = (logps[answer], logps[answer].detach(), ref[answer])
            one = kl_penalty(*drawn, kind) if kind in KL_TERMS else kl_estimate(*drawn[::2], kind)
            pulls.append(gradient(one, logits))
        assert torch.allclose(*pulls)
    assert torch.equal(kl_penalty(logps, logps, ref), kl_estimate(logps, ref, "k3"))


@pytest.mark.parametrize("seed", SEEDS)
def test_on_two_tokens_a_term_in_the_loss_misses_how_far_a_prefix_leads(seed):
    """Each fork's KL with the prefixes as drawn: the gradient of the answer's KL at the last forks, not at the first."""
    (first, _, _), generator = problem(seed, 2), torch.Generator().manual_seed(seed)
    second = torch.randn(2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    refs = [
        torch.randn(*shape, generator=generator).double().log_softmax(-1)
        for shape in ((2,), (2, 2))
    ]
    forks, one, two = (first, second), first.log_softmax(-1), second.log_softmax(-1)
    drawn = (one[:, None] + two).exp().detach()  # (2, 2): the four answers
    prefix = one.exp().detach()

    def pull(value):
        return torch.autograd.grad(value, forks, retain_graph=True)

    def in_the_loss(kind):
        terms = [kl_penalty(p, p.detach(), ref, kind) for p, ref in zip((one, two), refs)]
        return pull((drawn * (terms[0][:, None] + terms[1])).sum())

    answers = tabular.kl((one[:, None] + two).flatten(), (refs[0][:, None] + refs[1]).flatten())
    whole, ratio, plain = pull(answers), in_the_loss("ratio_k3"), in_the_loss("k3")
    own = pull(tabular.kl(one, refs[0]) + (prefix * tabular.kl(two, refs[1])).sum())
    turned = pull(tabular.kl(refs[0], one) + (prefix * tabular.kl(refs[1], two)).sum())
    for found, stated in ((ratio, own), (plain, turned)):
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, stated))
    assert torch.allclose(ratio[1], whole[1]) and not torch.allclose(ratio[0], whole[0], rtol=1e-3)


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
        (lambda: kl_penalty(ONE, ONE, TWO), "shapes differ"),
        (
            lambda: kl_penalty(ONE, ONE, ONE, "k2"),
            "unknown KL term 'k2'; accepted are k3, ratio_k3",
        ),
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


def defaults(config):
    """What a reader gets who sets nothing."""
    return {field.name: field.default for field in dataclasses.fields(config)}


def trl_loss(trainer, config, setting, logps, old, ref, mask, weight):
    """What a TRL trainer's `_compute_loss` makes of given log-probabilities of tokens; all else at its defaults."""
    accelerator = SimpleNamespace(
        gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1
    )
    options = defaults(config) | {"steps_per_generation": 1} | setting
    me = SimpleNamespace(
        **options
        | {"max_completion_length": 1, "epsilon_low": options["epsilon"]}
        | {"epsilon_high": options["epsilon_high"] or options["epsilon"]},
        accelerator=accelerator,
        args=SimpleNamespace(**options),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
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
        "num_items_in_batch": mask.sum(),
    }
    return trainer._compute_loss(me, SimpleNamespace(training=True), inputs)


def tokens_of(seed):
    """Log-probabilities of four answers, under three policies, and their advantages."""
    generator = torch.Generator().manual_seed(seed)
    logps, moved, ref = -3 * torch.rand(3, 4, 6, generator=generator, dtype=torch.float64)
    logps.requires_grad_()
    # some ratios inside the interval, some outside on either side
    old = (logps + 0.3 * (moved + 1.5)).detach()
    mask = (torch.arange(6) < torch.tensor([[6], [2], [4], [3]])).double()
    return logps, old, ref, mask, torch.randn(4, generator=generator, dtype=torch.float64)


def ours_of(name, kl_term, high, logps, old, ref, mask, weight):
    """The same from this library's functions and METHODS."""
    how = METHODS[name]
    tokens = clipped_loss(logps, old, weight[:, None].expand_as(logps), clip_high=high)
    sums = ((tokens + 0.3 * kl_penalty(logps, old, ref, kl_term)) * mask).sum(1)
    if how.token_mean:
        return sums.sum() / mask.sum()
    return (sums / mask.sum(1) if how.length_mean else sums).mean()


def same(ours, theirs, logps):
    return torch.isclose(ours, theirs, rtol=1e-12) and torch.allclose(
        gradient(ours, logps), gradient(theirs, logps), atol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo"])
def test_loss_and_gradient_equal_trls(trl, name, seed):
    """Reduction, clip and KL term, at TRL's default, which is ratio_k3, and with the flag off, which is k3."""
    given = tokens_of(seed)
    for setting, kl_term in (({}, "ratio_k3"), ({"use_bias_correction_kl": False}, "k3")):
        named = {"beta": 0.3, "loss_type": name} | setting
        theirs = trl_loss(trl.GRPOTrainer, trl.GRPOConfig, named, *given)
        assert same(ours_of(name, kl_term, None, *given), theirs, given[0])
        other = next(term for term in KL_TERMS if term != kl_term)
        assert not same(ours_of(name, other, None, *given), theirs, given[0])


@pytest.mark.parametrize("seed", range(5))
def test_trls_default_loss_is_dapos_with_the_lower_clip(trl, seed):
    """Nothing set but beta: DAPO's mean over tokens, without the higher clip of its paper, which is a setting."""
    given = tokens_of(seed)
    theirs = trl_loss(trl.GRPOTrainer, trl.GRPOConfig, {"beta": 0.3}, *given)
    assert same(ours_of("dapo", "ratio_k3", None, *given), theirs, given[0])
    higher = {"beta": 0.3, "epsilon_high": METHODS["dapo"].clip_high}
    papers = trl_loss(trl.GRPOTrainer, trl.GRPOConfig, higher, *given)
    assert same(ours_of("dapo", "ratio_k3", METHODS["dapo"].clip_high, *given), papers, given[0])
    assert not torch.isclose(theirs, papers)


@pytest.mark.parametrize("seed", range(5))
def test_rloo_equals_trls_at_its_defaults(trl, seed):
    logps, old, _, mask, weight = given = tokens_of(seed)
    theirs = trl_loss(trl.RLOOTrainer, trl.RLOOConfig, {}, *given)
    ours = clipped_loss((logps * mask).sum(1), (old * mask).sum(1), weight).mean()
    assert same(ours, theirs, logps)


@pytest.mark.parametrize(
    ("setting", "method"), [({}, "grpo"), ({}, "dapo"), ({"scale_rewards": "none"}, "dr_grpo")]
)
def test_advantages_equal_trls(trl, setting, method):
    """By default TRL divides by the group's deviation, under loss_type dr_grpo too; Dr. GRPO needs both settings."""
    from trl.trainer import grpo_trainer

    source = inspect.getsource(trl.GRPOTrainer._generate_and_score_completions)
    lines = source[source.index("mean_grouped_rewards = torch.nanmean(") :]
    lines = " " * 12 + lines[: lines.index("is_std_zero")]  # their own lines, and no others
    rewards = torch.tensor([[2.0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 2]]).double()
    options = SimpleNamespace(**defaults(trl.GRPOConfig) | setting)
    assert options.multi_objective_aggregation == "sum_then_normalize"
    known = {"torch": torch, "nanstd": grpo_trainer.nanstd, "self": options, "num_generations": 4}
    known["rewards"] = rewards.flatten().clone()
    exec(textwrap.dedent(lines), known)
    how = METHODS[method]
    ours = advantages(rewards, how.baseline, how.scale)
    assert torch.allclose(ours.flatten(), known["advantages"], atol=1e-12)


def test_rloos_advantages_equal_trls_at_its_own_beta(trl):
    """Nothing set: the leash is in the reward, at beta 0.05, summed over an answer's tokens, and nothing is divided."""
    from trl.trainer import rloo_trainer

    source = inspect.getsource(trl.RLOOTrainer._generate_and_score_completions)
    lines = source[source.index("# Include the KL penalty in the reward") :]
    lines = " " * 8 + lines[: lines.index("is_std_zero")]  # their own lines, and no others
    generator = torch.Generator().manual_seed(0)
    old, ref = -3 * torch.rand(2, 8, 5, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 2, (8, 5), generator=generator).double()
    rewards = torch.tensor([[2.0, 1, 0, 1], [0, 0, 1, 2]]).double()
    known = {"torch": torch, "nanstd": rloo_trainer.nanstd, "gather": lambda x: x}
    known |= {"self": SimpleNamespace(**defaults(trl.RLOOConfig)), "num_generations": 4}
    known |= {"old_per_token_logps": old, "ref_per_token_logps": ref, "completion_mask": mask}
    known["rewards"] = rewards.flatten().clone()
    exec(textwrap.dedent(lines), known)
    leash = ((old - ref) * mask).sum(-1).view(2, 4)
    ours = advantages(rewards - 0.05 * leash, METHODS["rloo"].baseline, METHODS["rloo"].scale)
    assert torch.allclose(ours.flatten(), known["advantages"], atol=1e-12)


def test_trls_defaults_are_those_that_chapter_12_names(trl):
    """A reader who carries settings over; a release that changes one must be noticed here first."""
    assert trl.__version__ == "1.16.0"
    grpo, rloo = defaults(trl.GRPOConfig), defaults(trl.RLOOConfig)
    named = {
        "loss_type": "dapo",
        "beta": 0.0,
        "use_bias_correction_kl": True,
        "scale_rewards": "group",
        "epsilon": 0.2,
        "epsilon_high": None,
        "num_iterations": 1,
        "importance_sampling_level": "token",
        "mask_truncated_completions": False,
        "off_policy_mask_threshold": None,
    }
    assert {name: grpo[name] for name in named} == named
    assert (grpo["vllm_importance_sampling_correction"], grpo["vllm_importance_sampling_mode"]) == (
        True,
        "sequence_mask",
    )
    assert (rloo["beta"], rloo["normalize_advantages"]) == (0.05, False)
    assert "num_generations" in grpo and "num_generations" in rloo
