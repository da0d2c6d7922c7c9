"""Steps: run once, recorded, replayed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    InvalidNameError,
    PayloadTooLargeError,
    RecordedError,
    Retry,
    SerializationError,
    StepInterruptedError,
    StepTimeoutError,
    current_step,
    durable_execution,
)
from durable._wire import OperationStatus
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio


@dataclass
class Booking:
    price: Decimal
    when: datetime
    seats: tuple[int, ...]


class Declined(Exception):
    def __init__(self, amount: int) -> None:
        super().__init__(f"declined: {amount}")
        self.amount = amount


async def test_a_step_that_is_recorded_is_not_run_again():
    """A replay takes the recorded result."""
    runs = []

    async def book(n: int) -> int:
        runs.append(n)
        return n * 2

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        results = [await ctx.step(book, n) for n in range(3)]
        await ctx.wait(1)
        return results

    harness = Harness(work)
    assert await harness.result() == [0, 2, 4]
    assert runs == [0, 1, 2]
    assert harness.invocations == 2


async def test_the_value_of_the_first_run_is_the_value_of_the_replay():
    """Typed by annotation, and equal, whichever run it comes from."""
    seen: list[Any] = []

    async def book() -> Booking:
        return Booking(Decimal("1.10"), datetime(2026, 1, 2, tzinfo=UTC), (1, 2))

    async def untyped():
        return (1, {2: 3})

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        seen.append((await ctx.step(book), await ctx.step(untyped)))
        await ctx.wait(1)

    await Harness(work).result()
    first, replayed = seen
    assert first == replayed
    assert first == (Booking(Decimal("1.10"), datetime(2026, 1, 2, tzinfo=UTC), (1, 2)), [1, {"2": 3}])


async def test_the_live_exception_equals_the_replayed_one():
    """Same type, message and data, and `except` finds it both times."""
    seen: list[Declined] = []

    async def charge() -> None:
        raise Declined(7)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.step(charge)
        except Declined as error:
            seen.append(error)
        await ctx.wait(1)
        return "went on"

    assert await Harness(work).result() == "went on"
    live, replayed = seen
    assert (type(live), str(live), live.args, live.amount) == (Declined, "declined: 7", ("declined: 7",), 7)
    assert (type(replayed), str(replayed), replayed.args, vars(replayed)) == (
        type(live),
        str(live),
        live.args,
        vars(live),
    )
    assert live.__traceback__ is not None


async def test_an_uncaught_failure_fails_the_execution():
    """With the error's type, message and data."""

    async def charge() -> None:
        raise Declined(7)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(charge)

    error = await Harness(work).error()
    assert isinstance(error, Declined)
    assert error.amount == 7


async def test_a_fast_step_costs_one_call():
    """START and SUCCEED leave together."""

    async def fast() -> int:
        return 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.step(fast) + await ctx.step(fast)

    harness = Harness(work)
    assert await harness.result() == 2
    assert harness.calls == [["STEP START fast", "STEP SUCCEED fast"]] * 2


async def test_a_slow_step_is_seen_to_have_started():
    """A START nobody waits for goes out after a moment of its own."""
    harness: Harness

    async def slow() -> int:
        while not harness.calls:
            await anyio.lowlevel.checkpoint()
        return 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.step(slow)

    harness = Harness(work)
    assert await harness.result() == 1
    assert harness.calls == [["STEP START slow"], ["STEP SUCCEED slow"]]


async def test_a_plain_function_runs_in_a_worker_thread():
    """The event loop is not held up, and what is ambient is there."""
    seen = []

    def blocking(x: int) -> int:
        seen.append((threading.current_thread() is threading.main_thread(), current_step().name))
        return x

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.step(blocking, 5)

    assert await Harness(work).result() == 5
    assert seen == [(False, "blocking")]


async def test_failures_are_retried_by_the_policy_with_the_services_delay():
    """Nothing runs in between: each attempt is its own invocation."""
    attempts = []

    async def flaky() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) < 3:
            raise OSError(f"attempt {len(attempts)}")
        return "done"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return await ctx.step(flaky, retry=Retry(attempts=5, initial_delay=10, jitter="none"))

    harness = Harness(work)
    began = harness.clock.now()
    assert await harness.result() == "done"
    assert attempts == [1, 2, 3]
    assert harness.invocations == 3
    assert harness.clock.now() - began >= 30_000


