"""The other sagas: what they promise is kept whatever happens, and wherever they crash."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable import DurableFunction
from durable._wire import InvocationOutput, InvocationStatus, Operation, OperationStatus, OperationType
from durable.local import load_target
from durable.local.outside import Outside
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"

Answer = Callable[[Operation], str | None]
"""What somebody outside says to a callback, as text; `None` for nothing."""


def says(**answers: str) -> Answer:
    """Answers by the callback's name, spaces written as underscores."""
    return lambda callback: answers.get((callback.name or "").replace(" ", "_"))


def once(name: str, *answers: str) -> Answer:
    """One answer after another, each to a new callback of that name."""
    remaining = list(answers)
    return lambda callback: remaining.pop(0) if callback.name == name and remaining else None


def opening(answer: Answer) -> Answer:
    """Somebody opens the warehouse before he answers."""

    def open_and_answer(callback: Operation) -> str | None:
        import ledger

        text = answer(callback)
        if text is not None:
            ledger.add("open", "warehouse", "by hand", key="", attempt=1)
        return text

    return open_and_answer


APPROVED = '{"approved": true, "by": "Grace"}'
REFUSED = '{"approved": false, "by": "Grace"}'
CREATION = "approval create callback id"

SCENARIOS: dict[str, tuple[str, dict[str, Any], Callable[[], Answer], str, list[str]]] = {
    "an order": (
        "order.py:place_order",
        {},
        says,
        "str",
        ["reserve stock", "authorise card", "hand over parcel", "collect card"],
    ),
    "an order that the carrier refuses": (
        "order.py:place_order",
        {"refused": True},
        says,
        "CarrierRefusedError",
        ["reserve stock", "authorise card", "void card", "release stock"],
    ),
    "an order that is stuck, tried again": (
        "order.py:place_order",
        {"stuck": True},
        lambda: opening(once("reserve_stock operator", '{"decision": "retry"}')),
        "CarrierRefusedError",
        ["reserve stock", "authorise card", "void card", "open warehouse", "release stock"],
    ),
    "an order that is stuck, skipped": (
        "order.py:place_order",
        {"stuck": True},
        lambda: once("reserve_stock operator", '{"decision": "skip"}'),
        "CarrierRefusedError",
        ["reserve stock", "authorise card", "void card"],
    ),
    "an order that is stuck, abandoned": (
        "order.py:place_order",
        {"stuck": True},
        lambda: once("reserve_stock operator", '{"decision": "abandon"}'),
        "CompensationError",
        ["reserve stock", "authorise card", "void card"],
    ),
    "an invoice that is approved": (
        "approval.py:pay_invoice",
        {},
        lambda: once(CREATION, APPROVED),
        "str",
        ["put aside money", "ask approval", "transfer money"],
    ),
    "an invoice that is not approved": (
        "approval.py:pay_invoice",
        {},
        lambda: once(CREATION, REFUSED),
        "NotApprovedError",
        ["put aside money", "ask approval", "release money"],
    ),
    "an invoice that nobody answers for": (
        "approval.py:pay_invoice",
        {},
        says,
        "CallbackTimeoutError",
        ["put aside money", "ask approval", "release money"],
    ),
    "an invoice that is cancelled": (
        "approval.py:pay_invoice",
        {},
        lambda: once("cancel invoice", '"it was a joke"'),
        "SagaCancelledError",
        ["put aside money", "ask approval", "release money"],
    ),
}


