"""What functions have logged on AWS, as `durable logs` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec

from .._wire import Timestamp
from ..aws.log_events import open_log_events
from ..local.logs import LogLine
from ..local.machine.execution import name_of
from .place import Remote
from .texts import function_of


def aws_reader(place: Remote, arn: str) -> Callable[[str], tuple[Sequence[LogLine], str]]:
    """What reads the lines of an execution after a position.

    Events may appear late and side by side: those of the last moment are asked for again, and told once.
    """
    told: set[str] = set()

    def read(position: str) -> tuple[Sequence[LogLine], str]:
        since = int(position or "0")
        events = [event for event in anyio.run(_events, place, arn, since) if event.get("eventId") not in told]
        told.update(event.get("eventId", "") for event in events)
        last = max([since, *(int(event["timestamp"]) for event in events)])
        return [_line(event, arn) for event in events], str(last)

    return read


async def _events(place: Remote, arn: str, since: int) -> list[dict[str, Any]]:
    from .remote import explaining

    with explaining(place):
        async with open_log_events(region=place.region, profile=place.profile) as client:
            return await client.events(function_of(arn), arn, since)


def _line(event: dict[str, Any], arn: str) -> LogLine:
    """An event as a line; what is in it is JSON as Lambda's runtimes write it."""
    fields: dict[str, Any] = {}
    with suppress(msgspec.DecodeError):  # text, perhaps
        fields = msgspec.json.decode(event.get("message", ""), type=dict[str, Any])
    error = None
    if fields.get("errorType") is not None:
        frames = "".join(map(str, fields.get("stackTrace") or ()))
        error = f"{frames}{fields['errorType']}: {fields.get('errorMessage', '')}"
    return LogLine(
        time=Timestamp(int(event["timestamp"])),
        level=str(fields.get("level", "INFO")),
        execution=name_of(arn),
        arn=arn,
        message=str(fields.get("message", event.get("message", ""))),
        logger=str(fields.get("logger", "")),
        context_id=_text(fields, "context_id"),
        operation=_text(fields, "operation"),
        operation_id=_text(fields, "operation_id"),
        attempt=fields["attempt"] if isinstance(fields.get("attempt"), int) else None,
        error=error,
    )


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return None if value is None else str(value)
