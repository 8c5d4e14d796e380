"""Measure a model.

dpo-core evaluate dpo --n 2000 --json
dpo-core evaluate FOLDER --pairs-file held-out.jsonl --reference FOLDER
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_core import checkpoint, evaluation
from dpo_core.checkpoint import CheckpointError
from dpo_core.commands.options import (
    Options,
    count,
    device,
    option,
    pick_device,
    refuse_changed,
    seed,
    threads,
)
from dpo_core.commands.recipe import Recipe, read, task_of
from dpo_core.model import Llama
from dpo_core.pairs import read_pairs
from dpo_core.policy_gradient import METHODS
from dpo_core.progress import say
from dpo_core.task import BookTask
from dpo_core.theory import predicted_optimum
from dpo_core.threads import use_threads
from dpo_core.tokenizer import CharTokenizer, Tokenizer


@dataclass(frozen=True)
class Evaluate(Options):
    """Draw answers to fresh prompts and report shares with 95 % intervals; or say how often any
    model prefers the chosen answers of a file.
    """

    model: str = option("gen", "a folder, gen or dpo", positional=True)
    n: int = count(
        5000, "answers to draw; 5000 measure a share to about one point", low=2, high=1_000_000
    )
    seed: int = seed("of the prompts and of the draws")
    temperature: float = option(
        1.0, "0 is greedy decoding; KL and loss are reported at 1 only", low=0, high=1000
    )
    reference: str = option(
        "", "model to measure the KL to; default: the one that training recorded"
    )
    pairs_file: str = option(
        "", "pairs of texts to rank, instead of drawing answers: JSON lines as in train-dpo"
    )
    device: str = device()
    threads: int = threads()
    json: bool = option(False, "print one JSON object")


def run(options: Evaluate) -> None:
    """Run `dpo-core evaluate`.

    Raises:
        ValueError: bad input.
    """
    folder = checkpoint.model_folder(options.model)
    on = pick_device(options.device)
    model, tokenizer, stored = checkpoint.open_model(folder)
    recipe = read(stored)
    model = model.to(on)
    if options.pairs_file:
        refuse_changed(options, ("n", "seed", "temperature"), "a file of pairs")
        use_threads(options.threads)
        reference = find_reference(options, folder, recipe, needed=False)
        report = rank_pairs(options, model, tokenizer, reference)
        show(options, report)
        return
    if not isinstance(tokenizer, CharTokenizer):
        raise ValueError(f"{options.model} is not a model of this book; it needs --pairs-file")
    task = task_of(stored)
    # at another temperature a reference that was asked for is an error, which `evaluate` names
    asked = options.temperature == 1 or options.reference
    reference = find_reference(options, folder, recipe) if asked else None
    use_threads(options.threads)
    report: dict[str, Any] = {"model": options.model, "n": options.n, "seed": options.seed}
    measured = evaluation.evaluate(
        model,
        task,
        n=options.n,
        seed=options.seed,
        temperature=options.temperature,
        reference=reference.to(on) if reference else None,
        progress=True,
    )
    report |= {name: asdict(estimate) for name, estimate in measured.items()}
    if isinstance(task, BookTask):
        if leads_to_optimum(recipe):
            report["predicted"] = predicted_optimum(task, recipe.reward, recipe.beta)
        elif recipe.beta is None:
            report["population"] = {"exact": 1 - task.slip, "style": task.style}
            if options.temperature == 1:
                excess = evaluation.excess_nats(model, task, n=options.n, seed=options.seed)
                report |= {"entropy_floor": task.entropy, "excess_nats": asdict(excess)}
    show(options, report)


def rank_pairs(
    options: Evaluate, model: Llama, tokenizer: Tokenizer, reference: Llama | None
) -> dict[str, Any]:
    """The report on a file of pairs.

    Raises:
        ValueError: a file that holds no pairs, or that has no log-probabilities of a reference
            where none is at hand.
    """
    on = next(model.parameters()).device
    judge = reference.to(on) if reference else None
    try:
        data = read_pairs(Path(options.pairs_file), judge, tokenizer)
    except ValueError as error:
        more = (
            "; name one with --reference" if judge is None and "has no ref_" in str(error) else ""
        )
        raise ValueError(f"{error}{more}") from None
    report: dict[str, Any] = {"model": options.model, "pairs": len(data)}
    measured = evaluation.preference_accuracy(model, data, progress=True)
    return report | {name: asdict(estimate) for name, estimate in measured.items()}


def show(options: Evaluate, report: dict[str, Any]) -> None:
    """Print a report, for people or for programs."""
    if options.json:
        print(json.dumps(report, allow_nan=False))
        return
    for name, value in report.items():
        if isinstance(value, dict) and "low" in value:
            print(
                f"{name:20} {value['value']:.4f}   95 % interval {value['low']:.4f} to "
                f"{value['high']:.4f}"
            )
        elif isinstance(value, dict):
            print(f"{name:20} " + ", ".join(f"{key} {number:.4f}" for key, number in value.items()))
        else:
            print(f"{name:20} {value}")


def leads_to_optimum(recipe: Recipe) -> bool:
    """Whether theory has the KL-regularised optimum at the end of such a run.

    DPO's own loss leads there with labels that know how sure they are (chapter 7), and
    reinforcement learning with its leash in the reward (chapter 12). Other losses have other ends
    (chapter 11), and without a leash there is none.
    """
    if recipe.reward is None or recipe.beta is None or recipe.beta < 1e-6:
        return False
    if recipe.method is not None:
        return METHODS[recipe.method].kl_in_reward
    knowing = recipe.labels in ("soft", "sampled") and not recipe.label_smoothing
    return recipe.loss_type == "sigmoid" and knowing


def find_reference(
    options: Evaluate, folder: Path, recipe: Recipe, needed: bool = True
) -> Llama | None:
    """The model that the KL is measured to: the one named, else the one that training recorded.

    A recorded reference counts only if its weights are still those that were recorded.

    Raises:
        ValueError: the named model cannot be read.
    """
    if options.reference:
        return checkpoint.open_model(checkpoint.model_folder(options.reference))[0]
    if recipe.reference is None:
        return None
    recorded, fingerprint = recipe.reference
    beside = Path(os.path.realpath(folder)).parent
    for candidate in (beside / recorded, checkpoint.model_folder("gen")):
        try:
            model = checkpoint.open_model(candidate)[0]
        except CheckpointError:
            continue
        if checkpoint.fingerprint(model) == fingerprint:
            return model
    if needed:
        say("the recorded reference is not here; name one with --reference for the KL", sys.stderr)
    return None
