"""The options of every command: one frozen dataclass each, the only source of what the parser
accepts, what the help says and what a checkpoint records.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any, NoReturn

from dpo_core.family import FAMILY, Settings
from dpo_core.policy_gradient import METHODS


def option(default: Any, help: str, **rest: Any) -> Any:
    """A field of an options dataclass with its help text; `rest` goes to argparse."""
    make = (
        {"default_factory": lambda: default} if isinstance(default, list) else {"default": default}
    )
    return dataclasses.field(**make, metadata={"help": help, **rest})


@dataclass(frozen=True)
class TrainGen:
    """Train a base model from random weights on the answers of a population of authors."""

    output: str = option("gen.model", "model folder to write")
    task: str = option("book", "book or classic")
    steps: int = option(9000, "updates")
    batch_size: int = option(128, "texts per update")
    learning_rate: float = option(0.01, "peak of the schedule")
    warmup: int = option(100, "updates until the peak")
    optimizer: str = option("muon", "muon or adamw")
    loss_on: str = option("completion", "completion, or all tokens (as Simple_RLHF_DPO does)")
    seed: int = option(0, "of the weights and of the data")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    log_every: int = option(100, "updates per line of the metrics file, OUTPUT.metrics.jsonl")
    save_every: int = option(1000, "updates between run states, OUTPUT.partial; 0 keeps none")
    resume: bool = option(False, "continue the run whose state is in OUTPUT.partial")


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


@dataclass(frozen=True)
class TrainRl:
    """Train a model by reinforcement learning on its own answers, judged by the exact checker."""

    model: str = option(
        "", "start and reference: a folder, gen or dpo; default ./gen.model, else the shipped gen"
    )
    output: str = option("rl.model", "model folder to write")
    method: str = option("rloo", f"the method: {', '.join(METHODS)}")
    reward: str = option(
        "style+exact", "what the judge likes: style (three numbers), exact, or style+exact"
    )
    beta: float = option(0.25, "weight of the KL leash")
    prompts: int = option(32, "prompts per rollout")
    answers: int = option(4, "answers to each prompt of a rollout")
    epochs: int = option(1, "times that a rollout is used")
    minibatches: int = option(1, "updates that each use is cut into")
    clip: float = option(
        None, "a ratio this far from 1, on the wanted side, pulls no more (default: 0.2)"
    )
    lam: float = option(None, "of ppo's generalised advantages (default: 0.95)")
    value_weight: float = option(None, "of the critic's loss in ppo (default: 0.5)")
    steps: int = option(400, "updates")
    learning_rate: float = option(2e-3, "peak of the schedule")
    warmup: int = option(10, "updates until the peak")
    optimizer: str = option("muon", "muon or adamw")
    max_grad_norm: float = option(1.0, "gradients longer than this are shortened to it")
    seed: int = option(0, "of the prompts and of the answers")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    log_every: int = option(10, "updates per line of the metrics file, OUTPUT.metrics.jsonl")
    save_every: int = option(100, "updates between run states, OUTPUT.partial; 0 keeps none")
    resume: bool = option(False, "continue the run whose state is in OUTPUT.partial")


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


@dataclass(frozen=True)
class Generate:
    """Let a model answer prompts; each line is an answer and what the checker says of it."""

    model: str = option("gen", "a folder, gen or dpo", positional=True)
    prompts: list[str] = option([], "targets (54, -12) or prompts (S54=)", positional=True)
    n: int = option(1, "answers per prompt")
    temperature: float = option(1.0, "0 is greedy decoding")
    top_k: int = option(0, "draw from the k most probable tokens; 0 from all")
    top_p: float = option(1.0, "draw from the smallest set of tokens with this mass")
    max_new_tokens: int = option(32, "longest answer, in tokens")
    seed: int = option(0, "of the draws")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")


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


COMMANDS = {
    "train-gen": TrainGen,
    "make-pairs": MakePairs,
    "train-dpo": TrainDpo,
    "train-rl": TrainRl,
    "generate": Generate,
    "evaluate": Evaluate,
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the fault and leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists what is accepted)\n")


def make_parser() -> Parser:
    """The parser, with every option taken from the commands' dataclasses."""
    parser = Parser(
        prog="dpo-core", description="Train, sample and judge the models of DPO from Zero."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, options in COMMANDS.items():
        command = commands.add_parser(name, help=options.__doc__, description=options.__doc__)
        for field in dataclasses.fields(options):
            add_option(command, field)
    return parser


def add_option(command: argparse.ArgumentParser, field: dataclasses.Field) -> None:
    """One field of an options dataclass as an argument."""
    text = field.metadata["help"].replace("%", "%%")
    if field.metadata.get("positional"):
        many = field.default is dataclasses.MISSING
        command.add_argument(field.name, nargs="+" if many else None, help=text, type=str)
    elif field.type is bool:
        command.add_argument(_flag(field), action="store_true", help=text)
    else:
        shown = f"{text} (default: {field.default})" if field.default not in ("", None) else text
        many = (
            {"type": float, "nargs": "+"}
            if isinstance(field.default, tuple)
            else {"type": field.type}
        )
        command.add_argument(_flag(field), **many, default=field.default, help=shown, metavar="X")


def _flag(field: dataclasses.Field) -> str:
    return "--" + field.name.replace("_", "-")
