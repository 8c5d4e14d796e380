"""Where GRPO and its relatives come to rest on the population's own texts, exactly, for chapter 12: writes rl_ends.json.

    python chapters/data/rl_ends.py        (under a CPU-minute, one process)

No network and no draws: a policy here is a table with its own probabilities at every fork of the tree of texts that
authors can write to a prompt. Groups have four answers; the KL term stands in the loss, token by token, and every
draw serves one update, so that nothing is clipped. With

    g = E[A / n],  w = E[1 / n],  the means over what the policy writes after each token,

A the answer's advantage and n its length for a mean over an answer's tokens, 1 for a sum, a fork is at rest where

    k3:        probs = beta w ref / (c + beta w - g),
    ratio_k3:  probs = ref exp((g - c) / (beta w)),     c such that the probabilities sum to 1.

For n = 1 these are the optima under the KL turned round (`tabular.other_optimum`) and under the KL itself, with what
is to be expected after the token in place of the reward. DAPO's mean over the tokens of a batch is taken for a sum:
what it divides by is one number for the whole batch, nearly the same for every batch. Forks are solved from the last
to the first; as the mean advantage of an answer depends on what the others of its group earn, this is repeated until
nothing moves.

A name that ends in `heard` has one change: beta times what the later forks are charged (w times the KL that the term
holds down, at each) is taken from g, as if earlier tokens heard of it.
"""

import json
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dpo_core import BookTask
from dpo_core.policy_gradient import METHODS, advantages
from dpo_core.progress import progress_bar
from dpo_core.theory import class_rewards

HERE = Path(__file__).resolve().parent
BETA, GROUP, REWARD = 0.25, 4, "style+exact"
# (4,): of the classes [style, exact], row by row
TASK, WORTH = BookTask(), class_rewards(REWARD).flatten()
HALVINGS, ROUNDS, STILL = 50, 200, 1e-6
Text = tuple[str, float, int]  # completion, probability, class
ENDS = {  # name: method, KL term, whether earlier tokens hear of later charges
    "dr_grpo": ("dr_grpo", "k3", False),
    "dr_grpo_heard": ("dr_grpo", "k3", True),
    "grpo": ("grpo", "k3", False),
    "dapo": ("dapo", "k3", False),
    "dr_grpo_ratio": ("dr_grpo", "ratio_k3", False),
    "dr_grpo_ratio_heard": ("dr_grpo", "ratio_k3", True),
    "grpo_ratio": ("grpo", "ratio_k3", False),
    "dapo_ratio": ("dapo", "ratio_k3", False),
}


class Level(NamedTuple):
    """The nodes of one depth of all trees; children of one node stand together."""

    parent: (
        np.ndarray
    )  # (N,), the number of a node in the level above; of the first level, the prompt
    starts: np.ndarray  # (F,), where the children of each fork begin
    ref: np.ndarray  # (N,), the population's probability after the parent
    leaf: np.ndarray  # (N,), the number of the text that ends here, or -1


def in_order(prompts: list[list[Text]]) -> list[tuple[int, str, float, int]]:
    """The texts of all prompts, each with the number of its prompt; what shares a prefix stands together."""
    return [(number, *text) for number, some in enumerate(prompts) for text in sorted(some)]


def levels(prompts: list[list[Text]]) -> list[Level]:
    """The trees of all prompts, level by level; a token is a character."""
    texts = in_order(prompts)
    numbers = {
        number: number for number in range(len(prompts))
    }  # of the nodes above, by their prefix
    found = []
    for depth in range(1, 1 + max(len(text[1]) for text in texts)):
        mass, leaf, above = {}, {}, {}
        for row, (prompt, text, probability, _) in enumerate(texts):
            if len(text) >= depth:
                node = (prompt, text[:depth])
                mass[node] = mass.get(node, 0.0) + probability
                above[node] = numbers[prompt if depth == 1 else (prompt, text[: depth - 1])]
                leaf[node] = row if len(text) == depth else -1
        parent = np.array(list(above.values()))
        starts = np.flatnonzero(np.diff(parent, prepend=-1))
        ref = np.array(list(mass.values()))
        ref = ref / np.repeat(np.add.reduceat(ref, starts), np.diff(starts, append=len(ref)))
        found.append(Level(parent, starts, ref, np.array(list(leaf.values()))))
        numbers = {node: number for number, node in enumerate(mass)}
    return found


def fork(level: Level, gained: np.ndarray, weight: np.ndarray, kl_term: str) -> np.ndarray:
    """The probabilities at rest, (N,), of all forks of a level; c is found by halving."""
    sizes = np.diff(level.starts, append=len(level.ref))
    probs = np.ones(len(level.ref))  # where a node is an only child, nothing is to be found
    several = np.repeat(sizes > 1, sizes)
    if not several.any():
        return probs
    ref, gained, price = level.ref[several], gained[several], BETA * weight[several]
    sizes = sizes[sizes > 1]
    starts = np.cumsum(sizes) - sizes

    def at(c: np.ndarray) -> np.ndarray:
        c = np.repeat(c, sizes)
        if kl_term == "k3":
            return price * ref / (c + price - gained)
        return ref * np.exp((gained - c) / price)

    above = np.maximum.reduceat(gained, starts)
    if kl_term == "k3":
        below = np.maximum.reduceat(gained - price, starts)
    else:
        below = np.minimum.reduceat(gained, starts)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        with np.errstate(divide="ignore"):
            more = np.add.reduceat(at(middle), starts) > 1
        below, above = np.where(more, middle, below), np.where(more, above, middle)
    found = at(above)
    probs[several] = found / np.repeat(np.add.reduceat(found, starts), sizes)
    return probs


