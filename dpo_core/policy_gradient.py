"""Policy-gradient losses as pure functions of tensors (chapter 12): no state, no sampling, no
reduction, no device.

Shapes: G prompts, K answers to each, B = G·K answers, T positions. What belongs to a token has the
shape of `losses.token_logps`: entry t is about the token at position t + 1. "..." is any shape, a
number an answer or a number a token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

KL_ESTIMATORS = ("k1", "k2", "k3")
KL_TERMS = ("k3", "ratio_k3")  # of a loss; `kl_penalty` below
BASELINES = ("batch", "leave_one_out", "group")


@dataclass(frozen=True)
class Method:
    """What distinguishes one policy-gradient method from another."""

    baseline: str | None  # of `advantages` below; None: a critic and GAE
    scale: bool = False  # advantages are divided by their standard deviation
    # the leash is part of the reward; else β·`kl_penalty` is added to each token's loss
    kl_in_reward: bool = True
    per_token: bool = False  # ratios and losses belong to tokens; else to whole answers
    length_mean: bool = False  # an answer's loss is the mean over its tokens; else the sum
    token_mean: bool = False  # a batch's loss is the mean over its tokens; else over its answers
    clipped: bool = True  # PPO's surrogate, so that one rollout may serve several updates
    clip_high: float | None = None  # the upper ε, where the method has one of its own
    source: str = ""


METHODS = {
    "reinforce": Method("batch", clipped=False, source="Williams 1992"),
    "rloo": Method("leave_one_out", source="Ahmadian et al. 2024"),
    "grpo": Method(
        "group",
        scale=True,
        kl_in_reward=False,
        per_token=True,
        length_mean=True,
        source="Shao et al. 2024",
    ),
    "dr_grpo": Method("group", kl_in_reward=False, per_token=True, source="Liu et al. 2025"),
    # Yu et al. leave the leash away, which is β = 0; they also draw anew where all answers of a
    # group earn the same, and shape the reward of answers that are cut off: neither is here
    "dapo": Method(
        "group",
        scale=True,
        kl_in_reward=False,
        per_token=True,
        token_mean=True,
        clip_high=0.28,
        source="Yu et al. 2025, 3.1 and 3.3",
    ),
    "ppo": Method(
        None,
        per_token=True,
        token_mean=True,
        source="Schulman et al. 2017, eq. 7; Ouyang et al. 2022",
    ),
}


def advantages(rewards: Tensor, baseline: str, scale: bool = False) -> Tensor:
    """How much better than its baseline each answer is.

    Args:
        rewards: (G, K), K answers to each of G prompts.
        baseline: "batch" subtracts the mean of all rewards (REINFORCE with a baseline, Williams
            1992; each reward is part of its own baseline, which shortens the gradient by the factor
            1 - 1/(G·K)); "leave_one_out" the mean of the other answers to the prompt (RLOO,
            Ahmadian et al. 2024); "group" the mean of all answers to the prompt (GRPO, Shao et al.
            2024).
        scale: divide by the standard deviation (of the group, n - 1 in its denominator, plus 1e-4,
            as TRL; of everything for "batch").

    Returns:
        (G, K), without gradient.

    Raises:
        ValueError: another shape or baseline, fewer than two answers where others are needed.
    """
    if rewards.dim() != 2:
        raise ValueError(
            f"rewards are {tuple(rewards.shape)}; needed is (G, K), K answers to each of G prompts"
        )
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline {baseline!r}; accepted are {', '.join(BASELINES)}")
    if (rewards.numel() if baseline == "batch" else rewards.shape[1]) < 2:
        raise ValueError(
            f"baseline {baseline!r} needs at least two answers; rewards are {tuple(rewards.shape)}"
        )
    rewards = rewards.detach()
    mean = rewards.mean() if baseline == "batch" else rewards.mean(-1, keepdim=True)
    gaps = rewards - mean
    if baseline == "leave_one_out":
        # r - mean of the others, without a second sum
        gaps = gaps * (rewards.shape[1] / (rewards.shape[1] - 1))
    if scale:
        gaps = gaps / (
            (rewards.std() if baseline == "batch" else rewards.std(-1, keepdim=True)) + 1e-4
        )
    return gaps


def policy_gradient_loss(logps: Tensor, advantages: Tensor) -> Tensor:
    """-A log π: its gradient is that of REINFORCE (Williams 1992), its value means nothing.

    Args:
        logps: (...) log-probabilities, in nats; gradients flow here.
        advantages: (...).

    Returns:
        (...) losses.

    Raises:
        ValueError: the shapes differ.
    """
    _agree(logps=logps, advantages=advantages)
    return -advantages.detach() * logps


def clipped_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
) -> Tensor:
    """-min(ρ A, clip(ρ, 1 - clip, 1 + clip_high) A) with ρ = π/π_old: PPO's surrogate (Schulman et
    al. 2017, eq. 7).

    Where ρ has already left the interval in the direction that A asks for, the gradient is zero.

    Args:
        logps: (...) under the policy, in nats; gradients flow here.
        old_logps: (...) under the policy that drew the answers.
        advantages: (...).
        clip: ε, above 0 and below 1.
        clip_high: the upper ε, where it differs from `clip`.

    Returns:
        (...) losses.

    Raises:
        ValueError: the shapes differ, or an ε is out of its range.
    """
    _agree(logps=logps, old_logps=old_logps, advantages=advantages)
    high = clip if clip_high is None else clip_high
    if not 0 < clip < 1 or not 0 < high < float("inf"):
        raise ValueError(
            f"clip is {clip}, clip_high {high}; accepted are 0 to 1, and finite numbers above 0"
        )
    weights, ratio = advantages.detach(), (logps - old_logps.detach()).exp()
    return -torch.minimum(ratio * weights, ratio.clamp(1 - clip, 1 + high) * weights)


def kl_estimate(logps: Tensor, ref_logps: Tensor, kind: str = "k3") -> Tensor:
    """Estimates of KL(π || π_ref) from answers, or tokens, that π has drawn (Schulman 2020).

    With d = log π - log π_ref: k1 is d, k2 is d²/2, k3 is e^{-d} - 1 + d. The mean of k1 and of k3
    is the KL; k3 is never negative. Gradients are another matter: differentiated through `logps`
    alone, the mean of k1 has gradient 0, that of k2 the gradient of the KL, that of k3 the gradient
    of the KL turned round.

    Args:
        logps: (...) under the policy, in nats; gradients flow here.
        ref_logps: (...) under the reference.
        kind: one of KL_ESTIMATORS.

    Returns:
        (...) nats.

    Raises:
        ValueError: the shapes differ, or another kind.
    """
    _agree(logps=logps, ref_logps=ref_logps)
    gap = logps - ref_logps.detach()
    if kind == "k1":
        return gap
    if kind == "k2":
        return gap.square() / 2
    if kind == "k3":
        return torch.expm1(-gap) + gap
    raise ValueError(f"unknown KL estimator {kind!r}; accepted are {', '.join(KL_ESTIMATORS)}")


def kl_penalty(logps: Tensor, old_logps: Tensor, ref_logps: Tensor, kind: str = "k3") -> Tensor:
    """The KL term that stands in the loss of GRPO and its relatives, for each token.

    "k3" is e^{-d} - 1 + d with d = log π - log π_ref (Shao et al. 2024, eq. 4); "ratio_k3" is
    ρ·k3 with ρ = π/π_old, not clipped (DeepSeek-AI 2025, DeepSeek-V3.2, 3.1; TRL 1.16 with
    `use_bias_correction_kl=True`, its default). The values agree where ρ = 1; the gradients do not:
    there that of k3 is (1 - π_ref/π) ∇log π, and that of ρ·k3 is k3 ∇ρ + ρ ∇k3 = d ∇log π, as k2's.

    Args:
        logps: (...) under the policy, in nats; gradients flow here.
        old_logps: (...) under the policy that drew the answers.
        ref_logps: (...) under the reference.
        kind: one of KL_TERMS.

    Returns:
        (...) nats.

    Raises:
        ValueError: the shapes differ, or another kind.
    """
    _agree(logps=logps, old_logps=old_logps, ref_logps=ref_logps)
    if kind not in KL_TERMS:
        raise ValueError(f"unknown KL term {kind!r}; accepted are {', '.join(KL_TERMS)}")
    term = kl_estimate(logps, ref_logps, "k3")
    return term if kind == "k3" else (logps - old_logps.detach()).exp() * term


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """GAE: δ_t = r_t + γ V_{t+1} - V_t, summed forwards with weights (γλ)^k (Schulman et al. 2016,
    eq. 16).

    λ = 1 is the return minus the critic's value, λ = 0 the one-step error.

    Args:
        rewards: (B, T) what each token earned.
        values: (B, T) the critic's value before that token.
        mask: (B, T), nonzero on the answer's tokens; they stand in one row without a hole.
        gamma, lam: in [0, 1].

    Returns:
        advantages, and returns = advantages + values; (B, T) each, 0 outside the mask, without
        gradient.

    Raises:
        ValueError: the shapes differ, or a number is out of its range.
    """
    _agree(rewards=rewards, values=values, mask=mask)
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma is {gamma}, lam is {lam}; accepted are 0 to 1")
    mask = mask.bool()
    rewards, values = (tensor.detach().masked_fill(~mask, 0.0) for tensor in (rewards, values))
    # V after the last token is 0
    following = torch.cat((values[:, 1:], torch.zeros_like(values[:, :1])), dim=1)
    # (B, T); what stands before the answer reaches no token of it
    errors = rewards + gamma * following - values
    total, sums = torch.zeros_like(errors[:, 0]), []
    for column in errors.unbind(1)[::-1]:
        total = column + gamma * lam * total
        sums.append(total)
    gained = torch.stack(sums[::-1], dim=1).masked_fill(~mask, 0.0)
    return gained, gained + values


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor | None = None, clip: float | None = None
) -> Tensor:
    """(V - R)²/2; with `clip` the larger of that and of the same with V held within `clip` of its
    old value.

    Args:
        values: (...) the critic's values; gradients flow here.
        returns: (...) what they should have been.
        old_values: (...) the values when the answers were drawn; goes with `clip`.
        clip: above 0.

    Returns:
        (...) losses.

    Raises:
        ValueError: the shapes differ, `clip` without `old_values` or the reverse, or a clip not
            above 0.
    """
    _agree(values=values, returns=returns)
    losses = (values - returns.detach()).square() / 2
    if (clip is None) != (old_values is None):
        raise ValueError("clip and old_values go together; one of them is missing")
    if clip is None or old_values is None:
        return losses
    _agree(values=values, old_values=old_values)
    if not clip > 0:
        raise ValueError(f"clip is {clip}; accepted are numbers above 0")
    held = old_values.detach() + (values - old_values.detach()).clamp(-clip, clip)
    return torch.maximum(losses, (held - returns.detach()).square() / 2)


def _agree(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "shapes differ: " + ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        )
