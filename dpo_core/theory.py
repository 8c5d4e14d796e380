"""What the closed forms say of the book's population (chapters 6 and 9): predictions, no network.

`evaluation` measures; this module predicts what it should find.
"""

import numpy as np
import torch
from torch import Tensor

from dpo_core.tabular import Problem, kl, mean, optimal_policy
from dpo_core.task import BookTask

REWARDS = ("style", "exact", "style+exact")


def class_rewards(reward: str) -> np.ndarray:
    """The reward of each class of answer, (2, 2) float64, `[style, exact]`.

    Raises:
        ValueError: no such reward; the message lists the names.
    """
    style, exact = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    known = dict(zip(REWARDS, (style, exact, style + exact)))
    if reward not in known:
        raise ValueError(f"unknown reward {reward!r}; accepted are {', '.join(known)}")
    return known[reward]


def class_problem(task: BookTask, reward: str) -> Problem:
    """The population as a problem that can be enumerated: one row a prompt, and its four classes as
    answers.

    Returns:
        log-rates and rewards, (prompts, 4) each; prompts as in `BookTask.prompt_distribution`,
        classes as in `class_rewards` read row by row. Within a class an optimum keeps the
        population's proportions.

    Raises:
        ValueError: an unknown reward.
    """
    rates = torch.from_numpy(task.class_rates).flatten(1)
    return Problem(rates.log(), torch.from_numpy(class_rewards(reward)).flatten().expand_as(rates))


def predicted_shares(task: BookTask, class_logps: Tensor) -> dict[str, float]:
    """What a policy over classes, (prompts, 4), shows on the population's own prompts.

    Shares of `style`, `exact` and `both`, and `kl` (to the population, nats an answer): averages
    over the prompts.
    """
    weights = torch.tensor(list(task.prompt_distribution.values()), dtype=torch.float64)
    divergence = kl(class_logps, class_problem(task, "style").ref_logps)
    _, exact, style, both = (weights @ class_logps.exp()).tolist()
    return {
        "style": style + both,
        "exact": exact + both,
        "both": both,
        "kl": float(weights @ divergence),
    }


def predicted_optimum(task: BookTask, reward: str, beta: float) -> dict[str, float]:
    """`predicted_shares` of the KL-regularised optimum (Rafailov et al. 2023, eq. 4) of a base
    model that is faithful to its data.

    Raises:
        ValueError: an unknown reward, or a beta that is not above 0.
    """
    return predicted_shares(task, optimal_policy(class_problem(task, reward), beta))


def predicted_entropy(task: BookTask, class_logps: Tensor) -> float:
    """The entropy of a policy over classes, (prompts, 4), in nats an answer: an average over the
    population's prompts.

    Within a class the policy keeps the population's proportions, as every optimum for a reward of
    classes does.
    """
    weights = torch.tensor(list(task.prompt_distribution.values()), dtype=torch.float64)
    place = {prompt: row for row, prompt in enumerate(task.prompt_distribution)}
    table = task.table
    cell = (np.array([place[prompt] for prompt in table.prompts]), 2 * table.style + table.exact)
    # within: the entropy of each class's texts
    total, within = np.zeros((len(place), 4)), np.zeros((len(place), 4))
    np.add.at(total, cell, table.probability)
    share = np.divide(
        table.probability, total[cell], out=np.ones(len(table.prompts)), where=table.probability > 0
    )
    np.add.at(within, cell, -share * np.log(share))
    texts, classes = mean(class_logps, torch.from_numpy(within)), -mean(class_logps, class_logps)
    return float(weights @ (texts + classes))