class Rest(NamedTuple):
    """What the trees below the nodes of a level come to; of the prompts, in the end."""

    gained: np.ndarray  # (N,) g above
    weight: np.ndarray  # (N,) w above
    charged: np.ndarray  # (N,) what the forks are charged
    kl: np.ndarray  # (N,) to the reference, the policy's own way round, in nats
    shares: np.ndarray  # (N, 4), of the classes


def at_rest(
    trees: list[Level],
    texts: np.ndarray,
    gain: np.ndarray,
    method: str,
    kl_term: str,
    hears: bool,
) -> Rest:
    """Solve all forks, the last first.

    `texts` are the prompt and the class of each text, (texts, 2); `gain` is the mean advantage of an answer of a class,
    (prompts, 4).
    """
    below = Rest(*(np.zeros(0) for _ in range(4)), np.zeros((0, 4)))
    for depth, level in reversed(list(enumerate(trees))):
        size, ends = len(level.ref), np.flatnonzero(level.leaf >= 0)
        mine = Rest(*(np.zeros(size) for _ in range(4)), np.zeros((size, 4)))
        inner = np.flatnonzero(level.leaf < 0)
        for whole, part in zip(mine, below):
            whole[inner] = part
        mine.weight[ends] = 1 / (depth + 1) if METHODS[method].length_mean else 1.0
        mine.gained[ends] = mine.weight[ends] * gain[tuple(texts[level.leaf[ends]].T)]
        mine.shares[ends, texts[level.leaf[ends], 1]] = 1.0
        probs = fork(level, mine.gained - BETA * mine.charged * hears, mine.weight, kl_term)
        spent = np.log(probs / level.ref)
        toll = -level.ref * spent if kl_term == "k3" else probs * spent
        # sums over tokens alone are heard of; there w is 1
        parts = (mine.gained, mine.weight, mine.charged + toll / probs, mine.kl + spent)
        sums = [np.add.reduceat(probs * part, level.starts) for part in parts]
        below = Rest(*sums, np.add.reduceat(probs[:, None] * mine.shares, level.starts))
    return below


def mean_advantages(shares: np.ndarray, scale: bool) -> np.ndarray:
    """The mean advantage of an answer of each class, (prompts, 4), over all groups whose others have these shares."""
    others = np.array(list(product(range(4), repeat=GROUP - 1)))  # (4^(GROUP-1), GROUP-1)
    chance = shares[:, others].prod(-1)  # (prompts, 4^(GROUP-1))
    found = []
    for kind in range(4):
        rewards = torch.tensor(WORTH[np.column_stack((np.full(len(others), kind), others))])
        found.append(chance @ advantages(rewards, "group", scale)[:, 0].numpy())
    return np.stack(found, axis=-1)


def settle(prompts: list[list[Text]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes' shares, (prompts, 4), and the KL, (prompts,), of the policy at rest."""
    method, kl_term, hears = ENDS[name]
    trees, rows = levels(prompts), in_order(prompts)
    texts, shares = np.array([[row[0], row[3]] for row in rows]), np.zeros((len(prompts), 4))
    for prompt, _, mass, kind in rows:
        shares[prompt, kind] += mass
    shares /= shares.sum(-1, keepdims=True)
    for _ in range(ROUNDS):
        gain = mean_advantages(shares, METHODS[method].scale)
        rest = at_rest(trees, texts, gain, method, kl_term, hears)
        moved, shares = np.abs(rest.shares - shares).max(), (rest.shares + shares) / 2
        if moved < STILL:
            return rest.shares, rest.kl
    raise RuntimeError(f"{name} has not come to rest: {moved:.1e}")


def population() -> list[list[Text]]:
    """What authors can write to each prompt."""
    table, texts = TASK.table, {prompt: [] for prompt in TASK.prompt_distribution}
    kinds = 2 * table.style + table.exact
    for prompt, completion, probability, kind in zip(
        table.prompts, table.completions, table.probability, kinds
    ):
        texts[prompt].append((completion, float(probability), int(kind)))
    return list(texts.values())


def main() -> None:
    """Solve every prompt, average over the population's prompts, write."""
    torch.set_num_threads(1)
    started, prompts, ends = time.process_time(), population(), {}
    often = np.array(list(TASK.prompt_distribution.values()))
    with progress_bar(total=len(ENDS), unit="end", shown=True) as bar:
        for name, (method, kl_term, hears) in ENDS.items():
            found, kls = settle(prompts, name)
            shares, kl = often @ found, float(often @ kls)
            reward = float(shares @ WORTH)
            ends[name] = {
                "method": method,
                "kl_term": kl_term,
                "heard": hears,
                "reward": reward,
                "kl": kl,
                "J": reward - BETA * kl,
                "style": float(shares[2] + shares[3]),
                "exact": float(shares[1] + shares[3]),
            }
            bar.update()
    report = {
        "command": "python chapters/data/rl_ends.py",
        "torch": torch.__version__,
        "cpu_minutes": round((time.process_time() - started) / 60, 1),
        "beta": BETA,
        "group": GROUP,
        "reward": REWARD,
        "ends": ends,
    }
    (HERE / "rl_ends.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
