"""What one step of training is (chapters 3, 9, 11, 12): a batch in, named (sum, count) pairs out.

The loop (`training.train`) divides once, by the whole step's count, so that one big batch, several
accumulated pieces and several processes give the same number.

Shapes: B rows, T positions.
"""

import torch
from torch import Tensor, nn

from dpo_core.compilation import follow
from dpo_core.family import FAMILY
from dpo_core.lora import adapters, adapters_off
from dpo_core.losses import bradley_terry_loss, kto_loss, preference_loss
from dpo_core.model import Llama
from dpo_core.packing import completion_logps, packed_for
from dpo_core.policy_gradient import (
    METHODS,
    clipped_loss,
    kl_penalty,
    policy_gradient_loss,
    value_loss,
)
from dpo_core.reward import policy_of
from dpo_core.training import Batch, LossStep, Sums

PRECISIONS = ("float32", "bfloat16")
LENGTHS = ("chosen_lengths", "rejected_lengths")
ROUNDING = 1e-5  # nats; two log-probabilities of an answer that differ by less are the same


def sft_step(model: Llama, batch: Batch) -> Sums:
    """Next-token loss on the marked tokens, in nats a token; also in nats a completion.

    Needs `input_ids` (B, T) and `completion_mask` (B, T).
    """
    logps = completion_logps(model, batch["input_ids"], batch["completion_mask"]).sum(-1)  # (B,)
    nats = -logps.sum()
    return {
        "loss": (nats, batch["completion_mask"].sum()),
        "nats_per_completion": (nats.detach(), len(logps)),
    }


def dpo_step(
    beta: float, loss_type: str = "sigmoid", label_smoothing: float = 0.0, **options: float | None
) -> LossStep:
    """The loss of a batch of pairs, by DPO or a relative of it, with the metrics of TRL's names.

    The step needs `chosen_ids`, `rejected_ids` (B, T), `chosen_mask`, `rejected_mask` (B, T),
    `ref_chosen_logps`, `ref_rejected_logps` (B,), and may have `preference_prob` (B,). A tie counts
    half in `rewards/accuracies`. `options` are those of `preference_loss`.

    Raises:
        ValueError: a setting that `preference_loss` does not take; now, not at the first step.
    """
    settings = {"beta": beta, "loss_type": loss_type, "label_smoothing": label_smoothing, **options}
    preference_loss(
        *[torch.full((1,), -1.0)] * 4, **dict.fromkeys(LENGTHS, torch.ones(1)), **settings
    )
    by_length = FAMILY[loss_type].lengths

    def step(model: Llama, batch: Batch) -> Sums:
        ids, mask = _both_answers(batch)  # (B, 2, T)
        logps = completion_logps(model, ids, mask, batch.get("packed")).sum(-1)  # (B, 2)
        chosen_logps, rejected_logps = logps.unbind(1)  # (B,) each
        lengths = dict(zip(LENGTHS, mask.sum(-1).unbind(1), strict=True)) if by_length else {}
        losses, chosen_rewards, rejected_rewards = preference_loss(
            chosen_logps,
            rejected_logps,
            batch["ref_chosen_logps"],
            batch["ref_rejected_logps"],
            **lengths,
            preference_prob=batch.get("preference_prob"),
            **settings,
        )
        logps = {"logps/chosen": chosen_logps.detach(), "logps/rejected": rejected_logps.detach()}
        return _preference_sums(losses, chosen_rewards, rejected_rewards, ROUNDING * beta, **logps)

    return step


