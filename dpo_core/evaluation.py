"""How good is a model? Exact verdicts, shares with intervals, and what theory predicts (chapters 4
and 9).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpo_core.model import Llama
from dpo_core.pairs import Pairs
from dpo_core.sampling import generate, score
from dpo_core.task import BookTask, Task, Verdict, judge, stream

TIE = 1e-5  # nats; a difference that rounding could make
Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(successes: float, n: int) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927), which stays inside [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(
            f"{successes} successes in {n} trials; "
            "needed are 0 to n successes in at least one trial"
        )
    share = successes / n
    center = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return Estimate(share, max(0.0, min(share, center - half)), min(1.0, max(share, center + half)))


def mean_interval(values: Sequence[float] | np.ndarray) -> Estimate:
    """A mean with its normal-approximation interval.

    Raises:
        ValueError: fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} values; an interval needs at least two")
    half = Z95 * values.std(ddof=1) / math.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def shares(verdicts: Sequence[Verdict]) -> dict[str, Estimate]:
    """The shares of verdicts that the book reports.

    `exact`, `style` (three numbers) and `both` are shares of all answers; `two_number_exact` and
    `three_number_exact` are shares of the answers of that length (absent where there are none).
    """
    n = len(verdicts)
    report = {
        "well_formed": wilson(sum(v.well_formed for v in verdicts), n),
        "exact": wilson(sum(v.exact for v in verdicts), n),
        "style": wilson(sum(v.style for v in verdicts), n),
        "both": wilson(sum(v.exact and v.style for v in verdicts), n),
    }
    for name, numbers in (("two_number_exact", 2), ("three_number_exact", 3)):
        of_length = [v.exact for v in verdicts if v.numbers == numbers]
        if of_length:
            report[name] = wilson(sum(of_length), len(of_length))
    return report


def own_answers(
    model: Llama,
    task: Task,
    *,
    n: int = 2000,
    seed: int = 0,
    temperature: float = 1.0,
    progress: bool = False,
) -> tuple[list[str], list[str]]:
    """`n` prompts of the task's own and the model's answers: those that `evaluate` judges."""
    rng = stream("evaluate", seed)
    prompts, _ = task.demonstrations(n, rng)
    draws = int(rng.integers(2**31))
    return prompts, generate(model, prompts, temperature=temperature, seed=draws, progress=progress)


def evaluate(
    model: Llama,
    task: Task,
    *,
    n: int = 2000,
    seed: int = 0,
    temperature: float = 1.0,
    reference: Llama | None = None,
    reward: Callable[[list[str], list[str]], Tensor] | None = None,
    beta: float | None = None,
    progress: bool = False,
) -> dict[str, Estimate]:
    """Draw `n` answers to prompts of the task's own and judge them.

    With a reference, `kl` is KL(model || reference) in nats an answer: the mean of
    log π(y|x) - log π_ref(y|x) over the model's own answers, which needs temperature 1. With a
    reward of (prompts, completions) and beta besides, `reward` is its mean, and `J` the objective
    of RLHF, reward - beta · KL (Rafailov et al. 2023, eq. 3), by which chapters 9 to 12 compare.

    Raises:
        ValueError: n below 2, a reference at another temperature than 1, or only some of
            reference, reward and beta where J is asked for.
    """
    if (reward is None) != (beta is None) or (reward is not None and reference is None):
        raise ValueError("J needs a reference, a reward and beta; here some of them are missing")
    if n < 2:
        raise ValueError(f"n is {n}; accepted are whole numbers from 2")
    if reference is not None and temperature != 1:
        raise ValueError(
            f"temperature is {temperature}; the KL to a reference is measured at temperature 1"
        )
    prompts, completions = own_answers(
        model, task, n=n, seed=seed, temperature=temperature, progress=progress
    )
    verdicts = [judge(p, c, task.tolerance) for p, c in zip(prompts, completions)]
    report = shares(verdicts)
    if reference is not None:
        gaps = score(model, prompts, completions) - score(reference, prompts, completions)
        report["kl"] = mean_interval(gaps.numpy())
    if reward is not None:
        worth = reward(prompts, completions).double()
        report["reward"] = mean_interval(worth.numpy())
        report["J"] = mean_interval((worth - beta * gaps.double()).numpy())
    return report


