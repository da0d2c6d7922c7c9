"""Numbers, times and values as people read them. Nothing here prints."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from .._wire import ErrorObject

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_FRAME: Final = re.compile(r'File "(?P<file>.*)", line (?P<line>\d+), in (?P<name>.*)')


def duration_text(milliseconds: float) -> str:
    """A duration: `0.31 s`, `12.3 s`, `2 min 05 s`, `1 h 05 min`, `3 d 04 h`."""
    value = max(0, round(milliseconds))
    if value < 10 * SECOND:
        return f"{value / SECOND:.2f} s"
    if value < MINUTE:
        return f"{value / SECOND:.1f} s"
    for unit, name, smaller, smaller_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", SECOND, "s"),
    ):
        if value >= unit:
            return f"{value // unit} {name} {value % unit // smaller:02} {smaller_name}"
    raise AssertionError("a minute or more")


def time_text(milliseconds: int, now: int | None = None) -> str:
    """An instant in local time: the time of day, with the date when that is not today's.

    Args:
        milliseconds: Since the epoch.
        now: The same; by default today is what the clock says.
    """
    then = _local(milliseconds)
    today = datetime.now().astimezone() if now is None else _local(now)
    if then.date() == today.date():
        return f"{then:%H:%M:%S}"
    return f"{then:%Y-%m-%d %H:%M:%S}"


def stamp_text(milliseconds: int) -> str:
    """An instant in local time, to the millisecond, for lines of a log."""
    then = _local(milliseconds)
    return f"{then:%H:%M:%S}.{then.microsecond // 1000:03}"


def iso_text(milliseconds: int) -> str:
    """An instant for machines: ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def one_line(text: str, limit: int | None = None) -> str:
    """Text on one line without anything that a terminal would obey, and not too long."""
    plain = " ".join(text.split())
    plain = "".join(f"\\x{ord(one):02x}" if unicodedata.category(one) == "Cc" else one for one in plain)
    return plain if limit is None or len(plain) <= limit else f"{plain[: limit - 1]}…"


def safe_text(text: str) -> str:
    """Text with its lines, without anything that a terminal would obey."""
    return "\n".join(
        "".join(f"\\x{ord(one):02x}" if unicodedata.category(one) == "Cc" and one != "\t" else one for one in line)
        for line in text.splitlines()
    )


def value_text(payload: str | None, limit: int | None = None) -> str:
    """A recorded value, JSON, on one line; nothing for no value and for `null`."""
    return "" if payload is None or payload == "null" else one_line(payload, limit)


def pretty_json(payload: str) -> str:
    """JSON text over several lines; text that is not JSON as it is."""
    try:
        return msgspec.json.format(payload, indent=2)
    except msgspec.DecodeError:
        return payload


def error_name(error: ErrorObject) -> str:
    """The class of an error without its module."""
    return (error.error_type or "Error").rpartition(".")[2]


def error_text(error: ErrorObject | None, limit: int | None = None) -> str:
    """An error on one line: `CardDeclinedError: card 'declined' was declined`."""
    if error is None:
        return "no error was recorded"
    message = error.error_message or ""
    return one_line(f"{error_name(error)}: {message}" if message else error_name(error), limit)


def origin_text(error: ErrorObject | None) -> str:
    """Where an error was raised: `examples/trip.py:118 in charge_card`; empty if that is not known."""
    frames = error.stack_trace if error is not None else None
    found = _FRAME.fullmatch(frames[-1]) if frames else None
    if found is None:
        return ""
    return one_line(f"{path_text(found['file'])}:{found['line']} in {found['name']}")


def path_text(path: str) -> str:
    """A path as short as it can be told from here."""
    if not os.path.isabs(path):  # noqa: PTH117 - a part of a target, perhaps no path at all
        return path
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def target_text(target: str) -> str:
    """`MODULE_OR_FILE:FUNCTION` with the file as seen from here."""
    where, colon, name = target.rpartition(":")
    return f"{path_text(where)}:{name}" if colon else target


def function_of(arn: str) -> str:
    """The name of the function that an execution, or a function with or without its version, is of."""
    return arn.partition("/")[0].split(":")[6] if arn.count(":") > 5 else arn  # noqa: PLR2004 - where ARNs have it


def command_text(*words: str, store: str, default_store: str) -> str:
    """A command that a user can copy: with `--store` where it is needed."""
    where = () if store == default_store else ("--store", store)
    return shlex.join(["durable", *words, *where])


def count_text(number: int, noun: str) -> str:
    """A number and its noun: `1 execution`, `2 executions`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def paragraphs(text: str) -> str:
    """Text of a help page: each paragraph on one line, however it is broken in the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _local(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
