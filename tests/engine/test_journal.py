"""The journal: what is sent, how often, and what a failing service does to an invocation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import anyio
import pytest

from durable import DurableContext, ServiceError, durable_execution, saga
from durable._engine import journal as journal_module
from durable._engine.journal import FIRST_CALL, REPEATS_AFTER
from durable._kernel import batch as batch_module
from durable._wire import InvocationStatus, OperationUpdate
from durable._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from durable._wire.limits import MAX_UPDATES_PER_CALL
from durable.abc import ServiceClient
from durable.exceptions import StaleTokenError
from tests.harness import Harness

pytestmark = pytest.mark.anyio

LOST = ServiceError("connection reset", retryable=True)
REFUSED = ServiceError("no such key", code="KMSNotFoundException", retryable=False)


async def book(n: int = 0) -> int:
    return n


class Between(ServiceClient):
    """Comes between the journal and the service; tests override what they need."""

    def __init__(self, service: ServiceClient) -> None:
        self.service = service
        self.tokens: list[str] = []

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        self.tokens.append(client_token)
        return await self.service.checkpoint(arn, token, updates, client_token)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        return await self.service.get_state(arn, token, marker, max_items)


B = TypeVar("B", bound=Between)


def put_between(harness: Harness, kind: type[B]) -> B:
    between = kind(harness.client.service)
    harness.client.service = between
    return between


async def test_a_lost_answer_is_asked_for_again_with_the_same_client_token():
    """The service gives the first answer again; nothing is recorded twice."""

    class Losing(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            answer = await super().checkpoint(*args)
            if len(self.tokens) % 3 != 0:
                raise LOST
            return answer

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.step(book, 1) + await ctx.step(book, 2)

    harness = Harness(work)
    between = put_between(harness, Losing)
    assert await harness.result() == 3
    assert len(between.tokens) == 6
    assert len(set(between.tokens)) == 2
    assert len(harness.operations()) == 2


async def test_a_call_that_never_gets_through_ends_the_invocation_past_the_users_handlers():
    """It is raised, so that the service invokes again; nobody makes a business outcome of it."""
    seen: list[Exception] = []
    undone = []

    async def cancel(n: int) -> None:
        undone.append(n)

    class Down(Between):
        down = False

        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            if self.down:
                self.tokens.append(args[3])
                raise LOST
            return await super().checkpoint(*args)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx) as s:
                await s.step(book, 1, compensate=cancel)
                between.down = not seen
                await s.step(book, 2, compensate=cancel)
        except Exception as error:
            seen.append(error)
        except BaseException:
            between.down = False
            raise
        return "done"

    harness = Harness(work)
    between = put_between(harness, Down)
    with pytest.raises(ServiceError, match="connection reset") as raised:
        await harness.invoke()
    assert raised.value is LOST
    assert len(set(between.tokens[1:])) == 1
    assert len(between.tokens[1:]) == 1 + len(REPEATS_AFTER)
    assert seen == []
    assert undone == []


async def test_an_error_that_is_for_good_fails_the_execution_past_the_users_handlers():
    """Repeating cannot help; the answer is FAILED with the service's error, whatever the function made of it."""
    seen = []

    class Refusing(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            self.tokens.append("")
            raise REFUSED

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.step(book, 1)
        except Exception as error:
            seen.append(error)
        except BaseException:
            return "swallowed"
        return "done"

    harness = Harness(work)
    between = put_between(harness, Refusing)
    output = await harness.invoke()
    assert output.status is InvocationStatus.FAILED
    assert output.error is not None
    assert output.error.error_message == "KMSNotFoundException: no such key"
    assert seen == []
    assert len(between.tokens) == 1


async def test_a_failure_at_the_very_end_is_looked_at_before_anything_is_answered():
    """A record that was still on its way when the function returned fails: there is no SUCCEEDED."""

    class FailingLate(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            raise StaleTokenError("Invalid checkpoint token: gone")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.CancelScope() as scope:

            async def cancels_itself() -> None:
                scope.cancel()
                await anyio.sleep_forever()

            await ctx.step(cancels_itself)
        return "done"

    harness = Harness(work)
    put_between(harness, FailingLate)
    with pytest.raises(StaleTokenError):
        await harness.invoke()


async def test_a_stale_token_stops_this_holder_at_once_and_the_other_goes_on():
    """Two hold one execution: the older one writes nothing more, and its work is not repeated under its token."""
    runs = []
    both: list[int] = []

    async def count(n: int) -> int:
        runs.append(n)
        if n == 2 and not both:
            both.append(1)
            assert await harness.result() == 6
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return sum([await ctx.step(count, n) for n in (1, 2, 3)])

    harness = Harness(work)
    with pytest.raises(StaleTokenError):
        await harness.invoke()
    assert runs == [1, 2, 2, 3]
    assert len(harness.operations()) == 3


async def test_what_is_queued_while_a_call_is_in_flight_goes_out_together():
    """The linger and the call overlap: order is kept and nothing is sent alone that need not be."""

    class Slow(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            return await super().checkpoint(*args)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return sum([await ctx.step(book, n, name=f"s{n}") for n in range(20)])

    harness = Harness(work)
    put_between(harness, Slow)
    assert await harness.result() == 190
    sent = [update for call in harness.calls for update in call]
    assert sent == [f"STEP {action} s{n}" for n in range(20) for action in ("START", "SUCCEED")]


async def test_an_answer_in_pages_is_followed_before_anyone_goes_on():
    """With the new token, to the end."""

    class Paged(Between):
        held: list[Any]

        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            answer = await super().checkpoint(*args)
            self.held = list(answer.new_execution_state.operations)
            self.token = answer.checkpoint_token
            return CheckpointDurableExecutionResponse(
                checkpoint_token=answer.checkpoint_token,
                new_execution_state=CheckpointUpdatedExecutionState(next_marker="more"),
            )

        async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Any:
            assert (token, marker) == (self.token, "more")
            return GetDurableExecutionStateResponse(operations=tuple(self.held), next_marker="")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        await ctx.wait(5)
        return await ctx.step(book, 7)

    harness = Harness(work)
    put_between(harness, Paged)
    assert await harness.result() == 7


async def test_an_answer_that_repeats_nothing_is_enough():
    """What was acknowledged is known, also from a service that does not say it back."""

    class Taciturn(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            answer = await super().checkpoint(*args)
            return CheckpointDurableExecutionResponse(
                checkpoint_token=answer.checkpoint_token, new_execution_state=CheckpointUpdatedExecutionState()
            )

    async def subflow(ctx: DurableContext) -> int:
        return await ctx.step(book, 4)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        await ctx.wait(5)
        return await ctx.step(book, 7) + await ctx.child(subflow)

    harness = Harness(work)
    put_between(harness, Taciturn)
    assert await harness.result() == 11


async def test_a_revoked_token_is_answered_with_pending_and_nothing_more_is_written():
    """Even if the function has finished (PROTOCOL section 6)."""

    class Revoking(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            answer = await super().checkpoint(*args)
            return CheckpointDurableExecutionResponse(new_execution_state=answer.new_execution_state)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        try:
            return await ctx.step(book, 1)
        finally:
            await ctx.step(book, 2)

    harness = Harness(work)
    between = put_between(harness, Revoking)
    await harness.service.create(harness.record)
    event = await harness.service.begin_invocation(harness.record.id)
    output = await work.invoke(event, between, clock=harness.clock)
    assert output.status is InvocationStatus.PENDING
    assert len(between.tokens) == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, OSError])
async def test_whatever_a_client_raises_is_latched(kind: type[Exception]):
    """A bug in a client is not an error of the workflow's either."""

    class Broken(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            raise kind("broken")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.step(book)
        except Exception:
            return "caught"
        return "done"

    harness = Harness(work)
    put_between(harness, Broken)
    with pytest.raises(kind):
        await harness.invoke()


async def _item(ctx: DurableContext, n: int) -> int:
    return await ctx.step(book, n)


@durable_execution
async def side_by_side(count: int, ctx: DurableContext) -> int:
    return len(await ctx.map(_item, range(count)))


@pytest.mark.in_process("how full calls are depends there on how long they take")
async def test_branches_side_by_side_fill_calls():
    """However fast the service answers, a call is not made as long as others who run bring more to go along.

    But the first one is, with a quarter: nothing is under way while it is waited for.
    """
    harness = Harness(side_by_side, 400)
    output = await harness.invoke()
    assert output.result == "400"
    sizes = [len(call) for call in harness.calls]
    assert sum(sizes) == 4 * 400 + 2
    assert FIRST_CALL <= sizes[0] < 2 * FIRST_CALL
    assert sizes[1:5] == [250] * 4
    assert len(sizes) <= 8


@pytest.mark.in_process("limits are changed here")
async def test_an_answer_that_is_behind_does_not_begin_a_branch_again(monkeypatch):
    """A call carries the START of a branch that has ended meanwhile: what the service says of it is old news."""
    # An odd number: STARTs travel without their ends.
    monkeypatch.setattr(journal_module, "MAX_UPDATES_PER_CALL", 5)
    monkeypatch.setattr(batch_module, "MAX_UPDATES_PER_CALL", 5)
    begun: list[int] = []

    async def item(ctx: DurableContext, n: int) -> int:
        begun.append(n)
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        return (await ctx.map(item, range(30), max_concurrency=3)).results()

    harness = Harness(work)
    assert await harness.result() == list(range(30))
    assert sorted(begun) == list(range(30))
    assert any("CONTEXT START map-item" in call[-1] for call in harness.calls)


@pytest.mark.in_process("the service is kept from answering here")
async def test_branches_do_not_run_ahead_of_a_service_that_does_not_answer():
    """What lags behind is bounded, however many there are, and however soon each ends."""
    begun: list[int] = []
    answers = anyio.Event()

    class Slow(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            await answers.wait()
            return await super().checkpoint(*args)

    async def item(ctx: DurableContext, n: int) -> int:
        begun.append(n)
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return len(await ctx.map(item, range(1_000), max_concurrency=10))

    harness = Harness(work)
    put_between(harness, Slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.invoke)
        await anyio.wait_all_tasks_blocked()
        # Each is two updates; those that run have begun as well.
        assert len(begun) <= MAX_UPDATES_PER_CALL // 2 + 10
        answers.set()
    assert len(begun) == 1_000


async def test_what_others_wait_for_does_not_keep_a_record_back():
    """Branches that run, but have nothing to record for now, do not hold up one that has."""
    recorded = anyio.Event()

    async def quick(ctx: DurableContext) -> None:
        await ctx.step(book, 1, name="quick")
        recorded.set()

    async def slow(ctx: DurableContext) -> None:
        await ctx.step(recorded.wait, name="slow")

    @durable_execution
    async def both(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([slow, quick])

    harness = Harness(both)
    with anyio.fail_after(5):
        output = await harness.invoke()
    assert output.status is InvocationStatus.SUCCEEDED
