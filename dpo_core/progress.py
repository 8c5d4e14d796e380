"""What a run says while it goes on: to whoever is watching, and to nobody else."""

import os
import sys
from typing import Any, TextIO

from tqdm.auto import tqdm


def progress_bar(*args: Any, shown: bool, **options: Any) -> tqdm:
    """A tqdm bar, silent unless `shown`, where output goes to a file, and where TQDM_DISABLE is
    set.
    """
    terminal = sys.stdout is not None and sys.stderr is not None and sys.stderr.isatty()
    watched = terminal or "ipykernel" in sys.modules
    silent = not shown or not watched or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(*args, disable=silent, **options)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line that is not the result of a command: a run goes on where nobody can read it."""
    file = file or sys.stdout
    try:
        print(text, file=file, flush=True)
    except OSError:  # a closed pipe, a full disk: what could not be written is not tried again
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
