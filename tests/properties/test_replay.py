"""Code follows its own history, whatever the program, wherever the history is cut; and does nothing meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, note

from durable._wire import InvocationStatus
from durable._wire.events import Event
from durable.testing import ReplayResult, replay, trio_schedule
from tests.harness import CrashError, Harness
from tests.properties.examples import EXAMPLES
from tests.properties.programs import Run, Saga, programs
from tests.recorded import events_of
from tests.saga.world import answer, callbacks

crashes = st.sets(st.integers(1, 30), max_size=3)


def shown(event: Event) -> str:
    return f"{event.event_id} {event.event_type} {event.sub_type} {event.name}"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_random_saga_follows_what_it_has_recorded(backend: str) -> None:
    """After each call and at the end, with crashes in between; no step, compensation or cleanup runs meanwhile."""

    @EXAMPLES
    @given(program=programs, crashes=crashes, seed=st.integers(0, 2**32))
    def check_one(program: Saga, crashes: set[int], seed: int) -> None:
        note(f"{backend}, seed {seed}")
        histories: list[Sequence[Event]] = []
        with trio_schedule(seed):
            anyio.run(execute, program, crashes, histories.append, backend=backend)
            for events in histories:
                note("\n".join(map(shown, events)))
                result = anyio.run(follow, program, events, backend=backend)
                assert result.divergence is None, str(result)

    check_one()


async def execute(program: Saga, crashes: set[int], keep: Callable[[Sequence[Event]], None]) -> None:
    """Run a program to its end, and keep its history after each call."""
    run = Run(program)
    harness = Harness(run.function())
    run.harness = harness

    def look(number: int) -> None:
        keep(events_of(harness))
        if number in crashes:
            raise CrashError

    harness.client.after = look
    while True:
        run.begin()
        try:
            output = await harness.invoke()
        except CrashError:
            run.crash()
            continue
        if output.status is not InvocationStatus.PENDING:
            break
        for callback in callbacks(harness):
            await answer(harness, callback.name or "", '"skip"')
        instant = await harness.service.next_due(harness.record.id)
        if instant is not None:
            await harness.clock.sleep_until(instant)
    keep(events_of(harness))


async def follow(program: Saga, events: Sequence[Event]) -> ReplayResult:
    run = Run(program)
    effects: list[object] = []
    run._happened = lambda *what: effects.append(what)  # type: ignore[method-assign]
    result = await replay(run.function(), events)
    assert effects == []
    return result
