"""`durable ls`: the executions of a store, or of a function."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .._wire import ExecutionStatus
from .exits import ExitCode
from .options import DebugOption, anywhere, reporting
from .place import Place, Store
from .texts import function_of, paragraphs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..abc import ExecutionRecord
    from .reading import Source

HELP: Final = paragraphs("""
List executions, oldest first.

Works while an engine is at work on the store. With --endpoint or --aws it lists those of one function, and not what
they came to, as Lambda's API does.
""")

EPILOG: Final = (
    "--json: one object a line with name, id, arn, function, status, started, ended, seconds, invocations, result "
    "and error; the last three only of a store's executions."
)

_SHOWN = 200
"""Characters of an outcome."""

_NOT_LISTED: Final = frozenset({"invocations", "result", "error"})
"""What the listing of Lambda's API does not have: nothing is said of it, rather than that there is none."""


@reporting
@anywhere
def ls(
    *,
    status: Annotated[
        ExecutionStatus | None,
        typer.Option("--status", "-s", case_sensitive=False, help="Only those.", show_default=False),
    ] = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line (see below).")] = False,
    function: Annotated[
        str | None,
        typer.Option(
            "--function",
            "-f",
            metavar="FUNCTION",
            help="Only those of this function; needed with --endpoint and --aws.",
            show_default=False,
        ),
    ] = None,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """List executions."""
    from .reading import look
    from .terminal import console_for

    async def read(reader: Source) -> Sequence[ExecutionRecord]:
        return await reader.executions(status)

    records = look(place.of(function), read)
    is_whole = isinstance(place, Store)
    if is_whole and function is not None:
        records = [record for record in records if function_of(record.arn) == function]
    if as_lines:
        from .machine import encode, execution_shape

        for record in records:
            shape = execution_shape(record)
            told = shape if is_whole else {key: value for key, value in shape.items() if key not in _NOT_LISTED}
            sys.stdout.write(f"{encode(told)}\n")
    elif records:
        _print(console_for(sys.stdout), records, is_whole=is_whole)
    else:
        which = f" of {function}" if function is not None else ""
        sys.stderr.write(f"no execution{which} in {place}{f' is {status}' if status else ''}\n")
    return ExitCode.SUCCEEDED


def _print(console: Console, records: Sequence[ExecutionRecord], *, is_whole: bool) -> None:
    from rich.text import Text

    from .terminal import print_rows, put
    from .texts import count_text, duration_text, time_text

    now = round(time.time() * 1000)
    headings = ("NAME", "STATUS", "STARTED", "TOOK", "FUNCTION", *(("OUTCOME",) if is_whole else ()))
    rows = [[Text(heading, "bold") for heading in headings]]
    for record in records:
        end = record.end_timestamp
        rows.append(
            [
                Text(record.name, "cyan"),
                _status(record),
                Text(time_text(record.start_timestamp, now)),
                Text("" if end is None else duration_text(end - record.start_timestamp)),
                Text(record.function.rpartition("/")[2]),
                *((_outcome(record),) if is_whole else ()),
            ]
        )
    print_rows(console, rows, right=3)
    unfinished = sum(record.status is ExecutionStatus.RUNNING for record in records)
    if unfinished and is_whole and console.is_terminal:
        hint = f"{count_text(unfinished, 'execution')} not over; if no engine is at work: durable resume"
        put(console, Text(hint, "dim"))


def _status(record: ExecutionRecord) -> Text:
    from rich.text import Text

    from .outcome import STATUS_STYLE

    return Text(record.status, STATUS_STYLE.get(record.status, ""))


def _outcome(record: ExecutionRecord) -> Text:
    from rich.text import Text

    from .texts import error_text, value_text

    if record.error is not None:
        return Text(error_text(record.error, _SHOWN), "red")
    return Text(value_text(record.result, _SHOWN), "dim")
