"""Conditions: look again and again, with the state recorded in between."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from durable import (
    Backoff,
    ConditionNotMetError,
    ConditionTimeoutError,
    DurableContext,
    FrameMisuseError,
    InvalidDurationError,
    InvalidNameError,
    PayloadTooLargeError,
    SerializationError,
    current_step,
    durable_execution,
)
from durable._wire import OperationStatus
from tests.harness import CrashError, Harness
from tests.scripted import ScriptedService

pytestmark = pytest.mark.anyio

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


@dataclass
class Order:
    price: Decimal
    since: datetime
    polls: tuple[int, ...] = ()


async def look(order: Order) -> Order:
    SEEN.append(order)
    return Order(order.price, order.since, (*order.polls, len(order.polls) + 1))


async def count(n: int) -> int:
    SEEN.append(n)
    return n + 1


def delays(harness: Harness) -> list[int | None]:
    """Each RETRY's delay."""
    return [
        update.step_options.next_attempt_delay_seconds
        for call in harness.client.calls
        for update in call
        if update.step_options is not None
    ]


async def test_the_state_goes_from_one_check_to_the_next():
    """Recorded with each poll, typed by the check's annotation, and nothing runs in between."""
    begin = Order(Decimal("1.10"), datetime(2026, 1, 2, tzinfo=UTC))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> Order:
        return await ctx.wait_for_condition(look, begin, until=lambda order: len(order.polls) == 3)

    harness = Harness(work)
    assert await harness.result() == Order(begin.price, begin.since, (1, 2, 3))
    assert [order.polls for order in SEEN] == [(), (1,), (1, 2)]
    assert all(type(order) is Order and type(order.price) is Decimal for order in SEEN)
    assert harness.invocations == 3
    assert harness.calls == [
        ["STEP START look", "STEP RETRY look"],
        ["STEP START look", "STEP RETRY look"],
        ["STEP START look", "STEP SUCCEED look"],
    ]
    operation = harness.operation("look")
    assert (operation.type, operation.sub_type) == ("STEP", "WaitForCondition")
    assert harness.client.calls[0][1].payload == '{"price":"1.10","since":"2026-01-02T00:00:00Z","polls":[1]}'


async def test_a_condition_that_is_met_at_once_costs_one_call():
    """START and SUCCEED together, and no suspension."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 6, until=lambda n: n == 7)

    harness = Harness(work)
    assert await harness.result() == 7
    assert harness.calls == [["STEP START count", "STEP SUCCEED count"]]
    assert harness.invocations == 1


async def test_what_the_check_sees_has_been_recorded_the_first_time_as_well():
    """Without an annotation the first state is plain JSON as all others are; so is the result, also live."""
    results: list[Any] = []

    async def check(state):
        SEEN.append(state)
        return (*state, 1)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        results.append(await ctx.wait_for_condition(check, (1, 2), until=lambda state: len(state) == 4))
        await ctx.wait(1)

    await Harness(work).result()
    assert SEEN == [[1, 2], [1, 2, 1]]
    assert results == [[1, 2, 1, 1]] * 2


async def test_a_plain_check_runs_in_a_worker_thread():
    """With `current_step()` there, as in the body of a step."""

    def check(n: int) -> int:
        SEEN.append((threading.current_thread() is threading.main_thread(), current_step().name))
        return n + 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(check, 0, until=lambda n: n == 2, name="is it two")

    assert await Harness(work).result() == 2
    assert SEEN == [(False, "is it two")] * 2


async def test_a_check_knows_its_attempt_and_has_one_idempotency_key():
    """The number counts up, the key stays."""

    async def check(n: int) -> int:
        SEEN.append((current_step().attempt, current_step().idempotency_key))
        return n + 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(check, 0, until=lambda n: n == 3)

    await Harness(work).result()
    assert [attempt for attempt, _ in SEEN] == [1, 2, 3]
    assert len({key for _, key in SEEN}) == 1


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (
            Backoff(initial_delay=10, backoff_rate=3, max_delay=timedelta(minutes=1), jitter="none"),
            [10, 30, 60, 60],
        ),
        (7, [7, 7, 7, 7]),
        (timedelta(minutes=2), [120] * 4),
        (0.2, [1, 1, 1, 1]),
        (lambda state, attempt: state * 100 + attempt, [101, 202, 303, 404]),
        (lambda state, attempt: timedelta(seconds=1.5), [2, 2, 2, 2]),
        (lambda state, attempt: 0, [1, 1, 1, 1]),
    ],
    ids=["backoff", "seconds", "timedelta", "short", "function", "function of timedeltas", "function of nothing"],
)
async def test_the_delay_between_two_checks(delay, expected):
    """Growing, always the same, or by state and attempt; whole seconds, kept by the service."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda n: n == 5, delay=delay)

    harness = Harness(work)
    began = harness.clock.now()
    assert await harness.result() == 5
    assert delays(harness) == expected
    assert harness.clock.now() - began >= sum(expected) * 1000


