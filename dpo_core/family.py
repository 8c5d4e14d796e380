"""DPO and its relatives, one line each (chapter 11): what a pair costs, as a formula of its two answers.

c is the chosen answer, r the rejected one, s the settings. `preference_loss` in losses.py checks what
goes in and applies soft labels. The names are TRL's; where TRL has none, or a paper and TRL differ, ours.
Sources other than DPO's are those that TRL 1.16 names in its code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Answer(NamedTuple):
    """What a loss may know of one answer of each pair."""

    logps: Tensor  # (B,) log π
    ref_logps: Tensor | None  # (B,) log π_ref
    lengths: Tensor | None  # (B,) tokens

    @property
    def ratio(self) -> Tensor:
        """log π - log π_ref."""
        return self.logps - self.ref_logps

    @property
    def mean_ratio(self) -> Tensor:
        """The log-ratio a token."""
        return self.ratio / self.lengths

    @property
    def mean_logps(self) -> Tensor:
        """The log-probability a token."""
        return self.logps / self.lengths


@dataclass(frozen=True)
class Settings:
    """The numbers of a loss.

    Raises:
        ValueError: a number out of its range; the message names it.
    """

    beta: float
    label_smoothing: float = 0.0  # ε, the share of labels taken to be wrong
    gamma_beta_ratio: float = 0.5  # SimPO's margin γ, in units of β
    discopop_tau: float = 0.05  # temperature of DiscoPOP's blend
    sft_weight: float = 1.0  # weight of the chosen answer's loss a token

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; accepted is 0 to below 0.5")
        if not self.discopop_tau > 0:
            raise ValueError(f"discopop_tau is {self.discopop_tau}; accepted are numbers above 0")
        for name in ("gamma_beta_ratio", "sft_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted are numbers from 0")


@dataclass(frozen=True)
class Member:
    """One loss of the family."""

    formula: Callable[[Answer, Answer, Settings], Tensor]
    source: str
    reference: bool = True  # reads the reference's log-probabilities
    lengths: bool = False  # reads the answers' lengths
    options: tuple[str, ...] = ()  # of Settings, besides beta

    def score(self, answer: Answer) -> Tensor:
        """What `beta` multiplies to make the implicit reward."""
        return answer.ratio if self.reference else answer.mean_logps if self.lengths else answer.logps

    def takes(self) -> str:
        """The options in words."""
        return ", ".join(self.options) or "no option but beta"


def log_odds(answer: Answer) -> Tensor:
    """log(p / (1 - p)) of the geometric mean probability of a token, p = exp(log π / length)."""
    return answer.mean_logps - torch.log(-torch.expm1(answer.mean_logps))


def exo(h: Tensor, epsilon: float) -> Tensor:
    """KL between two coins: the policy's, σ(h), and the label's, 1 - ε."""
    agree = h.sigmoid() * (logsigmoid(h) - math.log1p(-epsilon))
    return agree + (-h).sigmoid() * (logsigmoid(-h) - math.log(epsilon))


def logistic(h: Tensor, label: float | Tensor = 1.0) -> Tensor:
    """-log σ(h); with a label between 0 and 1, the cross-entropy of σ(h) to it."""
    return -label * logsigmoid(h) - (1 - label) * logsigmoid(-h)


def discopop(h: Tensor, tau: float) -> Tensor:
    """A blend of the logistic and the exponential loss; the exponential's weight falls faster than it grows."""
    return (-h / tau).sigmoid() * -logsigmoid(h) + torch.exp(logsigmoid(h / tau) - h)


