"""Each fault at each call of a saga: the execution ends as it should, and nothing is recorded twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest

from durable import DurableFunction
from durable._wire import InvocationStatus
from durable.exceptions import StaleTokenError
from durable.local import load_target
from tests.aws.fake_lambda import FakeLambda, Fault, error
from tests.aws.flows import World, small_saga
from tests.aws.harness import AwsHarness, Link, linked
from tests.aws.http import Reply

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TRIP = {"traveller": "Ada", "hotel": "H", "flight": "F", "car": "C", "pace": 0.0}
ENDINGS: dict[str, dict[str, str]] = {"success": {}, "declined": {"card": "declined"}}
# A trip that is declined makes every call that one which succeeds makes, and those of the rollback.
CASES = [("declined", fault) for fault in Fault] + [("success", Fault.RESET), ("success", Fault.LOST)]


async def run(harness: AwsHarness, link: Link) -> tuple[str, int]:
    """How the execution ends, and how many requests that took; nothing may be recorded twice."""
    harness.go_over(link)
    output = await harness.outcome()
    assert output.status is not InvocationStatus.PENDING
    twice = [what for what, times in Counter(await harness.recorded()).items() if times > 1]
    assert twice == []
    return (output.error.error_type or "") if output.error else "success", len(harness.fake.requests)


def at(numbers: Container[int], fault: Fault | Reply) -> Callable[[int], Fault | Reply | None]:
    """The fault at these requests."""
    return lambda number: fault if number in numbers else None


async def sweep(make: Callable[[], AwsHarness], fault: Fault, check: Callable[[AwsHarness], None]) -> None:
    """The fault at one call after the other, until there is none left for it."""
    async with linked(FakeLambda(make().service)) as link:
        expected, calls = await run(make(), link)
        assert calls >= 3
        for number in range(1, calls + 1):
            harness = make()
            harness.fake.fault = at([number], fault)
            ended, _ = await run(harness, link)
            assert ended == expected, f"{fault} at call {number}"
            check(harness)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("fault", list(Fault))
async def test_each_fault_at_each_call_of_a_small_saga(fault: Fault, *, fails: bool):
    """It succeeds, or rolls back, as without the fault; what is done outside is done in order."""
    worlds: list[World] = []

    def make() -> AwsHarness:
        worlds.append(World())
        return AwsHarness(small_saga(worlds[-1], fails=fails), page_size=2)

    def check(_: AwsHarness) -> None:
        done = ["book hotel", "book car"]
        if fails:
            done += ["cancel car", "cancel hotel"]
        # One fault is repeated away: no invocation is lost, and so nothing is done twice either.
        assert worlds[-1].done == done

    await sweep(make, fault, check)


@pytest.fixture
def book_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DurableFunction[Any, Any]:
    """The example, with a ledger of its own."""
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return load_target(f"{EXAMPLES / 'trip.py'}:book_trip")


@pytest.mark.parametrize(("ending", "fault"), CASES)
async def test_each_fault_at_each_call_of_the_trip(ending: str, fault: Fault, book_trip: DurableFunction[Any, Any]):
    """The trip is booked, or all of it is cancelled."""

    def make() -> AwsHarness:
        return AwsHarness(book_trip, _trip(book_trip, TRIP | ENDINGS[ending]), page_size=3)

    await sweep(make, fault, lambda harness: None)


def _trip(function: DurableFunction[Any, Any], fields: dict[str, Any]) -> Any:
    import msgspec

    return function._input_converter().decode(msgspec.json.encode(fields).decode(), "the input")


@pytest.mark.parametrize(
    "answer",
    [
        error(429, "TooManyRequestsException", "Rate exceeded"),
        error(400, "ThrottlingException", "Rate exceeded"),
        error(500, "ServiceException", "oops"),
        error(503, "ServiceUnavailable", "oops"),
        error(408, "RequestTimeoutException", "too slow"),
        error(403, "ExpiredTokenException", "The security token is expired"),
        error(403, "InvalidSignatureException", "Signature expired"),
    ],
    ids=["429", "throttled with 400", "500", "503", "408", "expired credentials", "a wrong clock"],
)
@pytest.mark.parametrize("fails", [False, True])
async def test_what_lasts_longer_than_any_repeat_never_fails_an_execution(answer: Any, *, fails: bool):
    """All repeats are in vain, at each call in turn: the invocation raises, and another one goes on."""

    def make() -> AwsHarness:
        return AwsHarness(small_saga(World(), fails=fails))

    async with linked(FakeLambda(make().service)) as link:
        expected, calls = await run(make(), link)
        for first in range(1, calls + 1):
            harness = make()
            # Two invocations, of three attempts each, and one attempt more.
            harness.fake.fault = at(range(first, first + 7), answer)
            ended, _ = await run(harness, link)
            assert ended == expected
            assert len(harness.raised) == 2


async def test_a_stale_token_ends_the_invocation_without_another_write():
    """Somebody else has been invoked for the execution: this invocation stops, no step runs, nothing is undone."""
    world = World()
    harness = AwsHarness(small_saga(world, fails=True))
    await harness.service.create(harness.record)
    event = await harness.service.begin_invocation(harness.record.id)
    await harness.service.begin_invocation(harness.record.id)
    async with harness.connected():
        with pytest.raises(StaleTokenError):
            await harness.function.invoke(event, harness.client, clock=harness.clock)
    assert world.done == ["book hotel"]
    assert len(harness.fake.requests) == 1
    assert harness.operations() == []
