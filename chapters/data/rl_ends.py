"""Where GRPO and Dr. GRPO come to rest on the population's own texts, exactly, for chapter 12: writes rl_ends.json.

    python chapters/data/rl_ends.py        (about 11 CPU-minutes in two processes)

No network and no draws: a policy here is a table with its own probabilities at every fork of the tree of texts that
authors can write to a prompt. Groups have four answers; k3 stands in the loss, token by token. A fork is at rest where

    probs = beta w ref / (c + beta w - g),   g = E[A / n],  w = E[1 / n],  c such that the probabilities sum to 1,

with the means over what the policy writes after each token; A is the answer's advantage and n its length for a mean
over tokens, 1 for a sum. For n = 1 it is the optimum of the KL turned round (`tabular.other_optimum`), with what is
to be expected after the token in place of the reward. Forks are solved from the last to the first; as the mean
advantage of an answer depends on what the others of its group earn, this is repeated until nothing moves.
"""

import json
import multiprocessing
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import torch

from dpo_core import BookTask
from dpo_core.evaluation import class_rewards
from dpo_core.policy_gradient import METHODS, advantages

HERE = Path(__file__).resolve().parent
BETA, GROUP, REWARD = 0.25, 4, "style+exact"
TASK, WORTH = BookTask(), class_rewards(REWARD).flatten()  # (4,): of the classes [style, exact], row by row
Text = tuple[str, float, int]  # completion, probability, class


def fork(ref: np.ndarray, gained: np.ndarray, weight: np.ndarray, beta: float) -> np.ndarray:
    """The probabilities of a fork at rest, (A,), from the reference's; c is found by halving."""
    below, above = (gained - beta * weight).max(), gained.max()
    for _ in range(60):
        c = (below + above) / 2
        below, above = (c, above) if (beta * weight * ref / (c + beta * weight - gained)).sum() > 1 else (below, c)
    probs = beta * weight * ref / (above + beta * weight - gained)
    return probs / probs.sum()


def at_rest(texts: list[Text], mean_advantage: np.ndarray, length_mean: bool, beta: float, depth: int = 0):
    """The tree below a prefix at rest: g and w as above, the classes' shares (4,), KL to the reference, mass."""
    if len(texts) == 1:
        text, mass, kind = texts[0]
        weight = 1 / len(text) if length_mean else 1.0
        return weight * mean_advantage[kind], weight, np.eye(4)[kind], 0.0, mass
    branches = defaultdict(list)
    for text in texts:
        branches[text[0][depth]].append(text)
    gained, weight, shares, kl, mass = map(
        np.array, zip(*(at_rest(below, mean_advantage, length_mean, beta, depth + 1) for below in branches.values()))
    )
    ref = mass / mass.sum()
    probs = fork(ref, gained, weight, beta) if len(ref) > 1 else ref
    return probs @ gained, probs @ weight, probs @ shares, probs @ (kl + np.log(probs / ref)), mass.sum()


def mean_advantages(shares: np.ndarray, scale: bool) -> np.ndarray:
    """The mean advantage of an answer of each class, (4,), over all groups whose other answers have these shares."""
    others = np.array(list(product(range(4), repeat=GROUP - 1)))  # (4^(GROUP-1), GROUP-1)
    found = []
    for kind in range(4):
        rewards = torch.tensor(WORTH[np.column_stack((np.full(len(others), kind), others))])
        found.append(shares[others].prod(-1) @ advantages(rewards, "group", scale)[:, 0].numpy())
    return np.array(found)


def settle(texts: list[Text], method: str, beta: float = BETA) -> tuple[np.ndarray, float]:
    """The classes' shares, (4,), and the KL of the policy at rest on one prompt."""
    how, shares = METHODS[method], np.zeros(4)
    for _, mass, kind in texts:
        shares[kind] += mass
    shares /= shares.sum()
    for _ in range(100):
        *_, found, kl, _ = at_rest(texts, mean_advantages(shares, how.scale), how.length_mean, beta)
        moved, shares = np.abs(found - shares).max(), (found + shares) / 2
        if moved < 1e-5:
            return found, kl
    raise RuntimeError(f"{method} has not come to rest: {moved:.1e}")


def of_prompt(job: tuple[list[Text], str]) -> tuple[np.ndarray, float]:
    """`settle` with one thread."""
    torch.set_num_threads(1)
    return settle(*job)


def main() -> None:
    """Solve every prompt, average over the population's prompts, write."""
    table, texts = TASK.table, defaultdict(list)
    kinds = 2 * table.style + table.exact
    for prompt, completion, probability, kind in zip(table.prompts, table.completions, table.probability, kinds):
        texts[prompt].append((completion, probability, int(kind)))
    often, ends = np.array(list(TASK.prompt_distribution.values())), {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for method in ("dr_grpo", "grpo"):
            found = pool.map(of_prompt, [(texts[prompt], method) for prompt in TASK.prompt_distribution], chunksize=4)
            shares, kl = often @ np.array([s for s, _ in found]), float(often @ np.array([k for _, k in found]))
            reward = float(shares @ WORTH)
            ends[method] = {"reward": reward, "kl": kl, "objective": reward - BETA * kl,
                            "style": float(shares[2] + shares[3]), "exact": float(shares[1] + shares[3])}  # fmt: skip
            print(method, {name: round(value, 3) for name, value in ends[method].items()}, flush=True)
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
