"""What functions log, in a file beside the store: an object of JSON a line, to be found again by the execution.

It is for people, and no part of the store: it may be deleted at any time. When it has become too large it is put
aside once, and what was put aside before goes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from .._wire import Timestamp
from .._wire.codec import Codec
from ..exceptions import MalformedPayloadError

MAX_BYTES: Final = 10 * 1024 * 1024
"""Of the file; there is one more of that size, with what came before."""

MAX_MESSAGE: Final = 64 * 1024
"""Characters of a message, and of a traceback."""

_CUT: Final = "… (cut off)"


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a function has logged.

    Attributes:
        time: When; milliseconds since the epoch.
        level: As `INFO`.
        execution: The execution's name.
        arn: Its ARN: a name may have stood for another one before.
        message: What.
        logger: By which logger.
        context_id: The child context or branch; `None` at the root.
        operation: The step whose body was running; `None` outside.
        operation_id: Its id.
        attempt: Which attempt of it, from 1.
        error: The traceback of the exception that was logged.
    """

    time: Timestamp
    level: str
    execution: str
    arn: str
    message: str
    logger: str = ""
    context_id: str | None = None
    operation: str | None = None
    operation_id: str | None = None
    attempt: int | None = None
    error: str | None = None


class LogsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the local server answers with: lines, and where they end."""

    lines: tuple[LogLine, ...]
    position: str


LOGS_RESPONSE: Final = Codec(LogsResponse, "event")
_LINE: Final = Codec(LogLine, "event")
_traceback: Final = logging.Formatter().formatException


def log_path(store: str) -> Path:
    """Where it is kept what the functions of a store's executions log."""
    return Path(f"{store}.log")


class LogFile(RotatingFileHandler):
    """Writes what durable functions log by their contexts; all else passes by.

    Args:
        store: The store's file.
    """

    def __init__(self, store: str) -> None:
        super().__init__(log_path(store), maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)
        self.addFilter(lambda record: isinstance(getattr(record, "execution_arn", None), str))

    def format(self, record: logging.LogRecord) -> str:
        """A line of JSON."""
        known = {
            name: getattr(record, name, None) for name in ("context_id", "operation", "operation_id", "attempt")
        }
        error = (
            _traceback(record.exc_info) if record.exc_info is not None and record.exc_info[1] is not None else None
        )
        line = LogLine(
            time=Timestamp(round(record.created * 1000)),
            level=record.levelname,
            execution=str(getattr(record, "execution", "")),
            arn=str(getattr(record, "execution_arn", "")),
            message=_shortened(record.getMessage()),
            logger=record.name,
            error=None if error is None else _shortened(error),
            **known,
        )
        return _LINE.encode(line).decode()

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        # Whoever wrote before may have been killed in the middle of a line.
        with Path(self.baseFilename).open("rb") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    stream.write("\n")
        return stream


def read_lines(store: str, arn: str, position: str = "") -> tuple[list[LogLine], str]:
    """What an execution has logged.

    Args:
        store: The store's file.
        arn: The execution's ARN.
        position: Where an earlier call has ended, to have only what came after it.

    Returns:
        The lines, in the order in which they were written, and where that ended.

    Raises:
        OSError: The file cannot be read.
        ValueError: That is no position.
    """
    number, _, text = position.partition("-")
    begin = int(text) if position else 0
    found: list[LogLine] = []
    for part in _parts(log_path(store)):
        if str(part.number) == number:
            found.clear()  # all that was put aside before was told before
        offset = begin if str(part.number) == number else 0
        end = part.data.rfind(b"\n") + 1  # the last line may be half written
        found.extend(_lines(part.data[offset:end], arn))
        position = f"{part.number}-{max(offset, end)}"
    return found, position


class _Part(NamedTuple):
    """A file: its number in the file system, which it keeps when it is put aside, and what is in it."""

    number: int
    data: bytes


def _parts(path: Path) -> list[_Part]:
    """What was put aside, and what came after it."""
    aside = path.with_name(f"{path.name}.1")
    while True:
        parts = [part for part in map(_read, (aside, path)) if part is not None]
        again = _read(aside)
        # Put aside in between? Then there is one file between these two.
        if again is None or again.number == parts[0].number:
            return parts


def _read(path: Path) -> _Part | None:
    try:
        with path.open("rb") as file:
            return _Part(os.fstat(file.fileno()).st_ino, file.read())
    except FileNotFoundError:
        return None


def _lines(data: bytes, arn: str) -> Iterator[LogLine]:
    wanted = arn.encode()
    for text in data.splitlines():
        if wanted in text:  # decoding is what takes its time
            with suppress(MalformedPayloadError):
                line = _LINE.decode(text)
                if line.arn == arn:
                    yield line


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}{_CUT}"
