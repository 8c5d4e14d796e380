"""Losses as pure functions of tensors (chapters 3, 8 and 11): no state, no reduction, no device.

Shapes: B sequences, T positions, V vocabulary.
"""

import math

import torch
from torch import Tensor

from dpo_core.family import FAMILY, Answer, Settings, logistic

LOSS_TYPES = tuple(FAMILY)


def token_logps(logits: Tensor, input_ids: Tensor) -> Tensor:
    """log p(token t+1 | tokens ≤ t), for every t but the last.

    Args:
        logits: (B, T, V).
        input_ids: (B, T) int64.

    Returns:
        (B, T-1) log-probabilities in nats; entry t belongs to `input_ids[:, t + 1]`. Logits in half
        precision are normalised in float32; what their own rounding cost is lost (bfloat16 keeps
        three digits: a logit of 20 is known to 0.06, a long answer's sum to some nats).

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.shape[:-1] != input_ids.shape or input_ids.dim() != 2:
        raise ValueError(
            f"logits {tuple(logits.shape)} and input_ids {tuple(input_ids.shape)} do not fit; "
            "needed are (B, T, V) and (B, T)"
        )
    # (B, T-1, V): the last position predicts nothing we know
    logits = logits[:, :-1]
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    logps = logits.log_softmax(-1)
    return logps.gather(-1, input_ids[:, 1:, None]).squeeze(-1)  # (B, T-1)


def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """log p(completion | prompt): the sum over completion tokens, shifted inside.

    This is log π(y|x) of Rafailov et al. 2023, eq. 7, as a sum over tokens, as in the authors'
    code.

    Args:
        logits: (B, T, V), `logits[:, t]` predicting token t + 1.
        input_ids: (B, T) int64.
        completion_mask: (B, T), nonzero on the completion's tokens, `E` included.

    Returns:
        (B,) sums in nats, in float32 or better; 0 for an empty completion.

    Raises:
        ValueError: the shapes do not fit, or the first token is marked (nothing predicts it).
    """
    check_mask(input_ids, completion_mask)
    mask = completion_mask.bool()
    return token_logps(logits, input_ids).masked_fill(~mask[:, 1:], 0.0).sum(-1)


def check_mask(input_ids: Tensor, completion_mask: Tensor) -> None:
    """Hold a completion mask against the rows that it marks.

    Raises:
        ValueError: the shapes differ, or the first token is marked (nothing predicts it).
    """
    if completion_mask.shape != input_ids.shape:
        raise ValueError(
            f"completion_mask {tuple(completion_mask.shape)} and "
            f"input_ids {tuple(input_ids.shape)} do not fit; needed is one shape for both"
        )
    if completion_mask[..., :1].any():
        raise ValueError("completion_mask marks the first token, which no position predicts")


def bradley_terry_loss(margins: Tensor, preference_prob: Tensor | None = None) -> Tensor:
    """-q log σ(margin) - (1 - q) log σ(-margin): how badly a difference of rewards explains a
    preference.

    Source: Ouyang et al. 2022, eq. 1 (q = 1, two answers a prompt).

    Args:
        margins: reward of the chosen answer minus that of the rejected one, any shape.
        preference_prob: q, the probability that "chosen" is preferred, of the same shape; 1 where
            absent.

    Returns:
        losses, of the shape of `margins`.

    Raises:
        ValueError: the shapes differ, or a probability is outside 0 to 1.
    """
    if preference_prob is None:
        return logistic(margins)
    if preference_prob.shape != margins.shape:
        raise ValueError(
            f"preference_prob is {tuple(preference_prob.shape)}, margins {tuple(margins.shape)}"
        )
    if not ((preference_prob >= 0) & (preference_prob <= 1)).all():
        raise ValueError("preference_prob has a value outside 0 to 1")
    return logistic(margins, preference_prob)


def preference_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor | None = None,
    ref_rejected_logps: Tensor | None = None,
    *,
    beta: float,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    preference_prob: Tensor | None = None,
    chosen_lengths: Tensor | None = None,
    rejected_lengths: Tensor | None = None,
    gamma_beta_ratio: float | None = None,
    discopop_tau: float | None = None,
    sft_weight: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each pair, by DPO or a relative of it, and the implicit rewards of its answers.

    `sigmoid` is DPO: with h = beta · [(log π - log π_ref)(chosen) - (log π - log π_ref)(rejected)]
    the loss is -log σ(h) (Rafailov et al. 2023, eq. 7). `dpo_core.family.FAMILY` holds the others,
    with their sources.

    With soft labels every loss becomes its expectation over who is preferred: q times the loss,
    plus 1 - q times the loss of the pair turned round. For `sigmoid` q = 1 - label_smoothing is the
    conservative loss (cDPO, Mitchell 2023); other losses put label_smoothing to their own use.

    Args:
        policy_chosen_logps, policy_rejected_logps: (B,) under the policy, in nats; gradients flow
            here.
        ref_chosen_logps, ref_rejected_logps: (B,) under the reference, in nats; None only where the
            loss has no reference.
        beta: weight of the KL leash, above 0; in losses without reference, the scale of the margin.
        loss_type: one of LOSS_TYPES.
        label_smoothing: the share of flipped labels, in [0, 0.5).
        preference_prob: (B,) soft labels in [0, 1]; excludes `label_smoothing`, but where the loss
            needs it.
        chosen_lengths, rejected_lengths: (B,) completion tokens, for losses that divide by them.
        gamma_beta_ratio, discopop_tau, sft_weight: of `simpo`, `discopop`, `sigmoid_sft`; None
            takes the default of `dpo_core.family.Settings`.

    Returns:
        losses, chosen_rewards, rejected_rewards, each (B,). The rewards are beta · (log π - log
        π_ref), or beta times what the loss puts in its place, detached.

    Raises:
        ValueError: shapes differ, a value is out of its range, something is missing, or an option
            is given that has no effect on this loss.
    """
    shape = policy_chosen_logps.shape
    if policy_chosen_logps.dim() != 1:
        raise ValueError(
            f"log-probabilities are {tuple(shape)}; needed is (B,), one number a sequence"
        )
    data = {
        "policy_rejected_logps": policy_rejected_logps,
        "preference_prob": preference_prob,
        "ref_chosen_logps": ref_chosen_logps,
        "ref_rejected_logps": ref_rejected_logps,
        "chosen_lengths": chosen_lengths,
        "rejected_lengths": rejected_lengths,
    }
    for name, tensor in data.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, policy_chosen_logps {tuple(shape)}; "
                "they must agree"
            )
    for name in ("chosen_lengths", "rejected_lengths"):
        if data[name] is not None and not (data[name] > 0).all():
            raise ValueError(f"{name} has a length below 1; an answer has at least one token")
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}; accepted are finite numbers above 0")
    if loss_type not in FAMILY:
        raise ValueError(f"unknown loss_type {loss_type!r}; accepted are {', '.join(FAMILY)}")
    member = FAMILY[loss_type]
    options = {
        "label_smoothing": label_smoothing or None,
        "gamma_beta_ratio": gamma_beta_ratio,
        "discopop_tau": discopop_tau,
        "sft_weight": sft_weight,
    }
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in member.options:
            raise ValueError(
                f"{name} has no effect on loss_type {loss_type!r}, which takes {member.takes()}"
            )
    for name in member.needs:
        if (data | given).get(name) is None:
            raise ValueError(
                f"loss_type {loss_type!r} needs {name}" + " above 0" * (name in member.required)
            )
    settings = Settings(beta=beta, **given)
    if preference_prob is not None:
        if label_smoothing and "label_smoothing" not in member.required:
            raise ValueError("preference_prob excludes label_smoothing; give one of them")
        if not ((preference_prob >= 0) & (preference_prob <= 1)).all():
            raise ValueError("preference_prob has a value outside 0 to 1")
    chosen = Answer(policy_chosen_logps, ref_chosen_logps, chosen_lengths)
    rejected = Answer(policy_rejected_logps, ref_rejected_logps, rejected_lengths)
    losses = member.formula(chosen, rejected, settings)
    if preference_prob is not None:
        turned = member.formula(rejected, chosen, settings)
        losses = preference_prob * losses + (1 - preference_prob) * turned
    return losses, (beta * member.score(chosen)).detach(), (beta * member.score(rejected)).detach()


