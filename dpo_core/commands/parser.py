"""The command line: from options dataclasses to argparse, the table of commands, and `main`.

    dpo-core train-gen                          the base model (chapter 3), writes ./gen.model
    dpo-core make-pairs --source checker        preference pairs (chapter 10), writes ./pairs.jsonl
    dpo-core train-dpo                          DPO (chapter 9), writes ./dpo.model
    dpo-core train-rl --method rloo             reinforcement learning (chapter 12): ./rl.model
    dpo-core generate dpo 54 -12 --n 3          let a model answer
    dpo-core evaluate dpo --n 2000 --json       measure it
    dpo-core cost llama-3-8b                    what a real model would cost (chapter 13)
    dpo-core doctor data pairs.jsonl            what is wrong with a file of pairs (chapter 14)
    dpo-core doctor run dpo.model               what is wrong with a run (chapter 14)

Also `python -m dpo_core ...`; `dpo-core COMMAND --help` lists the options. Bad input ends in one
line on standard error and exit code 2; `doctor` leaves with 1 where it found something.
"""

import argparse
import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from dpo_core.commands import (
    cost,
    doctor,
    evaluate,
    generate,
    make_pairs,
    train_dpo,
    train_gen,
    train_rl,
)
from dpo_core.progress import say
from dpo_core.storage import STATE

COMMANDS = {
    "train-gen": (train_gen.TrainGen, train_gen.run),
    "make-pairs": (make_pairs.MakePairs, make_pairs.run),
    "train-dpo": (train_dpo.TrainDpo, train_dpo.run),
    "train-rl": (train_rl.TrainRl, train_rl.run),
    "generate": (generate.Generate, generate.run),
    "evaluate": (evaluate.Evaluate, evaluate.run),
    "cost": (cost.Cost, cost.run),
    "doctor": (doctor.Doctor, doctor.run),
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, and which takes no option by half its name."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the fault and leave with exit code 2."""
        text = one_line(f"{self.prog}: error: {message} (--help lists what is accepted)")
        self.exit(2, text + "\n")


def make_parser() -> Parser:
    """The parser, with every option taken from the commands' dataclasses."""
    parser = Parser(
        prog="dpo-core", description="Train, sample and judge the models of DPO from Zero."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (options, _) in COMMANDS.items():
        says = options.__doc__
        command = commands.add_parser(name, help=says.replace("%", "%%"), description=says)
        for field in dataclasses.fields(options):
            add_option(command, field)
    return parser


def add_option(command: argparse.ArgumentParser, field: dataclasses.Field) -> None:
    """One field of an options dataclass as an argument."""
    text = field.metadata["help"].replace("%", "%%")
    flag = "--" + field.name.replace("_", "-")
    kinds = {int: whole_number, float: real_number}
    if field.metadata["positional"]:
        many = field.default is dataclasses.MISSING
        command.add_argument(field.name, nargs="+" if many else None, help=text)
    elif field.type is bool:
        command.add_argument(flag, action="store_true", help=text)
    else:
        shown = f"{text} (default: {field.default})" if field.default not in ("", None) else text
        kind = {"type": kinds.get(field.type, str)}
        if isinstance(field.default, tuple):
            kind = {"type": real_number, "nargs": "+"}
        command.add_argument(flag, **kind, default=field.default, help=shown, metavar="X")


def whole_number(text: str) -> int:
    """A whole number in plain digits; `int` would take 1_0 and digits of any script."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a whole number")
    return int(text)


def real_number(text: str) -> float:
    """A number in plain digits, with a point and an exponent if need be."""
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|-?inf|nan", text):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a number")
    return float(text)


def one_line(text: str) -> str:
    """A message as one line that any terminal can show; of a very long one, its ends."""
    if len(text) > 1000:
        text = text[:600] + " ... " + text[-300:]
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.splitlines()))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or the command's own; 2 for bad input, 130 for an
    interruption.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    for argument in arguments:
        if argument.startswith("--") and argument.endswith("=--"):  # argparse stumbles over it
            parser.error(f"argument {argument[:-3]}: expected a value")
    values = vars(parser.parse_args(arguments))
    command = values.pop("command")
    options, run = COMMANDS[command]

    def fault(message: str) -> None:
        say(one_line(f"dpo-core {command}: {message}"), sys.stderr)

    try:
        code = run(options(**values))
    except BrokenPipeError:  # whoever read what we print has seen enough
        return 0
    except MemoryError:
        fault("error: not enough memory; try a smaller batch, or fewer answers")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fault(f"error: {where}{error.strerror or error}")
    except (ValueError, FloatingPointError) as error:
        fault(f"error: {error}")
    except RuntimeError as error:
        if "memory" not in str(error):  # torch's word for a MemoryError, with a page of advice
            raise
        fault("error: not enough memory; try a smaller batch, or fewer answers")
    except KeyboardInterrupt:
        state = saved_state(values.get("output"))
        more = f"; --resume continues {state}" if state else "; there is nothing to resume"
        fault("interrupted" + more * ("resume" in values))
        return 130
    else:
        return code or 0
    return 2


def saved_state(output: str | None) -> str:
    """The workshop of an output, if a run can be resumed there."""
    folder = Path(os.path.realpath(output or "") + ".partial")
    return str(folder) if (folder / STATE).exists() else ""
