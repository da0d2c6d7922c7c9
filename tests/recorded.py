"""What an execution in a test has recorded, as the API tells it."""

from __future__ import annotations

from durable._wire.codec import HISTORY_RESPONSE
from durable._wire.events import Event, GetDurableExecutionHistoryResponse
from durable.local.machine.history import event_of
from tests.harness import Harness


def events_of(harness: Harness) -> list[Event]:
    """An execution's history, as it stands."""
    kept = harness.store._kept[harness.record.id]
    return [
        event_of(place, event, kept.record, kept.operations, kept.extras)
        for place, event in enumerate(kept.events, 1)
    ]


def document_of(harness: Harness) -> str:
    """The same as one JSON document."""
    return HISTORY_RESPONSE.encode(GetDurableExecutionHistoryResponse(events=tuple(events_of(harness)))).decode()
