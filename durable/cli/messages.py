"""`durable logs`: what a function has logged by its context."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import DebugOption, FunctionOption, NameArgument, anywhere, reporting
from .place import Place, Store
from .texts import paragraphs, safe_text, stamp_text

if TYPE_CHECKING:
    from ..abc import ExecutionRecord
    from ..local.logs import LogLine

PAUSE: Final = 0.5
AWS_PAUSE: Final = 2.0
"""Seconds between two looks."""

HELP: Final = paragraphs("""
Show what an execution's function has logged by ctx.logger.

It is kept beside the store by durable run, resume and dev, in STORE.log: the newest 10 to 20 MB of all executions.
Of a function that runs in a process of its own it is not there: that logs where it wants to. Works while an engine
is at work on the store, and on a durable dev (--endpoint).

On AWS (--aws) it is read from CloudWatch Logs, from the function's log group. The function has to log as JSON
there, as text does not say of which execution it is.
""")

EPILOG: Final = (
    "--json: one object a line with time, level, message, logger, context_id, operation, operation_id, attempt and "
    "error, the traceback of what was logged as an exception."
)


@reporting
@anywhere
def logs(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    follows: Annotated[bool, typer.Option("--follow", help="Go on until the execution is over.")] = False,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line (see below).")] = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Show what an execution has logged."""
    from .reading import find, look

    place = place.of(function)

    def record() -> ExecutionRecord:
        return look(place, lambda reader: find(reader, name))

    read = _reader(place, record().arn)
    position = ""
    told = 0
    while True:
        is_over = not follows or record().status.is_over  # what it logs before that is there by now
        lines, position = read(position)
        _tell(lines, as_lines=as_lines)
        told += len(lines)
        if is_over:
            break
        time.sleep(PAUSE if isinstance(place, Store) or place.endpoint is not None else AWS_PAUSE)
    if not told and not as_lines:
        sys.stderr.write(f"nothing is there that {name} has logged\n")
    return ExitCode.SUCCEEDED


def _reader(place: Place, arn: str) -> Callable[[str], tuple[Sequence[LogLine], str]]:
    """What reads the lines after a position."""
    if isinstance(place, Store):
        from ..local.logs import read_lines

        path = place.path
        return lambda position: read_lines(path, arn, position)
    if place.endpoint is None:
        from .aws_logs import aws_reader

        return aws_reader(place, arn)
    from .remote_logs import fetch_lines

    remote = place
    return lambda position: fetch_lines(remote, arn, position)


def _tell(lines: Sequence[LogLine], *, as_lines: bool) -> None:
    for line in lines:
        sys.stdout.write(f"{_document(line) if as_lines else _sentence(line)}\n")
    sys.stdout.flush()


def _sentence(line: LogLine) -> str:
    again = f" (attempt {line.attempt})" if line.attempt is not None and line.attempt > 1 else ""
    where = "" if line.operation is None else f"  {line.operation}{again}"
    error = "" if line.error is None else f"\n{line.error}"
    return safe_text(f"{stamp_text(line.time)}  {line.level.lower()}{where}: {line.message}{error}")


def _document(line: LogLine) -> str:
    from .machine import encode
    from .texts import iso_text

    return encode(
        {
            "time": iso_text(line.time),
            "level": line.level,
            "message": line.message,
            "logger": line.logger,
            "context_id": line.context_id,
            "operation": line.operation,
            "operation_id": line.operation_id,
            "attempt": line.attempt,
            "error": line.error,
        }
    )
