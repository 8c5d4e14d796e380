"""Problems small enough to enumerate: every answer, every probability, every optimum in closed form
(chapters 5-7).

Shapes: A answers. Leading dimensions ("...") are free: several prompts, or many instances of one
question, and every function treats them alike, so that an identity is checked on all of them at
once. Float64 throughout.

A policy is its log-probabilities, (..., A); `logits.log_softmax(-1)` makes one from any logits. A
table of comparisons, `wins` (..., A, A), holds at [i, j] the weight of "i was preferred to j":
probabilities or counts.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dpo_core.randomness import torch_generator


class Problem(NamedTuple):
    """What is given: a reference policy and a reward for each answer."""

    ref_logps: Tensor  # (..., A) nats
    reward: Tensor  # (..., A)


def random_policies(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Log-probabilities of that shape; the logits are normal with standard deviation `scale`."""
    generator = torch_generator(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).log_softmax(-1)


def random_problems(instances: int, answers: int, seed: int) -> Problem:
    """`instances` unrelated problems: references of `random_policies`, normal rewards."""
    generator = torch_generator(seed)
    logits, reward = torch.randn(2, instances, answers, generator=generator, dtype=torch.float64)
    return Problem(logits.log_softmax(-1), reward)


# ---------------------------------------------------------------- the objective and its optimum
# (chapter 6)


def mean(logps: Tensor, values: Tensor) -> Tensor:
    """E[values] under the policy, (...); an answer of probability zero counts nothing."""
    probs = logps.exp()
    return torch.where(probs > 0, probs * values, 0.0).sum(-1)


def kl(logps: Tensor, other_logps: Tensor) -> Tensor:
    """KL(policy || other) in nats, (...); infinite where the policy leaves the other's support."""
    return mean(logps, logps - other_logps)


def objective(logps: Tensor, problem: Problem, beta: float | Tensor) -> Tensor:
    """J(π) = E_π[r] - β KL(π || π_ref), (...). Source: Rafailov et al. 2023, eq. 3. `beta` may be a
    tensor (...).
    """
    return mean(logps, problem.reward) - beta * kl(logps, problem.ref_logps)


def log_partition(problem: Problem, beta: float | Tensor) -> Tensor:
    """log Z, (...), with Z the sum over answers of π_ref e^{r/β}. Source: Rafailov et al. 2023, eq.
    4.

    Raises:
        ValueError: a beta that is not finite and above 0.
    """
    return (problem.ref_logps + problem.reward / _positive(beta)).logsumexp(-1)


def optimal_policy(problem: Problem, beta: float | Tensor) -> Tensor:
    """The policy that maximises the objective: log π* = log π_ref + r/β - log Z, (..., A).

    Source: Rafailov et al. 2023, eq. 4. `beta` may be a tensor that broadcasts against (..., A).

    Raises:
        ValueError: a beta that is not finite and above 0.
    """
    return (problem.ref_logps + problem.reward / _positive(beta)).log_softmax(-1)


def other_optimum(problem: Problem, beta: float | Tensor) -> Tensor:
    """The policy that maximises E_π[r] - β KL(π_ref || π), the KL turned round: π = β π_ref / (λ -
    r), (..., A).

    λ lies between the largest reward and β above it, and is found by halving; the derivation is in
    chapter 6. It is where a policy gradient ends whose leash is k3 in the loss (chapter 12).

    Raises:
        ValueError: a beta that is not finite and above 0.
    """
    beta, weights = torch.as_tensor(_positive(beta)), problem.ref_logps.exp()
    # what the reference never writes has no part in it
    reward = torch.where(weights > 0, problem.reward, -math.inf)
    # (..., 1): for this lambda the sum exceeds 1, for the next it does not
    below = reward.amax(-1, keepdim=True)
    above = below + beta
    for _ in range(200):  # more halvings than float64 has digits
        middle = (below + above) / 2
        high = (beta * weights / (middle - reward)).sum(-1, keepdim=True) > 1
        below, above = torch.where(high, middle, below), torch.where(high, above, middle)
    return (problem.ref_logps - (above - reward).log()).log_softmax(-1)