def kto_loss(
    policy_logps: Tensor,
    ref_logps: Tensor,
    desirable: Tensor,
    *,
    beta: float,
    kl: float | Tensor,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """KTO: single answers, each called desirable or not; no pairs.

    With h = beta · (log π - log π_ref - kl) the loss is weight · σ(-h) for a desirable answer and
    weight · σ(h) for another (Ethayarajh et al. 2024; TRL's code names eq. 7).

    Args:
        policy_logps, ref_logps: (N,) in nats; gradients flow into the first.
        desirable: (N,) bool.
        beta: above 0.
        kl: the reference point z_0, an estimate of KL(policy || reference), at least 0; no gradient
            flows.
        desirable_weight, undesirable_weight: λ_D and λ_U, from 0.

    Returns:
        losses and rewards beta · (log π - log π_ref), detached; (N,) each.

    Raises:
        ValueError: shapes differ, or a number is out of its range.
    """
    if not policy_logps.shape == ref_logps.shape == desirable.shape or policy_logps.dim() != 1:
        shapes = ", ".join(
            str(tuple(tensor.shape)) for tensor in (policy_logps, ref_logps, desirable)
        )
        raise ValueError(
            f"policy_logps, ref_logps, desirable are {shapes}; needed is (N,) three times"
        )
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta is {beta}; accepted are finite numbers above 0")
    point = torch.as_tensor(kl, dtype=policy_logps.dtype, device=policy_logps.device).detach()
    numbers = {
        "kl": point,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{name} is {float(value)}; accepted are numbers from 0")
    ratio = policy_logps - ref_logps
    sign = torch.where(desirable.bool(), -1.0, 1.0).to(ratio)
    weight = torch.where(desirable.bool(), desirable_weight, undesirable_weight).to(ratio)
    return weight * (sign * beta * (ratio - point)).sigmoid(), (beta * ratio).detach()
