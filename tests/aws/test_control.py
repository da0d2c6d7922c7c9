"""The control plane's client: how it reads pages, and what it makes of answers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from durable._wire import Timestamp
from durable._wire.events import Event, EventType, GetDurableExecutionHistoryResponse
from durable.aws.control import NEWEST_PAGE, ControlClient
from durable.aws.untyped import DECODED
from durable.exceptions import ServiceError

pytestmark = pytest.mark.anyio


class FakeLambda:
    """Has one history, and gives it in pages as asked; remembers what it was asked."""

    def __init__(self, length: int) -> None:
        self.events = [
            Event(event_type=EventType.INVOCATION_COMPLETED, event_id=number, event_timestamp=Timestamp(number))
            for number in range(1, length + 1)
        ]
        self.asked: list[dict[str, Any]] = []

    async def get_durable_execution_history(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        events: Sequence[Event] = self.events[::-1] if parameters["ReverseOrder"] else self.events
        begin = int(parameters.get("Marker", "page 0").removeprefix("page "))
        end = begin + parameters["MaxItems"]
        following = f"page {end}" if end < len(events) else None
        page = GetDurableExecutionHistoryResponse(events=tuple(events[begin:end]), next_marker=following)
        return {DECODED: page}


class StuckLambda:
    """Says of each page that it follows itself."""

    async def get_durable_execution_history(self, **parameters: Any) -> dict[str, Any]:
        return {DECODED: GetDurableExecutionHistoryResponse(events=(), next_marker="again")}


async def test_a_history_is_read_to_its_end():
    """Page by page, whole and in order."""
    service = FakeLambda(2500)
    assert await ControlClient(service).history("arn") == service.events
    assert [one.get("Marker") for one in service.asked] == [None, "page 1000", "page 2000"]


@pytest.mark.parametrize("news", [0, 1, NEWEST_PAGE - 1, NEWEST_PAGE, NEWEST_PAGE + 1, 3 * NEWEST_PAGE])
async def test_of_a_history_that_is_known_only_the_news_are_read(news: int):
    """Markers are opaque: the end is read backwards, as far as it is new and not further."""
    service = FakeLambda(1000)
    known = 1000 - news
    assert await ControlClient(service).history("arn", known) == service.events[known:]
    assert len(service.asked) == news // NEWEST_PAGE + 1


async def test_a_page_that_follows_itself_is_not_read_for_ever():
    """It is an answer to another call, or of something that is no such service."""
    with pytest.raises(ServiceError, match="names itself as the next"):
        await ControlClient(StuckLambda()).history("arn")
