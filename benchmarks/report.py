"""What every benchmark prints: versions, the machine, figures, and ratios measured side by side in one run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence


def heading(title: str) -> None:
    """Say what is measured, and with what."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("anyio", "msgspec", "trio"))
    print(f"\n{title}")
    print(
        f"  Python {platform.python_version()}, {versions}, SQLite {sqlite3.sqlite_version}; "
        f"{os.cpu_count()} cores, {platform.machine()}"
    )


def figure(name: str, value: float, unit: str, *, budget: float | None = None, at_least: bool = False) -> None:
    """Print one figure, and the budget it is to keep."""
    verdict = ""
    if budget is not None:
        kept = value >= budget if at_least else value <= budget
        verdict = f"   {'at least' if at_least else 'at most'} {budget:g}: {'kept' if kept else 'NOT KEPT'}"
    print(f"  {name:<52}{value:>10.2f} {unit:<8}{verdict}")


def middle(values: Sequence[float]) -> float:
    """The median: the machines are noisy."""
    return statistics.median(values)
