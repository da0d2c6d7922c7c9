"""`durable ls`: the executions of a store."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .._wire import ExecutionStatus
from .exits import ExitCode
from .options import DEFAULT_STORE, DebugOption, StoreOption, reporting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..abc import ExecutionRecord
    from ..local import Reader

HELP: Final = """
List executions, oldest first.

Works while an engine is at work on the store.
"""

EPILOG: Final = (
    "--json: one object a line with name, id, arn, function, status, started, ended, seconds, invocations, result "
    "and error."
)

_SHOWN = 200
"""Characters of an outcome."""


@reporting
def ls(
    *,
    status: Annotated[
        ExecutionStatus | None,
        typer.Option("--status", "-s", case_sensitive=False, help="Only those.", show_default=False),
    ] = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line (see below).")] = False,
    store: StoreOption = DEFAULT_STORE,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """List the executions of a store."""
    from .reading import read_store
    from .terminal import console_for

    async def read(reader: Reader) -> Sequence[ExecutionRecord]:
        return await reader.executions(status)

    records = read_store(store, read)
    if as_lines:
        from .machine import encode, execution_shape

        for record in records:
            sys.stdout.write(f"{encode(execution_shape(record))}\n")
    elif records:
        _print(console_for(sys.stdout), records)
    else:
        sys.stderr.write(f"no execution in {store}{f' is {status}' if status else ''}\n")
    return ExitCode.SUCCEEDED


def _print(console: Console, records: Sequence[ExecutionRecord]) -> None:
    from rich.text import Text

    from .terminal import print_rows, put
    from .texts import count_text, duration_text, time_text

    now = round(time.time() * 1000)
    rows = [[Text(heading, "bold") for heading in ("NAME", "STATUS", "STARTED", "TOOK", "FUNCTION", "OUTCOME")]]
    for record in records:
        end = record.end_timestamp
        rows.append(
            [
                Text(record.name, "cyan"),
                _status(record),
                Text(time_text(record.start_timestamp, now)),
                Text("" if end is None else duration_text(end - record.start_timestamp)),
                Text(record.function.rpartition("/")[2]),
                _outcome(record),
            ]
        )
    print_rows(console, rows, right=3)
    unfinished = sum(record.status is ExecutionStatus.RUNNING for record in records)
    if unfinished and console.is_terminal:
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
