"""Rules for clients: durable functions run through them as they do without."""

from __future__ import annotations

from typing import Any, Final

from ..._engine.current import current_step
from ..._kernel.errors import encode_error
from ..._kernel.retry import Retry
from ..._saga.scope import saga
from ..._wire import InvocationOutput, InvocationStatus, OperationStatus
from ...abc import ServiceClient
from ...context import DurableContext
from ...exceptions import ServiceError
from ...function import DurableFunction, durable_execution
from .client_bench import ClientBench, ClientRules, throttled
from .log import record_of
from .rules import expect, expect_same

rule = ClientRules()

_INVOCATIONS: Final = 50
"""More than any of these programs takes."""

_ATTEMPTS: Final = 3


class _FullError(Exception):
    pass


async def _shout(text: str) -> str:
    return text.upper() + " ✈\x00"


async def _steps(event: str, ctx: DurableContext) -> list[str]:
    async def flaky() -> str:
        if current_step().attempt < _ATTEMPTS:
            raise _FullError(event)
        return "at last"

    first = await ctx.step(_shout, event, name="shout")
    await ctx.wait(60, name="pause")
    return [first, await ctx.step(flaky, name="flaky", retry=Retry(attempts=_ATTEMPTS))]


async def _rolled_back(event: str, ctx: DurableContext) -> None:
    async def full() -> None:
        raise _FullError(f"no seat left on {event}")

    async with saga(ctx, "trip") as s:
        await s.step(_shout, "hotel", compensate=_shout, name="hotel")
        await ctx.wait(5, name="cooling off")
        await s.step(_shout, "car", compensate=_shout, name="car")
        await s.step(full, name="seat")


async def _asked(event: str, ctx: DurableContext) -> str:
    answer = await ctx.wait_for_callback(_shout, str, name="approval", timeout=3600)
    return f"{event}: {answer}"


async def _mapped(event: str, ctx: DurableContext) -> int:
    async def one(ctx: DurableContext, number: int) -> int:
        text = await ctx.step(_shout, f"{event} {number}", name=f"shout-{number}")
        return len(text)

    async def large(ctx: DurableContext) -> str:
        return await ctx.step(_shout, "part", name="part") + "x" * 300_000

    lengths = (await ctx.map(one, range(5), name="all")).results()
    return sum(lengths) + len(await ctx.child(large, name="large"))


PROGRAMS: Final = {"steps": _steps, "saga": _rolled_back, "callback": _asked, "map": _mapped}


@rule
async def programs_end_as_they_do_without_the_client(bench: ClientBench) -> None:
    """Steps, a saga that rolls back, a callback and a map record the same, and end the same, through the client."""
    async with bench.connected():
        await _compare(bench)


@rule
async def programs_end_as_they_do_when_calls_fail(bench: ClientBench) -> None:
    """When every third call fails, and is repeated, the same programs record the same, and end the same."""
    calls = 0

    def trouble() -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise throttled()

    async with bench.connected():
        bench.door.trouble = trouble
        await _compare(bench)


async def _compare(bench: ClientBench) -> None:
    """That the programs go through the client as they do without."""
    alone = ClientBench(bench._connect)
    alone.door.max_operations = bench.client.max_operations  # who has a limit counts, and records it
    for name, program in PROGRAMS.items():
        function: DurableFunction[str, Any] = durable_execution(name="program")(program)
        expected = await _Run(alone, function, alone.door, name).outcome()
        found = await _Run(bench, function, bench.client, name).outcome()
        expect_same(f"what {name} recorded, and how it ended", found, expected)


class _Run:
    """One execution of a function, invocation by invocation."""

    def __init__(
        self, bench: ClientBench, function: DurableFunction[str, Any], client: ServiceClient, name: str
    ) -> None:
        self._bench = bench
        self._function = function
        self._client = client
        self._record = record_of(name, input=function.encode_input("ada"), start_timestamp=bench.clock.now())

    async def outcome(self) -> list[str]:
        """How it ends, and what it has recorded then, each operation in a line."""
        service = self._bench.service
        await service.create(self._record)
        for _ in range(_INVOCATIONS):
            output = await self._invoke()
            if output is not None and output.status is not InvocationStatus.PENDING:
                return [f"{output}", *await self._recorded()]
            await self._answer_callbacks()
            due = await service.next_due(self._record.id)
            if due is not None:
                await self._bench.clock.sleep_until(due)
        expect(False, "an end of the execution", f"none after {_INVOCATIONS} invocations")
        return []

    async def _invoke(self) -> InvocationOutput | None:
        """One invocation; `None` if it raised, which is repeated."""
        service, clock = self._bench.service, self._bench.clock
        event = await service.begin_invocation(self._record.id)
        try:
            output = await self._function.invoke(event, self._client, clock=clock)
        except ServiceError as error:
            expect(error.retryable, "an error that is retryable", error)
            await service.end_invocation(self._record.id, encode_error(error))
            return None
        makes_sense = await service.end_invocation(self._record.id, output)
        expect(makes_sense, "an answer that makes sense", f"{output.status}, and nothing is pending")
        return output

    async def _answer_callbacks(self) -> None:
        loaded = await self._bench.store.load(self._record.id)
        for operation in () if loaded is None else loaded.operations:
            details = operation.callback_details
            if details is not None and operation.status is OperationStatus.STARTED:
                await self._bench.outside.succeed_callback(details.callback_id or "", '"yes 🚀"')

    async def _recorded(self) -> list[str]:
        loaded = await self._bench.store.load(self._record.id)
        found = () if loaded is None else loaded.operations
        # Branches are recorded in the order in which the event loop has run them.
        return sorted(
            f"{operation.id} {operation.type} {operation.sub_type} {operation.name!r} in {operation.parent_id}: "
            f"{operation.status} {operation.result!a} {operation.error and operation.error.error_type} "
            f"{operation.step_details and operation.step_details.attempt}"
            for operation in found
        )
