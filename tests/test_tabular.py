"""Chapters 5-7: the enumerable problems, each quantity by a second route: loops, enumeration, draws, closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_core import tabular
from dpo_core.tabular import (
    Problem,
    best_of_n,
    bradley_terry_nll,
    comparisons,
    dpo_loss,
    draw_comparisons,
    fit_rewards,
    frontier,
    implicit_reward,
    independent_pairs,
    kl,
    log_partition,
    mean,
    minimise,
    objective,
    optimal_policy,
    other_optimum,
    preference_probs,
    random_policies,
    random_problems,
    uniform_pairs,
)


def numbers(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# One prompt, three answers; its optimum and its losses were computed elsewhere.
HAND = Problem(numbers(0.5, 0.3, 0.2).log(), numbers(1, 0, -1))
BETA = 0.5
OPTIMUM = [0.91867231, 0.07459727, 0.00673043]

MANY = random_problems(24, 5, seed=0)
RIVALS = random_policies(24, 5, seed=1, scale=2.0)
OPENED = random_policies(24, 5, seed=2).exp().unsqueeze(-1) * random_policies(
    24, 5, seed=3
).exp().unsqueeze(-2)


def close(found: torch.Tensor, expected, tolerance: float = 1e-12) -> bool:
    """Equal within `tolerance`, infinities included, in shape and in float64."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return (
        found.dtype == torch.float64
        and found.shape == expected.shape
        and torch.allclose(found, expected, rtol=tolerance, atol=tolerance)
    )


def each(of, *tensors: torch.Tensor) -> list:
    """`of` on lists of plain numbers, row by row: the second route knows nothing of tensors."""
    return [of(*row) for row in zip(*(tensor.tolist() for tensor in tensors), strict=True)]


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def centred(reward: torch.Tensor) -> torch.Tensor:
    return reward - reward.mean(-1, keepdim=True)


# ---------------------------------------------------------------- random instances


def test_random_policies_are_softmaxes_of_normal_logits():
    """A scale that multiplies log-probabilities leaves rows that do not sum to 1; one that is squared, 4 for 2."""
    for scale in (0.5, 2.0):
        logps = random_policies(4000, 5, seed=0, scale=scale)
        assert close(logps.exp().sum(-1), torch.ones(4000))
        spread = centred(logps).square().sum(-1) / 4  # unbiased: the logits up to a constant a row
        # its standard error is 1.1 %
        assert spread.mean().item() == pytest.approx(scale**2, rel=0.06)
    assert random_policies(2, 3, 4, seed=0).shape == (2, 3, 4)


def test_random_problems_have_standard_normal_rewards_unrelated_to_the_reference():
    """One draw used for both would make every reference the optimum of its own reward."""
    problem = random_problems(4000, 5, seed=0)
    assert problem.reward.dtype == problem.ref_logps.dtype == torch.float64
    assert close(problem.ref_logps.exp().sum(-1), torch.ones(4000))
    assert problem.reward.mean().item() == pytest.approx(0, abs=0.03)
    for spread in (problem.reward.var(), centred(problem.ref_logps).square().sum(-1).mean() / 4):
        assert spread.item() == pytest.approx(1, abs=0.05)
    both = torch.stack((centred(problem.reward).flatten(), centred(problem.ref_logps).flatten()))
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.03


def test_random_instances_depend_on_the_seed_alone():
    """A draw from the global generator changes with whatever ran before, and changes what runs after."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    policies, problem = random_policies(4, 3, seed=5), random_problems(4, 3, seed=5)
    drawn = draw_comparisons(uniform_pairs(3), 50, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(policies, random_policies(4, 3, seed=5))
    assert torch.equal(problem.reward, random_problems(4, 3, seed=5).reward)
    assert torch.equal(drawn, draw_comparisons(uniform_pairs(3), 50, seed=5))
    assert not torch.equal(policies, random_policies(4, 3, seed=6))
    assert not torch.equal(problem.reward, random_problems(4, 3, seed=6).reward)
    assert not torch.equal(drawn, draw_comparisons(uniform_pairs(3), 50, seed=6))


# ---------------------------------------------------------------- the objective and its optimum


def kl_by_loop(p: list[float], q: list[float]) -> float:
    return sum(math.exp(a) * (a - b) for a, b in zip(p, q))


def test_mean_and_kl_equal_the_sums():
    """KL in the other direction; a mean over answers in place of one under the policy."""
    assert close(
        mean(RIVALS, MANY.reward),
        each(lambda p, r: sum(math.exp(a) * b for a, b in zip(p, r)), RIVALS, MANY.reward),
    )
    assert close(kl(RIVALS, MANY.ref_logps), each(kl_by_loop, RIVALS, MANY.ref_logps))
    assert not close(kl(RIVALS, MANY.ref_logps), kl(MANY.ref_logps, RIVALS), 0.01)


def test_kl_by_hand():
    """(3/4, 1/4) against (1/2, 1/2): ln 2 less the entropy, 0.5623; in bits it would be 0.1887."""
    three_to_one, even = numbers(0.75, 0.25).log(), numbers(0.5, 0.5).log()
    assert kl(three_to_one, even).item() == pytest.approx(0.130812036, abs=1e-9)
    assert kl(even, three_to_one).item() == pytest.approx(0.143841036, abs=1e-9)


def test_kl_is_positive_but_to_itself():
    """Gibbs' inequality: a lost minus sign, or a policy that is not normalised."""
    assert (kl(RIVALS, MANY.ref_logps) > 0).all()
    assert close(kl(RIVALS, RIVALS), torch.zeros(24))


