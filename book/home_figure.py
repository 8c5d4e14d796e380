"""The picture of the home page and of the README: `python -m book.home_figure` writes book/_static/home-en.png and -zh.png.

Each prompt's share of three-number answers, before and after DPO. Lines are closed forms: what the
population of authors does, and the KL-regularised optimum computed from it. Points are the two
shipped networks, 200 answers a prompt. The cover shows the same numbers (book/cover.py).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpo_core import generate, judge, load_pretrained
from dpo_core.evaluation import Estimate, wilson
from dpo_core.plotting import COLORS, LANGUAGES, Say, drawn, figure, points
from dpo_core.tabular import optimal_policy
from dpo_core.task import BookTask, read_prompt
from dpo_core.theory import class_problem

ANSWERS, SEED, BETA = 200, 0, 0.25
STATIC = Path(__file__).parent / "_static"


class Shares(NamedTuple):
    """The share of three-number answers to each prompt: predicted for all, measured for some."""

    targets: np.ndarray  # the number that each prompt asks for
    population: np.ndarray
    some: slice  # the prompts that the networks are asked
    measured: dict[str, list[Estimate]]  # by the network's name

    @property
    def optimum(self) -> np.ndarray:
        """What the trained policy should reach."""
        return optimum(BETA)


def optimum(beta: float) -> np.ndarray:
    """The share of three-number answers to each prompt under the KL-regularised optimum at `beta`."""
    policy = optimal_policy(class_problem(BookTask(), "style+exact"), beta=beta).exp().numpy()
    return policy.reshape(-1, 2, 2)[:, 1].sum(1)


def shares() -> Shares:
    """Compute the population's shares, sample both networks."""
    task = BookTask()
    every = list(task.prompt_distribution)
    some = slice(None, None, 3)  # every third prompt, so that intervals stay apart
    return Shares(
        np.array([int(read_prompt(prompt)) for prompt in every]),
        task.class_rates[:, 1].sum(1),
        some,
        {name: style_shares(name, every[some]) for name in ("gen", "dpo")},
    )


def style_shares(name: str, prompts: list[str]) -> list[Estimate]:
    """The share of three-number answers of a shipped model to each prompt, with intervals."""
    asked = [prompt for prompt in prompts for _ in range(ANSWERS)]
    answers = generate(load_pretrained(name), asked, seed=SEED, progress=True)
    three = np.array([judge(p, a).style for p, a in zip(asked, answers)]).reshape(
        len(prompts), ANSWERS
    )
    return [wilson(int(row.sum()), ANSWERS) for row in three]


def main() -> None:
    """Sample both models; draw and write the picture in each language."""
    found = shares()

    def bands(say: Say) -> None:
        _, axes = figure(width=7.2, height=3.6)
        for name, line, color, style in (
            ("gen", found.population, "ref", "--"),
            ("dpo", found.optimum, "policy", "-"),
        ):
            axes.plot(found.targets, line, color=COLORS["theory"], linestyle=style)
            points(axes, found.targets[found.some], found.measured[name], color)
        texts = (
            (0.80, "policy", say("dpo, after the training", "dpo，训练之后")),
            (0.62, "theory", say("lines: computed, nothing trained", "线：算出来的，没有训练")),
            (0.44, "ref", say("gen, before", "gen，训练之前")),
        )
        for height, color, text in texts:
            axes.text(24, height, text, color=COLORS[color], ha="center", fontsize=12)
        axes.set(
            xlabel=say("the number that is asked for", "题目要的数"),
            ylabel=say("share with three numbers", "写三个数的比例"),
            ylim=(0, 1.03),
        )

    for lang in LANGUAGES:
        path = STATIC / f"home-{lang}.png"
        drawn(bands, lang).savefig(path, dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