async def test_the_last_attempts_error_is_the_steps_error():
    """When the policy gives up, the step fails with what the last attempt raised."""
    attempts = []

    async def flaky() -> None:
        attempts.append(1)
        raise OSError(f"attempt {len(attempts)}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(flaky, retry=Retry(attempts=3))

    with pytest.raises(OSError, match="attempt 3"):
        raise await Harness(work).error()


async def test_errors_that_are_not_worth_it_are_not_retried():
    """`retry_if` decides; if it raises itself, that is the step's failure, with the original as its cause."""
    attempts = []

    async def flaky(error: Exception) -> None:
        attempts.append(error)
        raise error

    @durable_execution
    async def refused(event: None, ctx: DurableContext) -> None:
        await ctx.step(flaky, ValueError("x"), retry=Retry(retry_if=OSError))

    @durable_execution
    async def broken(event: None, ctx: DurableContext) -> None:
        await ctx.step(flaky, ValueError("x"), retry=Retry(retry_if=lambda error: error.nothing))  # type: ignore[attr-defined]

    assert isinstance(await Harness(refused).error(), ValueError)
    assert isinstance(await Harness(broken).error(), AttributeError)
    assert len(attempts) == 2


async def test_an_attempt_that_takes_too_long_is_a_timeout():
    """Async bodies are cancelled, threads are left to themselves; both are tried again by the policy."""
    released = threading.Event()

    async def slow() -> None:
        await anyio.sleep_forever()

    def blocking() -> None:
        released.wait(10)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        texts = []
        for function in (slow, blocking):
            with pytest.raises(StepTimeoutError) as caught:
                await ctx.step(function, timeout=0.01, retry=Retry(attempts=2, retry_if=TimeoutError))
            texts.append(str(caught.value))
        return texts

    harness = Harness(work)
    try:
        assert await harness.result() == [
            f"step '{name}' took longer than its timeout of 0.01 s" for name in ("slow", "blocking")
        ]
    finally:
        released.set()
    assert harness.invocations == 3


async def test_an_interrupted_at_least_once_step_runs_again():
    """A crash while it runs repeats it, as the same attempt with the same idempotency key."""
    seen = []

    async def charge() -> int:
        info = current_step()
        seen.append((info.attempt, info.idempotency_key))
        if len(seen) == 1:
            await harness.crash_now()
        return len(seen)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.step(charge)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.result()
    assert await harness.result() == 2
    assert seen[0] == seen[1]


async def test_an_interrupted_at_most_once_step_never_runs_again():
    """It surfaces as `StepInterruptedError`; with a policy the next attempt is a new one."""
    seen = []

    async def charge() -> int:
        seen.append(current_step().attempt)
        if len(seen) == 1:
            await harness.crash_now()
        return len(seen)

    @durable_execution
    async def once(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.step(charge, semantics="at-most-once")
        except StepInterruptedError as error:
            await ctx.wait(1)
            return str(error)
        return "?"

    harness = Harness(once)
    with pytest.raises(CrashError):
        await harness.result()
    assert "step 'charge' (at most once) was interrupted" in await harness.result()
    assert seen == [1]

    @durable_execution
    async def retried(event: None, ctx: DurableContext) -> int:
        return await ctx.step(charge, semantics="at-most-once", retry=Retry(attempts=2))

    seen.clear()
    harness = Harness(retried)
    with pytest.raises(CrashError):
        await harness.result()
    assert await harness.result() == 2
    assert seen == [1, 2]


async def test_an_at_most_once_step_is_recorded_as_started_before_it_runs():
    """Otherwise nobody would know that it was interrupted."""
    recorded = []

    async def charge() -> None:
        recorded.extend(harness.calls)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(charge, semantics="at-most-once")

    harness = Harness(work)
    await harness.result()
    assert recorded == [["STEP START charge"]]


async def test_idempotency_keys_are_equal_over_attempts_and_unique_otherwise():
    """One a step and an execution."""
    keys: dict[str, list[str]] = {}

    async def charge(label: str) -> None:
        info = current_step()
        keys.setdefault(label, []).append(info.idempotency_key)
        if info.attempt == 1:
            raise OSError

    @durable_execution
    async def work(event: str, ctx: DurableContext) -> None:
        await ctx.step(charge, f"{event}-a", retry=Retry())
        await ctx.step(charge, f"{event}-b", retry=Retry())

    await Harness(work, "1", name="one").result()
    await Harness(work, "2", name="two").result()
    assert all(len(set(of_step)) == 1 and len(of_step) == 2 for of_step in keys.values())
    assert len({of_step[0] for of_step in keys.values()}) == 4


@pytest.mark.parametrize("bad", ["object", "annotation"])
async def test_a_result_that_cannot_be_recorded_fails_the_step_and_says_so(bad):
    """The step ran, so its failure is recorded; it is not tried again, and later runs get the same error."""
    runs = []

    async def returns_object():
        runs.append(1)
        return object()

    async def breaks_its_promise() -> int:
        runs.append(1)
        return "seven"  # type: ignore[return-value]

    function = returns_object if bad == "object" else breaks_its_promise
    texts = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.step(function, retry=Retry())
        except SerializationError as error:
            texts.append(str(error))
        await ctx.wait(1)

    harness = Harness(work)
    await harness.result()
    assert len(runs) == 1
    assert len(texts) == 2
    assert texts[0] == texts[1]
    assert texts[0].startswith(f"the result of step '{function.__name__}'")
    assert harness.operation(function.__name__).status is OperationStatus.FAILED


async def test_a_result_over_the_payload_limit_is_an_error_before_anything_is_sent():
    """Nothing that large goes out; the step's failure is recorded."""

    async def large() -> str:
        return "x" * 2_000_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(large)

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, PayloadTooLargeError)
    assert "the result of step 'large' is 2,000,002 bytes encoded, the limit is 1,048,576" in str(error)
    assert harness.calls == [["STEP START large", "STEP FAIL large"]]


async def test_an_annotation_that_can_never_be_decoded_is_an_error_before_the_step_runs():
    """What can be known before an effect is said before it."""
    runs = []

    async def book() -> threading.Thread:
        runs.append(1)
        raise AssertionError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book)

    harness = Harness(work)
    assert isinstance(await harness.error(), SerializationError)
    assert runs == []
    assert harness.calls == []


