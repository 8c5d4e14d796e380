"""Make a file of preference pairs (chapter 10).

dpo-core make-pairs --source checker        writes ./pairs.jsonl
"""

import os
from dataclasses import dataclass

from dpo_core import checkpoint
from dpo_core.commands.options import (
    Options,
    count,
    device,
    labels,
    option,
    pair_temperatures,
    pick_device,
    refuse_changed,
    reward,
    seed,
    threads,
)
from dpo_core.commands.recipe import task_of
from dpo_core.commands.run import find_start
from dpo_core.model import Llama
from dpo_core.pairs import Pairs
from dpo_core.preferences import on_policy_pairs, population_pairs
from dpo_core.progress import say
from dpo_core.storage import workshop
from dpo_core.task import BookTask, Task
from dpo_core.threads import use_threads

SOURCES = ("population", "on-policy", "checker")
NO_EFFECT = {"population": ("pair_temperatures",), "on-policy": (), "checker": ("reward", "labels")}


@dataclass(frozen=True)
class MakePairs(Options):
    """Make a file of preference pairs (JSON lines, TRL's columns) from a model or from the
    population of authors.
    """

    source: str = option(
        "on-policy",
        "population (two authors), on-policy (two answers of the model), or checker "
        "(the same, judged by the exact checker alone: deterministic, ties dropped)",
        choices=SOURCES,
    )
    model: str = option(
        "", "who answers, and the reference: a folder, gen or dpo; default as in train-dpo"
    )
    output: str = option("pairs.jsonl", "file to write; one that exists is never replaced")
    pairs: int = count(
        24_000, "comparisons; ties that have no label are dropped from them", high=1_000_000
    )
    reward: str = reward()
    labels: str = labels()
    pair_temperatures: tuple[float, ...] = pair_temperatures()
    noise: float = option(0.0, "share of labels turned round, below 0.5", low=0, below=0.5)
    seed: int = seed("of the prompts, the answers and the labels")
    device: str = device()
    threads: int = threads()


def run(options: MakePairs) -> None:
    """Run `dpo-core make-pairs`.

    Raises:
        ValueError: bad input, before anything is written.
        OSError: the file cannot be written.
    """
    on = pick_device(options.device)
    refuse_changed(options, NO_EFFECT[options.source], f"source {options.source}")
    start, folder = find_start(options.model)
    reference, recipe = checkpoint.read_model(folder)
    task = task_of(recipe)
    if options.source == "population" and not isinstance(task, BookTask):
        raise ValueError(
            f"source population needs a model of task book; {start} is of task {task.name}"
        )
    if os.path.exists(options.output):
        raise ValueError(f"{options.output} exists; name another file, or remove it")
    with workshop(options.output) as place:
        use_threads(options.threads)
        made = make(options, task, reference.to(on))
        if not len(made):
            raise ValueError(
                f"no pair has a label: all {options.pairs} are ties, which this judge drops"
            )
        place.publish(made.text(), place.place, replace=False)
    dropped = options.pairs - len(made)
    say(f"wrote {options.output}: {len(made)} pairs, {dropped} ties dropped")


def make(options: MakePairs, task: Task, reference: Llama) -> Pairs:
    """The pairs that the options ask for."""
    given = {"noise": options.noise, "seed": options.seed, "progress": True}
    judge = {"reward": options.reward, "labels": options.labels}
    if options.source == "population":
        return population_pairs(reference, task, options.pairs, **judge, **given)
    if options.source == "checker":
        judge = {"reward": "exact", "labels": "deterministic"}
    temperatures = options.pair_temperatures
    return on_policy_pairs(
        reference, task, options.pairs, temperatures=temperatures, **judge, **given
    )
