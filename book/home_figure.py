"""The picture of the home page and of the README: `python -m book.home_figure` writes book/_static/home.png.

Each prompt's share of three-number answers, before and after DPO. Lines are closed forms: what the
population of authors does, and the KL-regularised optimum computed from it. Points are the two
shipped networks, 200 answers a prompt.
"""

from pathlib import Path

import numpy as np

from dpo_core import generate, judge, load_pretrained
from dpo_core.evaluation import wilson
from dpo_core.plotting import COLORS, figure, points
from dpo_core.tabular import optimal_policy
from dpo_core.task import BookTask, read_prompt
from dpo_core.theory import class_problem

ANSWERS, SEED = 200, 0
OUTPUT = Path(__file__).parent / "_static" / "home.png"


def style_shares(name: str, prompts: list[str]) -> list:
    """The share of three-number answers of a shipped model to each prompt, with intervals."""
    asked = [prompt for prompt in prompts for _ in range(ANSWERS)]
    answers = generate(load_pretrained(name), asked, seed=SEED, progress=True)
    three = np.array([judge(p, a).style for p, a in zip(asked, answers)]).reshape(
        len(prompts), ANSWERS
    )
    return [wilson(int(row.sum()), ANSWERS) for row in three]


def main() -> None:
    """Sample both models, draw, write."""
    task = BookTask()
    every = list(task.prompt_distribution)
    targets = [int(read_prompt(prompt)) for prompt in every]
    optimum = (
        optimal_policy(class_problem(task, "style+exact"), beta=0.25)
        .exp()
        .numpy()
        .reshape(-1, 2, 2)
    )
    fig, axes = figure(width=7.2, height=3.6)
    some = slice(None, None, 3)  # every third prompt, so that intervals stay apart
    for name, color, rates, label in (
        ("dpo", "policy", optimum, r"$\pi_\theta$"),
        ("gen", "ref", task.class_rates, r"$\pi_{\mathrm{ref}}$"),
    ):
        axes.plot(
            targets,
            rates[:, 1].sum(1),
            color=COLORS["theory"],
            linestyle="-" if name == "dpo" else "--",
        )
        points(axes, targets[some], style_shares(name, every[some]), color, label=label)
    axes.set(xlabel="n  (S n =)", ylabel="P(a ± b ± c)", ylim=(0, 1.03))
    axes.legend(loc="center")
    OUTPUT.parent.mkdir(exist_ok=True)
    fig.savefig(OUTPUT, dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
