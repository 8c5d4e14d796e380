"""Train a model with DPO or a relative of it (chapters 9 and 11).

dpo-core train-dpo        writes ./dpo.model
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dpo_core import checkpoint, pairs
from dpo_core.commands.options import option, pick_device, refuse_changed
from dpo_core.commands.run import check_run, find_start, reference_record, run_training
from dpo_core.family import FAMILY, Settings
from dpo_core.model import Llama
from dpo_core.pairs import Pairs, content_hash, pairs_of_file, read_pairs
from dpo_core.preferences import LABELS, classic_pairs, on_policy_pairs
from dpo_core.steps import dpo_step
from dpo_core.task import ClassicTask, Task, make_task
from dpo_core.theory import class_rewards


@dataclass(frozen=True)
class TrainDpo:
    """Train a model with DPO on pairs of its own answers (book) or the seed project's pairs
    (classic).
    """

    model: str = option(
        "", "start and reference: a folder, gen or dpo; default ./gen.model, else the shipped gen"
    )
    output: str = option("dpo.model", "model folder to write")
    task: str = option("book", "book or classic")
    reward: str = option(
        "style+exact", "what the judge likes: style (three numbers), exact, or style+exact"
    )
    labels: str = option(
        "soft", "soft (Bradley-Terry probabilities), sampled (draws from them) or deterministic"
    )
    beta: float = option(0.25, "weight of the KL leash")
    loss_type: str = option("sigmoid", f"the loss: {', '.join(FAMILY)}; sigmoid is DPO")
    label_smoothing: float = option(
        0.0, "share of flipped labels, for sampled and deterministic labels"
    )
    gamma_beta_ratio: float = option(
        None, f"margin of simpo, in units of beta (default: {Settings.gamma_beta_ratio})"
    )
    discopop_tau: float = option(
        None, f"temperature of discopop (default: {Settings.discopop_tau})"
    )
    sft_weight: float = option(
        None, f"weight of the SFT term of sigmoid_sft (default: {Settings.sft_weight})"
    )
    pairs_file: str = option(
        "", "pairs to train on: JSON lines with prompt, chosen, rejected (make-pairs, TRL)"
    )
    pairs: int = option(96_000, "preference pairs; made once, kept in OUTPUT.pairs-HASH.jsonl")
    pair_temperatures: tuple[float, ...] = option(
        (1.5, 2.0), "of the pairs' second answers, in turn; first ones: 1"
    )
    steps: int = option(1500, "updates")
    batch_size: int = option(64, "pairs per update")
    learning_rate: float = option(2e-3, "peak of the schedule")
    warmup: int = option(20, "updates until the peak")
    optimizer: str = option("muon", "muon or adamw")
    seed: int = option(0, "of the pairs and of their order")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    log_every: int = option(10, "updates per line of the metrics file, OUTPUT.metrics.jsonl")
    save_every: int = option(250, "updates between run states, OUTPUT.partial; 0 keeps none")
    resume: bool = option(False, "continue the run whose state is in OUTPUT.partial")
    reference: str = option("", "another reference than the start; needs --allow-other-reference")
    allow_other_reference: bool = option(
        False, "do not insist that the policy starts from its reference"
    )


PAIR_OPTIONS = ("task", "reward", "labels", "pairs", "pair_temperatures")


def run(options: TrainDpo) -> None:
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
        refuse_changed(options, PAIR_OPTIONS, "a file of pairs")
    elif options.label_smoothing and options.labels == "soft" and options.task == "book":
        raise ValueError(
            "label_smoothing has no effect on soft labels; "
            "accepted with sampled and deterministic ones"
        )
    class_rewards(options.reward)
    if options.labels not in LABELS:
        raise ValueError(f"unknown labels {options.labels!r}; accepted are {', '.join(LABELS)}")
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
    data = training_pairs(options, task, reference)
    if options.label_smoothing and data.soft:
        raise ValueError(
            "label_smoothing has no effect on soft labels; this file of pairs has them"
        )
    if not options.allow_other_reference:
        pairs.check_same_start(policy, data)
    recipe = reference_record(reference_folder, reference, options.output)
    if options.pairs_file:
        recipe |= file_record(options.pairs_file, data)
    run_training(options, policy, data.batches(options.batch_size, options.seed), loss_step, recipe)


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