def preference_accuracy(
    model: Llama, data: Pairs, *, progress: bool = False
) -> dict[str, Estimate]:
    """How often a model prefers the chosen answer, measured by DPO's implicit reward (Rafailov et
    al. 2023, eq. 5): on pairs that it was not trained on.

    Returns:
        `accuracy`: the share of pairs whose chosen answer gained more than the rejected one,
        log π(y|x) - log π_ref(y|x), ties counted half; `log_ratio_margin`: by how much, in nats;
        `chosen_log_ratio`: what the chosen answer gained alone; `raw_accuracy`: the share of pairs
        whose chosen answer is the likelier one, without the reference. A share of a count has
        Wilson's interval, also where ties make it end in a half.

    Raises:
        ValueError: fewer than two pairs.
    """
    n, texts = len(data), (data.prompt * 2, data.chosen + data.rejected)
    logps = score(model, *texts, tokenizer=data.tokenizer, progress=progress).double().view(2, n)
    ref = torch.tensor([data.ref_chosen_logps, data.ref_rejected_logps], dtype=torch.float64)
    gained, raw = (logps - ref), (logps[0] - logps[1])
    margins = gained[0] - gained[1]

    def share(values: Tensor) -> Estimate:
        ties = values.abs() <= TIE
        return wilson(float(((values > 0) & ~ties).sum() + 0.5 * ties.sum()), n)

    return {
        "accuracy": share(margins),
        "raw_accuracy": share(raw),
        "log_ratio_margin": mean_interval(margins.numpy()),
        "chosen_log_ratio": mean_interval(gained[0].numpy()),
    }


def excess_nats(model: Llama, task: BookTask, *, n: int = 2000, seed: int = 0) -> Estimate:
    """How far the loss on fresh demonstrations stands above the entropy floor, in nats a
    completion.

    The mean of log p_population(y|x) - log π(y|x), which estimates KL(population || model). Taking
    the difference text by text removes the luck of the draw from the interval.
    """
    prompts, completions = task.demonstrations(n, stream("evaluate", seed))
    floor = np.array([task.log_conditional[text] for text in zip(prompts, completions)])
    return mean_interval(floor - score(model, prompts, completions).numpy())


def entropy(model: Llama, prompts: Sequence[str], completions: Sequence[str]) -> Estimate:
    """The entropy of a model, in nats an answer: the mean of -log π(y|x) over its own answers.

    The answers must be the model's own, drawn at temperature 1 and complete (`own_answers`). Over
    the answers of another model the same mean is a cross-entropy.
    """
    return mean_interval(-score(model, prompts, completions).numpy())


def written_mass(model: Llama, task: BookTask, prompts: Sequence[str]) -> np.ndarray:
    """Where the probability of a model lies, summed exactly: (prompts, 2, 2) float64, `[prompt,
    style, exact]`.

    π(y|x) is added up over every text that some author of the population can write; what is missing
    from 1 is the mass on texts that no author writes. The population's own sums are
    `BookTask.class_rates`.

    Raises:
        ValueError: a prompt that the population has not.
    """
    table, place = task.table, {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    for prompt in place:
        if prompt not in task.prompt_distribution:
            raise ValueError(
                f"no author has the prompt {prompt!r}; the prompts are those of prompt_distribution"
            )
    rows = [
        row
        for row, prompt in enumerate(table.prompts)
        if prompt in place and table.probability[row] > 0
    ]
    asked = [table.prompts[row] for row in rows]
    probs = score(model, asked, [table.completions[row] for row in rows]).double().exp().numpy()
    mass = np.zeros((len(place), 2, 2))
    where = np.array([place[prompt] for prompt in asked])
    np.add.at(mass, (where, table.style[rows].astype(int), table.exact[rows].astype(int)), probs)
    return mass[[place[prompt] for prompt in prompts]]
