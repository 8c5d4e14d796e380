"""Train a model with DPO or a relative of it (chapters 9, 11 and 14).

dpo-core train-dpo        writes ./dpo.model

A real model, on pairs of texts:

dpo-core train-dpo --model FOLDER --pairs-file my.jsonl --optimizer adamw --learning-rate 1e-6
"""

import glob
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_core import checkpoint
from dpo_core.commands.options import (
    Options,
    compile_layers,
    count,
    device,
    labels,
    optimizer,
    option,
    pair_temperatures,
    pick_device,
    refuse_changed,
    resume,
    reward,
    seed,
    sharding,
    threads,
)
from dpo_core.commands.run import (
    find_start,
    pairs_of_first,
    reference_record,
    run_training,
    training_place,
)
from dpo_core.family import FAMILY, Settings
from dpo_core.lora import add_adapters
from dpo_core.model import Llama
from dpo_core.pairs import Pairs, check_same_start, content_hash, hash_of_bytes, read_pairs
from dpo_core.preferences import classic_pairs, on_policy_pairs
from dpo_core.steps import PRECISIONS, dpo_step, in_precision
from dpo_core.storage import Workshop
from dpo_core.task import TASKS, ClassicTask, Task, make_task
from dpo_core.tokenizer import CharTokenizer, Tokenizer


@dataclass(frozen=True)
class TrainDpo(Options):
    """Train a model with DPO on pairs of its own answers (book) or the seed project's pairs
    (classic).
    """

    model: str = option(
        "", "start and reference: a folder, gen or dpo; default ./gen.model, else the shipped gen"
    )
    output: str = option("dpo.model", "model folder to write")
    task: str = option("book", "book or classic", choices=tuple(TASKS))
    reward: str = reward()
    labels: str = labels()
    beta: float = option(0.25, "weight of the KL leash", low=1e-6, high=1e6)
    loss_type: str = option(
        "sigmoid", f"the loss: {', '.join(FAMILY)}; sigmoid is DPO", choices=tuple(FAMILY)
    )
    label_smoothing: float = option(
        0.0, "share of flipped labels, for sampled and deterministic labels", low=0, below=0.5
    )
    gamma_beta_ratio: float = option(
        None,
        f"margin of simpo, in units of beta (default: {Settings.gamma_beta_ratio})",
        low=0,
        high=1e6,
    )
    discopop_tau: float = option(
        None, f"temperature of discopop (default: {Settings.discopop_tau})", above=0, high=1e6
    )
    sft_weight: float = option(
        None,
        f"weight of the SFT term of sigmoid_sft (default: {Settings.sft_weight})",
        low=0,
        high=1e6,
    )
    pairs_file: str = option(
        "", "pairs to train on: JSON lines with prompt, chosen, rejected (make-pairs, TRL)"
    )
    pairs: int = count(
        96_000, "preference pairs; made once, kept in OUTPUT.pairs-HASH.jsonl", high=1_000_000
    )
    pair_temperatures: tuple[float, ...] = pair_temperatures()
    steps: int = count(1500, "updates")
    batch_size: int = count(64, "pairs per update", high=16_384)
    learning_rate: float = option(2e-3, "peak of the schedule", above=0, high=100)
    warmup: int = count(20, "updates until the peak", low=0)
    optimizer: str = optimizer()
    seed: int = seed("of the pairs and of their order")
    device: str = device()
    accumulate: int = count(1, "pieces that a batch is cut into, one after the other in memory")
    precision: str = option(
        "float32", "of the products: float32, or bfloat16 (on CUDA)", choices=PRECISIONS
    )
    checkpointing: bool = option(
        False, "keep only what goes into each layer, and compute the rest again: less memory"
    )
    lora_rank: int = count(0, "train adapters of this rank, merged at the end; 0: all", low=0)
    lora_alpha: float = option(
        None, "strength of the adapters (default: twice the rank)", above=0, high=1e6
    )
    threads: int = threads()
    compile: str = compile_layers()
    sharding: str = sharding()
    log_every: int = count(10, "updates per line of the metrics, OUTPUT/metrics.jsonl")
    save_every: int = count(250, "updates between run states, OUTPUT.partial; 0 keeps none", low=0)
    resume: bool = resume()
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
    task, on = make_task(options.task), pick_device(options.device)
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
    more = {
        name: getattr(options, name) for name in ("gamma_beta_ratio", "discopop_tau", "sft_weight")
    }
    loss_step = dpo_step(options.beta, options.loss_type, options.label_smoothing, **more)
    if options.pairs < options.batch_size and not options.pairs_file:
        raise ValueError(
            f"pairs is {options.pairs}; "
            f"accepted are whole numbers from batch_size, {options.batch_size}"
        )
    if options.accumulate > options.batch_size:
        raise ValueError(
            f"accumulate is {options.accumulate}; "
            f"accepted are whole numbers to batch_size, {options.batch_size}"
        )
    if options.precision == "bfloat16" and on.type != "cuda":
        raise ValueError("precision bfloat16 is accepted on CUDA only; CPUs are slower with it")
    if options.lora_alpha is not None and not options.lora_rank:
        raise ValueError("lora_alpha has no effect without lora_rank")
    loss_step = in_precision(loss_step, options.precision)
    start, folder = find_start(options.model)
    options = replace(options, model=start)
    policy, tokenizer, _ = checkpoint.open_model(folder)
    if not isinstance(tokenizer, CharTokenizer):
        options = for_real_model(options)
    policy = policy.to(on)
    reference, reference_folder = policy, folder  # until the training begins
    if options.reference:
        reference_folder = checkpoint.model_folder(options.reference)
        reference, other, _ = checkpoint.open_model(reference_folder)
        if reference.config.vocab_size != policy.config.vocab_size or type(other) is not type(
            tokenizer
        ):
            raise ValueError(f"{reference_folder} reads other tokens than {folder}")
        reference = reference.to(on)
    sources = (folder, reference_folder)
    with training_place(options, policy.config, *sources, tokenizer=tokenizer) as place:
        data = pairs_of_first(
            lambda: training_pairs(options, task, reference, tokenizer, place), tokenizer
        )
        if options.label_smoothing and data.soft:
            raise ValueError(
                "label_smoothing has no effect on soft labels; this file of pairs has them"
            )
        if not options.allow_other_reference:
            check_same_start(policy, data)
        recipe = reference_record(reference_folder, reference, options.output)
        recipe |= pairs_record(options, data)
        batches = data.batches(options.batch_size, options.seed)
        if options.lora_rank:
            add_adapters(policy, options.lora_rank, options.lora_alpha, options.seed)
        policy.model.checkpointing = options.checkpointing
        run_training(options, policy, batches, loss_step, recipe, place, tokenizer)


