"""`python -m dpo_core ...` is `dpo-core ...`."""

import sys

from dpo_core.commands.parser import main

if __name__ == "__main__":
    sys.exit(main())
