"""`python -m durable`, and the script `durable`: the command line, if what it needs is installed."""

from __future__ import annotations

import sys
from typing import Final

NEEDED: Final = {"typer", "rich", "click"}


def main() -> None:
    """Run the command line."""
    try:
        from .cli.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.stderr.write(f"error: the command line needs {error.name}: pip install 'durable[cli]'\n")
        raise SystemExit(3) from error
    run()


if __name__ == "__main__":
    main()
