"""Where preference pairs come from (chapters 5 and 10): the population, the model, a checker."""

from collections.abc import Sequence

import numpy as np

from dpo_core.model import Llama
from dpo_core.pairs import Pairs, with_reference
from dpo_core.sampling import generate
from dpo_core.task import BookTask, ClassicTask, Task, judge, stream
from dpo_core.theory import class_rewards

LABELS = ("soft", "sampled", "deterministic")


def label(
    gap: np.ndarray, labels: str, rng: np.random.Generator, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn reward gaps into labels under the Bradley-Terry model, P(first preferred) = σ(gap).

    Args:
        gap: (N,) reward of the first answer minus that of the second.
        labels: "soft" keeps the probability; "sampled" draws once from it; "deterministic" lets the
            better answer always win and has no label for a tie.
        noise: the share of labels that are turned round. A soft label becomes its expectation over
            that.

    Returns:
        swap: (N,) bool, the second answer is the chosen one.
        probability: (N,) float64, P(chosen is preferred).
        kept: (N,) bool, False where there is no label.

    Raises:
        ValueError: another kind of label, or a noise outside 0 to below 0.5.
    """
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise is {noise}; accepted is 0 to below 0.5")
    probability = 1 / (1 + np.exp(-gap))
    probability = probability + noise * (1 - 2 * probability)
    everything = np.ones(len(gap), dtype=bool)
    if labels == "soft":
        return gap < 0, np.maximum(probability, 1 - probability), everything
    if labels == "sampled":
        return rng.random(len(gap)) >= probability, np.ones(len(gap)), everything
    if labels == "deterministic":
        flipped = rng.random(len(gap)) < noise if noise else ~everything
        return (gap < 0) ^ flipped, np.ones(len(gap)), gap != 0
    raise ValueError(f"unknown labels {labels!r}; accepted are {', '.join(LABELS)}")


def on_policy_pairs(
    reference: Llama,
    task: Task,
    count: int,
    *,
    reward: str = "style+exact",
    labels: str = "soft",
    temperatures: Sequence[float] = (1.0,),
    noise: float = 0.0,
    sampler: Llama | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Pairs:
    """Two answers of the reference to each of `count` prompts, labelled by the reward of their
    class.

    The first answer is drawn at temperature 1, the second at `temperatures` in turn. Which pairs
    are drawn does not move the minimiser of the DPO loss with soft or sampled labels, as long as
    every answer can occur; higher temperatures show more of the mistakes that the reference makes
    rarely.

    Ties between answers of one class stay in (soft labels call them 1/2); a deterministic judge has
    no label for them, so it returns fewer pairs.

    Args:
        noise: the share of labels that are turned round.
        sampler: who answers, if not the reference; the log-probabilities beside a pair are the
            reference's.

    Raises:
        ValueError: an unknown reward or kind of label, a noise out of its range, or a count below
            1.
    """
    if count < 1 or not temperatures:
        raise ValueError(
            f"pairs is {count}, temperatures {temperatures}; accepted is at least one of each"
        )
    # a bad setting is named before the sampling
    label(np.zeros(1), labels, stream("check", seed), noise)
    class_rewards(reward)
    author, rng = sampler or reference, stream("pairs", seed)
    prompts, _ = task.demonstrations(count, rng)
    first, second = rng.integers(2**31, size=2).tolist()
    answers = generate(author, prompts, seed=first, progress=progress) + [""] * count
    for turn, temperature in enumerate(temperatures):
        mine = slice(turn, count, len(temperatures))
        draws = generate(
            author, prompts[mine], seed=second + turn, temperature=temperature, progress=progress
        )
        answers[count + turn :: len(temperatures)] = draws
    pair = prompts, answers[:count], answers[count:]
    return judged_pairs(
        reference, task, *pair, rng, reward=reward, labels=labels, noise=noise, progress=progress
    )


def population_pairs(
    reference: Llama,
    task: BookTask,
    count: int,
    *,
    reward: str = "style+exact",
    labels: str = "soft",
    noise: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> Pairs:
    """Two texts of the population's authors to each of `count` prompts, labelled by the reward of
    their class.

    Both answers are independent draws from what the population writes to that prompt. The reference
    writes nothing; it only gives the log-probabilities that stand beside the pairs.

    Raises:
        ValueError: an unknown reward or kind of label, a noise out of its range, or a count below
            1.
    """
    if count < 1:
        raise ValueError(f"pairs is {count}; accepted are whole numbers from 1")
    # a bad setting is named before the work
    label(np.zeros(1), labels, stream("check", seed), noise)
    rng = stream("pairs", seed)
    prompts, first = task.demonstrations(count, rng)
    second = answers_of_authors(task, prompts, rng)
    return judged_pairs(
        reference,
        task,
        prompts,
        first,
        second,
        rng,
        reward=reward,
        labels=labels,
        noise=noise,
        progress=progress,
    )


def answers_of_authors(task: BookTask, prompts: list[str], rng: np.random.Generator) -> list[str]:
    """One answer of the population to each prompt, drawn from its table given the prompt."""
    table = task.table
    order = np.argsort(np.array(table.prompts), kind="stable")  # rows of one prompt stand together
    names, starts = np.unique(np.array(table.prompts)[order], return_index=True)
    mass = np.concatenate(([0.0], np.cumsum(table.probability[order])))
    which = np.searchsorted(names, prompts)
    low, high = mass[starts[which]], mass[np.append(starts, len(order))[which + 1]]
    rows = np.searchsorted(mass, low + rng.random(len(prompts)) * (high - low), side="right") - 1
    return [table.completions[order[row]] for row in rows]


def judged_pairs(
    reference: Llama,
    task: Task,
    prompts: list[str],
    first: list[str],
    second: list[str],
    rng: np.random.Generator,
    *,
    reward: str,
    labels: str,
    noise: float = 0.0,
    progress: bool = False,
) -> Pairs:
    """Pairs of two answers to each prompt, labelled by the reward of their class; without a label,
    left out.
    """
    rewards, count, answers = class_rewards(reward), len(prompts), first + second
    verdicts = [judge(p, a, task.tolerance) for p, a in zip(prompts * 2, answers)]
    worth = np.array([rewards[int(v.style), int(v.exact)] for v in verdicts])
    swap, probability, kept = label(worth[:count] - worth[count:], labels, rng, noise)
    chosen = [answers[i + count if swap[i] else i] for i in np.flatnonzero(kept)]
    rejected = [answers[i if swap[i] else i + count] for i in np.flatnonzero(kept)]
    prompts = [prompts[i] for i in np.flatnonzero(kept)]
    return with_reference(
        reference, prompts, chosen, rejected, probability[kept].tolist(), progress
    )


def classic_pairs(
    reference: Llama, task: ClassicTask, count: int, *, seed: int = 0, progress: bool = False
) -> Pairs:
    """The seed project's pairs: a right three-number expression against an empty answer.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"pairs is {count}; accepted are whole numbers from 1")
    prompts, chosen = task.demonstrations(count, stream("pairs", seed), numbers=3)
    return with_reference(reference, prompts, chosen, ["E"] * count, [1.0] * count, progress)
