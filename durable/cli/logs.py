"""Logging: what workflows and the engine have to say goes to standard error, and not across the live display."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from .exits import exit_in
from .texts import safe_text, stamp_text

EXECUTION: Final = "durable.execution"
"""The logger behind `ctx.logger`."""

_LEVELS: Final = (
    # The root's level and that of `ctx.logger`, by the number of -v.
    (logging.WARNING, logging.INFO),
    (logging.INFO, logging.DEBUG),
    (logging.DEBUG, logging.DEBUG),
)


class LogHandler(logging.Handler):
    """Writes records to standard error, or through a live display while there is one on the same terminal.

    Attributes:
        write: Where lines go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[str], None] = write_to_stderr
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if _is_about_exit(record):
            return
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)


def _is_about_exit(record: logging.LogRecord) -> bool:
    """Whether asyncio complains, task by task, of a process that was called to its end: that is told as a whole."""
    error = record.exc_info[1] if record.exc_info else None
    return record.name == "asyncio" and error is not None and exit_in(error) is not None


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        where = getattr(record, "execution", None) if record.name == EXECUTION else record.name
        text = safe_text(super().format(record))
        return f"{stamp_text(round(record.created * 1000))}  {record.levelname.lower()}  {where or ''}: {text}"


def write_to_stderr(line: str) -> None:
    """Write a line to standard error as it is now."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def logging_to_file(store: str) -> Generator[None]:
    """Keep what durable functions log beside a store, while the block runs."""
    from ..local.logs import LogFile

    handler = LogFile(store)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


@contextmanager
def logging_to_stderr(verbosity: int) -> Generator[LogHandler]:
    """Show logging while the block runs.

    Args:
        verbosity: 0: warnings, and what workflows log from INFO. 1: from INFO, workflows' from DEBUG. 2: all.
    """
    handler = LogHandler()
    root, execution = logging.getLogger(), logging.getLogger(EXECUTION)
    before = root.level, execution.level
    root_level, execution_level = _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    root.addHandler(handler)
    root.setLevel(root_level)
    execution.setLevel(execution_level)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        execution.setLevel(before[1])