def live_reference(loss_step: LossStep, reference: Llama | None = None) -> LossStep:
    """`loss_step` with the reference's log-probabilities computed at every step, not read.

    For pairs that are seen once, whose log-probabilities need not be stored. It needs what
    `dpo_step` needs but `ref_chosen_logps` and `ref_rejected_logps`; where a batch has them, they
    are replaced. The reference is not trained, must not be the policy itself, and stays as it is
    (`eval()`, its device).

    Args:
        reference: None stands for the policy with its adapters off (`dpo_core.lora`); a policy
            without adapters is refused at the first step.
    """

    def step(model: Llama, batch: Batch) -> Sums:
        if reference is None and not adapters(model):
            raise ValueError("the policy has no adapters; a live reference must be another model")
        judge = model if reference is None else reference
        follow(judge, model)
        rows = _both_answers(batch)
        # of one size: what is made of the rows serves both
        if isinstance(model, Llama) and model.config == judge.config:
            batch = {**batch, "packed": packed_for(model, *rows)}
        with torch.no_grad(), adapters_off(judge):
            logps = completion_logps(judge, *rows, batch.get("packed")).sum(-1)  # (B, 2)
        chosen, rejected = logps.unbind(1)
        return loss_step(
            model, {**batch, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        )

    return step


def in_precision(loss_step: LossStep, precision: str = "float32") -> LossStep:
    """`loss_step` with its products in another precision: mixed precision (Micikevicius et al.
    2018), in which weights, their gradients and the optimiser stay in float32.

    Args:
        precision: float32 leaves the step as it is; bfloat16 needs no scaling of the loss, having
            the range of float32.

    Raises:
        ValueError: another precision.
    """
    if precision == "float32":
        return loss_step
    if precision != "bfloat16":
        raise ValueError(f"precision is {precision!r:.40}; accepted are {', '.join(PRECISIONS)}")

    def step(model: nn.Module, batch: Batch) -> Sums:
        with torch.autocast(next(model.parameters()).device.type, torch.bfloat16):
            return loss_step(model, batch)

    return step


def kto_step(
    beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> LossStep:
    """The KTO loss of a batch of single answers; metrics have the names of TRL's KTOTrainer.

    The step needs `input_ids`, `completion_mask` (B, T), `ref_logps` (B,), `desirable` (B,) bool,
    and, for the
    reference point, each prompt with the answer to another one: `kl_ids`, `kl_mask` (B, T'),
        `kl_ref_logps` (B,).
    The reference point is the mean log-ratio of these, at least 0, over what one call sees: with
    `accumulate` each piece has its own.

    Raises:
        ValueError: a setting that `kto_loss` does not take; now, not at the first step.
    """
    settings = {
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }
    kto_loss(torch.zeros(1), torch.zeros(1), torch.ones(1, dtype=torch.bool), kl=0.0, **settings)

    def step(model: Llama, batch: Batch) -> Sums:
        desirable = batch["desirable"]
        with torch.no_grad():
            # (B,)
            other_logps = completion_logps(model, batch["kl_ids"], batch["kl_mask"]).sum(-1)
            point = (other_logps - batch["kl_ref_logps"]).mean().clamp(min=0)
        ids, mask = batch["input_ids"], batch["completion_mask"]
        logps = completion_logps(model, ids, mask).sum(-1)  # (B,)
        losses, rewards = kto_loss(logps, batch["ref_logps"], desirable, kl=point, **settings)
        metrics = {
            "rewards/chosen": rewards[desirable],
            "rewards/rejected": rewards[~desirable],
            "logps/chosen": logps[desirable].detach(),
            "logps/rejected": logps[~desirable].detach(),
            "kl": point[None],
        }
        return {"loss": (losses.sum(), len(losses))} | {
            k: (v.sum(), len(v)) for k, v in metrics.items() if len(v)
        }

    return step


def reward_step(model: nn.Module, batch: Batch) -> Sums:
    """The Bradley-Terry loss of a reward model on a batch of pairs (Ouyang et al. 2022, eq. 1).

    `model(ids, completion_mask)` gives (B,) rewards, as `dpo_core.reward.RewardModel` does. The
    batch is that of `dpo_step`; its reference log-probabilities are not read.
    """
    ids, mask = (torch.cat(both.unbind(1)) for both in _both_answers(batch))  # (2B, T)
    chosen_rewards, rejected_rewards = model(ids, mask).chunk(2)  # (B,) each
    losses = bradley_terry_loss(chosen_rewards - rejected_rewards, batch.get("preference_prob"))
    return _preference_sums(losses, chosen_rewards.detach(), rejected_rewards.detach())


def rl_step(
    method: str,
    *,
    beta: float,
    clip: float = 0.2,
    clip_high: float | None = None,
    kl_term: str = "k3",
    value_weight: float = 0.5,
) -> LossStep:
    """The loss of a batch of `rollouts` by one of METHODS.

    `clip_high` is the upper bound of the ratios, where it differs from `clip`; None is the method's
    own, if it has one. `kl_term`, one of KL_TERMS, is what a method whose leash is in the loss puts
    there.

    The metrics are those of the answers as drawn: `reward`, `kl` (log π - log π_ref, summed over
    the answer), `objective` = reward - β kl, `length`; and `clip_ratio`, the share of ratios that
    the clipping stops: above the interval with a positive advantage, below it with a negative one.

    Raises:
        ValueError: an unknown method, or a number out of its range; now, not at the first step.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; accepted are {', '.join(METHODS)}")
    if not 0 <= beta < float("inf") or not value_weight >= 0:
        raise ValueError(
            f"beta is {beta}, value_weight {value_weight}; accepted are finite numbers from 0"
        )
    how = METHODS[method]
    high = next(bound for bound in (clip_high, how.clip_high, clip) if bound is not None)
    clipped_loss(*[torch.zeros(1)] * 3, clip=clip, clip_high=high)
    kl_penalty(*[torch.zeros(1)] * 3, kl_term)

    def step(model: nn.Module, batch: Batch) -> Sums:
        ids, marks = batch["input_ids"], batch["completion_mask"][:, 1:].bool()
        logps = completion_logps(policy_of(model), ids, batch["completion_mask"])  # (B, T-1)
        old, weights = batch["old_logps"], batch["advantages"]
        if not how.per_token:
            logps, old = logps.sum(-1), old.sum(-1)  # (B,)
        elif weights.dim() == 1:
            # every token of an answer has the answer's advantage
            weights = weights[:, None].expand_as(logps)
        losses = (
            clipped_loss(logps, old, weights, clip=clip, clip_high=high)
            if how.clipped
            else policy_gradient_loss(logps, weights)
        )
        if not how.kl_in_reward:
            losses = losses + beta * kl_penalty(logps, old, batch["ref_logps"], kl_term)
        if how.baseline is None:
            losses = losses + value_weight * value_loss(model.critic.values(ids), batch["returns"])
        rows, tokens = len(ids), marks.sum(-1)  # tokens: (B,)
        if how.per_token:
            losses = losses.masked_fill(~marks, 0.0).sum(-1)  # (B,)
            losses = losses / tokens if how.length_mean else losses
        count = tokens.sum() if how.token_mean else rows
        kl = (batch["old_logps"] - batch["ref_logps"]).sum()
        moved = (logps.detach() - old).exp() - 1
        stopped = (moved > high) & (weights > 0) | (moved < -clip) & (weights < 0)
        return {
            "loss": (losses.sum(), count),
            "reward": (batch["rewards"].sum(), rows),
            "kl": (kl, rows),
            "objective": (batch["rewards"].sum() - beta * kl, rows),
            "length": (tokens.sum(), rows),
            "clip_ratio": (stopped.sum(), tokens.sum() if how.per_token else rows),
        }

    return step


def _both_answers(batch: Batch) -> tuple[Tensor, Tensor]:
    """Chosen and rejected side by side, (B, 2, T) ids and mask: one forward pass serves both."""
    return tuple(
        torch.stack((batch[f"chosen_{name}"], batch[f"rejected_{name}"]), dim=1)
        for name in ("ids", "mask")
    )


def _preference_sums(
    losses: Tensor,
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    tie: float = 0.0,
    **more: Tensor,
) -> Sums:
    margins = chosen_rewards - rejected_rewards
    margins = margins.masked_fill(margins.abs() <= tie, 0.0)
    metrics = {
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).float() + 0.5 * (margins == 0).float(),
        **more,
    }
    return {"loss": (losses.sum(), len(losses))} | {
        k: (v.sum(), len(v)) for k, v in metrics.items()
    }
