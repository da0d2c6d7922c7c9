"""Rules for clients: tokens, repeats, what is refused and what fails, and cancellation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from ..._wire import OperationAction
from ...exceptions import ServiceError, StaleTokenError
from .client_bench import Caller, ClientBench, ClientRules, step, throttled, unavailable
from .rules import expect, expect_refused, expect_same

rule = ClientRules()

START = OperationAction.START
_STEP_EVENTS: Final = ["StepStarted a", "StepSucceeded a"]

_CANCELLED = 12
"""Calls that are cancelled one after another: more than a pool has connections."""


@rule
async def the_same_client_token_again(bench: ClientBench) -> None:
    """A call that is made again, with the same client token, gets the first answer, and records nothing twice."""
    async with bench.connected():
        caller = await bench.start()
        token = caller.token
        first = await caller.call(*step("a"), client_token="once")  # noqa: S106 - it is no secret
        then = caller.token
        again = await caller.call(*step("a"), token=token, client_token="once")  # noqa: S106
        expect_same("the operations of the second answer", again, first)
        expect_same("the token of the second answer", caller.token, then)
        expect_same("the events", await caller.events(), _STEP_EVENTS)
        await caller.call(*step("b"))


@rule
async def an_answer_that_is_lost(bench: ClientBench) -> None:
    """When a call was carried out and its answer is lost, the same call gets it, and records nothing twice."""
    async with bench.connected():
        caller = await bench.start()
        token = caller.token

        def lose() -> None:
            bench.door.loss = lambda: None
            raise unavailable()

        bench.door.loss = lose
        await _again(lambda: caller.call(*step("a"), client_token="once"))  # noqa: S106
        expect_same("the events", await caller.events(), _STEP_EVENTS)
        expect(caller.token and caller.token != token, "the token of the answer that was lost", caller.token)
        await caller.call(*step("b"))


@rule
async def a_stale_token_is_told_apart(bench: ClientBench) -> None:
    """A token that was used, or is another invocation's or execution's, is a StaleTokenError; nothing is done."""
    async with bench.connected():
        caller, other = await bench.start("t-1"), await bench.start("t-2")
        used = caller.token
        await caller.call(*step("a"))
        await _is_stale(bench, caller, used, "that was used")
        await _is_stale(bench, caller, other.token, "of another execution")
        before = caller.token
        await caller.begin()
        await _is_stale(bench, caller, before, "of the invocation before")
        expect_same("the events", await caller.events(), _STEP_EVENTS)
        await caller.call(*step("c"))


async def _is_stale(bench: ClientBench, caller: Caller, token: str, which: str) -> None:
    with expect_refused(StaleTokenError, f"`checkpoint` with a token {which}"):
        await bench.client.checkpoint(caller.arn, token, step("b"), f"with one {which}".replace(" ", "-"))
    with expect_refused(StaleTokenError, f"`get_state` with a token {which}"):
        await bench.client.get_state(caller.arn, token, "", 10)


@rule
async def what_is_refused_is_not_worth_a_repeat(bench: ClientBench) -> None:
    """A call that breaks a rule is a ServiceError, not retryable, with the service's code; nothing is recorded."""
    async with bench.connected():
        caller = await bench.start()
        token = caller.token
        wrong = (
            ("an id three times in a call", (*step("a"), step("a")[1])),
            ("an update under a parent that is not there", step("a", parent_id="nobody")),
        )
        for what, updates in wrong:
            with expect_refused(ServiceError, what) as refusal:
                await caller.call(*updates)
            _is_refusal(refusal.error, what, "InvalidParameterValueException")
            expect_same(f"what is recorded after {what}", await caller.recorded(), [])
        what = "a marker that is none of the service's"
        with expect_refused(ServiceError, what) as refusal:
            await bench.client.get_state(caller.arn, token, "nonsense", 10)
        _is_refusal(refusal.error, what, "InvalidParameterValueException")
        await caller.call(*step("a"), token=token)


@rule
async def an_execution_that_is_not_there(bench: ClientBench) -> None:
    """A call for an unknown execution raises ServiceError, not retryable, with the service's code."""
    async with bench.connected():
        caller = await bench.start()
        unknown = f"{caller.arn}-2"
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: bench.client.checkpoint(unknown, caller.token, [], "c"),
            lambda: bench.client.get_state(unknown, caller.token, "", 10),
        )
        for call in calls:
            what = "a call for an execution that is not there"
            with expect_refused(ServiceError, what) as refusal:
                await call()
            _is_refusal(refusal.error, what, "ResourceNotFoundException")