def test_an_answer_of_probability_zero_counts_nothing():
    """0 · log 0 is 0: as a product of floats, 0 · (-inf) is NaN; and so is (-inf) - (-inf)."""
    sure, even, half = (
        numbers(1, 0, 0).log(),
        numbers(0.5, 0.5, 0).log(),
        numbers(0.5, 0.25, 0.25).log(),
    )
    assert kl(sure, even).item() == pytest.approx(math.log(2))
    assert kl(even, half).item() == pytest.approx(0.5 * math.log(2))
    assert kl(even, even).item() == 0
    assert mean(sure, numbers(3, math.inf, -math.inf)).item() == 3
    optimum = optimal_policy(Problem(even, numbers(0, 0, 100)), 1.0)
    assert close(optimum, even) and math.isfinite(
        objective(optimum, Problem(even, numbers(0, 0, 1)), 1.0)
    )


def test_kl_is_infinite_outside_the_other_support():
    """A guard against NaN that also hides an answer which the reference cannot give."""
    assert kl(numbers(0.5, 0.5).log(), numbers(1, 0).log()).item() == math.inf
    assert kl(numbers(1, 0).log(), numbers(0.5, 0.5).log()).item() == pytest.approx(math.log(2))


def test_optimum_of_the_worked_example():
    """ref (.5, .3, .2), r (1, 0, -1), β .5: with rβ in the exponent the first share is 0.69, with -r/β 0.07."""
    assert optimal_policy(HAND, BETA).exp().tolist() == pytest.approx(OPTIMUM, abs=5e-9)
    z = 0.5 * math.e**2 + 0.3 + 0.2 * math.e**-2
    assert log_partition(HAND, BETA).item() == pytest.approx(math.log(z), abs=1e-12)
    assert optimal_policy(HAND, 1).exp()[1].item() == pytest.approx(
        0.3 / (0.5 * math.e + 0.3 + 0.2 / math.e)
    )


def test_partition_and_optimum_equal_the_sums():
    """log Z is the logarithm of a sum, not the sum of logarithms; each row has its own."""

    def by_loop(ref, reward):
        weights = [math.exp(a) * math.exp(r / 0.7) for a, r in zip(ref, reward)]
        return math.log(sum(weights)), [math.log(w / sum(weights)) for w in weights]

    partitions, optima = zip(*each(by_loop, *MANY))
    assert close(log_partition(MANY, 0.7), partitions)
    assert close(optimal_policy(MANY, 0.7), optima)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_gap_of_the_objective_is_beta_kl_to_the_optimum(beta):
    """J(π*) - J(π) = β KL(π || π*): a misplaced β, a KL in the other direction, or a tilt with the wrong sign."""
    optimum = optimal_policy(MANY, beta)
    gap = objective(optimum, MANY, beta) - objective(RIVALS, MANY, beta)
    assert close(gap, beta * kl(RIVALS, optimum), 1e-10)
    assert (gap > 1e-3).all()


def test_value_of_the_optimum_is_beta_log_z():
    """J(π*) = β log Z, a route that sums no policy at all; and J of the reference is its mean reward."""
    assert close(objective(optimal_policy(MANY, 0.3), MANY, 0.3), 0.3 * log_partition(MANY, 0.3))
    assert close(objective(MANY.ref_logps, MANY, 0.3), mean(MANY.ref_logps, MANY.reward))


def test_a_constant_of_the_prompt_moves_log_z_alone():
    """Z absorbs what all answers share: the optimum must not see it."""
    shift = torch.linspace(-5, 5, 24, dtype=torch.float64)
    moved = Problem(MANY.ref_logps, MANY.reward + shift[:, None])
    assert close(optimal_policy(moved, 0.7), optimal_policy(MANY, 0.7), 1e-11)
    assert close(log_partition(moved, 0.7), log_partition(MANY, 0.7) + shift / 0.7)


def test_optimum_goes_to_the_reference_and_to_the_best_answer():
    """β large holds, β small lets go; the one who reads the leash backwards finds the limits exchanged."""
    assert close(optimal_policy(MANY, 1e9), MANY.ref_logps, 1e-7)
    best = optimal_policy(MANY, 1e-4).exp()  # r/β in the tens of thousands stays finite
    assert torch.equal(best.argmax(-1), MANY.reward.argmax(-1)) and (best.amax(-1) > 0.999).all()


def test_the_optimum_of_the_other_kl_beats_every_rival_and_satisfies_its_equation():
    """Guards against a lambda that was halved away from its root, or the KL the right way round after all."""
    beta = torch.linspace(0.2, 2, len(MANY.reward), dtype=torch.float64)[:, None]
    optimum = other_optimum(MANY, beta).exp()
    assert close(optimum.sum(-1), torch.ones(len(optimum)).double())
    lam = (optimum * MANY.reward).sum(-1, keepdim=True) + beta
    assert close(optimum * (lam - MANY.reward), beta * MANY.ref_logps.exp())
    rivals = random_policies(200, *MANY.reward.shape, seed=5)

    def value(logps):
        return mean(logps, MANY.reward) - beta[:, 0] * kl(MANY.ref_logps, logps)

    assert (value(optimum.log()) > value(rivals).amax(0)).all()


def test_the_optimum_of_the_other_kl_by_hand():
    """Chapter 6's example, and an answer that the reference never writes: its reward may be anything."""
    assert other_optimum(HAND, BETA).exp().tolist() == pytest.approx(
        [0.841, 0.116, 0.044], abs=5e-4
    )
    with_a_fourth = Problem(numbers(0.5, 0.3, 0.2, 0).log(), numbers(1, 0, -1, 9))
    assert close(other_optimum(with_a_fourth, BETA)[:3], other_optimum(HAND, BETA))
    assert other_optimum(with_a_fourth, BETA)[3] == -math.inf


def test_a_tensor_of_betas_is_one_optimum_each():
    """β along another dimension than meant: every row gets its own, a column vector all of them."""
    betas = torch.linspace(0.1, 2, 24, dtype=torch.float64)
    singly = [optimal_policy(Problem(*row), beta.item()) for *row, beta in zip(*MANY, betas)]
    assert close(optimal_policy(MANY, betas[:, None]), torch.stack(singly))
    assert close(
        optimal_policy(HAND, betas[:, None]),
        torch.stack([optimal_policy(HAND, b.item()) for b in betas]),
    )