async def test_the_default_delays_are_those_of_the_official_sdk():
    """60 checks, 5 s first, x1.5, at most 5 minutes, full jitter."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda _: False)

    harness = Harness(work)
    with pytest.raises(ConditionNotMetError, match="condition 'count' was not met after 60 checks"):
        await harness.result()
    taken = delays(harness)
    assert len(taken) == 59
    assert all(1 <= (delay or 0) <= min(5 * 1.5**n, 300) + 1 for n, delay in enumerate(taken))
    # A jitter that were none would give the same delay forty times.
    assert len(set(taken[20:])) > 5
    assert max(delay or 0 for delay in taken) > 60


async def test_after_so_many_checks_it_is_given_up():
    """The error tells how many, and the last state; live and on replay."""
    errors: list[ConditionNotMetError] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait_for_condition(
                look, Order(Decimal(1), datetime(2026, 1, 2, tzinfo=UTC)), until=lambda _: False, max_attempts=2
            )
        except ConditionNotMetError as error:
            errors.append(error)
        await ctx.wait(1)

    harness = Harness(work)
    await harness.result()
    assert len(SEEN) == 2
    for error in errors:
        assert type(error) is ConditionNotMetError
        assert str(error) == "condition 'look' was not met after 2 checks, as many as it may take"
        assert (error.name, error.attempts) == ("look", 2)
        assert error.state == {"price": "1", "since": "2026-01-02T00:00:00Z", "polls": [1, 2]}
    assert len(errors) == 2
    assert harness.operation("look").status is OperationStatus.FAILED
    assert harness.calls[1] == ["STEP START look", "STEP FAIL look"]


async def test_a_timeout_counts_from_the_first_check_and_delays_end_with_it():
    """A delay is no longer than what is left; at the end of the time there is one last check."""
    errors: list[ConditionTimeoutError] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait_for_condition(count, 0, until=lambda _: False, delay=40, timeout=timedelta(seconds=90))
        except TimeoutError as error:
            assert isinstance(error, ConditionTimeoutError)
            errors.append(error)
        await ctx.wait(1)

    harness = Harness(work)
    await harness.result()
    assert delays(harness) == [40, 40, 10]
    for error in errors:
        assert str(error) == "condition 'count' was not met after 4 checks, within its timeout of 90 s"
        assert (error.attempts, error.state) == (4, 4)
    assert len(errors) == 2


async def test_a_condition_that_is_met_after_its_timeout_is_met():
    """What the last check finds counts, however late it comes."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda n: n == 2, delay=10, timeout=20)

    harness = Harness(work)
    await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 1_000_000)
    assert await harness.result() == 2


async def test_a_timeout_of_nothing_is_one_check():
    """There is always one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda _: False, timeout=0)

    with pytest.raises(ConditionTimeoutError, match="after 1 check, within its timeout of 0 s"):
        await Harness(work).result()


@pytest.mark.parametrize("culprit", ["check", "until", "delay"])
async def test_what_a_check_raises_is_final(culprit):
    """As its own type, live and on replay: a look that failed is no look that found nothing."""
    errors = []

    class Broken(Exception):
        pass

    def fail(which: str) -> None:
        if which == culprit:
            raise Broken(which)

    async def check(n: int) -> int:
        fail("check")
        return n

    def until(n: int) -> bool:
        fail("until")
        return False

    def delay(n: int, attempt: int) -> float:
        fail("delay")
        raise AssertionError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait_for_condition(check, 0, until=until, delay=delay)
        except Broken as error:
            errors.append(str(error))
        await ctx.wait(1)

    harness = Harness(work)
    await harness.result()
    assert errors == [culprit] * 2
    assert harness.calls[0] == ["STEP START check", "STEP FAIL check"]


async def test_what_a_check_raises_keeps_its_cause_in_the_invocation_that_saw_it():
    """As with any exception; a replay cannot have it."""
    causes = []

    async def check(n: int) -> int:
        raise ValueError("closed") from KeyError("door")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait_for_condition(check, 0, until=NEVER)
        except ValueError as error:
            causes.append(repr(error.__cause__))
        await ctx.wait(1)

    await Harness(work).result()
    assert causes == ["KeyError('door')", "None"]


async def test_a_plain_function_that_gives_a_coroutine_is_a_check_as_well():
    """A lambda around a coroutine function, for example."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result: int = await ctx.wait_for_condition(lambda n: count(n), 0, until=lambda n: n == 2, name="lambda")  # noqa: PLW0108
        return result

    assert await Harness(work).result() == 2