def for_real_model(options: TrainDpo) -> TrainDpo:
    """The options for a model with a tokenizer of its own, of which the defaults are not made.

    Raises:
        ValueError: an option that it needs is missing, or is at a default of the book's models.
    """
    if not options.pairs_file:
        raise ValueError(f"{options.model} is not a model of this book; it needs --pairs-file")
    if options.optimizer != "adamw":
        raise ValueError(f"{options.model} is not a model of this book; it needs --optimizer adamw")
    if options.learning_rate == TrainDpo.learning_rate:
        raise ValueError(
            f"learning_rate is {options.learning_rate}, made for the models of this book; "
            "usual are 5e-7 to 5e-6, with lora_rank 5e-6 to 2e-4"
        )
    # what is worth compiling was measured on the book's models
    return replace(options, compile="no") if options.compile == "auto" else options


def training_pairs(
    options: TrainDpo, task: Task, reference: Llama, tokenizer: Tokenizer, place: Workshop
) -> Pairs:
    """The pairs of a run: those of its file; or those of its options, read or made.

    Made pairs are kept beside the model under a name that holds two hashes: of the settings that
    made them, and of their content, so that a file that was cut or edited is noticed.

    Raises:
        ValueError: a file that holds no pairs, or another fault in it; the message names the line.
    """
    if options.pairs_file:
        return read_pairs(Path(options.pairs_file), reference, tokenizer)
    names = ("task", "reward", "labels", "pairs", "pair_temperatures", "seed")
    settings = {name: getattr(options, name) for name in names}
    key = content_hash(reference=checkpoint.fingerprint(reference), **settings)
    stem = f"{place.place.name}.pairs-{key}-"
    for path in sorted(place.place.parent.glob(glob.escape(stem) + "*.jsonl")):
        if path.name != f"{stem}{hash_of_bytes(path.read_bytes())}.jsonl":
            raise ValueError(
                f"{path} is not as it was written; remove it, and the pairs are made again, "
                "or give it by --pairs-file"
            )
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
    content = made.text()
    path = place.place.with_name(f"{stem}{hash_of_bytes(content)}.jsonl")
    place.publish(content, path, replace=False)
    return made


def pairs_record(options: TrainDpo, data: Pairs) -> dict[str, Any]:
    """What a recipe says of the pairs: their content, and their file for what made them."""
    record: dict[str, Any] = {"pairs_sha256": hashlib.sha256(data.text()).hexdigest()}
    if options.pairs_file:
        record |= dict.fromkeys(PAIR_OPTIONS[1:], None)
        record |= {"pairs_file": options.pairs_file, "pairs": len(data)}
    return record
