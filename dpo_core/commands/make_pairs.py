"""Make a file of preference pairs (chapter 10).

dpo-core make-pairs --source checker        writes ./pairs.jsonl
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dpo_core import checkpoint
from dpo_core.commands.options import check_file_place, option, pick_device, refuse_changed
from dpo_core.commands.run import find_start
from dpo_core.preferences import label, on_policy_pairs, population_pairs
from dpo_core.task import BookTask, make_task, stream
from dpo_core.theory import class_rewards


@dataclass(frozen=True)
class MakePairs:
    """Make a file of preference pairs (JSON lines, TRL's columns) from a model or from the
    population of authors.
    """

    source: str = option(
        "on-policy",
        "population (two authors), on-policy (two answers of the model), or checker "
        "(the same, judged by the exact checker alone: deterministic, ties dropped)",
    )
    model: str = option(
        "", "who answers, and the reference: a folder, gen or dpo; default as in train-dpo"
    )
    output: str = option("pairs.jsonl", "file to write")
    pairs: int = option(24_000, "comparisons; ties that have no label are dropped from them")
    reward: str = option(
        "style+exact", "what the judge likes: style (three numbers), exact, or style+exact"
    )
    labels: str = option(
        "soft", "soft (Bradley-Terry probabilities), sampled (draws from them) or deterministic"
    )
    pair_temperatures: tuple[float, ...] = option(
        (1.5, 2.0), "of the pairs' second answers, in turn; first ones: 1"
    )
    noise: float = option(0.0, "share of labels turned round, below 0.5")
    seed: int = option(0, "of the prompts, the answers and the labels")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")


SOURCES = ("population", "on-policy", "checker")


NO_EFFECT = {"population": ("pair_temperatures",), "on-policy": (), "checker": ("reward", "labels")}


def run(options: MakePairs) -> None:
    """Run `dpo-core make-pairs`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    device = pick_device(options.device)
    check_options(options)
    start, folder = find_start(options.model)
    write_pairs(options, start, folder, device)


def check_options(options: MakePairs) -> None:
    """Find what is wrong with the options of make-pairs while nothing has been read or written.

    Raises:
        ValueError: an unknown word, a number out of its range, an option without effect, no place
            for the file.
    """
    if options.source not in SOURCES:
        raise ValueError(f"unknown source {options.source!r}; accepted are {', '.join(SOURCES)}")
    refuse_changed(options, NO_EFFECT[options.source], f"source {options.source}")
    class_rewards(options.reward)
    label(np.zeros(1), options.labels, stream("check", options.seed), options.noise)
    if options.pairs < 1:
        raise ValueError(f"pairs is {options.pairs}; accepted are whole numbers from 1")
    check_file_place(Path(options.output))


def write_pairs(options: MakePairs, start: str, folder: Path, device: torch.device) -> None:
    """Run `dpo-core make-pairs`, its options checked, with the model `start` in `folder` as
    reference.

    Raises:
        ValueError: bad input, before anything is written.
        OSError: the file cannot be written.
    """
    output = Path(options.output)
    task = make_task(checkpoint.read_recipe(folder).get("task", "book"))
    reference = checkpoint.load_model(folder).to(device)
    given = {"noise": options.noise, "seed": options.seed, "progress": True}
    if options.source == "population" and not isinstance(task, BookTask):
        raise ValueError(
            f"source population needs a model of task book; {start} is of task {task.name}"
        )
    if options.source == "population":
        made = population_pairs(
            reference, task, options.pairs, reward=options.reward, labels=options.labels, **given
        )
    else:
        judge = {"reward": options.reward, "labels": options.labels}
        if options.source == "checker":
            judge = {"reward": "exact", "labels": "deterministic"}
        made = on_policy_pairs(
            reference, task, options.pairs, temperatures=options.pair_temperatures, **judge, **given
        )
    if not len(made):
        raise ValueError(
            f"no pair has a label: all {options.pairs} are ties, which this judge drops"
        )
    made.write(output)
    print(f"wrote {output}: {len(made)} pairs, {options.pairs - len(made)} ties dropped")
