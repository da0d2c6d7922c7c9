"""Checked by mypy and pyright, never run: the types of callbacks, invokes and conditions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from durable import Backoff, Callback, DurableContext, Retry, durable_execution


@dataclass
class Approval:
    by: str


@durable_execution
async def charge(amount: float, ctx: DurableContext) -> list[str]:
    return [str(amount)]


async def submit(callback_id: str) -> int:
    return len(callback_id)


def submit_plainly(callback_id: str) -> None: ...
async def submit_nothing() -> None: ...
async def poll(state: Approval) -> Approval:
    return state


def poll_plainly(count: int) -> int:
    return count + 1


async def poll_otherwise(state: Approval) -> int:
    return len(state.by)


def by_state(state: Approval, attempt: int) -> timedelta:
    return timedelta(seconds=len(state.by) * attempt)


@durable_execution
async def callbacks(event: None, ctx: DurableContext) -> None:
    text = await ctx.create_callback(name="c", timeout=3)
    assert_type(text, Callback[str | None])
    assert_type(text.id, str)
    assert_type(text.name, str | None)
    assert_type(await text.result(), str | None)
    typed = await ctx.create_callback(Approval, heartbeat_timeout=timedelta(hours=1))
    assert_type(typed, Callback[Approval])
    assert_type(await typed.result(), Approval)
    assert_type(await ctx.create_callback(list[int]), Callback[list[int]])
    assert_type(await (await ctx.create_callback(Approval | None)).result(), Any)

    assert_type(await ctx.wait_for_callback(submit), str | None)
    assert_type(await ctx.wait_for_callback(submit_plainly, Approval, retry=Retry(), timeout=3), Approval)
    assert_type(await ctx.wait_for_callback(functools.partial(submit), list[int], name="w"), list[int])

    await ctx.wait_for_callback(submit_nothing)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.create_callback(timeout="1 h")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


@durable_execution
async def invokes(event: None, ctx: DurableContext) -> None:
    assert_type(await ctx.invoke(charge, 1.5), list[str])
    assert_type(await ctx.invoke(charge, 1.5, name="i", tenant_id="t"), list[str])
    assert_type(await ctx.invoke("pay", {"a": 1}), Any)
    assert_type(await ctx.invoke("pay", {"a": 1}, result_type=Approval), Approval)
    assert_type(await ctx.invoke("pay", result_type=list[int]), list[int])
    assert_type(await ctx.invoke("pay", result_type=Approval | None), Any)

    await ctx.invoke(charge, "1.5")  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.invoke(charge)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.invoke(submit, "x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


@durable_execution
async def conditions(event: None, ctx: DurableContext) -> None:
    begin = Approval("")
    assert_type(await ctx.wait_for_condition(poll, begin, until=lambda state: state.by == "x"), Approval)
    assert_type(await ctx.wait_for_condition(poll_plainly, 1, until=lambda n: n > 3, delay=5, max_attempts=3), int)
    assert_type(await ctx.wait_for_condition(poll, begin, until=bool, delay=Backoff(jitter="none")), Approval)
    assert_type(await ctx.wait_for_condition(poll, begin, until=bool, delay=by_state, timeout=60), Approval)
    assert_type(
        await ctx.wait_for_condition(poll, begin, until=bool, delay=lambda state, attempt: len(state.by) * attempt),
        Approval,
    )

    await ctx.wait_for_condition(poll, 3, until=bool)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.wait_for_condition(poll_otherwise, begin, until=bool)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.wait_for_condition(poll, begin, until=bool, delay=Retry())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.wait_for_condition(poll, begin)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