async def test_no_step_is_current_after_a_condition():
    """It was current in the check only."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        await ctx.wait_for_condition(count, 0, until=lambda _: True)
        with pytest.raises(LookupError):
            current_step()
        return await ctx.step(name_of_step)

    async def name_of_step() -> str:
        return current_step().name

    assert await Harness(work).result() == "name_of_step"


async def test_a_check_that_breaks_its_promise_fails_the_condition_and_says_so():
    """It ran, so its failure is recorded."""

    async def check(n: int) -> int:
        return "seven"  # type: ignore[return-value]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(check, 0, until=lambda _: True)

    harness = Harness(work)
    with pytest.raises(SerializationError, match="the state of condition 'check' does not fit its annotation int"):
        await harness.result()
    assert harness.calls == [["STEP START check", "STEP FAIL check"]]


async def test_a_state_over_the_payload_limit_is_an_error_before_it_is_sent():
    """Nothing that large goes out; the failure is recorded."""

    async def check(text: str) -> str:
        return "x" * 2_000_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return await ctx.wait_for_condition(check, "", until=lambda _: False)

    harness = Harness(work)
    with pytest.raises(PayloadTooLargeError, match="the state of condition 'check' is 2,000,002 bytes"):
        await harness.result()
    assert harness.calls == [["STEP START check", "STEP FAIL check"]]


async def test_a_large_last_state_is_left_out_of_the_error():
    """The error is recorded all the same, with all else it has to say."""

    async def check(text: str) -> str:
        return "x" * 500_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return await ctx.wait_for_condition(check, "", until=lambda _: False, max_attempts=1)

    with pytest.raises(ConditionNotMetError) as caught:
        await Harness(work).result()
    assert (caught.value.attempts, caught.value.state) == (1, None)


NEVER: Any = lambda _: False  # noqa: E731


async def echo(text: str) -> str:
    raise AssertionError


async def not_plain(n: int) -> bool:
    raise AssertionError


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"state": object()}, SerializationError, "the initial state of condition 'count' cannot be encoded"),
        ({"state": "seven"}, SerializationError, "the initial state of condition 'count' does not fit"),
        (
            {"state": "x" * 2_000_000, "check": echo},
            PayloadTooLargeError,
            "the initial state of condition 'echo' is",
        ),
        ({"max_attempts": 0}, ValueError, "condition 'count' with max_attempts=0"),
        ({"timeout": -1}, InvalidDurationError, "for the timeout of condition 'count'"),
        ({"delay": -1}, InvalidDurationError, "for the delay of condition 'count'"),
        ({"delay": "soon"}, TypeError, "the delay of condition 'count': a duration is a number"),
        ({"until": not_plain}, TypeError, "`until` of condition 'count' is a coroutine function"),
        ({"until": 7}, TypeError, "expected a function, got 7"),
        ({"check": 7}, TypeError, "expected a function, got 7"),
        ({"name": "\n"}, InvalidNameError, "for a condition"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_senseless_arguments_are_errors_at_the_call(arguments, error, text):
    """Before anything is checked or sent."""
    given = {"check": count, "state": 0, "until": NEVER, **arguments}

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        check, state = given.pop("check"), given.pop("state")
        await ctx.wait_for_condition(check, state, **given)

    harness = Harness(work)
    with pytest.raises(error) as caught:
        await harness.result()
    assert text in str(caught.value)
    assert SEEN == []
    assert harness.calls == []


@pytest.mark.parametrize("delay", [lambda n, attempt: None, lambda n, attempt: -1], ids=["nothing", "negative"])
async def test_a_delay_function_that_gives_no_duration_fails_the_condition(delay):
    """The error names the condition."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=NEVER, delay=delay)

    with pytest.raises((TypeError, InvalidDurationError), match="the delay of condition 'count'"):
        await Harness(work).result()