def frontier(problem: Problem, betas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean reward and KL of the optimum at each of K betas, (..., K) each: no policy has more
    reward at that KL.

    Raises:
        ValueError: a beta that is not finite and above 0.
    """
    wide = Problem(problem.ref_logps.unsqueeze(-2), problem.reward.unsqueeze(-2))  # (..., 1, A)
    # (..., K, A)
    optimum = optimal_policy(wide, torch.as_tensor(betas, dtype=torch.float64)[:, None])
    return mean(optimum, wide.reward), kl(optimum, wide.ref_logps)


def best_of_n(problem: Problem, n: int) -> Tensor:
    """The policy that draws n answers from the reference and keeps one with the highest reward,
    (..., A).

    Exact, ties included: a reward level is reached with the n-th power of its cumulative
    probability, and within a level the answers keep the reference's proportions.

    Raises:
        ValueError: n is no whole number from 1.
    """
    if n < 1 or n != int(n):
        raise ValueError(f"n is {n}; accepted are whole numbers from 1")
    probs, reward = problem.ref_logps.exp(), problem.reward
    other = reward.unsqueeze(-2)  # (..., 1, A), against (..., A, 1)
    below = ((other < reward.unsqueeze(-1)) * probs.unsqueeze(-2)).sum(-1)  # (..., A)
    level = ((other == reward.unsqueeze(-1)) * probs.unsqueeze(-2)).sum(-1)
    at_most = below + level
    # log(at_most^n - below^n), without the difference: it would lose a rare best answer
    raised = n * at_most.log() + (-torch.expm1(n * torch.log1p(-level / at_most))).log()
    return torch.where(probs > 0, raised - level.log() + problem.ref_logps, -math.inf)


# ---------------------------------------------------------------- comparisons and rewards (chapter
# 5)


def preference_probs(reward: Tensor) -> Tensor:
    """P(i is preferred to j) = σ(r_i - r_j), (..., A, A). Source: Bradley & Terry 1952."""
    return torch.sigmoid(_gaps(reward))


def uniform_pairs(answers: int) -> Tensor:
    """The pair distribution in which all pairs of different answers are equally likely, (A, A).

    Raises:
        ValueError: fewer than two answers.
    """
    if answers < 2:
        raise ValueError(f"{answers} answers make no pair; accepted are whole numbers from 2")
    return (1 - torch.eye(answers, dtype=torch.float64)) / (answers * (answers - 1))


def independent_pairs(
    first_logps: Tensor, second_logps: Tensor, *, distinct: bool = False
) -> Tensor:
    """The pair distribution of two independent draws, (..., A, A); `distinct` discards a pair of
    equal answers.
    """
    pairs = first_logps.exp().unsqueeze(-1) * second_logps.exp().unsqueeze(-2)
    if distinct:
        pairs = pairs * (1 - torch.eye(pairs.shape[-1], dtype=pairs.dtype))
    return pairs / pairs.sum((-1, -2), keepdim=True)


def comparisons(reward: Tensor, pairs: Tensor, labels: str = "soft") -> Tensor:
    """The table that a judge with this reward makes of pairs drawn from a pair distribution.

    Args:
        reward: (..., A).
        pairs: (..., A, A), the probability of drawing (first, second).
        labels: "soft" divides each pair between its two outcomes by the Bradley-Terry probability,
            which is also what sampled labels give in expectation; "deterministic" gives it to the
            better answer, and drops pairs of equal reward.

    Returns:
        wins, (..., A, A), summing to 1 (to less where ties were dropped).

    Raises:
        ValueError: another kind of label.
    """
    unordered = pairs + pairs.transpose(-1, -2)
    if labels == "soft":
        return unordered * preference_probs(reward)
    if labels == "deterministic":
        return unordered * (_gaps(reward) > 0)
    raise ValueError(
        f"unknown labels {labels!r}; accepted are soft, deterministic (sampled: draw_comparisons)"
    )


def draw_comparisons(wins: Tensor, count: int, seed: int) -> Tensor:
    """`count` comparisons drawn from a table of probabilities: sampled labels, as counts, (..., A,
    A).
    """
    flat = wins.flatten(-2).reshape(-1, wins.shape[-1] ** 2)  # (instances, A·A)
    draws = torch.multinomial(flat, count, replacement=True, generator=torch_generator(seed))
    return (
        torch.zeros_like(flat)
        .scatter_add_(-1, draws, flat.new_ones(draws.shape))
        .reshape(wins.shape)
    )


def bradley_terry_nll(reward: Tensor, wins: Tensor) -> Tensor:
    """The mean of -log σ(r_i - r_j) over a table of comparisons, (...): minus the mean
    log-likelihood.

    Raises:
        ValueError: a table without comparisons.
    """
    total = wins.sum((-1, -2))
    if not (total > 0).all():
        raise ValueError(
            "a table without comparisons has no mean loss (deterministic labels drop ties)"
        )
    return -torch.where(wins > 0, wins * F.logsigmoid(_gaps(reward)), 0.0).sum((-1, -2)) / total


def fit_rewards(wins: Tensor) -> tuple[Tensor, Tensor]:
    """The rewards of highest likelihood, (..., A), summing to 0, and their covariance, (..., A, A).

    Newton's method on a convex loss. The covariance is the pseudo-inverse of the Fisher
    information; it holds where `wins` are counts of independent comparisons.

    Raises:
        ValueError: a weight is negative or not finite; or some answers never lost to any of the
            others, so that the likelihood has no maximum, or many (Ford 1957); or 100 steps do not
            reach it.
    """
    answers = wins.shape[-1]
    if not ((wins >= 0) & wins.isfinite()).all():
        raise ValueError("wins holds a weight that is negative or not finite")
    reach = ((wins > 0).double() + torch.eye(answers)).matrix_power(answers)
    if not (reach > 0).all():
        raise ValueError(
            "some answers never lost to the others: the likelihood has no maximum, or many"
        )
    games = wins + wins.transpose(-1, -2)
    # projects on what no comparison sees
    constants = torch.full((answers, answers), 1 / answers, dtype=torch.float64)
    reward = torch.zeros(wins.shape[:-1], dtype=torch.float64)
    for _ in range(100):
        prob = preference_probs(reward)
        lost = prob.transpose(-1, -2)  # 1 - prob, without the difference: nothing cancels far out
        # of the log-likelihood, (..., A)
        slope = (wins * lost - wins.transpose(-1, -2) * prob).sum(-1)
        weights = games * prob * lost
        scale = weights.sum((-1, -2), keepdim=True)
        # a graph Laplacian: constants are its null space
        information = weights.sum(-1).diag_embed() - weights
        regular = information + scale * constants
        step = torch.linalg.solve(regular, slope)
        size = step.abs().amax(-1, keepdim=True)
        reward = reward + step / (1 + size)  # damped: the full step overshoots far from the optimum
        if (size < 1e-9).all():
            return reward - reward.mean(-1, keepdim=True), torch.linalg.inv(
                regular
            ) - constants / scale
    raise ValueError("the likelihood has not been maximised in 100 Newton steps")


# ---------------------------------------------------------------- DPO (chapter 7)


def implicit_reward(logps: Tensor, ref_logps: Tensor, beta: float) -> Tensor:
    """β (log π - log π_ref), (..., A): the reward, up to a constant, whose optimum the policy is.

    Source: Rafailov et al. 2023, eq. 5 without the partition function.
    """
    return _positive(beta) * (logps - ref_logps)


def dpo_loss(logps: Tensor, ref_logps: Tensor, wins: Tensor, beta: float) -> Tensor:
    """The exact DPO loss, (...): the Bradley-Terry likelihood of the implicit rewards.

    Source: Rafailov et al. 2023, eq. 7, with the expectation over pairs and labels as a sum over
    `wins`.
    """
    return bradley_terry_nll(implicit_reward(logps, ref_logps, beta), wins)


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The parameters at which a smooth loss is least, of the shape of `start`, (..., K).

    L-BFGS finds the minimum; Newton steps, which need no line search, then bring it from the square
    root of float64's precision to all of it. Parameters of different leading index must be
    independent
    instances: each has its own loss, and finds its own minimum. A loss without a minimum, such as
        that of
    deterministic labels, ends somewhere far out.
    """
    parameters = start.detach().clone().requires_grad_()
    options = {
        "max_iter": 1000,
        "tolerance_grad": 1e-12,
        "tolerance_change": 0,
        "line_search_fn": "strong_wolfe",
    }
    optimizer = torch.optim.LBFGS([parameters], history_size=50, **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(parameters).sum()
        total.backward()
        return total

    optimizer.step(closure)
    for _ in range(4):
        (slope,) = torch.autograd.grad(loss(parameters).sum(), parameters, create_graph=True)
        rows = [
            torch.autograd.grad(column.sum(), parameters, retain_graph=True)[0]
            for column in slope.unbind(-1)
        ]
        inverse = torch.linalg.pinv(torch.stack(rows, -2), rtol=1e-9, hermitian=True)  # (..., K, K)
        with torch.no_grad():
            parameters -= (inverse @ slope.unsqueeze(-1)).squeeze(-1)
    return parameters.detach()


def _gaps(reward: Tensor) -> Tensor:
    """r_i - r_j, (..., A, A)."""
    return reward.unsqueeze(-1) - reward.unsqueeze(-2)


def _positive(beta: float | Tensor) -> float | Tensor:
    value = torch.as_tensor(beta)
    if not ((value > 0) & value.isfinite()).all():
        raise ValueError(f"beta is {beta}; accepted are finite numbers above 0")
    return beta
