"""Keys that make repeats harmless (DESIGN section 4, rule 11)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from durable import (
    DurableContext,
    Retry,
    StepOutcome,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from tests.saga.world import Full, crash_everywhere, run

pytestmark = pytest.mark.anyio

KEYS: list[tuple[str, str, str | None]] = []
"""What asked for a key, the key, and the key of the step that is undone."""


def ask(who: str) -> None:
    info = current_step()
    KEYS.append((who, info.idempotency_key, info.forward_idempotency_key))


async def work_on(what: str) -> str:
    ask(f"do {what}")
    return what


async def undo(what: str) -> None:
    ask(f"undo {what}")


async def undo_in_doubt(outcome: StepOutcome[str]) -> None:
    ask(f"undo {outcome.value}")


async def flaky(what: str) -> str:
    ask(f"do {what}")
    if current_step().attempt < 3:
        raise OSError(what)
    return what


async def flaky_undo(what: str) -> None:
    ask(f"undo {what}")
    await current_context().step(inside, f"inside {what}, attempt {current_step().attempt}")
    if current_step().attempt < 3:
        raise OSError(what)


async def inside(what: str) -> None:
    ask(what)


async def branch(ctx: DurableContext, number: int) -> None:
    await current_saga().step(work_on, f"item {number}", compensate=undo)


AGAIN = Retry(attempts=3)


@durable_execution
async def program(event: None, ctx: DurableContext) -> None:
    async with saga(ctx) as s:
        point = s.savepoint()
        await s.step(work_on, "tried", compensate=undo)
        await s.rollback_to(point, "again")
        await s.step(work_on, "a", compensate=undo)
        await s.step(work_on, "b", compensate=undo_in_doubt, compensate_on="start")
        await s.step(flaky, "c", compensate=flaky_undo, retry=AGAIN, compensate_retry=AGAIN)
        s.compensate(undo, "by hand")
        s.compensate(undo, "by hand again")
        s.cleanup(undo, "up")
        async with saga(ctx) as inner:
            await inner.step(work_on, "d", compensate=undo)
        await ctx.map(branch, range(2))
        await ctx.map(branch, range(2, 4), nesting="flat")
        await ctx.wait(5)
        raise Full("e")


async def test_keys_are_equal_over_attempts_and_replays_and_unique_otherwise():
    """Of each step and of each compensation one, whatever crashes there are; 32 hexadecimal characters."""
    KEYS.clear()
    for _, ran in await crash_everywhere(program, compare=False):
        assert isinstance(ran.error(), Full)
    by_who: dict[str, set[str]] = {}
    for who, key, _ in KEYS:
        assert re.fullmatch("[0-9a-f]{32}", key)
        by_who.setdefault(who, set()).add(key)
    assert len(by_who) == 9 + 12 + 3
    assert all(len(keys) == 1 for keys in by_who.values())
    assert len({key for keys in by_who.values() for key in keys}) == len(by_who)


async def test_a_compensation_knows_its_steps_key_too():
    """To tell a payment API what is to be refunded. What undoes no step has none: by hand, or a cleanup."""
    KEYS.clear()
    await run(program)
    done = {who.removeprefix("do "): key for who, key, _ in KEYS if who.startswith("do ")}
    for who, key, forward in KEYS:
        what = who.removeprefix("undo ")
        if who.startswith("undo ") and what in done:
            assert forward == done[what] != key
        else:
            assert forward is None


async def test_executions_have_different_keys():
    """The same step of another execution is another effect."""
    keys: list[set[str]] = []
    for name in ("one", "two"):
        KEYS.clear()
        await run(program, name=name)
        keys.append({key for _, key, _ in KEYS})
    assert not keys[0] & keys[1]


def test_outside_of_a_step_there_is_no_key():
    """Nor inside a saga's block."""
    with pytest.raises(LookupError, match="none is running"):
        current_step()


async def test_information_about_a_compensation():
    """Its name, its attempt, its deadline."""
    seen: list[Any] = []

    async def look(_: str) -> None:
        info = current_step()
        seen.append((info.name, info.attempt, info.deadline is not None))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, timeout=60) as s:
            await s.step(work_on, "a", compensate=look, name="hotel")
            raise Full("b")

    await run(work)
    assert seen == [("hotel", 1, True)]
