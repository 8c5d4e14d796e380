"""Where GRPO and Dr. GRPO come to rest on the population's own texts, exactly, for chapter 12: writes rl_ends.json.

    python chapters/data/rl_ends.py        (about 16 CPU-minutes in two processes)

No network and no draws: a policy here is a table with its own probabilities at every fork of the tree of texts that
authors can write to a prompt. Groups have four answers; k3 stands in the loss, token by token. A fork is at rest where

    probs = beta w ref / (c + beta w - g),   g = E[A / n],  w = E[1 / n],  c such that the probabilities sum to 1,

with the means over what the policy writes after each token; A is the answer's advantage and n its length for a mean
over tokens, 1 for a sum. For n = 1 it is the optimum of the KL turned round (`tabular.other_optimum`), with what is
to be expected after the token in place of the reward. Forks are solved from the last to the first; as the mean
advantage of an answer depends on what the others of its group earn, this is repeated until nothing moves.

`dr_grpo_heard` is Dr. GRPO with one change: beta times what the later forks are charged, KL(ref || policy) at each, is
taken from g, as if earlier tokens heard of it.
"""

import json
import multiprocessing
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dpo_core import BookTask
from dpo_core.policy_gradient import METHODS, advantages
from dpo_core.theory import class_rewards

HERE = Path(__file__).resolve().parent
BETA, GROUP, REWARD = 0.25, 4, "style+exact"
# (4,): of the classes [style, exact], row by row
TASK, WORTH = BookTask(), class_rewards(REWARD).flatten()
Text = tuple[str, float, int]  # completion, probability, class


def fork(ref: np.ndarray, gained: np.ndarray, weight: np.ndarray, beta: float) -> np.ndarray:
    """The probabilities of a fork at rest, (A,), from the reference's; c is found by halving."""
    below, above = (gained - beta * weight).max(), gained.max()
    for _ in range(60):
        c = (below + above) / 2
        below, above = (
            (c, above)
            if (beta * weight * ref / (c + beta * weight - gained)).sum() > 1
            else (below, c)
        )
    probs = beta * weight * ref / (above + beta * weight - gained)
    return probs / probs.sum()


class Rest(NamedTuple):
    """The tree below a prefix at rest."""

    gained: float  # g above
    weight: float  # w above
    charged: float  # what its forks are charged, in nats: KL(reference || policy) at each
    kl: float  # to the reference, the policy's own way round, in nats
    mass: float  # the population's
    shares: np.ndarray  # (4,), of the classes


def at_rest(
    texts: list[Text], mean_advantage: np.ndarray, length_mean: bool, hears: bool, depth: int = 0
) -> Rest:
    """Solve the tree of `texts`, which share their first `depth` characters."""
    if len(texts) == 1:
        text, mass, kind = texts[0]
        weight = 1 / len(text) if length_mean else 1.0
        return Rest(weight * mean_advantage[kind], weight, 0.0, 0.0, mass, np.eye(4)[kind])
    branches = defaultdict(list)
    for text in texts:
        branches[text[0][depth]].append(text)
    below = [
        at_rest(branch, mean_advantage, length_mean, hears, depth + 1)
        for branch in branches.values()
    ]
    gained, weight, charged, kl, mass, shares = map(np.array, zip(*below))
    ref = mass / mass.sum()
    probs = fork(ref, gained - BETA * charged * hears, weight, BETA) if len(ref) > 1 else ref
    here = ref @ np.log(ref / probs)
    return Rest(
        probs @ gained,
        probs @ weight,
        here + probs @ charged,
        probs @ (kl + np.log(probs / ref)),
        mass.sum(),
        probs @ shares,
    )


def mean_advantages(shares: np.ndarray, scale: bool) -> np.ndarray:
    """The mean advantage of an answer of each class, (4,), over all groups whose other answers have these shares."""
    others = np.array(list(product(range(4), repeat=GROUP - 1)))  # (4^(GROUP-1), GROUP-1)
    found = []
    for kind in range(4):
        rewards = torch.tensor(WORTH[np.column_stack((np.full(len(others), kind), others))])
        found.append(shares[others].prod(-1) @ advantages(rewards, "group", scale)[:, 0].numpy())
    return np.array(found)


def settle(texts: list[Text], name: str) -> tuple[np.ndarray, float]:
    """The classes' shares, (4,), and the KL of the policy at rest on one prompt."""
    how, shares, hears = METHODS[name.removesuffix("_heard")], np.zeros(4), name.endswith("_heard")
    for _, mass, kind in texts:
        shares[kind] += mass
    shares /= shares.sum()
    for _ in range(100):
        rest = at_rest(texts, mean_advantages(shares, how.scale), how.length_mean, hears)
        moved, shares = np.abs(rest.shares - shares).max(), (rest.shares + shares) / 2
        if moved < 1e-5:
            return rest.shares, rest.kl
    raise RuntimeError(f"{name} has not come to rest: {moved:.1e}")


def of_prompt(job: tuple[list[Text], str]) -> tuple[np.ndarray, float]:
    """`settle` with one thread."""
    torch.set_num_threads(1)
    return settle(*job)


def main() -> None:
    """Solve every prompt, average over the population's prompts, write."""
    table, texts = TASK.table, defaultdict(list)
    kinds = 2 * table.style + table.exact
    for prompt, completion, probability, kind in zip(
        table.prompts, table.completions, table.probability, kinds
    ):
        texts[prompt].append((completion, probability, int(kind)))
    often, ends = np.array(list(TASK.prompt_distribution.values())), {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for method in ("dr_grpo", "dr_grpo_heard", "grpo"):
            found = pool.map(
                of_prompt,
                [(texts[prompt], method) for prompt in TASK.prompt_distribution],
                chunksize=4,
            )
            shares, kl = (
                often @ np.array([s for s, _ in found]),
                float(often @ np.array([k for _, k in found])),
            )
            reward = float(shares @ WORTH)
            ends[method] = {
                "reward": reward,
                "kl": kl,
                "objective": reward - BETA * kl,
                "style": float(shares[2] + shares[3]),
                "exact": float(shares[1] + shares[3]),
            }
            print(
                method, {name: round(value, 3) for name, value in ends[method].items()}, flush=True
            )
    report = {
        "command": "python chapters/data/rl_ends.py",
        "beta": BETA,
        "group": GROUP,
        "reward": REWARD,
        "ends": ends,
    }
    (HERE / "rl_ends.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
