"""Reinforcement learning in the one training loop (chapter 12): draw answers, have them judged,
take a step.

A rollout is drawn from the weights of its moment and from (seed, number of the rollout) alone, so a
run that is resumed between two rollouts ends in the same bits. Everything that looks at a whole
group of answers, the advantages above all, is computed when the rollout is drawn; a loss step is
then a sum over rows, and may be cut into pieces as any other.

Shapes: G prompts, K answers to each, B = G·K answers, T positions.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dpo_core.model import Llama
from dpo_core.packing import completion_logps
from dpo_core.parallel import from_first
from dpo_core.policy_gradient import (
    METHODS,
    Method,
    advantages,
    generalised_advantages,
)
from dpo_core.reward import ActorCritic, policy_of
from dpo_core.sampling import TOKENIZER, generate
from dpo_core.task import BookTask, judge, stream
from dpo_core.theory import class_rewards
from dpo_core.training import Batch, BatchAt

Judge = Callable[[Sequence[str], Sequence[str]], Tensor]  # prompts and completions -> (N,) rewards


def checker(task: BookTask, reward: str) -> Judge:
    """The exact judge: the reward of the class of each answer (`theory.class_rewards`).

    Raises:
        ValueError: an unknown reward.
    """
    rewards = class_rewards(reward)

    def rewards_of(prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        verdicts = [
            judge(prompt, text, task.tolerance)
            for prompt, text in zip(prompts, completions, strict=True)
        ]
        return torch.tensor(
            [rewards[int(v.style), int(v.exact)] for v in verdicts], dtype=torch.float32
        )

    return rewards_of


@torch.no_grad()
def rollout(
    model: nn.Module,
    reference: Llama,
    prompts: Sequence[str],
    judge: Judge,
    method: Method,
    *,
    answers: int,
    beta: float,
    seed: int,
    lam: float = 0.95,
) -> Batch:
    """`answers` completions for each prompt, drawn at temperature 1, judged, ready for `rl_step`.

    Returns:
        input_ids, completion_mask (B, T); old_logps, ref_logps (B, T-1), 0 outside the answer;
        rewards, (B,), as the judge gave them; advantages, (B,), or with a critic (B, T-1) and
        values, returns beside them.
    """
    policy, device = policy_of(model), next(model.parameters()).device
    repeated = [prompt for prompt in prompts for _ in range(answers)]
    # of several processes the first draws: another GPU could round to another answer
    completions = from_first(lambda: generate(policy, repeated, seed=seed))
    rewards = judge(repeated, completions).to(device)
    ids, mask = (tensor.to(device) for tensor in TOKENIZER.collate(repeated, completions))
    marks = mask[:, 1:]
    old_logps, ref_logps = (completion_logps(m, ids, mask) for m in (policy, reference))
    batch = {
        "input_ids": ids,
        "completion_mask": mask,
        "old_logps": old_logps,
        "ref_logps": ref_logps,
        "rewards": rewards,
    }
    # (B, T-1), part of the reward or nothing
    leash = beta * (old_logps - ref_logps) * method.kl_in_reward
    if method.baseline is not None:
        groups = (rewards - leash.sum(-1)).unflatten(0, (len(prompts), answers))  # (G, K)
        return batch | {"advantages": advantages(groups, method.baseline, method.scale).flatten()}
    # the token that ends the answer
    last = marks & ~torch.cat((marks[:, 1:], torch.zeros_like(marks[:, :1])), dim=1)
    values = model.critic.values(ids)
    gained, returns = generalised_advantages(
        rewards[:, None] * last - leash, values, marks, lam=lam
    )
    return batch | {"advantages": gained, "values": values, "returns": returns}


def rollouts(
    model: nn.Module,
    reference: Llama,
    task: BookTask,
    judge: Judge,
    method: str,
    *,
    beta: float,
    prompts: int,
    answers: int,
    seed: int,
    epochs: int = 1,
    minibatches: int = 1,
    lam: float = 0.95,
) -> BatchAt:
    """The batch of a step for `training.train`: a new rollout every `epochs` · `minibatches` steps.

    Prompts are the population's own. Within a rollout every epoch cuts the answers into minibatches
    anew.

    Args:
        model: the policy in training, an ActorCritic for "ppo".
        reference: what the leash is tied to; it may not be the object in training.
        prompts, answers: G and K of one rollout.

    Raises:
        ValueError: an unknown method, a number out of its range, or a model that does not fit the
            method. From
            the batches: a step inside a rollout that was not drawn here (a run resumed between two
                rollouts).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; accepted are {', '.join(METHODS)}")
    how, updates = METHODS[method], epochs * minibatches
    counts = {"prompts": prompts, "answers": answers, "epochs": epochs, "minibatches": minibatches}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; accepted are whole numbers from 1")
    if how.baseline in ("leave_one_out", "group") and answers < 2:
        raise ValueError(
            f"answers is {answers}; accepted for method {method!r} are whole numbers from 2"
        )
    if updates > 1 and not how.clipped:
        raise ValueError(
            f"method {method!r} takes one update a rollout; epochs and minibatches must be 1"
        )
    if prompts * answers % minibatches:
        raise ValueError(
            f"minibatches is {minibatches}; accepted are divisors of {prompts * answers} answers"
        )
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is {lam}; accepted are 0 to 1")
    if (how.baseline is None) != isinstance(model, ActorCritic):
        raise ValueError(
            f"method {method!r} trains "
            f"{'an ActorCritic' if how.baseline is None else 'the policy alone'}"
        )
    drawn: dict[int, Batch] = {}

    def batch_at(step: int) -> Batch:
        number, update = divmod(step, updates)
        if update == 0:
            rng = stream("rollout", seed, number)
            texts, _ = task.demonstrations(prompts, rng)
            drawn.clear()
            drawn[number] = rollout(
                model,
                reference,
                texts,
                judge,
                how,
                answers=answers,
                beta=beta,
                seed=int(rng.integers(2**31)),
                lam=lam,
            )
        if number not in drawn:
            raise ValueError(
                f"step {step} is inside a rollout; "
                f"save_every must be a multiple of {updates} updates"
            )
        if minibatches == 1:
            return drawn[number]
        epoch, part = divmod(update, minibatches)
        order = stream("minibatches", seed, number * epochs + epoch).permutation(prompts * answers)
        rows = torch.from_numpy(np.array_split(order, minibatches)[part])
        return {name: tensor[rows.to(tensor.device)] for name, tensor in drawn[number].items()}

    return batch_at
