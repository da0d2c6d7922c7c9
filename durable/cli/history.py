"""`durable history`: an execution's events."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .exits import ExitCode
from .options import DebugOption, FunctionOption, NameArgument, anywhere, reporting
from .place import Place

if TYPE_CHECKING:
    from .._wire.events import Event
    from .reading import Source

HELP: Final = """
Show an execution's history, event by event.

Works while an engine is at work on the store, and on a server (--endpoint) or AWS (--aws).
"""

EPILOG: Final = (
    "--json: the document that GetDurableExecutionHistory answers with, Events and all, and DurableExecutionArn. "
    "It can be kept as a history file, to replay code against (durable replay)."
)

_SHOWN = 200
"""Characters of a result or an error."""


@reporting
@anywhere
def history(
    *,
    name: NameArgument,
    function: FunctionOption = None,
    as_document: Annotated[bool, typer.Option("--json", help="One JSON document (see below).")] = False,
    place: Place,
    debug: DebugOption = False,  # noqa: ARG001 - `reporting` looks at it
) -> ExitCode:
    """Show an execution's events."""
    from .reading import find, look

    async def read(reader: Source) -> tuple[str, Sequence[Event]]:
        record = await find(reader, name)
        return record.arn, await reader.history(name)

    arn, events = look(place.of(function), read)
    if as_document:
        import msgspec

        from .._wire.codec import HISTORY_RESPONSE
        from .._wire.events import GetDurableExecutionHistoryResponse

        page = HISTORY_RESPONSE.encode(GetDurableExecutionHistoryResponse(events=tuple(events)))
        # Whose it is: no event tells, and what code draws by chance depends on it (see `durable replay`).
        fields = msgspec.json.decode(page, type=dict[str, msgspec.Raw])
        document = msgspec.json.encode({"DurableExecutionArn": arn, **fields})
        sys.stdout.write(f"{msgspec.json.format(document, indent=2).decode()}\n")
    else:
        _print(events)
    return ExitCode.SUCCEEDED


def _print(events: Sequence[Event]) -> None:
    from rich.text import Text

    from .terminal import console_for, print_rows
    from .texts import duration_text, time_text

    console = console_for(sys.stdout)
    rows = [[Text(heading, "bold") for heading in ("#", "TIME", "AFTER", "EVENT", "NAME", "DETAILS")]]
    begin = events[0].event_timestamp if events else 0
    for event in events:
        style = "red" if event.event_type.endswith(("Failed", "TimedOut", "Stopped")) else ""
        rows.append(
            [
                Text(str(event.event_id)),
                Text(time_text(event.event_timestamp), "dim"),
                Text(duration_text(event.event_timestamp - begin)),
                Text(_kind(event), style),
                Text(event.name or ""),
                Text(_details(event), style or "dim"),
            ]
        )
    print_rows(console, rows, right=2)


def _kind(event: Event) -> str:
    """What happened; of contexts, in what sort of context."""
    return (
        f"{event.event_type} {event.sub_type or ''}" if event.event_type.startswith("Context") else event.event_type
    )


def _details(event: Event) -> str:
    """What an event holds, on one line."""
    from .._wire.events import (
        ExecutionStartedDetails,
        InvocationCompletedDetails,
        StepFailedDetails,
        StepSucceededDetails,
        WaitStartedDetails,
    )
    from .story import error_of, result_of
    from .texts import duration_text, error_text, time_text, value_text

    details = event.details
    if isinstance(details, ExecutionStartedDetails):
        return value_text(details.input.payload, _SHOWN)
    if isinstance(details, WaitStartedDetails):
        return f"{details.duration} s, until {time_text(details.scheduled_end_timestamp)}"
    if isinstance(details, InvocationCompletedDetails):
        took = f"took {duration_text(event.event_timestamp - details.start_timestamp)}"
        return took if details.error is None else f"{took}, raised {error_text(details.error.payload, _SHOWN)}"
    again = ""
    attempts = (StepSucceededDetails, StepFailedDetails)
    if isinstance(details, attempts) and details.retry_details.next_attempt_delay_seconds:
        retries = details.retry_details
        again = f"attempt {retries.current_attempt}, again in {retries.next_attempt_delay_seconds} s: "
    error = error_of(event)
    if error is not None:
        return again + error_text(error, _SHOWN)
    return again + value_text(result_of(event), _SHOWN)
