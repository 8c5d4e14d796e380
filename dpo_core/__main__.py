"""`python -m dpo_core ...`, and `dpo-core ...`: the command line as a process of its own.

It starts before torch is loaded, which takes seconds: Ctrl-C is answered from the first of them.
"""

import contextlib
import os
import sys


def main() -> int:
    """Run the command line; returns the exit code, whatever the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
    try:
        from dpo_core.commands.parser import main as run

        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("dpo-core: interrupted; nothing was begun", file=sys.stderr)
        return 130
    except BrokenPipeError:
        code = 0
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            return code
        # nobody reads any more: Python's own last flush must not turn the exit code into 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


if __name__ == "__main__":
    sys.exit(main())