BETAS = np.geomspace(0.05, 5, 25).tolist()


def test_frontier_holds_the_optimum_of_each_beta_in_the_order_given():
    """Reward and KL exchanged, the KL of the reference to the optimum, or betas sorted on the way."""
    rewards, kls = frontier(MANY, BETAS)
    assert rewards.shape == kls.shape == (24, 25)
    for column, beta in enumerate(BETAS):
        optimum = optimal_policy(MANY, beta)
        assert close(
            rewards[:, column],
            each(lambda p, r: sum(math.exp(a) * b for a, b in zip(p, r)), optimum, MANY.reward),
        )
        assert close(kls[:, column], each(kl_by_loop, optimum, MANY.ref_logps))
    assert (rewards.diff() < 0).all() and (kls.diff() < 0).all()  # more leash, less of both
    backwards = frontier(MANY, BETAS[::-1])
    assert torch.equal(backwards[0], rewards.flip(-1)) and torch.equal(backwards[1], kls.flip(-1))


def test_slope_of_the_frontier_is_beta():
    """d reward / d KL = β at β: the price of a nat. With 1/β for β the slopes run the other way."""
    for beta in (0.2, 1.0, 3.0):
        rewards, kls = frontier(MANY, [beta * 0.9999, beta * 1.0001])
        assert close((rewards.diff() / kls.diff()).squeeze(-1), [beta] * 24, 1e-6)


def test_frontier_is_concave():
    """Between two points of it the slope lies between their betas, so each nat buys less than the one before."""
    rewards, kls = frontier(MANY, BETAS)
    gained, spent = -rewards.diff(), -kls.diff()  # (24, 24), from each beta to the one below it
    assert (gained > numbers(*BETAS[:-1]) * spent - 1e-13).all()
    assert (gained < numbers(*BETAS[1:]) * spent + 1e-13).all()


def test_no_policy_lies_above_the_frontier():
    """300 policies a problem, far ones and near ones: at its KL, none has more reward than the tangents allow."""
    rewards, kls = frontier(MANY, BETAS)
    far = random_policies(300, 24, 5, seed=4, scale=3.0)
    near = (0.9 * optimal_policy(MANY, 0.5) + 0.1 * far).log_softmax(-1)
    betas = numbers(*BETAS)
    for policies in (far, near):
        spent, earned = (
            kl(policies, MANY.ref_logps)[..., None],
            mean(policies, MANY.reward)[..., None],
        )
        slack = rewards + betas * (spent - kls) - earned  # (300, 24, 25)
        assert (slack > -1e-12).all()
    assert slack.amin(-1).median() < 0.02  # the near ones are near: the bound is tight


def best_by_enumeration(ref: list[float], reward: list[float], n: int) -> list[float]:
    """All A^n tuples of draws; the first of the best is kept."""
    kept = [0.0] * len(ref)
    for draws in itertools.product(range(len(ref)), repeat=n):
        kept[max(draws, key=lambda answer: reward[answer])] += math.prod(
            math.exp(ref[answer]) for answer in draws
        )
    return kept


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_best_of_n_equals_the_enumeration_of_all_draws(n):
    """n, or n - 1, of them better; ties that are lost or counted twice; an answer that is never drawn."""
    tied = MANY.reward.sign()  # two levels: each row has ties
    rare = torch.where(torch.arange(5) == 2, -math.inf, MANY.ref_logps).log_softmax(-1)
    for problem in (
        MANY,
        Problem(MANY.ref_logps, tied),
        Problem(rare, MANY.reward),
        Problem(rare, tied),
    ):
        found = best_of_n(problem, n)
        assert close(found.exp(), each(lambda p, r: best_by_enumeration(p, r, n), *problem))
        assert torch.equal(found == -math.inf, problem.ref_logps == -math.inf)


def test_best_of_one_is_the_reference():
    """n + 1 draws in place of n."""
    assert close(best_of_n(MANY, 1), MANY.ref_logps)


def test_best_of_n_of_a_binary_attribute():
    """The share is 1 - (1 - p)^n, and its KL that of two numbers: far below log n - (n - 1)/n."""
    p, n = 0.3, 8
    problem = Problem(numbers(p / 2, p / 2, 1 - p).log(), numbers(1, 1, 0))
    share = 1 - (1 - p) ** n
    found = best_of_n(problem, n)
    assert close(found.exp(), [share / 2, share / 2, 1 - share])
    expected = share * math.log(share / p) + (1 - share) * math.log((1 - share) / (1 - p))
    assert kl(found, problem.ref_logps).item() == pytest.approx(expected)
    assert expected < 0.8 * (math.log(n) - (n - 1) / n)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_kl_of_best_of_n_without_ties_is_log_n_minus_n_minus_1_over_n(n):
    """The formula is the limit of many answers without ties, and a bound wherever answers are few."""
    bound = math.log(n) - (n - 1) / n
    fine = Problem(
        torch.full((5000,), -math.log(5000), dtype=torch.float64), torch.arange(5000).double()
    )
    assert kl(best_of_n(fine, n), fine.ref_logps).item() == pytest.approx(bound, abs=2e-3)
    assert (kl(best_of_n(MANY, n), MANY.ref_logps) < bound).all()


# ---------------------------------------------------------------- comparisons and rewards


def pair_distribution(shape: str) -> torch.Tensor:
    """(24, 5, 5) or (5, 5); the opened ones have first and second drawn differently, and equal answers too."""
    return {
        "uniform": uniform_pairs(5),
        "opened": OPENED,
        "twice the reference": independent_pairs(MANY.ref_logps, MANY.ref_logps, distinct=True),
    }[shape]


PAIRS = ["uniform", "opened", "twice the reference"]


def test_preference_probabilities_by_loop():
    """σ(r_j - r_i) at [i, j] prefers the worse answer."""
    assert close(
        preference_probs(MANY.reward),
        each(lambda r: [[sigma(a - b) for b in r] for a in r], MANY.reward),
    )
    assert preference_probs(numbers(math.log(3), 0))[0, 1].item() == pytest.approx(0.75)


