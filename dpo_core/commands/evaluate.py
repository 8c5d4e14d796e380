"""Measure a model.

dpo-core evaluate dpo --n 2000 --json
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_core import checkpoint, evaluation
from dpo_core.commands.options import option, pick_device
from dpo_core.model import Llama
from dpo_core.policy_gradient import METHODS
from dpo_core.task import BookTask, make_task
from dpo_core.theory import predicted_optimum


@dataclass(frozen=True)
class Evaluate:
    """Draw answers to fresh prompts and report shares with 95 % intervals."""

    model: str = option("gen", "a folder, gen or dpo", positional=True)
    n: int = option(5000, "answers to draw; 5000 measure a share to about one point")
    seed: int = option(0, "of the prompts and of the draws")
    temperature: float = option(1.0, "0 is greedy decoding; KL and loss are reported at 1 only")
    reference: str = option(
        "", "model to measure the KL to; default: the one that training recorded"
    )
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    json: bool = option(False, "print one JSON object")


def run(options: Evaluate) -> None:
    """Run `dpo-core evaluate`.

    Raises:
        ValueError: bad input.
    """
    folder = checkpoint.model_folder(options.model)
    device = pick_device(options.device)
    model = checkpoint.load_model(folder).to(device)
    recipe = checkpoint.read_recipe(folder)
    task = make_task(recipe.get("task", "book"))
    # at another temperature a reference that was asked for is an error, which `evaluate` names
    reference = (
        find_reference(options, folder, recipe)
        if options.temperature == 1 or options.reference
        else None
    )
    report: dict[str, Any] = {"model": options.model, "n": options.n, "seed": options.seed}
    measured = evaluation.evaluate(
        model,
        task,
        n=options.n,
        seed=options.seed,
        temperature=options.temperature,
        reference=reference.to(device) if reference else None,
        progress=True,
    )
    report |= {name: asdict(estimate) for name, estimate in measured.items()}
    if isinstance(task, BookTask):
        if leads_to_optimum(recipe):
            report["predicted"] = predicted_optimum(task, recipe["reward"], recipe["beta"])
        elif "beta" not in recipe:
            report["population"] = {"exact": 1 - task.slip, "style": task.style}
            if options.temperature == 1:
                excess = evaluation.excess_nats(model, task, n=options.n, seed=options.seed)
                report |= {"entropy_floor": task.entropy, "excess_nats": asdict(excess)}
    if options.json:
        print(json.dumps(report))
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


def leads_to_optimum(recipe: dict[str, Any]) -> bool:
    """Whether theory has the KL-regularised optimum at the end of such a run.

    DPO's own loss leads there with labels that know how sure they are (chapter 7), and
    reinforcement learning with its leash in the reward (chapter 12). Other losses have other ends
    (chapter 11), and without a leash there is none.
    """
    by_preferences = (
        recipe.get("labels") in ("soft", "sampled") and recipe.get("loss_type") == "sigmoid"
    )
    method = METHODS.get(recipe.get("method", ""))
    return (by_preferences and not recipe.get("label_smoothing")) or (
        method is not None and method.kl_in_reward and recipe["beta"] > 0
    )


def find_reference(options: Evaluate, folder: Path, recipe: dict[str, Any]) -> Llama | None:
    """The model that the KL is measured to: the one named, else the one that training recorded.

    A recorded reference counts only if its weights are still those that were recorded.

    Raises:
        ValueError: the named model cannot be read.
    """
    if options.reference:
        return checkpoint.load_model(checkpoint.model_folder(options.reference))
    recorded = recipe.get("reference")
    if recorded is None:
        return None
    for candidate in (folder.parent / recorded["folder"], checkpoint.model_folder("gen")):
        if (candidate / "config.json").is_file():
            model = checkpoint.load_model(candidate)
            if checkpoint.fingerprint(model) == recorded["fingerprint"]:
                return model
    print(
        "the recorded reference is not here; name one with --reference for the KL", file=sys.stderr
    )
    return None
