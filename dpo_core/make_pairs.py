"""Where preference pairs come from (chapter 10): the population, the model itself, a checker, or
somebody's file.

`dpo-core make-pairs` and `dpo-core train-dpo` make or read their pairs here.
"""

import hashlib
import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpo_core import checkpoint
from dpo_core.evaluation import class_rewards
from dpo_core.model import Llama
from dpo_core.options import MakePairs, TrainDpo
from dpo_core.pairs import (
    Pairs,
    classic_pairs,
    content_hash,
    judged_pairs,
    label,
    on_policy_pairs,
    read_pairs,
    with_reference,
)
from dpo_core.sampling import TOKENIZER
from dpo_core.task import BookTask, ClassicTask, Task, make_task, stream

SOURCES = ("population", "on-policy", "checker")
NO_EFFECT = {"population": ("pair_temperatures",), "on-policy": (), "checker": ("reward", "labels")}
# of train-dpo; a file of pairs has its own
PAIR_OPTIONS = ("task", "reward", "labels", "pairs", "pair_temperatures")
TRL_COLUMNS = ("prompt", "chosen", "rejected")


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


def refuse_changed(options: MakePairs | TrainDpo, names: tuple[str, ...], cause: str) -> None:
    """An option that has no effect is an error.

    Raises:
        ValueError: one of the named options is not at its default.
    """
    for name in names:
        if getattr(options, name) != getattr(type(options)(), name):
            raise ValueError(f"{name} has no effect on {cause}")


def check_file_place(path: Path) -> None:
    """See, before a long run, that a file can be written there.

    Raises:
        ValueError: it cannot, or something else than a file is in its place.
    """
    if not path.name or path.is_dir():
        raise ValueError(f"output is {str(path)!r}; accepted is the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: {path.parent} is no folder that can be written")


def training_pairs(options: TrainDpo, task: Task, reference: Llama) -> Pairs:
    """The pairs of a run of train-dpo: those of its file; or those of its options, read or made.

    Raises:
        ValueError: a file that holds no pairs, or another fault in it; the message names the line.
    """
    if options.pairs_file:
        return pairs_of_file(Path(options.pairs_file), reference)
    names = ("task", "reward", "labels", "pairs", "pair_temperatures", "seed")
    settings = {name: getattr(options, name) for name in names}
    key = content_hash(reference=checkpoint.fingerprint(reference), **settings)
    output = Path(options.output)
    path = output.with_name(f"{output.name}.pairs-{key}.jsonl")
    if path.exists():
        return read_pairs(path)
    if isinstance(task, ClassicTask):
        made = classic_pairs(reference, task, options.pairs, seed=options.seed, progress=True)
    else:
        made = on_policy_pairs(
            reference,
            task,
            options.pairs,
            reward=options.reward,
            labels=options.labels,
            temperatures=options.pair_temperatures,
            seed=options.seed,
            progress=True,
        )
    made.write(path)
    return made


def file_record(path: str, data: Pairs) -> dict[str, Any]:
    """What a recipe says of pairs from a file, in place of the options that did not make them."""
    content = hashlib.sha256(json.dumps(asdict(data)).encode()).hexdigest()
    return dict.fromkeys(PAIR_OPTIONS[1:], None) | {
        "pairs_file": path,
        "pairs": len(data),
        "pairs_sha256": content,
    }


def pairs_of_file(path: Path, reference: Llama) -> Pairs:
    """Read pairs from JSON lines with TRL's columns `prompt`, `chosen`, `rejected`, of whatever
    origin.

    `preference_prob` is 1 where a line has none. Reference log-probabilities are taken from the
    file if every line has both, and computed if no line has any.

    Raises:
        ValueError: a line is not a pair, has only some of the columns, or does not fit the model;
            no pairs at all; or no chosen answer ends in E. The message names the line.
    """
    logps = ("ref_chosen_logps", "ref_rejected_logps")
    if not path.is_file():
        raise ValueError(f"no file of pairs {path}")
    columns: dict[str, list] = {name: [] for name in (*TRL_COLUMNS, "preference_prob", *logps)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            for name, value in pair_of_line(line, reference.config.max_position_embeddings).items():
                columns[name].append(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}, is not a pair with {', '.join(TRL_COLUMNS)}: {error}"
            ) from None
    texts = [columns[name] for name in TRL_COLUMNS]
    if not texts[0]:
        raise ValueError(f"{path} holds no pairs")
    if not any(text.endswith("E") for text in columns["chosen"]):
        raise ValueError(
            f"{path}: no chosen answer ends in E, so nothing teaches the model to stop"
        )
    counts = {len(columns[name]) for name in logps}
    if counts == {len(texts[0])}:
        return Pairs(**columns)
    if counts != {0}:
        raise ValueError(f"{path}: some lines have {' and '.join(logps)}, some have not")
    return with_reference(reference, *texts, columns["preference_prob"], progress=True)


def pair_of_line(line: str, positions: int) -> dict[str, str | float]:
    """The columns of one line.

    Raises:
        ValueError: it is no pair that a model with that many positions can read.
    """
    row = json.loads(line)
    found: dict[str, str | float] = {}
    for name in TRL_COLUMNS:
        text = row.get(name)
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} is {text!r}; accepted is a text")
        found[name] = text
    for name in ("chosen", "rejected"):
        length = len(TOKENIZER.encode(found["prompt"] + found[name]))
        if length > positions:
            raise ValueError(
                f"prompt and {name} have {length} tokens; the model has {positions} positions"
            )
    found["preference_prob"] = float(row.get("preference_prob", 1.0))
    if not 0 <= found["preference_prob"] <= 1:
        raise ValueError(f"preference_prob is {found['preference_prob']}; accepted is 0 to 1")
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        if name in row:
            found[name] = float(row[name])
            if not math.isfinite(found[name]):
                raise ValueError(f"{name} is {found[name]}; accepted are finite numbers")
    return found
