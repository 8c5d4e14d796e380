"""Losses as pure functions of tensors (chapters 3 and 8): no state, no reduction, no device.

Shapes: B sequences, T positions, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LOSS_TYPES = ("sigmoid",)


def token_logps(logits: Tensor, input_ids: Tensor) -> Tensor:
    """log p(token t+1 | tokens ≤ t), for every t but the last.

    Args:
        logits: (B, T, V).
        input_ids: (B, T) int64.

    Returns:
        (B, T-1) log-probabilities in nats; entry t belongs to `input_ids[:, t + 1]`.

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.shape[:-1] != input_ids.shape or input_ids.dim() != 2:
        raise ValueError(
            f"logits {tuple(logits.shape)} and input_ids {tuple(input_ids.shape)} do not fit; "
            "needed are (B, T, V) and (B, T)"
        )
    logps = logits[:, :-1].log_softmax(-1)  # (B, T-1, V): the last position predicts nothing we know
    return logps.gather(-1, input_ids[:, 1:, None]).squeeze(-1)  # (B, T-1)


def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """log p(completion | prompt): the sum over completion tokens, shifted inside.

    This is log π(y|x) of Rafailov et al. 2023, eq. 7, as a sum over tokens, as in the authors' code.

    Args:
        logits: (B, T, V), `logits[:, t]` predicting token t + 1.
        input_ids: (B, T) int64.
        completion_mask: (B, T), nonzero on the completion's tokens, `E` included.

    Returns:
        (B,) sums in nats; 0 for an empty completion.

    Raises:
        ValueError: the shapes do not fit, or the first token is marked (nothing predicts it).
    """
    if completion_mask.shape != input_ids.shape:
        raise ValueError(
            f"completion_mask {tuple(completion_mask.shape)} and input_ids {tuple(input_ids.shape)} "
            "do not fit; needed are (B, T) twice"
        )
    mask = completion_mask.bool()
    if mask[..., :1].any():
        raise ValueError("completion_mask marks the first token, which no position predicts")
    return token_logps(logits, input_ids).masked_fill(~mask[:, 1:], 0.0).sum(-1)


def bradley_terry_loss(margins: Tensor, preference_prob: Tensor | None = None) -> Tensor:
    """-q log σ(margin) - (1 - q) log σ(-margin): how badly a difference of rewards explains a preference.

    Source: Ouyang et al. 2022, eq. 1 (q = 1, two answers a prompt).

    Args:
        margins: reward of the chosen answer minus that of the rejected one, any shape.
        preference_prob: q, the probability that "chosen" is preferred, of the same shape; 1 where absent.

    Returns:
        losses, of the shape of `margins`.

    Raises:
        ValueError: the shapes differ, or a probability is outside 0 to 1.
    """
    if preference_prob is None:
        return -F.logsigmoid(margins)
    if preference_prob.shape != margins.shape:
        raise ValueError(f"preference_prob is {tuple(preference_prob.shape)}, margins {tuple(margins.shape)}")
    if not ((preference_prob >= 0) & (preference_prob <= 1)).all():
        raise ValueError("preference_prob has a value outside 0 to 1")
    return -preference_prob * F.logsigmoid(margins) - (1 - preference_prob) * F.logsigmoid(-margins)


def preference_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    preference_prob: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The DPO loss of each pair, and the implicit rewards of its answers.

    With h = beta · [(log π - log π_ref)(chosen) - (log π - log π_ref)(rejected)] and q the
    probability that "chosen" is preferred, the loss is -q log σ(h) - (1 - q) log σ(-h). q = 1 is
    Rafailov et al. 2023, eq. 7; q = 1 - label_smoothing is the conservative loss (cDPO, Mitchell 2023).

    Args:
        policy_chosen_logps, policy_rejected_logps: (B,) under the policy, in nats; gradients flow here.
        ref_chosen_logps, ref_rejected_logps: (B,) under the reference, in nats.
        beta: weight of the KL leash, above 0.
        loss_type: one of LOSS_TYPES.
        label_smoothing: the share of flipped labels, in [0, 0.5).
        preference_prob: (B,) soft labels in [0, 1]; excludes `label_smoothing`.

    Returns:
        losses, chosen_rewards, rejected_rewards, each (B,). The rewards are
        beta · (log π - log π_ref), detached.

    Raises:
        ValueError: shapes differ, or a value is out of its range.
    """
    shape = policy_chosen_logps.shape
    named = {"policy_rejected_logps": policy_rejected_logps, "ref_chosen_logps": ref_chosen_logps,
             "ref_rejected_logps": ref_rejected_logps, "preference_prob": preference_prob}  # fmt: skip
    for name, tensor in named.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, policy_chosen_logps {tuple(shape)}; they must agree")
    if policy_chosen_logps.dim() != 1:
        raise ValueError(f"log-probabilities are {tuple(shape)}; needed is (B,), one number a sequence")
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta is {beta}; accepted are finite numbers above 0")
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"unknown loss_type {loss_type!r}; accepted are {', '.join(LOSS_TYPES)}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; accepted is 0 to below 0.5")
    chosen_rewards = beta * (policy_chosen_logps - ref_chosen_logps)  # (B,)
    rejected_rewards = beta * (policy_rejected_logps - ref_rejected_logps)  # (B,)
    margin = chosen_rewards - rejected_rewards  # (B,)
    if label_smoothing:
        if preference_prob is not None:
            raise ValueError("preference_prob excludes label_smoothing; give one of them")
        preference_prob = torch.full_like(margin, 1 - label_smoothing)
    return bradley_terry_loss(margin, preference_prob), chosen_rewards.detach(), rejected_rewards.detach()
