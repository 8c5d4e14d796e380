"""`python -m dpo_core ...`, and `dpo-core ...`: the command line as a process of its own.

It starts before torch is loaded, which takes seconds: Ctrl-C is answered from the first of them.
Started by torchrun it is one of several processes, which end together (`dpo_core.parallel`).
"""

import contextlib
import os
import signal
import sys
from typing import Any


def main() -> int:
    """Run the command line; returns the exit code, whatever the terminal can show."""
    _open_streams()
    if answered := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)  # libraries that are being loaded swallow exceptions
    from dpo_core.commands.parser import COMMANDS
    from dpo_core.commands.parser import main as run
    from dpo_core.parallel import as_one, launched

    try:
        if answered:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if launched():
            command = (sys.argv[1:2] or [""])[0]
            alone = command in COMMANDS and not hasattr(COMMANDS[command][0], "sharding")
            code = as_one(run, alone=command if alone else "")
        else:
            code = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's end would answer with a traceback
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 130
        _complain("interrupted")
    try:
        sys.stdout.flush()
    except OSError as error:
        if not code and not isinstance(error, BrokenPipeError):  # then, a reader has seen enough
            code = 2
            _complain(f"error: standard output: {error.strerror}")
        _lead_nowhere(1)
    return code


def _open_streams() -> None:
    """What is closed leads nowhere, lest a file get its number; what cannot be shown is escaped."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _lead_nowhere(number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")


def _lead_nowhere(number: int) -> None:
    """Let a stream go on without a fault; Python's own last flush would make the exit code 120."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _complain(message: str) -> None:
    try:
        print(f"dpo-core: {message}", file=sys.stderr, flush=True)
    except OSError:
        _lead_nowhere(2)


def _leave(number: int, frame: Any) -> None:
    """Ctrl-C while the libraries are loaded: there is nothing to put in order."""
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        _complain("interrupted; nothing was begun")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
