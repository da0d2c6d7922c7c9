"""What was measured, as people read it: a table on the terminal, and the same in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import durable

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"


@dataclass(frozen=True)
class Part:
    """What one kind of proof found.

    Attributes:
        name: Which.
        figures: What was counted.
        seconds: How long it took.
        seed: What decided what was tried.
        details: What else there is to say of it, a line each.
    """

    name: str
    figures: Mapping[str, str]
    seconds: float
    seed: int
    details: tuple[str, ...] = ()


def figures_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Counts as text."""
    return {what: f"{number:,}" for what, number in counts.items()}


def where() -> str:
    """Versions, the machine and the day."""
    return (
        f"durable {durable.__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} on {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    )


def text_of(part: Part, how: str) -> str:
    """Markdown: a table, what it was measured with, details."""
    (first, value), *rest = part.figures.items() or [("nothing", "")]
    lines = [f"| {first} | {value} |", "|---|---|", *(f"| {what} | {number} |" for what, number in rest)]
    lines += ["", f"`{how}`, seed {part.seed}, in {part.seconds:.0f} s; {where()}.", ""]
    if part.details:
        lines += [*(f"- {line}" for line in part.details), ""]
    return "\n".join(lines)


def rewritten(page: str, part: Part, how: str) -> str:
    """A page with what was measured of one part in place of what was measured before.

    Raises:
        ValueError: The page has no place for it.
    """
    pattern = re.compile(rf"(<!-- measured: {re.escape(part.name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    found = pattern.search(page)
    if found is None:
        raise ValueError(f"there is no place for {part.name}")
    return f"{page[: found.end(1)]}\n{text_of(part, how)}\n{page[found.start(2) :]}"
