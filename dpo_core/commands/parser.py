"""The command line: from options dataclasses to argparse, the table of commands, and `main`.

    dpo-core train-gen                          the base model (chapter 3), writes ./gen.model
    dpo-core make-pairs --source checker        preference pairs (chapter 10), writes ./pairs.jsonl
    dpo-core train-dpo                          DPO (chapter 9), writes ./dpo.model
    dpo-core train-rl --method rloo             reinforcement learning (chapter 12): ./rl.model
    dpo-core generate dpo 54 -12 --n 3          let a model answer
    dpo-core evaluate dpo --n 2000 --json       measure it

Also `python -m dpo_core ...`; `dpo-core COMMAND --help` lists the options. Bad input ends in one
line on standard error and exit code 2.
"""

import argparse
import dataclasses
import sys
from typing import NoReturn

from dpo_core.commands import evaluate, generate, make_pairs, train_dpo, train_gen, train_rl

COMMANDS = {
    "train-gen": (train_gen.TrainGen, train_gen.run),
    "make-pairs": (make_pairs.MakePairs, make_pairs.run),
    "train-dpo": (train_dpo.TrainDpo, train_dpo.run),
    "train-rl": (train_rl.TrainRl, train_rl.run),
    "generate": (generate.Generate, generate.run),
    "evaluate": (evaluate.Evaluate, evaluate.run),
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
    for name, (options, _) in COMMANDS.items():
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


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    values = vars(make_parser().parse_args(arguments))
    command = values.pop("command")
    options, run = COMMANDS[command]
    try:
        run(options(**values))
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