def test_pair_distributions_sum_to_one_and_are_what_they_say():
    """[i, j] is first i, second j; discarding equal answers must not leave less than 1."""
    assert close(uniform_pairs(3), [[0, 1 / 6, 1 / 6], [1 / 6, 0, 1 / 6], [1 / 6, 1 / 6, 0]])
    first, second = numbers(0.5, 0.3, 0.2), numbers(0.1, 0.6, 0.3)
    found = independent_pairs(first.log(), second.log())
    assert close(found, [[p * q for q in (0.1, 0.6, 0.3)] for p in (0.5, 0.3, 0.2)])
    kept = 1 - (0.05 + 0.18 + 0.06)
    distinct = independent_pairs(first.log(), second.log(), distinct=True)
    assert close(
        distinct,
        [
            [0, 0.3 / kept, 0.15 / kept],
            [0.03 / kept, 0, 0.09 / kept],
            [0.02 / kept, 0.12 / kept, 0],
        ],
    )
    assert close(
        independent_pairs(RIVALS, MANY.ref_logps, distinct=True).sum((-1, -2)), torch.ones(24)
    )


def judged(reward: list[float], pairs: list[list[float]], wins_of) -> list[list[float]]:
    """The table filled pair by pair; `wins_of(gap)` is the share of comparisons that the first answer wins."""
    table = [[0.0] * len(reward) for _ in reward]
    for i, j in itertools.product(range(len(reward)), repeat=2):
        share = wins_of(reward[i] - reward[j])
        if share is not None:
            table[i][j] += pairs[i][j] * share
            table[j][i] += pairs[i][j] * (1 - share)
    return table


@pytest.mark.parametrize("shape", PAIRS)
def test_soft_comparisons_divide_each_pair_by_its_probability(shape):
    """The pair (j, i) forgotten, or every pair counted twice: the table still looks like one."""
    pairs = pair_distribution(shape).expand(24, 5, 5)
    found = comparisons(MANY.reward, pairs)
    assert close(found, each(lambda r, p: judged(r, p, sigma), MANY.reward, pairs))
    assert close(found.sum((-1, -2)), torch.ones(24))


@pytest.mark.parametrize("shape", PAIRS)
def test_deterministic_comparisons_drop_ties_and_lose_their_mass(shape):
    """A tie that goes to the first answer, or to both, is a label that nobody gave."""
    pairs, tied = pair_distribution(shape).expand(24, 5, 5), MANY.reward.round()
    found = comparisons(tied, pairs, "deterministic")
    verdict = {1: 1.0, 0: None, -1: 0.0}
    by_loop = each(
        lambda r, p: judged(r, p, lambda gap: verdict[(gap > 0) - (gap < 0)]), tied, pairs
    )
    assert close(found, by_loop)
    ties = ((tied[:, :, None] == tied[:, None, :]) * pairs).sum((-1, -2))
    assert (ties > 0).any() and close(found.sum((-1, -2)), 1 - ties)


def test_soft_comparisons_are_the_expectation_of_sampled_ones():
    """200,000 pairs drawn and judged one by one: every cell within 4.5 standard errors of the table."""
    rng, n = np.random.default_rng(0), 200_000
    pairs, reward = OPENED[0], MANY.reward[0].numpy()
    first, second = np.divmod(rng.choice(25, size=n, p=(pairs / pairs.sum()).flatten().numpy()), 5)
    won = rng.random(n) < 1 / (1 + np.exp(reward[second] - reward[first]))
    counts = np.bincount(
        np.where(won, first * 5 + second, second * 5 + first), minlength=25
    ).reshape(5, 5)
    table = comparisons(MANY.reward[0], pairs).numpy()
    assert (np.abs(counts - n * table) < 4.5 * np.sqrt(n * table * (1 - table))).all()
    drawn = draw_comparisons(comparisons(MANY.reward[0], pairs), n, seed=0).numpy()
    assert (np.abs(drawn - n * table) < 4.5 * np.sqrt(n * table * (1 - table))).all()


def test_drawn_comparisons_are_counts_of_their_own_table():
    """Counts transposed, rows that share one draw, or draws in a cell of weight 0."""
    table = comparisons(MANY.reward, uniform_pairs(5), "deterministic")
    counts = draw_comparisons(table, 3000, seed=0)
    assert close(counts.sum((-1, -2)), [3000] * 24) and torch.equal(counts, counts.round())
    assert (counts[table == 0] == 0).all() and (counts[table > 0] > 0).all()
    same = draw_comparisons(table[:1].expand(24, 5, 5), 3000, seed=0)
    assert len({tuple(row.flatten().tolist()) for row in same}) == 24
    assert same.var(0).sum().item() == pytest.approx(
        3000 * (1 - table[0].square().sum().item()), rel=0.25
    )


def test_tables_of_any_leading_shape_are_drawn_from():
    """The instances are flattened for the draw: they must come back in their places."""
    # all weight in one cell, another for each
    cells = torch.eye(9, dtype=torch.float64)[:6].reshape(2, 3, 3, 3)
    assert close(draw_comparisons(cells, 7, seed=0), 7 * cells)
    assert close(draw_comparisons(cells[1, 2], 7, seed=0), 7 * cells[1, 2])


def nll_by_loop(reward: list[float], wins: list[list[float]]) -> float:
    cells = [(w, reward[i] - reward[j]) for i, row in enumerate(wins) for j, w in enumerate(row)]
    return sum(w * -math.log(sigma(gap)) for w, gap in cells) / sum(w for w, _ in cells)


