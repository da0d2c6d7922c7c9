"""Consoles: where output goes, how wide it is, which signs it can show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple, TextIO

from rich.console import Console
from rich.text import Text

WIDE: Final = 100_000
"""Columns where there is no terminal: nothing is cut there, and nothing is wrapped."""

MOST_WIDE: Final = 44
"""Columns of a table's cell, unless it is the last of its row."""


class Signs(NamedTuple):
    """What stands for what at the beginning of a line."""

    succeeded: str = "✓"
    failed: str = "✗"
    retry: str = "↻"
    undone: str = "↶"
    context: str = "▸"
    waiting: str = "◷"
    running: str = "●"
    skipped: str = "-"
    branch: str = "├─ "
    last_branch: str = "└─ "
    line: str = "│  "
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    ellipsis: str = "…"


_ASCII: Final = Signs("+", "x", "~", "<", ">", "o", "*", "-", "|- ", "`- ", "|  ", "-\\|/", "...")


class PipeClosedError(BrokenPipeError):
    """Nobody reads our output any more."""


class _Console(Console):
    """A console that says when nobody reads any more, instead of ending the process itself."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise PipeClosedError


def console_for(stream: TextIO) -> Console:
    """A console on a stream.

    On a terminal it is as wide as the terminal. Elsewhere lines are as long as they are, and have no colour (unless
    FORCE_COLOR asks for it). NO_COLOR is obeyed. What the stream's encoding cannot show is replaced.
    """
    width = None if stream.isatty() else WIDE
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be written over."""
    return stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


def signs_of(console: Console) -> Signs:
    """The signs that the console's encoding can show."""
    return Signs() if console.encoding.startswith("utf") else _ASCII


def put(console: Console, text: Text | str) -> None:
    """Print one line; on a terminal that is too narrow for it, its end is cut off."""
    line = Text(text) if isinstance(text, str) else text
    console.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def print_rows(console: Console, rows: Sequence[Sequence[Text]], *, right: int | None = None) -> None:
    """Print rows in columns; on a terminal that is too narrow for them, what is on the right is cut off.

    Args:
        console: Where to.
        rows: Their cells, as many in each.
        right: The column that is aligned to the right.
    """
    widths = [min(MOST_WIDE, max(cell.cell_len for cell in column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = Text()
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if number:
                line.append("  ")
            shown = cell.copy()
            if number < len(widths) - 1:
                shown.truncate(width, overflow="ellipsis")
                blank = " " * (width - shown.cell_len)
                shown = Text.assemble(blank, shown) if number == right else Text.assemble(shown, blank)
            line.append_text(shown)
        line.rstrip()
        put(console, line)