@pytest.mark.parametrize("name", ["", "x" * 257, "hôtel", "a\n"])
async def test_a_name_the_service_would_refuse_is_an_error_at_the_call(name):
    """Before anything runs or is sent."""
    runs = []

    async def book() -> None:
        runs.append(1)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book, name=name)

    harness = Harness(work)
    assert isinstance(await harness.error(), InvalidNameError)
    assert runs == []
    assert harness.calls == []


async def test_a_durable_operation_inside_a_steps_body_is_refused():
    """Also through a context that was closed over, and from a task of the step's own."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def inner() -> None:
            await ctx.wait(1)

        try:
            await ctx.step(inner)
        except FrameMisuseError as error:
            return str(error)
        return "?"

    text = await Harness(work).result()
    assert "while step 'inner' is running on it" in text
    assert "test_step.py" in text


async def test_a_durable_operation_from_another_task_is_refused_and_names_the_way():
    """A plain task group would number operations in scheduling order."""
    texts = []

    async def book() -> None: ...

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def branch() -> None:
            try:
                await ctx.step(book)
            except FrameMisuseError as error:
                texts.append(str(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(branch)

    await Harness(work).result()
    assert "ctx.task_group(), ctx.parallel() or ctx.map()" in texts[0]


async def test_an_exception_class_that_is_gone_comes_back_as_a_recorded_error():
    """After a deploy that removed the class, type, message and data are still told."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def fail() -> None:
            raise RecordedError("gone.module.Error", "m", '{"a":1}')

        try:
            await ctx.step(fail)
        except RecordedError as error:
            return f"{error.error_type} {error.message} {error.data}"
        return "?"

    assert await Harness(work).result() == 'gone.module.Error m {"a":1}'
