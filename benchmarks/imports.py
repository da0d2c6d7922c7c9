"""What `import durable` costs, against what it needs anyway; each in a fresh interpreter, in turn.

python benchmarks/imports.py
"""

from __future__ import annotations

import os
import subprocess
import sys

from report import figure, heading, middle

ROUNDS = 15
_CODE = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def seconds(statement: str) -> float:
    """Seconds that an import takes in a fresh interpreter."""
    command = [sys.executable, "-c", _CODE.format(statement)]
    # Installed packages have been compiled; so let this one be, whatever the environment says, by the first round.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    """Measure, one after the other so that noise meets both."""
    heading(f"Importing (median of {ROUNDS})")
    base, ours = [], []
    for _ in range(ROUNDS):
        base.append(seconds("import anyio, msgspec"))
        ours.append(seconds("import durable"))
    figure("import anyio, msgspec", middle(base) * 1e3, "ms")
    figure("import durable", middle(ours) * 1e3, "ms")
    figure("ratio", middle(ours) / middle(base), "x", budget=1.3)


if __name__ == "__main__":
    main()