def test_bradley_terry_nll_equals_the_loop():
    """A table that does not sum to 1 is averaged all the same; winner and loser exchanged are not the same loss."""
    wins = 40 * OPENED  # unsymmetric, unrelated to the reward, not normalised
    assert close(bradley_terry_nll(MANY.reward, wins), each(nll_by_loop, MANY.reward, wins))
    assert close(
        bradley_terry_nll(torch.zeros(24, 5, dtype=torch.float64), wins), [math.log(2)] * 24
    )
    assert bradley_terry_nll(numbers(-500, 500), numbers((0, 1), (0, 0))).item() == pytest.approx(
        1000
    )


@pytest.mark.parametrize("shape", PAIRS)
def test_fit_recovers_the_rewards_up_to_a_constant(shape):
    """Exact tables under any pair distribution; the sign, the scale and the constant are all seen."""
    table = comparisons(MANY.reward, pair_distribution(shape))
    found, covariance = fit_rewards(table)
    assert close(found, centred(MANY.reward), 1e-9)
    assert close(found.sum(-1), torch.zeros(24))
    assert close(covariance.sum(-1), torch.zeros(24, 5), 1e-6 * float(covariance.abs().max()))
    assert close(fit_rewards(1000 * table)[0], found, 1e-9)


def test_fit_is_where_the_likelihood_is_greatest():
    """Tables that no reward explains: the likelihood falls in every direction."""
    wins = draw_comparisons(OPENED, 4000, seed=1) + 1
    found, _ = fit_rewards(wins)
    least = bradley_terry_nll(found, wins)
    for step in random_policies(20, 24, 5, seed=6):
        for size in (1e-3, -1e-3, 0.3, -0.3):
            assert (bradley_terry_nll(found + size * centred(step), wins) > least).all()


def test_fit_by_hand():
    """30 of 40 won: the log-odds ln 3, with variance 1/30 + 1/10."""
    reward, covariance = fit_rewards(numbers((0, 30), (10, 0)))
    assert (reward[0] - reward[1]).item() == pytest.approx(math.log(3), abs=1e-9)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert variance.item() == pytest.approx(1 / 30 + 1 / 10, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_fit_of_two_answers_is_the_log_odds_with_its_variance(won, lost):
    """A null space left in the information, where rounding makes it a variance of 10^16."""
    reward, covariance = fit_rewards(numbers((0, won), (lost, 0)))
    gap, variance = math.log(won / lost), 1 / won + 1 / lost
    assert close(reward, [gap / 2, -gap / 2], 1e-9)
    assert close(covariance, [[variance / 4, -variance / 4], [-variance / 4, variance / 4]], 1e-7)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)))
def test_fit_does_not_depend_on_the_names_of_the_answers(order):
    """An answer held at reward 0 in place of the mean would make its neighbours' variances differ."""
    wins = draw_comparisons(comparisons(MANY.reward, uniform_pairs(5)), 2000, seed=2) + 0.1
    reward, covariance = fit_rewards(wins)
    renamed, covariance_too = fit_rewards(wins[:, order][:, :, order])
    assert close(renamed, reward[:, order], 1e-8)
    assert close(covariance_too, covariance[:, order][:, :, order], 1e-8)


def test_covariance_inverts_the_curvature_of_the_likelihood():
    """The curvature by finite differences, for rewards with the last one held at 0; then the rest is algebra."""
    wins = draw_comparisons(comparisons(MANY.reward, OPENED), 900, seed=3) + 1
    reward, covariance = fit_rewards(wins)
    total, step = wins.sum((-1, -2)), 1e-4
    unit = step * torch.eye(5, dtype=torch.float64)

    def nll(*moved):
        return bradley_terry_nll(reward + sum(moved), wins) * total

    curvature = torch.stack(
        [
            torch.stack(
                [
                    (nll(a, b) - nll(a, -b) - nll(-a, b) + nll(-a, -b)) / (4 * step**2)
                    for a in unit[:4]
                ],
                -1,
            )
            for b in unit[:4]
        ],
        -1,
    )
    differences = torch.cat((torch.eye(4), -torch.ones(4, 1)), -1).double()  # r_i - r_5, (4, 5)
    assert close(differences @ covariance @ differences.T, torch.linalg.inv(curvature), 1e-4)


def test_covariance_is_the_spread_of_repeated_fits():
    """600 data sets of 500 comparisons: the standardised distance is a chi-square with A - 1 = 3 degrees."""
    reward = numbers(1.0, 0.3, -0.2, -1.1)
    table = comparisons(reward, independent_pairs(*random_policies(2, 4, seed=0)))
    found, covariance = fit_rewards(draw_comparisons(table.expand(600, 4, 4), 500, seed=0))
    error = found - centred(reward)
    distance = (
        error.unsqueeze(-2) @ torch.linalg.pinv(covariance, rtol=1e-6) @ error.unsqueeze(-1)
    ).flatten()
    assert distance.mean().item() == pytest.approx(3, abs=0.4)  # the standard error is 0.1
    gap = error[:, 0] - error[:, 3]
    spread = (covariance[:, 0, 0] + covariance[:, 3, 3] - 2 * covariance[:, 0, 3]).sqrt()
    assert (gap.abs() < 1.96 * spread).double().mean().item() == pytest.approx(0.95, abs=0.03)


def test_fit_holds_where_some_pairs_are_compared_ten_thousand_times_as_often():
    """Undamped, Newton's steps overshoot on such a table and never come back. At the maximum each answer has won
    just as many comparisons as its reward leads one to expect."""
    wins = numbers(
        (0, 10_000, 0, 1, 1),
        (100, 0, 0, 0, 1),
        (0, 0, 0, 10_000, 0),
        (100, 0, 0, 0, 1),
        (10, 10_000, 10, 10, 0),
    )
    reward, _ = fit_rewards(wins)
    expected = ((wins + wins.mT) * preference_probs(reward)).sum(-1)
    assert torch.allclose(wins.sum(-1), expected, rtol=1e-8)