@rule
async def errors_that_no_repeat_helps(bench: ClientBench) -> None:
    """An error that the service calls final is final: ServiceError, not retryable, with the service's code."""
    async with bench.connected():
        caller = await bench.start()
        for code in ("KMSDisabledException", "ResourceConflictException"):
            bench.door.trouble = _raising(partial(ServiceError, "no", code=code, retryable=False))
            with expect_refused(ServiceError, code) as refusal:
                await caller.call(*step("a"))
            _is_refusal(refusal.error, code, code)


@rule
async def what_fails_is_worth_a_repeat(bench: ClientBench) -> None:
    """A service that is throttled, or fails, raises ServiceError that is retryable; the same call works later."""
    async with bench.connected():
        caller = await bench.start()
        calls: tuple[tuple[str, Callable[[], Awaitable[object]]], ...] = (
            ("checkpoint", lambda: caller.call(*step("a"), client_token="once")),  # noqa: S106
            ("get_state", lambda: bench.client.get_state(caller.arn, caller.token, "", 10)),
        )
        for make in (throttled, unavailable):
            for what, call in calls:
                bench.door.trouble = _raising(make)
                with expect_refused(ServiceError, f"`{what}` while the service fails") as refusal:
                    await call()
                expect(not isinstance(refusal.error, StaleTokenError), "no StaleTokenError", refusal.error)
                expect(_retryable(refusal.error), "an error that is retryable", refusal.error)
        bench.door.trouble = lambda: None
        for _, call in calls:
            await call()
        expect_same("the events", await caller.events(), _STEP_EVENTS)


@rule
async def a_call_that_is_cancelled_leaves_the_client_usable(bench: ClientBench) -> None:
    """However many calls are cancelled while they wait for their answers, the client can be used as before."""
    async with bench.connected():
        caller = await bench.start()
        token = caller.token
        for number in range(_CANCELLED):
            bench.door.shut()
            async with anyio.create_task_group() as tasks:
                if number % 2:
                    tasks.start_soon(bench.client.get_state, caller.arn, token, "", 10)
                else:
                    tasks.start_soon(bench.client.checkpoint, caller.arn, token, step("a"), "once")
                await bench.door.wait_until_held()
                tasks.cancel_scope.cancel()
            bench.door.open()
        state = await bench.client.get_state(caller.arn, token, "", 10)
        expect_same("the ids of the state", [operation.id for operation in state.operations], [caller.record.id])
        await caller.call(*step("a"), client_token="once")  # noqa: S106
        expect_same("the events", await caller.events(), _STEP_EVENTS)


@rule
async def others_go_on_while_a_call_is_under_way(bench: ClientBench) -> None:
    """A call does not wait for the answer to another one, of another execution."""
    async with bench.connected():
        slow, fast = await bench.start("t-1"), await bench.start("t-2")
        bench.door.shut()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.client.checkpoint, slow.arn, slow.token, step("a"), "once")
            await bench.door.wait_until_held()
            bench.door.hold_no_more()
            await fast.call(*step("b"))
            tasks.cancel_scope.cancel()


def _is_refusal(error: Exception, what: str, code: str) -> None:
    expect(not _retryable(error), f"an error that is not retryable, for {what}", f"{error!r}, which is retryable")
    expect(not isinstance(error, StaleTokenError), f"no StaleTokenError, for {what}", error)
    expect_same(f"the code of the error for {what}", getattr(error, "code", None), code)


def _retryable(error: Exception) -> bool:
    return isinstance(error, ServiceError) and error.retryable


def _raising(make: Callable[[], ServiceError]) -> Callable[[], None]:
    def trouble() -> None:
        raise make()

    return trouble


async def _again(call: Callable[[], Awaitable[object]]) -> None:
    """Make a call, and once more if it fails: a client may repeat it by itself, or leave that to its caller."""
    try:
        await call()
    except ServiceError as error:
        expect(error.retryable, "an error that is retryable", f"{error!r}, which is not")
        # After that one nobody would call again.
        expect(not isinstance(error, StaleTokenError), "no StaleTokenError", error)
        await call()