FAMILY = {
    "sigmoid": Member(lambda c, r, s: logistic(s.beta * (c.ratio - r.ratio), 1 - s.label_smoothing),
                      "Rafailov et al. 2023, eq. 7; smoothed: cDPO", options=("label_smoothing",)),
    "sigmoid_norm": Member(lambda c, r, s: logistic(s.beta * (c.mean_ratio - r.mean_ratio), 1 - s.label_smoothing),
                           "TRL", lengths=True, options=("label_smoothing",)),
    "sigmoid_sft": Member(lambda c, r, s: logistic(s.beta * (c.ratio - r.ratio)) - s.sft_weight * c.mean_logps,
                          "DPO plus the next-token loss of the chosen answer", lengths=True, options=("sft_weight",)),
    "robust": Member(lambda c, r, s: ((s.label_smoothing - 1) * logsigmoid(s.beta * (c.ratio - r.ratio))
                                      + s.label_smoothing * logsigmoid(s.beta * (r.ratio - c.ratio)))
                     / (1 - 2 * s.label_smoothing), "TRL: Robust DPO", options=("label_smoothing",)),
    "hinge": Member(lambda c, r, s: torch.relu(1 - s.beta * (c.ratio - r.ratio)), "TRL"),
    "slic": Member(lambda c, r, s: torch.relu(1 - s.beta * (c.logps - r.logps)),
                   "SLiC, arXiv 2305.10425", reference=False),
    "ipo": Member(lambda c, r, s: (c.mean_ratio - r.mean_ratio - 1 / (2 * s.beta)) ** 2,
                  "Azar et al. 2024, eq. 17, with means over tokens", lengths=True),
    "ipo_sum": Member(lambda c, r, s: (c.ratio - r.ratio - 1 / (2 * s.beta)) ** 2, "Azar et al. 2024, eq. 17"),
    "exo_pair": Member(lambda c, r, s: exo(s.beta * (c.ratio - r.ratio), s.label_smoothing),
                       "EXO, arXiv 2402.00856, eq. 16", options=("label_smoothing",)),
    "nca_pair": Member(lambda c, r, s: -logsigmoid(s.beta * c.ratio) - 0.5 * logsigmoid(-s.beta * c.ratio)
                       - 0.5 * logsigmoid(-s.beta * r.ratio), "TRL"),
    "bco_pair": Member(lambda c, r, s: -logsigmoid(s.beta * c.ratio) - logsigmoid(-s.beta * r.ratio),
                       "TRL"),
    "sppo_hard": Member(lambda c, r, s: (c.ratio - 0.5 / s.beta) ** 2 + (r.ratio + 0.5 / s.beta) ** 2,
                        "SPPO, arXiv 2405.00675, eq. 4.7, with P = 1 and 0"),
    "apo_zero": Member(lambda c, r, s: (-s.beta * c.ratio).sigmoid() + (s.beta * r.ratio).sigmoid(),
                       "APO, arXiv 2408.06266, eq. 7"),
    "apo_down": Member(lambda c, r, s: (s.beta * c.ratio).sigmoid() + (s.beta * (r.ratio - c.ratio)).sigmoid(),
                       "APO, arXiv 2408.06266, eq. 8"),
    "discopop": Member(lambda c, r, s: discopop(s.beta * (c.ratio - r.ratio), s.discopop_tau),
                       "DiscoPOP, arXiv 2406.08414, eq. 5", options=("discopop_tau",)),
    "simpo": Member(lambda c, r, s: logistic(s.beta * (c.mean_logps - r.mean_logps - s.gamma_beta_ratio),
                                             1 - s.label_smoothing),
                    "SimPO, arXiv 2405.14734", reference=False, lengths=True,
                    options=("gamma_beta_ratio", "label_smoothing")),
    "orpo": Member(lambda c, r, s: -c.mean_logps - s.beta * logsigmoid(log_odds(c) - log_odds(r)),
                   "ORPO, arXiv 2403.07691, eqs. 4 and 7", reference=False, lengths=True),
}  # fmt: skip


def kto_loss(
    policy_logps: Tensor, ref_logps: Tensor, desirable: Tensor, *, beta: float, kl: float | Tensor,
    desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """KTO: single answers, each called desirable or not; no pairs.

    With h = beta · (log π - log π_ref - kl) the loss is weight · σ(-h) for a desirable answer and
    weight · σ(h) for another, as in TRL, which names arXiv 2402.01306, eq. 7.

    Args:
        policy_logps, ref_logps: (N,) in nats; gradients flow into the first.
        desirable: (N,) bool.
        beta: above 0.
        kl: the reference point z_0, an estimate of KL(policy || reference), at least 0; no gradient flows.
        desirable_weight, undesirable_weight: λ_D and λ_U, from 0.

    Returns:
        losses and rewards beta · (log π - log π_ref), detached; (N,) each.

    Raises:
        ValueError: shapes differ, or a number is out of its range.
    """
    if not policy_logps.shape == ref_logps.shape == desirable.shape or policy_logps.dim() != 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (policy_logps, ref_logps, desirable))
        raise ValueError(f"policy_logps, ref_logps, desirable are {shapes}; needed is (N,) three times")
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta is {beta}; accepted are finite numbers above 0")
    point = torch.as_tensor(kl, dtype=policy_logps.dtype, device=policy_logps.device).detach()
    numbers = {"kl": point, "desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{name} is {float(value)}; accepted are numbers from 0")
    ratio = policy_logps - ref_logps
    sign = torch.where(desirable.bool(), -1.0, 1.0).to(ratio)
    weight = torch.where(desirable.bool(), desirable_weight, undesirable_weight).to(ratio)
    return weight * (sign * beta * (ratio - point)).sigmoid(), (beta * ratio).detach()
