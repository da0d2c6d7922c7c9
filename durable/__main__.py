"""`python -m durable`, and the script `durable`: the command line, if what it needs is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

NEEDED: Final = ("typer", "rich")


def main() -> None:
    """Run the command line."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"error: the command line needs {' and '.join(missing)}: pip install 'durable[cli]'\n")
        raise SystemExit(3)
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
