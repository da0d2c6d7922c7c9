"""Rollbacks that go on with newer code than the one they began with: nothing is passed over in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable import CompensationError, DurableContext, NonDeterminismError, SagaScope, durable_execution, saga
from durable.exceptions import MissingCompensationError
from tests.harness import CrashError, Harness
from tests.saga.world import (
    LOG,
    Full,
    answer,
    book,
    callbacks,
    cancel,
    cannot_cancel,
    crash_everywhere,
    run,
)

pytestmark = pytest.mark.anyio

Block = Callable[[SagaScope], Any]


async def old(s: SagaScope) -> None:
    """The code that the execution begins with."""
    await s.step(book, "a", compensate=cancel, name="a")
    await s.step(book, "b", compensate=cancel, name="b")
    s.compensate(cancel, "by hand", name="c")
    await s.step(book, "d", compensate=cancel, name="d")


async def renamed_functions(s: SagaScope) -> None:
    """Other functions do and undo the same: the names that count are the recorded ones, of the steps."""
    await s.step(book_anew, "a", compensate=cancel_anew, name="a")
    await s.step(book_anew, "b", compensate=cancel_anew, name="b")
    s.compensate(cancel_anew, "by hand", name="c")
    await s.step(book_anew, "d", compensate=cancel_anew, name="d")


async def without_one(s: SagaScope) -> None:
    """A step has lost its compensation."""
    await s.step(book, "a", compensate=cancel, name="a")
    await s.step(book, "b", name="b")
    s.compensate(cancel, "by hand", name="c")
    await s.step(book, "d", compensate=cancel, name="d")


async def without_the_one_by_hand(s: SagaScope) -> None:
    """What was registered by hand is not there any more."""
    await s.step(book, "a", compensate=cancel, name="a")
    await s.step(book, "b", compensate=cancel, name="b")
    await s.step(book, "d", compensate=cancel, name="d")


async def another_by_hand(s: SagaScope) -> None:
    """What was registered by hand has another name, so it may be another thing."""
    await s.step(book, "a", compensate=cancel, name="a")
    await s.step(book, "b", compensate=cancel, name="b")
    s.compensate(cancel, "something else", name="renamed")
    await s.step(book, "d", compensate=cancel, name="d")


async def one_more(s: SagaScope) -> None:
    """Something has a compensation now that had none when the rollback was decided: the plan holds."""
    await old(s)
    s.compensate(cancel, "one more", name="e")


async def another_policy(s: SagaScope) -> None:
    """One compensation is tried again now, one has a time limit."""
    from durable import Retry

    await s.step(book, "a", compensate=cancel, name="a", compensate_retry=Retry(attempts=3))
    await s.step(book, "b", compensate=cancel, name="b", compensate_timeout=60)
    s.compensate(cancel, "by hand", name="c", retry=Retry(attempts=2))
    await s.step(book, "d", compensate=cancel, name="d")


async def book_anew(what: str) -> str:
    return await book(what)


async def cancel_anew(what: str) -> None:
    await cancel(what)


def work_of(block: Block, on_error: Any = "continue") -> Any:
    @durable_execution(name="work")
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error=on_error) as s:
            await block(s)
            raise Full("e")

    return work


async def began(block: Block, on_error: Any = "continue") -> Harness:
    """An execution of the old code that died with its rollback recorded, and nothing undone."""
    LOG.clear()
    harness = Harness(work_of(old, on_error))
    harness.client.before = _crash_at(5)
    with pytest.raises(CrashError):
        await harness.outcome()
    harness.client.before = lambda _: None
    assert LOG[-1] == "cancel d"
    LOG.clear()
    harness.function = work_of(block, on_error)
    return harness


@pytest.mark.parametrize("block", [old, renamed_functions, one_more, another_policy])
async def test_code_that_still_undoes_the_same(block: Block):
    """Functions may be renamed, policies may change, and more may be registered: what was planned is done."""
    harness = await began(block)
    assert isinstance(await harness.error(), Full)
    assert LOG == ["cancel d", "cancel by hand", "cancel b", "cancel a"]


@pytest.mark.parametrize(
    ("block", "missing", "found", "undone"),
    [
        (without_one, "b", "registers none", ["cancel d", "cancel by hand", "cancel a"]),
        (without_the_one_by_hand, "c", "registers none", ["cancel d", "cancel b", "cancel a"]),
        (
            another_by_hand,
            "c",
            "registers one under the name 'renamed'",
            ["cancel d", "cancel b", "cancel a"],
        ),
    ],
)
async def test_code_that_lacks_a_compensation(block: Block, missing: str, found: str, undone: list[str]):
    """It has failed, with a message that says what to do; the others are run."""
    harness = await began(block)
    error = await harness.error()
    assert isinstance(error, CompensationError)
    (failure,) = error.exceptions
    assert isinstance(failure, MissingCompensationError)
    assert str(failure) == (
        f"the recorded rollback is to undo {missing!r}, but the code {found}. Deploy code that registers the "
        "compensation under that name, for as long as executions that began with it are running."
    )
    assert undone == LOG


async def test_parked_until_code_is_there_that_can_undo_it():
    """An operator has it tried again once the right code is deployed."""
    harness = await began(without_one, "park")
    assert (await harness.invoke()).status == "PENDING"
    assert LOG == ["cancel d", "cancel by hand"]
    (callback,) = callbacks(harness)
    assert callback.name == "b operator"
    await answer(harness, "b operator", '"retry"')
    harness.function = work_of(old, "park")
    assert isinstance(await harness.error(), Full)
    assert LOG == ["cancel d", "cancel by hand", "cancel b", "cancel a"]


async def test_a_missing_one_stops_a_rollback_that_is_to_stop():
    """It counts as any failure."""
    harness = await began(without_one, "stop")
    error = await harness.error()
    assert str(error) == "saga 'trip' could not undo b; not attempted: a (1 sub-exception)"
    assert LOG == ["cancel d", "cancel by hand"]


@pytest.mark.in_process("one of its endings needs a crash at one certain call")
async def test_what_was_undone_by_the_old_code_is_not_missed():
    """Its outcome is read from history. What is neither undone nor told is what nobody had decided to undo."""
    endings: dict[str, int] = {}
    for place, ran in await crash_everywhere(work_of(old), resumed_by=work_of(without_one)):
        operations = ran.harness.operations()
        planned = any(o.name == "rollback" and '"name":"b"' in (o.result or "") for o in operations)
        undone = any(o.name == "b" and o.sub_type == "Compensation" and o.status == "SUCCEEDED" for o in operations)
        error = ran.error()
        assert isinstance(error, CompensationError if planned and not undone else Full), place
        assert not undone or "cancel b" in ran.log, place
        ending = "undone" if undone else "told" if planned else "never decided"
        endings[ending] = endings.get(ending, 0) + 1
    assert set(endings) == {"undone", "told", "never decided"}


async def test_code_that_renames_a_step_has_left_its_history():
    """Nothing is undone by it, nothing is lost: the old code, or one that follows it, can go on."""

    async def renamed(s: SagaScope) -> None:
        await s.step(book, "a", compensate=cancel, name="a")
        await s.step(book, "b", compensate=cancel, name="bed")

    harness = await began(renamed)
    with pytest.raises(NonDeterminismError, match=r"expected Step 'b' .* found Step 'bed'"):
        await harness.invoke()
    assert LOG == []
    harness.function = work_of(old)
    assert isinstance(await harness.error(), Full)


async def test_on_error_may_change_under_a_rollback():
    """From the next compensation on the new policy holds."""

    async def failing(s: SagaScope) -> None:
        await s.step(book, "a", compensate=cancel, name="a")
        await s.step(book, "b", compensate=cannot_cancel, name="b")
        s.compensate(cancel, "by hand", name="c")
        await s.step(book, "d", compensate=cancel, name="d")

    harness = await began(failing)
    harness.function = work_of(failing, "stop")
    error = await harness.error()
    assert str(error) == "saga 'trip' could not undo b; not attempted: a (1 sub-exception)"


async def test_the_old_code_alone():
    """What the others are compared with."""
    ran = await run(work_of(old))
    assert ran.undone == ["cancel d", "cancel by hand", "cancel b", "cancel a"]
    assert [call[0] for call in ran.harness.calls[3:]] == [
        "CONTEXT START trip",
        "CONTEXT SUCCEED d",
        "CONTEXT SUCCEED c",
        "CONTEXT SUCCEED b",
        "CONTEXT SUCCEED a",
    ]


def _crash_at(number: int) -> Any:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