async def test_an_until_that_only_looks_plain_is_found_out():
    """An awaitable is always true."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda n: not_plain(n))  # type: ignore[arg-type, return-value]  # noqa: PLW0108

    with pytest.raises(TypeError, match="`until` of condition 'count' gave an awaitable"):
        await Harness(work).result()


async def test_a_durable_operation_inside_a_check_is_refused():
    """As inside any step."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async def check(n: int) -> int:
            await ctx.wait(1)
            return n

        return await ctx.wait_for_condition(check, 0, until=NEVER)

    with pytest.raises(FrameMisuseError, match="while condition 'check' is running on it"):
        await Harness(work).result()


async def test_an_interrupted_check_is_done_again_with_the_same_state():
    """As the same attempt."""

    async def check(n: int) -> int:
        SEEN.append((n, current_step().attempt))
        if len(SEEN) == 2:
            await harness.crash_now()
        return n + 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(check, 0, until=lambda n: n == 2)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.result()
    assert await harness.result() == 2
    assert SEEN == [(0, 1), (1, 2), (1, 2)]


@pytest.mark.parametrize("linger", [0.0, 3600.0], ids=["starts alone", "starts with its end"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_every_call(when, linger, monkeypatch):
    """It comes to the same result; a check is repeated with the state it had, never with an older one."""
    monkeypatch.setattr("durable._engine.journal.LINGER", linger)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda n: n == 3)

    for number in range(1, 8):
        SEEN.clear()
        harness = Harness(work, name=f"crash-{number}")

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        setattr(harness.client, when, crash)
        try:
            result = await harness.result()
        except CrashError:
            harness.client.before = harness.client.after = lambda _: None
            result = await harness.result()
        assert result == 3
        # At most one of them is done twice, right after itself.
        assert SEEN in ([0, 1, 2], [0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2])


async def test_a_service_that_does_not_repeat_what_it_was_told_is_enough():
    """What was recorded is known without it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=lambda n: n == 3, delay=5)

    service = ScriptedService(work)
    service.repeats = False
    await service.suspended()
    await service.retried()
    await service.suspended()
    await service.retried()
    assert await service.result() == 3
    assert SEEN == [0, 1, 2]


async def test_conditions_in_branches_go_on_in_the_same_invocation_while_another_branch_runs():
    """Each on time, as its own delay says."""
    done = anyio.Event()

    async def runs() -> None:
        await done.wait()

    async def check(n: int) -> int:
        SEEN.append((current_step().name, n))
        return n + 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        async def often(branch: DurableContext) -> int:
            return await branch.wait_for_condition(check, 0, until=lambda n: n == 3, delay=10, name="often")

        async def seldom(branch: DurableContext) -> int:
            result = await branch.wait_for_condition(check, 0, until=lambda n: n == 2, delay=25, name="seldom")
            done.set()
            return result

        async def other(branch: DurableContext) -> None:
            await branch.step(runs)

        return (await ctx.parallel([often, seldom, other])).results()

    harness = Harness(work)
    assert await harness.result() == [3, 2, None]
    assert harness.invocations == 1
    assert sorted(SEEN[:2]) == [("often", 0), ("seldom", 0)]
    assert SEEN[2:] == [("often", 1), ("often", 2), ("seldom", 1)]


async def test_a_recorded_state_that_no_longer_fits_is_told():
    """After a deploy that changed the type of the state."""

    async def check(n: int) -> int:
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(check, 0, until=NEVER, delay=5)

    harness = Harness(work)
    await harness.invoke()

    async def changed(state: list[int]) -> list[int]:
        raise AssertionError

    changed.__name__ = "check"

    @durable_execution
    async def deployed(event: None, ctx: DurableContext) -> list[int]:
        return await ctx.wait_for_condition(changed, [0], until=NEVER, delay=5)

    harness.function = deployed
    await harness.clock.sleep_until(harness.clock.now() + 5_000)
    with pytest.raises(SerializationError, match="the recorded state of condition 'check' does not fit"):
        await harness.result()


async def test_a_condition_is_another_operation_than_a_step_of_that_name():
    """Type alone does not tell them apart."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.wait_for_condition(count, 0, until=NEVER, name="x")

    @durable_execution
    async def deployed(event: None, ctx: DurableContext) -> int:
        return await ctx.step(count, 0, name="x")

    harness = Harness(work)
    await harness.invoke()
    with pytest.raises(Exception, match="expected WaitForCondition 'x'"):
        await harness.invoke(deployed)
