"""Following an execution that runs elsewhere, where whoever is asked does not always answer."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from durable._wire import ExecutionStatus, Operation, Timestamp
from durable._wire.events import Event, EventType
from durable.abc import ExecutionRecord
from durable.cli import watching
from durable.cli.exits import ExitCode
from durable.cli.lines import LinesView
from durable.cli.place import Remote
from durable.exceptions import ServiceError

pytestmark = pytest.mark.anyio

AWAY = ServiceError("the server is away", code="EndpointConnectionError", retryable=True)
REFUSED = ServiceError("not you", code="AccessDeniedException", retryable=False)


class FakeSource:
    """Answers with what it is given, in turn; events or errors."""

    def __init__(self, *answers: Sequence[EventType] | ServiceError) -> None:
        self.answers = list(answers)
        self.told = 0
        self.is_over = False

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        raise AssertionError("nobody asks")

    async def operations(self, name: str) -> Sequence[Operation]:
        raise AssertionError("nobody asks")

    async def execution(self, name: str) -> ExecutionRecord:
        status = ExecutionStatus.SUCCEEDED if self.is_over else ExecutionStatus.RUNNING
        return ExecutionRecord(
            id="e", name=name, arn="a", function="f", status=status, start_timestamp=Timestamp(0)
        )

    async def history(self, name: str, after: int = 0) -> Sequence[Event]:
        assert after == self.told
        answer = self.answers.pop(0)
        if isinstance(answer, ServiceError):
            raise answer
        events = [
            Event(event_type=kind, event_id=number, event_timestamp=Timestamp(number))
            for number, kind in enumerate(answer, after + 1)
        ]
        self.told += len(events)
        self.is_over = EventType.EXECUTION_SUCCEEDED in answer
        return events


async def watch(source: FakeSource) -> ExitCode:
    place = Remote(endpoint="http://127.0.0.1:1")
    return await watching._Watch(source, place, "t-1", LinesView(io.StringIO())).run()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SHORTEST", 0.0)


async def test_a_server_that_is_started_anew_is_waited_for():
    """It may give no answer for a while; nothing of the history is told twice, and nothing is left out."""
    source = FakeSource([EventType.EXECUTION_STARTED], AWAY, (), AWAY, AWAY, [EventType.EXECUTION_SUCCEEDED])
    assert await watch(source) is ExitCode.SUCCEEDED
    assert source.answers == []


async def test_an_end_between_two_looks_is_seen():
    """The execution ran when it was looked at, and its history has its end."""
    source = FakeSource([EventType.EXECUTION_STARTED, EventType.EXECUTION_SUCCEEDED])
    assert await watch(source) is ExitCode.SUCCEEDED


async def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """After its time; one that refuses is at once, and so is one that has never answered."""
    monkeypatch.setattr(watching, "PATIENCE", 0.0)
    for answers in ([[EventType.EXECUTION_STARTED], AWAY], [AWAY]):
        with pytest.raises(ServiceError, match="the server is away"):
            await watch(FakeSource(*answers))
    monkeypatch.setattr(watching, "PATIENCE", 30.0)
    with pytest.raises(ServiceError, match="not you"):
        await watch(FakeSource([EventType.EXECUTION_STARTED], REFUSED))