@pytest.fixture(autouse=True)
def ledger_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a ledger of its own, and leaves the import path as it was."""
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "ledger.db"))
    before = list(sys.path)
    yield
    sys.path[:] = before


def load(target: str) -> DurableFunction[Any, Any]:
    return load_target(f"{EXAMPLES}/{target}")


def event(target: str, **changes: Any) -> Any:
    function = load(target)
    file, _, _ = target.partition(".py")
    raw = {**msgspec.json.decode((EXAMPLES / f"{file}.json").read_bytes()), **changes}
    return function._input_converter().decode(msgspec.json.encode(raw).decode(), "an example's input")


def entries() -> list[Any]:
    import ledger

    return ledger.entries() if Path(os.environ["TRIP_LEDGER"]).exists() else []


def happened() -> list[str]:
    return [f"{entry.action} {entry.what}" for entry in entries()]


async def outcome(harness: Harness, answer: Answer) -> InvocationOutput:
    """Invoke until the execution is over; whoever is asked for an answer while nothing runs gives it."""
    while True:
        output = await harness.invoke()
        if output.status is not InvocationStatus.PENDING:
            return output
        answered = False
        for operation in harness.operations():
            waits = operation.type is OperationType.CALLBACK and operation.status is OperationStatus.STARTED
            text = answer(operation) if waits else None
            if text is not None and operation.callback_details is not None:
                await Outside(harness.service).succeed_callback(operation.callback_details.callback_id or "", text)
                answered = True
        due = await harness.service.next_due(harness.record.id)
        if not answered:
            assert due is not None, "nobody answers, and nothing falls due"
            await harness.clock.sleep_until(due)


def ending(function: DurableFunction[Any, Any], output: InvocationOutput) -> str:
    if output.status is InvocationStatus.SUCCEEDED:
        return type(function.decode_result(output.result)).__name__
    return type(function.decode_error(output.error)).__name__


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_ending(scenario: str):
    """The outcome, and exactly what should have happened in the world, in order."""
    target, changes, answers, expected, log = SCENARIOS[scenario]
    function = load(target)
    output = await outcome(Harness(function, event(target, **changes)), answers())
    assert ending(function, output) == expected
    assert happened() == log


@pytest.mark.parametrize("when", ["before it is sent", "after it was applied"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_crash_at_every_call(scenario: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each run ends the same; an interrupted step may repeat, under the same idempotency key."""
    target, changes, answers, expected, log = SCENARIOS[scenario]
    function = load(target)
    for number in itertools.count(1):
        monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / f"ledger-{number}.db"))
        harness = Harness(function, event(target, **changes), name=f"t-{number}")
        answer = answers()

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        if when == "before it is sent":
            harness.client.before = crash
        else:
            harness.client.after = crash
        try:
            output = await outcome(harness, answer)
        except CrashError:
            harness.client.before = harness.client.after = lambda _: None
            output = await outcome(harness, answer)
        else:
            assert number > 3
            break
        assert ending(function, output) == expected, number
        # In order of their first happening it is what happens without a crash; at most one happens twice, and then
        # under the same key.
        assert list(dict.fromkeys(happened())) == log, number
        assert len({entry.key for entry in entries()}) == len(log), number
        assert len(entries()) <= len(log) + 1, number


async def test_a_tour_goes_without_those_for_whom_there_is_no_room():
    """Charles is undone at once, and nobody else."""
    function = load("tour.py:book_tour")
    harness = Harness(function, event("tour.py:book_tour"))
    output = await outcome(harness, says())
    assert function.decode_result(output.result) == ["Ada", "Mary", "Augustus"]
    log = [f"{entry.action} {entry.what} {entry.reference}" for entry in entries()]
    assert "cancel seat Charles" in log
    assert sum(line.startswith("cancel") for line in log) == 1
    assert log[-1] == "rent coach Lake District"


@pytest.mark.parametrize("changes", [{"no_coach": True}, {"fewest": 4}], ids=["no coach", "too few"])
async def test_a_tour_that_does_not_take_place_is_undone_in_reverse_of_the_travellers_order(
    changes: dict[str, Any],
):
    """They were booked side by side; the order of undoing does not depend on who was faster."""
    function = load("tour.py:book_tour")
    harness = Harness(function, event("tour.py:book_tour", **changes))
    output = await outcome(harness, says())
    assert output.status is InvocationStatus.FAILED
    cancelled = [f"{entry.what} {entry.reference}" for entry in entries() if entry.action == "cancel"]
    assert cancelled == [
        "seat Charles",
        *(f"{what} {traveller}" for traveller in ("Augustus", "Mary", "Ada") for what in ("room", "seat")),
    ]


@pytest.mark.parametrize("when", ["before it is sent", "after it was applied"])
async def test_a_tour_that_crashes_at_any_call_leaves_nothing_booked(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was booked, by whichever traveller, is cancelled once."""
    function = load("tour.py:book_tour")
    for number in itertools.count(1):
        monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / f"ledger-{number}.db"))
        harness = Harness(function, event("tour.py:book_tour", no_coach=True), name=f"t-{number}")

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        if when == "before it is sent":
            harness.client.before = crash
        else:
            harness.client.after = crash
        try:
            output = await outcome(harness, says())
        except CrashError:
            harness.client.before = harness.client.after = lambda _: None
            output = await outcome(harness, says())
        else:
            assert number > 10
            break
        assert ending(function, output) == "FullError", number
        booked = {f"{entry.what} {entry.reference}" for entry in entries() if entry.action == "book"}
        cancelled = {f"{entry.what} {entry.reference}" for entry in entries() if entry.action == "cancel"}
        assert booked == cancelled, number
        keys = [entry.key for entry in entries() if entry.action == "cancel"]
        assert len(set(keys)) == len(cancelled), number