@pytest.mark.parametrize("answers", [3, 6])
def test_fit_recovers_differences_of_fifteen(answers):
    """Where one comparison in a million is a surprise: a tolerance that rounding never lets the steps reach."""
    reward = random_problems(24, answers, seed=7).reward
    reward = 15 * reward / (reward.amax(-1, keepdim=True) - reward.amin(-1, keepdim=True))
    found, covariance = fit_rewards(comparisons(reward, uniform_pairs(answers)))
    assert close(found, centred(reward), 1e-7)
    assert (covariance.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_covariance_stays_right_where_one_answer_nearly_always_wins():
    """A pseudo-inverse that guesses where the null space begins: 10^16 in some rows, in others a lost variance."""
    gaps = torch.linspace(0.1, 15, 40, dtype=torch.float64)
    reward = torch.stack((gaps / 2, -gaps / 2), -1)
    _, covariance = fit_rewards(comparisons(reward, uniform_pairs(2)))
    by_hand = 2 + 2 * gaps.cosh()  # 1/(p(1 - p)) is the variance of a gap seen once, in all pairs
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    assert close(variance, by_hand, 1e-6)


RING = torch.eye(6, dtype=torch.float64).roll(1, -1)  # 0 beat 1, 1 beat 2, … 5 beat 0


def test_a_ring_of_single_victories_is_enough():
    """Whoever asks for both outcomes of each pair, or looks two steps far, refuses what has a maximum."""
    reward, covariance = fit_rewards(RING)
    assert close(reward, torch.zeros(6), 1e-9)
    assert covariance.isfinite().all()


UNFIT = {
    "nobody met": numbers((0, 0, 0), (0, 0, 0), (0, 0, 0)),
    "never lost": numbers((0, 3, 2), (0, 0, 2), (0, 2, 0)),
    "never won": numbers((0, 2, 3), (2, 0, 3), (0, 0, 0)),
    "one never met the others": numbers((0, 2, 0), (2, 0, 0), (0, 0, 0)),
    "two islands": torch.block_diag(*[1 - torch.eye(2, dtype=torch.float64)] * 2),
    "two islands, one above": torch.block_diag(*[1 - torch.eye(2, dtype=torch.float64)] * 2)
    + torch.eye(4, dtype=torch.float64).roll(2, -1).triu(),
    "a ring cut": RING * (1 - torch.eye(6, dtype=torch.float64)[:, [3]]),
    "deterministic": comparisons(HAND.reward, uniform_pairs(3), "deterministic"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_tables_without_a_greatest_likelihood_are_refused(kind):
    """Newton's method runs off to infinity and returns where its steps ran out; one bad row in a batch as well."""
    wins = UNFIT[kind]
    with pytest.raises(ValueError, match="never lost to the others"):
        fit_rewards(wins)
    with pytest.raises(ValueError, match="never lost to the others"):
        fit_rewards(torch.stack((torch.ones_like(wins), wins)))


@pytest.mark.parametrize("gap", [17, 20, 25, 33])
def test_a_fit_loses_no_digits_far_out(gap):
    """1 - σ(20) by subtraction has eight digits left: the fit wandered, and never ended at 17, 20 or 25."""
    reward = numbers(gap / 2, -gap / 2)
    found, _ = fit_rewards(comparisons(reward, uniform_pairs(2)))
    assert (found[0] - found[1]).item() == pytest.approx(gap, abs=1e-9)


def test_best_of_n_keeps_a_rare_best_answer():
    """F^n - F_<^n as a difference is zero for an answer of probability 1e-17."""
    problem = Problem(numbers(1e-17, 0.4, 0.6).log(), numbers(2, 1, 0))
    assert best_of_n(problem, 4)[0].item() == pytest.approx(math.log(4e-17), abs=1e-9)
    with pytest.raises(ValueError, match=r"n is 1\.5"):
        best_of_n(problem, 1.5)


def test_what_has_no_answer_is_named():
    """NaN where nothing can be computed, or a matrix error from the inside."""
    with pytest.raises(ValueError, match="1 answers make no pair"):
        uniform_pairs(1)
    with pytest.raises(ValueError, match="without comparisons"):
        bradley_terry_nll(numbers(0, 0), torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="negative or not finite"):
        fit_rewards(numbers((0, math.nan), (1, 0)))
    for beta in (math.inf, torch.tensor(math.inf)):
        with pytest.raises(ValueError, match="finite numbers above 0"):
            optimal_policy(Problem(numbers(-1, -1), numbers(0, 1)), beta)


def test_an_impossible_answer_that_was_never_compared_leaves_the_loss_alone():
    """0 · (-inf) is NaN."""
    logps, wins = numbers(0.5, 0.5, 0).log(), numbers((0, 1, 0), (1, 0, 0), (0, 0, 0))
    assert dpo_loss(logps, logps.nan_to_num(neginf=-1), wins, 0.5).item() == pytest.approx(
        math.log(2)
    )


def test_a_fit_that_does_not_converge_is_an_error():
    """A difference of 500 needs more than the 100 steps: the place where they end is no maximum."""
    with pytest.raises(ValueError, match="not been maximised in 100 Newton steps"):
        fit_rewards(numbers((0, 1), (1e-217, 0)))


# ---------------------------------------------------------------- DPO


def test_implicit_reward_of_the_optimum_is_the_reward_less_beta_log_z():
    """Divided by β, or the reference's turn and the policy's exchanged."""
    found = implicit_reward(optimal_policy(MANY, 0.3), MANY.ref_logps, 0.3)
    assert close(found, MANY.reward - 0.3 * log_partition(MANY, 0.3)[:, None], 1e-11)
    assert implicit_reward(numbers(-10), numbers(-12), 0.1).item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("pairs", "loss"),
    [
        (uniform_pairs(3), 0.509913358),
        (independent_pairs(HAND.ref_logps, HAND.ref_logps, distinct=True), 0.512245),
        (independent_pairs(HAND.ref_logps, HAND.ref_logps), 0.580988),
    ],
    ids=["uniform", "without equal answers", "with equal answers"],
)
def test_dpo_loss_of_the_worked_example(pairs, loss):
    """The pair distribution is an argument: three of them, three losses at the same optimum."""
    found = dpo_loss(
        optimal_policy(HAND, BETA), HAND.ref_logps, comparisons(HAND.reward, pairs), BETA
    )
    assert found.item() == pytest.approx(loss, abs=6e-10 if loss == 0.509913358 else 6e-7)


def dpo_by_loop(logps, ref, wins, beta):
    total = weight = 0.0
    for i, j in itertools.product(range(len(logps)), repeat=2):
        h = beta * ((logps[i] - ref[i]) - (logps[j] - ref[j]))
        total -= wins[i][j] * math.log(1 / (1 + math.exp(-h)))
        weight += wins[i][j]
    return total / weight


def test_dpo_loss_equals_the_double_loop():
    """β outside the logarithm, the reference forgotten, or winner and loser exchanged."""
    expected = each(lambda p, q, w: dpo_by_loop(p, q, w, 0.4), RIVALS, MANY.ref_logps, OPENED)
    assert close(dpo_loss(RIVALS, MANY.ref_logps, OPENED, 0.4), expected)


def test_dpo_loss_at_the_reference_is_ln_2():
    """Policy = reference: nothing is preferred, whatever β and the labels."""
    assert close(dpo_loss(MANY.ref_logps, MANY.ref_logps, OPENED, 3.0), [math.log(2)] * 24)


def test_dpo_loss_sees_neither_constants_of_the_prompt_nor_normalisation():
    """What both answers share cancels; a Z that is left in the loss does not."""
    shift = torch.linspace(-4, 4, 24, dtype=torch.float64)[:, None]
    plain = dpo_loss(RIVALS, MANY.ref_logps, comparisons(MANY.reward, OPENED), 0.4)
    assert close(
        dpo_loss(RIVALS + shift, MANY.ref_logps, comparisons(MANY.reward, OPENED), 0.4), plain
    )
    assert close(
        dpo_loss(RIVALS, MANY.ref_logps - shift, comparisons(MANY.reward, OPENED), 0.4), plain
    )
    assert close(
        dpo_loss(RIVALS, MANY.ref_logps, comparisons(MANY.reward + shift, OPENED), 0.4), plain
    )


def test_gradient_of_dpo_equals_the_formula_and_finite_differences():
    """-β Σ_j [w_ij σ(-h_ij) - w_ji σ(h_ij)]: the weight is the probability given to the wrong order."""
    beta, wins = 0.4, OPENED / OPENED.sum((-1, -2), keepdim=True)
    logps = RIVALS.clone().requires_grad_()
    (found,) = torch.autograd.grad(dpo_loss(logps, MANY.ref_logps, wins, beta).sum(), logps)

    def by_hand(policy, ref, table):
        h = [[beta * ((a - b) - (c - d)) for c, d in zip(policy, ref)] for a, b in zip(policy, ref)]
        return [
            -beta
            * sum(table[i][j] * sigma(-h[i][j]) - table[j][i] * sigma(h[i][j]) for j in range(5))
            for i in range(5)
        ]

    assert close(found, each(by_hand, RIVALS, MANY.ref_logps, wins))
    for unit, column in zip(1e-5 * torch.eye(5, dtype=torch.float64), found.T):
        above, below = (dpo_loss(RIVALS + s * unit, MANY.ref_logps, wins, beta) for s in (1, -1))
        assert close((above - below) / 2e-5, column, 1e-8)


@pytest.mark.parametrize("shape", PAIRS)
@pytest.mark.parametrize("beta", [0.1, 0.5, 5.0])
def test_minimiser_of_dpo_on_soft_labels_is_the_closed_form(beta, shape):
    """DPO's claim, on 24 problems at once: no reward model, no sampling, and the pairs do not matter."""
    wins = comparisons(MANY.reward, pair_distribution(shape))
    start = torch.zeros(24, 5, dtype=torch.float64)
    found = minimise(
        lambda z: dpo_loss(z.log_softmax(-1), MANY.ref_logps, wins, beta), start
    ).log_softmax(-1)
    assert close(found, optimal_policy(MANY, beta), 1e-9)


def test_deterministic_labels_have_no_minimum_short_of_the_argmax():
    """With the better answer always winning, each step towards the argmax lowers the loss: β holds nothing."""
    wins = comparisons(HAND.reward, uniform_pairs(3), "deterministic")
    losses = [
        dpo_loss(optimal_policy(HAND, beta), HAND.ref_logps, wins, 1.0).item()
        for beta in (4, 1, 0.25, 0.05)
    ]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-8
    assert optimal_policy(HAND, 0.05).exp()[0].item() == pytest.approx(1, abs=1e-8)


def test_minimise_solves_a_quadratic_in_every_row():
    """x = A⁻¹ b, curvatures from 1 to 10,000: a gradient method that stops early is off in the flat direction."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(24, 4, 4, generator=generator, dtype=torch.float64))
    curvature = basis @ numbers(1, 20, 300, 10_000).diag_embed() @ basis.mT
    target = torch.randn(24, 4, 1, generator=generator, dtype=torch.float64)

    def loss(x):
        x = x.unsqueeze(-1)
        return (0.5 * x.mT @ curvature @ x - target.mT @ x).flatten()

    start = torch.ones(24, 4, dtype=torch.float64)
    found = minimise(loss, start)
    assert close(found, torch.linalg.solve(curvature, target).squeeze(-1), 1e-10)
    assert torch.equal(start, torch.ones(24, 4, dtype=torch.float64)) and not found.requires_grad


def test_minimise_reaches_the_precision_of_the_numbers():
    """Where the loss is flat to sixteen digits, L-BFGS alone is right to eight; log x - x/c has its place at c."""
    place = torch.linspace(0.5, 3, 24, dtype=torch.float64)[:, None]
    found = minimise(
        lambda x: (x.exp() / place - x).sum(-1) + 1e3, torch.zeros(24, 1, dtype=torch.float64)
    )
    assert close(found, place.log(), 1e-13)


def test_minimise_with_parameters_that_prompts_share():
    """Two numbers for 24 prompts: at the minimum the slope of the summed loss, by differences, is zero."""
    features = torch.randn(
        24, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    wins = comparisons(MANY.reward, uniform_pairs(5))

    def loss(theta):
        return dpo_loss((features @ theta).log_softmax(-1), MANY.ref_logps, wins, 0.5).mean()

    found = minimise(loss, torch.zeros(2, dtype=torch.float64))
    assert found.shape == (2,)
    for unit in 1e-4 * torch.eye(2, dtype=torch.float64):
        slope = (loss(found + unit) - loss(found - unit)) / 2e-4
        assert abs(slope.item()) < 1e-9
        assert loss(found + unit) > loss(found) < loss(found - unit)
    assert close(minimise(loss, numbers(3, -2)), found, 1e-10)


# ---------------------------------------------------------------- shapes, types and refusals


CALLS = {
    "mean": lambda ref, reward, wins: mean(ref, reward),
    "kl": lambda ref, reward, wins: kl(reward.log_softmax(-1), ref),
    "objective": lambda ref, reward, wins: objective(
        reward.log_softmax(-1), Problem(ref, reward), 0.4
    ),
    "log_partition": lambda ref, reward, wins: log_partition(Problem(ref, reward), 0.4),
    "optimal_policy": lambda ref, reward, wins: optimal_policy(Problem(ref, reward), 0.4),
    "other_optimum": lambda ref, reward, wins: other_optimum(Problem(ref, reward), 0.4),
    "frontier, reward": lambda ref, reward, wins: frontier(Problem(ref, reward), [0.1, 1.0])[0],
    "frontier, kl": lambda ref, reward, wins: frontier(Problem(ref, reward), [0.1, 1.0])[1],
    "best_of_n": lambda ref, reward, wins: best_of_n(Problem(ref, reward), 3),
    "preference_probs": lambda ref, reward, wins: preference_probs(reward),
    "independent_pairs": lambda ref, reward, wins: independent_pairs(
        ref, reward.log_softmax(-1), distinct=True
    ),
    "comparisons": lambda ref, reward, wins: comparisons(reward, wins),
    "comparisons, deterministic": lambda ref, reward, wins: comparisons(
        reward, wins, "deterministic"
    ),
    "bradley_terry_nll": lambda ref, reward, wins: bradley_terry_nll(reward, wins),
    "fit_rewards, reward": lambda ref, reward, wins: fit_rewards(wins)[0],
    "fit_rewards, covariance": lambda ref, reward, wins: fit_rewards(wins)[1],
    "implicit_reward": lambda ref, reward, wins: implicit_reward(reward.log_softmax(-1), ref, 0.4),
    "dpo_loss": lambda ref, reward, wins: dpo_loss(reward.log_softmax(-1), ref, wins, 0.4),
    "minimise": lambda ref, reward, wins: minimise(lambda x: (x - ref).cosh().sum(-1), reward),
}


@pytest.mark.parametrize("name", CALLS)
def test_leading_dimensions_are_a_stack_of_single_problems(name):
    """A sum or a softmax over the wrong dimension mixes the prompts; float32 halves the digits."""
    stack = [tensor.unflatten(0, (4, 6))[:2, :3] for tensor in (*MANY, OPENED)]
    together = CALLS[name](*stack)
    singly = [
        [CALLS[name](*(tensor[i, j] for tensor in stack)) for j in range(3)] for i in range(2)
    ]
    assert close(together, torch.stack([torch.stack(row) for row in singly]), 1e-9)


def test_every_function_is_held_against_a_stack():
    """A new function without a row in the table above; the rest have no leading dimensions, or draw."""
    public = {
        name
        for name, value in vars(tabular).items()
        if getattr(value, "__module__", "") == tabular.__name__ and not name.startswith("_")
    }
    others = {"Problem", "random_policies", "random_problems", "uniform_pairs", "draw_comparisons"}
    assert {name.split(",")[0] for name in CALLS} | others == public


WITH_BETA = {
    "log_partition": lambda beta: log_partition(HAND, beta),
    "optimal_policy": lambda beta: optimal_policy(HAND, beta),
    "other_optimum": lambda beta: other_optimum(HAND, beta),
    "implicit_reward": lambda beta: implicit_reward(HAND.ref_logps, HAND.ref_logps, beta),
    "dpo_loss": lambda beta: dpo_loss(HAND.ref_logps, HAND.ref_logps, uniform_pairs(3), beta),
}


@pytest.mark.parametrize("beta", [0, 0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", WITH_BETA)
def test_a_beta_that_is_not_positive_and_finite_is_refused(name, beta):
    """r / 0 is NaN for one answer and infinite for the rest; a negative β asks for the worst."""
    with pytest.raises(ValueError, match=f"beta is {beta}; accepted are finite numbers above 0"):
        WITH_BETA[name](beta)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_one_bad_beta_among_several_is_refused(beta):
    """A check of the first one, or of their sum."""
    with pytest.raises(ValueError, match="beta is tensor"):
        optimal_policy(HAND, numbers(1, beta, 2)[:, None])
    with pytest.raises(ValueError, match="beta is tensor"):
        frontier(HAND, [1.0, beta, 2.0])


@pytest.mark.parametrize("n", [0, -3])
def test_best_of_none_is_refused(n):
    """0 draws keep nothing: the formula would give log 0 everywhere."""
    with pytest.raises(ValueError, match=f"n is {n}; accepted are whole numbers from 1"):
        best_of_n(HAND, n)


@pytest.mark.parametrize("labels", ["hard", "sampled", ""])
def test_an_unknown_kind_of_label_is_refused(labels):
    """A spelling that falls back to soft labels; the message tells where sampled ones are drawn."""
    with pytest.raises(
        ValueError, match=f"unknown labels '{labels}'; accepted are soft, deterministic.*draw_comp"
    ):
        comparisons(HAND.reward, uniform_pairs(3), labels)
