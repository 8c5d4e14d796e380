"""The command line.

    dpo-core train-gen                          train the base model (chapter 3), writes ./gen.model
    dpo-core make-pairs --source checker        preference pairs (chapter 10), writes ./pairs.jsonl
    dpo-core train-dpo                          train it with DPO (chapter 9), writes ./dpo.model
    dpo-core train-rl --method rloo             train it by reinforcement learning (chapter 12),
    writes ./rl.model dpo-core generate dpo 54 -12 --n 3          let a model answer
    dpo-core evaluate dpo --n 2000 --json       measure it

Also `python -m dpo_core ...`; `dpo-core COMMAND --help` lists the options (options.py). Bad input
ends in one line on standard error and exit code 2.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dpo_core import checkpoint, evaluation, make_pairs, pairs, rl
from dpo_core.command_run import check_run, find_start, pick_device, reference_record, run_training
from dpo_core.model import Llama, ModelConfig
from dpo_core.options import (
    COMMANDS,
    Evaluate,
    Generate,
    MakePairs,
    TrainDpo,
    TrainGen,
    TrainRl,
    make_parser,
)
from dpo_core.sampling import TOKENIZER, generate
from dpo_core.task import BookTask, judge, make_prompt, make_task, stream
from dpo_core.training import Batch, dpo_step, sft_step


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
        prompts, completions = task.demonstrations(
            options.batch_size, stream("sft", options.seed, step)
        )
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
    if options.pairs_file:
        make_pairs.refuse_changed(options, make_pairs.PAIR_OPTIONS, "a file of pairs")
    elif options.label_smoothing and options.labels == "soft" and options.task == "book":
        raise ValueError(
            "label_smoothing has no effect on soft labels; "
            "accepted with sampled and deterministic ones"
        )
    evaluation.class_rewards(options.reward)
    if options.labels not in pairs.LABELS:
        raise ValueError(
            f"unknown labels {options.labels!r}; accepted are {', '.join(pairs.LABELS)}"
        )
    more = {
        name: getattr(options, name) for name in ("gamma_beta_ratio", "discopop_tau", "sft_weight")
    }
    loss_step = dpo_step(options.beta, options.loss_type, options.label_smoothing, **more)
    if options.pairs < options.batch_size and not options.pairs_file:
        raise ValueError(
            f"pairs is {options.pairs}; "
            f"accepted are whole numbers from batch_size, {options.batch_size}"
        )
    start, folder = find_start(options.model)
    options = replace(options, model=start)
    policy = checkpoint.load_model(folder).to(device)
    reference_folder = checkpoint.model_folder(options.reference) if options.reference else folder
    reference = checkpoint.load_model(reference_folder).to(device)
    check_run(options)
    data = make_pairs.training_pairs(options, task, reference)
    if options.label_smoothing and data.soft:
        raise ValueError(
            "label_smoothing has no effect on soft labels; this file of pairs has them"
        )
    if not options.allow_other_reference:
        pairs.check_same_start(policy, data)
    recipe = reference_record(reference_folder, reference, options.output)
    if options.pairs_file:
        recipe |= make_pairs.file_record(options.pairs_file, data)
    run_training(options, policy, data.batches(options.batch_size, options.seed), loss_step, recipe)


def train_rl(options: TrainRl) -> None:
    """Run `dpo-core train-rl`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, device = BookTask(), pick_device(options.device)
    judge = rl.checker(task, options.reward)
    method = rl.METHODS.get(options.method)
    if method is not None:  # an unknown one is named below
        for name, has_effect in (
            ("clip", method.clipped),
            ("lam", method.baseline is None),
            ("value_weight", method.baseline is None),
        ):
            if getattr(options, name) is not None and not has_effect:
                raise ValueError(f"{name} has no effect on method {options.method!r}")
    given = {
        name: getattr(options, name)
        for name in ("clip", "value_weight")
        if getattr(options, name) is not None
    }
    loss_step = rl.rl_step(options.method, beta=options.beta, **given)
    if options.save_every % (updates := max(1, options.epochs * options.minibatches)):
        raise ValueError(
            f"save_every is {options.save_every}; "
            f"accepted are multiples of {updates} updates, a rollout"
        )
    start, folder = find_start(options.model)
    options = replace(options, model=start)
    policy, reference = (checkpoint.load_model(folder).to(device) for _ in range(2))
    model = rl.ActorCritic(policy) if options.method == "ppo" else policy
    batch_at = rl.rollouts(
        model,
        reference,
        task,
        judge,
        options.method,
        beta=options.beta,
        prompts=options.prompts,
        answers=options.answers,
        seed=options.seed,
        epochs=options.epochs,
        minibatches=options.minibatches,
        **({} if options.lam is None else {"lam": options.lam}),
    )
    check_run(options)
    run_training(
        options, model, batch_at, loss_step, reference_record(folder, reference, options.output)
    )


def run_make_pairs(options: MakePairs) -> None:
    """Run `dpo-core make-pairs`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    device = pick_device(options.device)
    make_pairs.check_options(options)
    start, folder = find_start(options.model)
    make_pairs.write_pairs(options, start, folder, device)


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
        model,
        prompts,
        temperature=options.temperature,
        top_k=options.top_k or None,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
    )
    for prompt, completion in zip(prompts, completions):
        verdict = judge(prompt, completion, tolerance)
        finding = (
            "exact" if verdict.exact else "not exact" if verdict.well_formed else "not well formed"
        )
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
            report["predicted"] = evaluation.predicted_optimum(
                task, recipe["reward"], recipe["beta"]
            )
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
    method = rl.METHODS.get(recipe.get("method", ""))
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


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    values = vars(make_parser().parse_args(arguments))
    command = values.pop("command")
    run = {
        "train-gen": train_gen,
        "make-pairs": run_make_pairs,
        "train-dpo": train_dpo,
        "train-rl": train_rl,
        "generate": run_generate,
        "evaluate": run_evaluate,
    }
    try:
        run[command](COMMANDS[command](**values))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"dpo-core {command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"dpo-core {command}: interrupted; a saved state continues with --resume",
            file=sys.stderr,
        )
        return 130
    return 0
