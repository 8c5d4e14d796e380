"""The command line.

    dpo-core train-gen                          train the base model (chapter 3), writes ./gen.model
    dpo-core train-dpo                          train it with DPO (chapter 9), writes ./dpo.model
    dpo-core generate dpo 54 -12 --n 3          let a model answer
    dpo-core evaluate dpo --n 2000 --json       measure it

Also `python -m dpo_core ...`; `dpo-core COMMAND --help` lists the options (options.py). Bad input
ends in one line on standard error and exit code 2.
"""

import json
import os
import shutil
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from dpo_core import checkpoint, evaluation, pairs
from dpo_core.model import Llama, ModelConfig
from dpo_core.options import COMMANDS, Evaluate, Generate, TrainDpo, TrainGen, make_parser
from dpo_core.sampling import TOKENIZER, generate
from dpo_core.task import BookTask, ClassicTask, Task, judge, make_prompt, make_task, stream
from dpo_core.training import Batch, BatchAt, LoopConfig, LossStep, default_device, dpo_step, sft_step, train

NOT_RECORDED = ("output", "device", "resume", "save_every")  # they do not shape the result


def train_gen(options: TrainGen) -> None:
    """Run `dpo-core train-gen`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, device = make_task(options.task), pick_device(options.device)
    if options.loss_on not in ("completion", "all"):
        raise ValueError(f"unknown loss_on {options.loss_on!r}; accepted are completion, all")
    check_run(options)

    def batch_at(step: int) -> Batch:
        prompts, completions = task.demonstrations(options.batch_size, stream("sft", options.seed, step))
        ids, mask = TOKENIZER.collate(prompts, completions)
        if options.loss_on == "all":
            mask = ids != TOKENIZER.pad_id
            mask[:, 0] = False  # nothing predicts the first token
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(options.seed).to(device)
    run_training(options, model, batch_at, sft_step, recipe={})


def train_dpo(options: TrainDpo) -> None:
    """Run `dpo-core train-dpo`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, device = make_task(options.task), pick_device(options.device)
    if options.reference and not options.allow_other_reference:
        raise ValueError("a reference other than the start needs --allow-other-reference")
    for name in ("reward", "labels", "pair_temperatures") if options.task == "classic" else ():
        if getattr(options, name) != getattr(TrainDpo(), name):
            raise ValueError(f"{name} has no effect on task classic, whose pairs are fixed")
    if options.label_smoothing and options.labels == "soft" and options.task == "book":
        raise ValueError("label_smoothing has no effect on soft labels; accepted with sampled and deterministic ones")
    evaluation.class_rewards(options.reward)
    if options.labels not in pairs.LABELS:
        raise ValueError(f"unknown labels {options.labels!r}; accepted are {', '.join(pairs.LABELS)}")
    more = {name: getattr(options, name) for name in ("gamma_beta_ratio", "discopop_tau", "sft_weight")}
    loss_step = dpo_step(options.beta, options.loss_type, options.label_smoothing, **more)
    if options.pairs < options.batch_size:
        raise ValueError(f"pairs is {options.pairs}; accepted are whole numbers from batch_size, {options.batch_size}")
    start = options.model or ("gen.model" if Path("gen.model").is_dir() else "gen")
    folder = checkpoint.model_folder(start)
    print(f"starting from {'the shipped ' if start in checkpoint.SHIPPED and folder != Path(start) else ''}{start}")
    options = replace(options, model=start)
    policy = checkpoint.load_model(folder).to(device)
    reference_folder = checkpoint.model_folder(options.reference) if options.reference else folder
    reference = checkpoint.load_model(reference_folder).to(device)
    check_run(options)
    data = cached_pairs(options, task, reference)
    if not options.allow_other_reference:
        pairs.check_same_start(policy, data)
    beside = Path(options.output).absolute().parent  # a relative path: model and reference may move together
    recorded = os.path.relpath(reference_folder.absolute(), beside)
    recipe = {"reference": {"folder": recorded, "fingerprint": checkpoint.fingerprint(reference)}}
    run_training(options, policy, data.batches(options.batch_size, options.seed), loss_step, recipe)


def cached_pairs(options: TrainDpo, task: Task, reference: Llama) -> pairs.Pairs:
    """The pairs of these options: read if a run with the same ones wrote them, else made and written."""
    names = ("task", "reward", "labels", "pairs", "pair_temperatures", "seed")
    settings = {name: getattr(options, name) for name in names}
    key = pairs.content_hash(reference=checkpoint.fingerprint(reference), **settings)
    output = Path(options.output)
    path = output.with_name(f"{output.name}.pairs-{key}.jsonl")
    if path.exists():
        return pairs.read_pairs(path)
    if isinstance(task, ClassicTask):
        made = pairs.classic_pairs(reference, task, options.pairs, seed=options.seed, progress=True)
    else:
        made = pairs.on_policy_pairs(
            reference, task, options.pairs,
            reward=options.reward, labels=options.labels, temperatures=options.pair_temperatures,
            seed=options.seed, progress=True,
        )  # fmt: skip
    made.write(path)
    return made


