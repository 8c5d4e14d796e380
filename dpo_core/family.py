"""DPO and its relatives, one line each (chapter 11): what a pair costs, as a formula of its two
answers.

c is the chosen answer, r the rejected one, s the settings. `preference_loss` in losses.py checks
what goes in and applies soft labels. The names are TRL's; where TRL has none, or a paper and TRL
differ, ours. Chapter 11 says where the formulas were read, and what an implementation does
otherwise than its paper. Of TRL 1.16's losses, three are not here: `aot` and `aot_unpaired` sort a
batch, so that no pair has a loss of its own, and `sft` compares nothing; `sigmoid_sft` holds it as
a term.
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
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}; accepted is 0 to below 0.5"
            )
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
    required: tuple[str, ...] = ()  # of the options: those that must be above 0

    @property
    def needs(self) -> tuple[str, ...]:
        """The arguments of `preference_loss` that must be given."""
        sides = ("chosen", "rejected")
        reference = tuple(f"ref_{side}_logps" for side in sides) if self.reference else ()
        lengths = tuple(f"{side}_lengths" for side in sides) if self.lengths else ()
        return reference + lengths + self.required

    def score(self, answer: Answer) -> Tensor:
        """What `beta` multiplies to make the implicit reward."""
        return (
            answer.ratio if self.reference else answer.mean_logps if self.lengths else answer.logps
        )

    def takes(self) -> str:
        """The options in words."""
        return ", ".join(self.options) or "no option but beta"


def log_odds(answer: Answer) -> Tensor:
    """log(p / (1 - p)) of the geometric mean probability of a token, p = exp(log π / length).

    Where p rounds to 1 the odds are infinite; they are held at the largest that the precision can
    tell from that, with gradient 0.
    """
    logps = answer.mean_logps.clamp(max=-torch.finfo(answer.mean_logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))


def exo(h: Tensor, epsilon: float) -> Tensor:
    """KL between two coins: the policy's, σ(h), and the label's, 1 - ε."""
    agree = h.sigmoid() * (logsigmoid(h) - math.log1p(-epsilon))
    return agree + (-h).sigmoid() * (logsigmoid(-h) - math.log(epsilon))


def logistic(h: Tensor, label: float | Tensor = 1.0) -> Tensor:
    """-log σ(h); with a label between 0 and 1, the cross-entropy of σ(h) to it."""
    return -label * logsigmoid(h) - (1 - label) * logsigmoid(-h)


def discopop(h: Tensor, tau: float) -> Tensor:
    """A blend of the logistic and the exponential loss; the exponential's weight falls faster than
    it grows.
    """
    return (-h / tau).sigmoid() * -logsigmoid(h) + torch.exp(logsigmoid(h / tau) - h)


FAMILY = {
    "sigmoid": Member(
        lambda c, r, s: logistic(s.beta * (c.ratio - r.ratio), 1 - s.label_smoothing),
        "Rafailov et al. 2023, eq. 7; smoothed: Mitchell 2023, eq. 3",
        options=("label_smoothing",),
    ),
    "sigmoid_norm": Member(
        lambda c, r, s: logistic(s.beta * (c.mean_ratio - r.mean_ratio), 1 - s.label_smoothing),
        "Lambert et al. 2024 (Tülu 3), eq. 6; Meng et al. 2024, app. I; smoothed as sigmoid",
        lengths=True,
        options=("label_smoothing",),
    ),
    "sigmoid_sft": Member(
        lambda c, r, s: logistic(s.beta * (c.ratio - r.ratio)) - s.sft_weight * c.mean_logps,
        "Pang et al. 2024",
        lengths=True,
        options=("sft_weight",),
    ),
    "robust": Member(
        lambda c, r, s: (
            (
                (s.label_smoothing - 1) * logsigmoid(s.beta * (c.ratio - r.ratio))
                + s.label_smoothing * logsigmoid(s.beta * (r.ratio - c.ratio))
            )
            / (1 - 2 * s.label_smoothing)
        ),
        "Chowdhury et al. 2024",
        options=("label_smoothing",),
    ),
    "hinge": Member(
        lambda c, r, s: torch.relu(1 - s.beta * (c.ratio - r.ratio)), "Liu et al. 2024"
    ),
    "slic": Member(
        lambda c, r, s: torch.relu(1 - s.beta * (c.logps - r.logps)),
        "Zhao et al. 2023, without its regulariser",
        reference=False,
    ),
    "ipo": Member(
        lambda c, r, s: (c.mean_ratio - r.mean_ratio - 1 / (2 * s.beta)) ** 2,
        "Azar et al. 2024, eq. 17, a token",
        lengths=True,
    ),
    "ipo_sum": Member(
        lambda c, r, s: (c.ratio - r.ratio - 1 / (2 * s.beta)) ** 2, "Azar et al. 2024, eq. 17"
    ),
    "exo_pair": Member(
        lambda c, r, s: exo(s.beta * (c.ratio - r.ratio), s.label_smoothing),
        "Ji et al. 2024, eq. 16",
        options=("label_smoothing",),
        required=("label_smoothing",),
    ),
    "nca_pair": Member(
        lambda c, r, s: (
            -logsigmoid(s.beta * c.ratio)
            - 0.5 * logsigmoid(-s.beta * c.ratio)
            - 0.5 * logsigmoid(-s.beta * r.ratio)
        ),
        "Chen et al. 2024",
    ),
    "bco_pair": Member(
        lambda c, r, s: -logsigmoid(s.beta * c.ratio) - logsigmoid(-s.beta * r.ratio),
        "Jung et al. 2024, without reward shift",
    ),
    "sppo_hard": Member(
        lambda c, r, s: (c.ratio - 0.5 / s.beta) ** 2 + (r.ratio + 0.5 / s.beta) ** 2,
        "Wu et al. 2024, eq. 4.7, with P = 1 and 0",
    ),
    "apo_zero": Member(
        lambda c, r, s: (-s.beta * c.ratio).sigmoid() + (s.beta * r.ratio).sigmoid(),
        "D'Oosterlinck et al. 2024, eq. 7",
    ),
    "apo_down": Member(
        lambda c, r, s: (s.beta * c.ratio).sigmoid() + (s.beta * (r.ratio - c.ratio)).sigmoid(),
        "D'Oosterlinck et al. 2024, eq. 8",
    ),
    "discopop": Member(
        lambda c, r, s: discopop(s.beta * (c.ratio - r.ratio), s.discopop_tau),
        "Lu et al. 2024, eq. 5",
        options=("discopop_tau",),
    ),
    "simpo": Member(
        lambda c, r, s: logistic(
            s.beta * (c.mean_logps - r.mean_logps - s.gamma_beta_ratio), 1 - s.label_smoothing
        ),
        "Meng et al. 2024",
        reference=False,
        lengths=True,
        options=("gamma_beta_ratio", "label_smoothing"),
    ),
    "orpo": Member(
        lambda c, r, s: -c.mean_logps - s.beta * logsigmoid(log_odds(c) - log_odds(r)),
        "Hong et al. 2024, eqs. 4 and 7",
        reference=False,
        lengths=True,
    ),
}
