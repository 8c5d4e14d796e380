"""Progress bars for whoever is watching: a terminal or a notebook, and nobody else."""

import os
import sys
from typing import Any

from tqdm.auto import tqdm


def progress_bar(*args: Any, shown: bool, **options: Any) -> tqdm:
    """A tqdm bar, silent unless `shown`, where output goes to a file, and where TQDM_DISABLE is
    set.
    """
    watched = sys.stdout is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    silent = not shown or not watched or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(*args, disable=silent, **options)