def run_training(
    options: TrainGen | TrainDpo, model: Llama, batch_at: BatchAt, loss_step: LossStep, recipe: dict[str, Any]
) -> None:
    """Train, then write the model folder with its recipe; the run state goes when the folder is there."""
    output = Path(options.output)
    partial = partial_folder(output)
    record = {name: value for name, value in asdict(options).items() if name not in NOT_RECORDED}
    metrics = output.with_name(output.name + ".metrics.jsonl")
    history = train(
        model, batch_at, loss_step, loop_config(options),
        state_folder=partial, record=record, resume=options.resume, metrics_file=metrics,
    )  # fmt: skip
    checkpoint.save_model(model, output, {**record, **recipe, "torch": torch.__version__, "last": history[-1]})
    shutil.rmtree(partial, ignore_errors=True)
    print(f"wrote {output}")


def partial_folder(output: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return output.with_name(output.name + ".partial")


def check_run(options: TrainGen | TrainDpo) -> None:
    """Find what is wrong with a run's options while nothing has been written.

    Raises:
        ValueError: a number out of its range, a place that cannot be written, an interrupted run in the way.
    """
    loop_config(options)
    stream("check", options.seed)
    if not Path(options.output).name:
        raise ValueError(f"output is {options.output!r}; accepted is the name of a folder")
    partial = partial_folder(Path(options.output))
    if partial.exists() and not options.resume:
        raise ValueError(f"{partial} holds an interrupted run; continue it with --resume, or remove the folder")
    if options.resume and not partial.exists():
        raise ValueError(f"nothing to resume: there is no {partial}")
    checkpoint.check_place(options.output)


def loop_config(options: TrainGen | TrainDpo) -> LoopConfig:
    """The part of the options that the training loop takes.

    Raises:
        ValueError: a number out of its range.
    """
    if options.batch_size < 1:
        raise ValueError(f"batch_size is {options.batch_size}; accepted are whole numbers from 1")
    names = [field.name for field in fields(LoopConfig) if hasattr(options, field.name)]
    return LoopConfig(**{name: getattr(options, name) for name in names})


def run_generate(options: Generate) -> None:
    """Run `dpo-core generate`.

    Raises:
        ValueError: bad input.
    """
    if options.n < 1:
        raise ValueError(f"n is {options.n}; accepted are whole numbers from 1")
    prompts = [make_prompt(prompt) for prompt in options.prompts for _ in range(options.n)]
    folder = checkpoint.model_folder(options.model)
    model = checkpoint.load_model(folder).to(pick_device(options.device))
    tolerance = make_task(checkpoint.read_recipe(folder).get("task", "book")).tolerance
    completions = generate(
        model, prompts, temperature=options.temperature, top_k=options.top_k or None, top_p=options.top_p,
        max_new_tokens=options.max_new_tokens, seed=options.seed,
    )  # fmt: skip
    for prompt, completion in zip(prompts, completions):
        verdict = judge(prompt, completion, tolerance)
        finding = "exact" if verdict.exact else "not exact" if verdict.well_formed else "not well formed"
        print(f"{prompt}{completion}\t{finding}")


def run_evaluate(options: Evaluate) -> None:
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
    reference = find_reference(options, folder, recipe) if options.temperature == 1 or options.reference else None
    report: dict[str, Any] = {"model": options.model, "n": options.n, "seed": options.seed}
    measured = evaluation.evaluate(
        model, task, n=options.n, seed=options.seed, temperature=options.temperature,
        reference=reference.to(device) if reference else None, progress=True,
    )  # fmt: skip
    report |= {name: asdict(estimate) for name, estimate in measured.items()}
    if isinstance(task, BookTask):
        if recipe.get("labels") in ("soft", "sampled"):  # a deterministic judge leads elsewhere
            report["predicted"] = evaluation.predicted_optimum(task, recipe["reward"], recipe["beta"])
        elif "reward" not in recipe:
            report["population"] = {"exact": 1 - task.slip, "style": task.style}
            if options.temperature == 1:
                excess = evaluation.excess_nats(model, task, n=options.n, seed=options.seed)
                report |= {"entropy_floor": task.entropy, "excess_nats": asdict(excess)}
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        if isinstance(value, dict) and "low" in value:
            print(f"{name:20} {value['value']:.4f}   95 % interval {value['low']:.4f} to {value['high']:.4f}")
        elif isinstance(value, dict):
            print(f"{name:20} " + ", ".join(f"{key} {number:.4f}" for key, number in value.items()))
        else:
            print(f"{name:20} {value}")


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
    print("the recorded reference is not here; name one with --reference for the KL", file=sys.stderr)
    return None


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a torch device.

    Raises:
        ValueError: another name, or CUDA where this torch sees none.
    """
    if name == "auto":
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}; accepted are auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; accepted is cpu")
    return device


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    values = vars(make_parser().parse_args(arguments))
    command = values.pop("command")
    run = {"train-gen": train_gen, "train-dpo": train_dpo, "generate": run_generate, "evaluate": run_evaluate}
    try:
        run[command](COMMANDS[command](**values))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"dpo-core {command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dpo-core {command}: interrupted; a saved state continues with --resume", file=sys.stderr)
        return 130
    return 0
