"""`map`: one function over many items."""

from __future__ import annotations

import contextlib

import anyio
import anyio.lowlevel
import pytest

from durable import (
    BatchError,
    Completion,
    DurableContext,
    FrameMisuseError,
    InvalidNameError,
    PayloadTooLargeError,
    Retry,
    SerializationError,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from durable._kernel.completion import decode_batch
from durable._kernel.ids import branch_id, operation_id
from durable._wire import InvocationStatus
from tests.harness import CrashError
from tests.sweep import World, crash_at, one_history

pytestmark = pytest.mark.anyio

world = World()
both = pytest.mark.parametrize("nesting", ["nested", "flat"])


async def work_on(ctx: DurableContext, seconds: int) -> int | None:
    """An item that takes so many seconds, and returns nothing if they are two."""
    await ctx.step(world.do, f"item {seconds}", float(seconds), name="do")
    return None if seconds == 2 else seconds


async def fail_after(ctx: DurableContext, seconds: int) -> int:
    """An item that takes so many seconds, and fails if they are odd."""
    await ctx.step(world.do, f"item {seconds}", float(seconds), name="do")
    if seconds % 2:
        raise ValueError(seconds)
    return seconds


# --- Results -----------------------------------------------------------------------------------------------------


@both
async def test_results_are_in_input_order(nesting):
    """Whoever was first; `None` is a result; each item has its index and its name."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[tuple[int, str, str, int | None]]:
        batch = await ctx.map(work_on, [3, 1, 2], nesting=nesting)
        assert batch.is_successful
        assert batch.completion_reason == "ALL_COMPLETED"
        assert batch.results() == [3, 1, None]
        return [(item.index, item.name, item.status, item.result) for item in batch]

    assert await world.harness(work).result() == [
        (0, "map-item-0", "succeeded", 3),
        (1, "map-item-1", "succeeded", 1),
        (2, "map-item-2", "succeeded", None),
    ]
    assert world.effects == ["item 1", "item 2", "item 3"]


async def test_what_is_recorded_of_a_nested_map():
    """A context for all, one an item, ids and parents as the protocol has them."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int | None]:
        return (
            await ctx.map(work_on, [1, 5], name="all", item_name=lambda index, item: f"{index}: {item}")
        ).results()

    harness = world.harness(work)
    await harness.result()
    whole = operation_id(None, 1)
    found = {operation.name: operation for operation in harness.operations()}
    assert found["all"].id == whole
    assert found["all"].sub_type == "Map"
    for index, name in enumerate(["0: 1", "1: 5"]):
        item = found[name]
        assert (item.id, item.parent_id, item.sub_type) == (branch_id(whole, index), whole, "MapIteration")
        assert item.result in {"1", "5"}
    steps = {operation.id: operation.parent_id for operation in harness.operations() if operation.name == "do"}
    assert steps == {operation_id(branch_id(whole, index), 1): branch_id(whole, index) for index in range(2)}


async def test_a_flat_map_records_half_as_much():
    """No context an item: ids are the same, the parent is the map."""

    @durable_execution
    async def work(event: str, ctx: DurableContext) -> list[int | None]:
        return (await ctx.map(work_on, [0] * 10, nesting="flat" if event == "flat" else "nested")).results()

    flat = world.harness(work, "flat")
    await flat.result()
    flat_operations = flat.operations()
    nested = world.harness(work, "nested")
    await nested.result()
    assert len(nested.operations()) == 1 + 20
    assert len(flat_operations) == 1 + 10
    whole = operation_id(None, 1)
    ids = {operation.id for operation in nested.operations()}
    for operation in flat_operations[1:]:
        assert operation.parent_id == whole
        assert operation.id in ids


@both
async def test_failures_are_the_items_own(nesting):
    """The map itself goes on and succeeds; errors are of their own types, live and on replay."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        batch = await ctx.map(fail_after, [1, 2, 3], nesting=nesting)
        seen.append([(item.status, item.result, repr(item.error)) for item in batch])
        await ctx.wait(1)
        try:
            batch.results()
        except BatchError as error:
            return str(error)
        return "no error"

    text = await world.harness(work).result()
    assert "2 of 3 branches failed (ALL_COMPLETED): 'map-item-0', 'map-item-2'" in text
    assert (
        seen
        == [[("failed", None, "ValueError(1)"), ("succeeded", 2, "None"), ("failed", None, "ValueError(3)")]] * 2
    )


@both
@pytest.mark.parametrize("items", [[], [0]])
async def test_no_item_and_one_item(nesting, items):
    """Nothing is special about them."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int | None]:
        batch = await ctx.map(work_on, iter(items), nesting=nesting)
        await ctx.wait(1)
        assert batch.completion_reason == "ALL_COMPLETED"
        assert batch.is_successful
        return batch.results()

    assert await world.harness(work).result() == items


@pytest.mark.in_process("10,000 branches take half a minute over HTTP, and are the engine's own matter")
@both
async def test_ten_thousand_items(nesting):
    """In order, and in a time that grows with their number only."""

    async def double(ctx: DurableContext, item: int) -> int:
        await ctx.step(world.do, str(item), name="do")
        return item * 2

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        batch = await ctx.map(double, range(10_000), nesting=nesting)
        return batch.results() == list(range(0, 20_000, 2))

    harness = world.harness(work)
    assert await harness.result() is True
    assert len(world.effects) == 10_000


# --- What does not fit -------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("text", ["x", "\N{SNOWMAN}"], ids=["ascii", "wide"])
async def test_large_results_are_rebuilt_from_the_items_records(nesting, text):
    """The map's own record is a summary then, and nothing is run again."""
    size = 100_000 if text == "x" else 35_000

    async def large(ctx: DurableContext, item: int) -> str:
        what = await ctx.step(world.do, f"item {item}", name="do")
        if item == 1:
            raise ValueError(what)
        return str(text) * size

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(large, range(4), nesting=nesting)
        await ctx.wait(1)
        assert [item.result for item in batch] == [text * size, None, text * size, text * size]
        return [f"{item.status} {item.error!r}" for item in batch]

    harness = world.harness(work)
    assert await harness.result() == ["succeeded None", "failed ValueError('item 1')"] + ["succeeded None"] * 2
    details = harness.operation("large").context_details
    assert details is not None
    assert details.replay_children
    assert decode_batch(details.result or "").items is None
    assert sorted(world.effects) == [f"item {item}" for item in range(4)]


@both
async def test_a_step_result_over_the_limit_is_its_items_error(nesting):
    """The other items, and the execution, go on."""

    async def too_large() -> str:
        return "x" * 1_100_000

    async def item(ctx: DurableContext, large: bool) -> int:
        return len(await ctx.step(too_large)) if large else 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(item, [False, True, False], nesting=nesting)
        assert isinstance(batch.items[1].error, PayloadTooLargeError)
        return [item.status for item in batch]

    assert await world.harness(work).result() == ["succeeded", "failed", "succeeded"]


@both
async def test_a_result_that_cannot_be_encoded_is_its_items_error(nesting):
    """Found at the end of the item, and told as everywhere."""

    async def item(ctx: DurableContext, value: object) -> int:
        return value  # type: ignore[return-value]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(item, [1, object(), "x"], nesting=nesting)
        return [type(item.error).__name__ for item in batch]

    assert await world.harness(work).result() == ["NoneType", "SerializationError", "SerializationError"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_concurrency": 0}, ValueError),
        ({"nesting": "curly"}, ValueError),
        ({"name": "ä"}, InvalidNameError),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_recorded(options, error):
    """And it takes no position."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(error):
            await ctx.map(work_on, [1], **options)
        return await ctx.step(world.do, "x")

    harness = world.harness(work)
    await harness.result()
    assert harness.operation("do").id == operation_id(None, 1)
    assert len(harness.operations()) == 1


async def test_an_annotation_that_cannot_be_decoded_is_found_before_anything_runs():
    """As for a step."""

    async def item(ctx: DurableContext, n: int) -> Undecodable:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError("it runs")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(SerializationError):
            await ctx.map(item, [1])
        return "refused"

    harness = world.harness(work)
    assert await harness.result() == "refused"
    assert not harness.operations()


@both
@pytest.mark.parametrize("limit", [1, 3, None])
async def test_a_name_that_cannot_be_had_fails_the_map(nesting, limit):
    """Also that of an item which is started late; the error comes out as it is."""

    def name(index: int, item: int) -> str:
        if index == 4:
            raise KeyError("no name")
        return f"item {index}"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.map(work_on, range(6), item_name=name, max_concurrency=limit, nesting=nesting)
        except KeyError as error:
            await ctx.wait(1)
            return repr(error)
        return "no error"

    assert await world.harness(work).result() == "KeyError('no name')"


@both
async def test_a_name_that_the_service_does_not_take_fails_the_map(nesting):
    """Found before the item begins."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.map(work_on, [0, 1], item_name=lambda index, item: "\n" * index or "ok", nesting=nesting)

    assert isinstance(await world.harness(work).error(), InvalidNameError)
    assert "item 1" not in world.effects


# --- How many at once --------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("limit", [1, 3])
async def test_max_concurrency_is_kept_and_used(nesting, limit):
    """Never more, and no fewer while there are enough; items are started in order."""
    world.most = 0
    named = []

    def name(index: int, item: int) -> str:
        named.append(index)
        # What has not been started costs nothing: it has no name either.
        assert index <= len(world.effects) + limit - 1 or len(world.effects) == 9
        return f"item {index}"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        batch = await ctx.map(
            work_on, [3, 1, 4, 1, 5, 2, 6, 5, 3], max_concurrency=limit, item_name=name, nesting=nesting
        )
        return len(batch.results())

    harness = world.harness(work)
    assert await harness.result() == 9
    assert world.most == limit
    assert named == list(range(9))
    seconds = world.seconds
    assert seconds == {1: 30, 3: 10}[limit]


@pytest.mark.parametrize(("nesting", "updates"), [("nested", [4, 4, 4, 4, 2]), ("flat", [3, 2, 2, 2, 1])])
async def test_an_items_end_takes_no_call_of_its_own(nesting, updates):
    """It goes along with what comes next; so does the end of the last one, with that of the whole."""

    async def item(ctx: DurableContext, number: int) -> str:
        return await ctx.step(world.do, f"item {number}", name="do")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return len(await ctx.map(item, range(4), max_concurrency=1, nesting=nesting))

    harness = world.harness(work)
    assert await harness.result() == 4
    assert [len(call) for call in harness.client.calls] == updates


async def test_an_end_that_decides_is_recorded_before_others_are_stopped():
    """What stops them is a fact by then, whenever the process dies."""
    seen: list[str] = []

    async def wins(ctx: DurableContext) -> int:
        await ctx.step(world.do, "first", 1.0, name="first")
        return 1

    async def loses(ctx: DurableContext) -> int:
        try:
            await anyio.sleep_forever()
        finally:
            seen.extend(
                str(update.name) for call in harness.client.calls for update in call if update.action == "SUCCEED"
            )
        return 0

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return len(await ctx.parallel([wins, loses], completion=Completion.first_successful()))

    harness = world.harness(work)
    assert await harness.result() == 2
    assert seen == ["first", "parallel-branch-0"]


@both
async def test_parked_items_count_as_running(nesting):
    """Room is made by an end, not by a wait."""
    inside = 0

    async def item(ctx: DurableContext, n: int) -> None:
        nonlocal inside
        inside += 1
        try:
            await ctx.wait(5)
            assert inside <= 2
        finally:
            inside -= 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        return (await ctx.map(item, range(5), max_concurrency=2, nesting=nesting)).is_successful

    harness = world.harness(work)
    assert await harness.result() is True
    assert world.seconds == 15


@both
async def test_max_concurrency_holds_on_replay_too(nesting):
    """Also where the items only go over what they recorded, to register compensations again."""
    inside = most = 0

    async def undo(what: str) -> None:
        await current_context().wait(1)

    async def item(ctx: DurableContext, n: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await current_saga().step(world.do, str(n), compensate=undo, name="do")
        await anyio.lowlevel.checkpoint()
        inside -= 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        nonlocal inside
        inside = 0
        async with saga(ctx):
            await ctx.map(item, range(9), max_concurrency=2, nesting=nesting)
            raise KeyError

    harness = world.harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert harness.invocations == 10
    assert most == 2


# --- Complete early ----------------------------------------------------------------------------------------------

# Three at once, and odd ones fail. So: 1 fails at 1 s, 4 is done at 4 s, 5 fails at 6 s (it began at 1 s), 8 is
# done at 8 s, 3 fails at 9 s (it began at 6 s), 10 is done at 14 s (it began at 4 s).
SECONDS = [8, 1, 4, 5, 10, 3]
EARLY = {
    # policy: reason, met, seconds, what became of each
    "all": (Completion.all(), "ALL_COMPLETED", False, 14, "sfsfsf"),
    "all_successful": (Completion.all_successful(), "FAILURE_TOLERANCE_EXCEEDED", False, 1, "cfcnnn"),
    "first_successful": (Completion.first_successful(), "MIN_SUCCESSFUL_REACHED", True, 4, "cfscnn"),
    "two": (Completion(min_successful=2), "MIN_SUCCESSFUL_REACHED", True, 8, "sfsfcc"),
    "too many": (Completion(min_successful=4), "ALL_COMPLETED", False, 14, "sfsfsf"),
    "one failure": (Completion(tolerated_failures=1), "FAILURE_TOLERANCE_EXCEEDED", False, 6, "cfsfcn"),
    "a third": (Completion(tolerated_failure_percentage=34), "FAILURE_TOLERANCE_EXCEEDED", False, 9, "sfsfcf"),
    "half": (Completion(tolerated_failure_percentage=50), "ALL_COMPLETED", True, 14, "sfsfsf"),
    "own": (
        Completion(when=lambda progress: "succeeded" if progress.completed == 3 else None),
        "CUSTOM_COMPLETION_SUCCEEDED",
        True,
        6,
        "cfsfcn",
    ),
    "own failure": (
        Completion(when=lambda progress: "failed" if progress.failed else None),
        "CUSTOM_COMPLETION_FAILED",
        False,
        1,
        "cfcnnn",
    ),
}


@both
@pytest.mark.parametrize("policy", EARLY)
async def test_a_policy_means_what_it_says(policy, nesting):
    """When it is complete nothing more is started, what runs is cancelled, and each item says what became of it."""
    completion, reason, met, seconds, statuses = EARLY[policy]
    codes = {"s": "succeeded", "f": "failed", "c": "cancelled", "n": "not started"}
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        batch = await ctx.map(fail_after, SECONDS, max_concurrency=3, completion=completion, nesting=nesting)
        statuses_now = "".join(item.status[0] for item in batch)
        seen.append((batch.completion_reason, batch.is_successful, statuses_now, world.seconds))
        await ctx.wait(60)
        assert [item.status for item in batch] == [codes[code] for code in statuses]

    harness = world.harness(work)
    await harness.result()
    assert seen == [(reason, met, statuses, seconds), (reason, met, statuses, seconds + 60)]
    # What was cancelled or not started has had no effect, then or later.
    assert len(world.effects) == sum(code in "sf" for code in statuses)


@both
async def test_a_policy_that_raises_fails_the_map(nesting):
    """With what it raised, and a note of where; the items that run are cancelled."""

    def when(progress):
        raise KeyError("broken")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        try:
            await ctx.map(work_on, [1, 9], completion=Completion(when=when), nesting=nesting)
        except KeyError as error:
            await ctx.wait(1)
            return [*error.args, *error.__notes__]
        return []

    assert await world.harness(work).result() == ["broken", "raised by the completion policy of Map 'work_on'"]
    assert world.effects == ["item 1"]


@both
async def test_a_policy_is_not_asked_before_there_is_progress(nesting):
    """Nor on a replay while items are parked: one that is content with nothing would cancel them all."""
    asked = []

    def when(progress):
        asked.append(progress.completed)
        return None if progress.failed or progress.completed < 2 else "succeeded"

    async def item(ctx: DurableContext, n: int) -> int:
        await ctx.wait(5)
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        return (await ctx.map(item, [0, 1], completion=Completion(when=when), nesting=nesting)).results()

    harness = world.harness(work)
    assert await harness.result() == [0, 1]
    assert harness.invocations == 2
    assert 0 not in asked
    assert asked[-1] == 2


@both
async def test_a_branch_that_swallows_its_cancellation_has_no_outcome(nesting):
    """Whatever its code makes of it, it is cancelled; it can record nothing more."""

    async def stubborn(ctx: DurableContext, n: int) -> int:
        if n == 1:
            await ctx.step(world.do, "first", 1.0, name="do")
            return 1
        for what in ("second", "third"):
            with contextlib.suppress(BaseException):
                await ctx.step(world.do, what, 9.0, name="do")
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(stubborn, [0, 1], completion=Completion.first_successful(), nesting=nesting)
        return [item.status for item in batch]

    harness = world.harness(work)
    assert await harness.result() == ["cancelled", "succeeded"]
    assert world.effects == ["first"]


# --- Suspension and replay ---------------------------------------------------------------------------------------


@both
async def test_items_that_wait_suspend_once_and_fall_due_together(nesting):
    """One invocation for all that waits equally long."""

    async def item(ctx: DurableContext, n: int) -> int:
        await ctx.wait(5)
        await ctx.step(world.do, f"item {n}", name="do")
        return n

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        return (await ctx.map(item, range(20), nesting=nesting)).results()

    harness = world.harness(work)
    assert await harness.result() == list(range(20))
    assert harness.invocations == 2
    assert len(world.effects) == 20


@both
async def test_a_timer_or_a_retry_that_falls_due_resumes_in_the_same_invocation(nesting):
    """On time, while another item's step is still running."""
    resumed = []

    async def item(ctx: DurableContext, kind: str) -> None:
        if kind == "long":
            await ctx.step(world.do, "long", 20.0, name="do")
        elif kind == "wait":
            await ctx.wait(5)
            resumed.append(("wait", world.seconds))
            await ctx.wait(3)
            resumed.append(("wait", world.seconds))
        else:
            await ctx.step(fail_once, retry=Retry(initial_delay=7, jitter="none"), name="retry")
            resumed.append(("retry", world.seconds))

    async def fail_once() -> None:
        world.effects.append("retry")
        if world.effects.count("retry") == 1:
            raise OSError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        return (await ctx.map(item, ["long", "wait", "retry"], nesting=nesting)).is_successful

    harness = world.harness(work)
    assert await harness.result() is True
    assert harness.invocations == 1
    assert resumed == [("wait", 5), ("retry", 7), ("wait", 8)]


@both
async def test_what_has_ended_is_not_run_again(nesting):
    """Neither an item whose siblings still wait, nor a step of one that waits itself."""
    bodies = []

    async def item(ctx: DurableContext, seconds: int) -> int:
        bodies.append(seconds)
        await ctx.step(world.do, f"item {seconds}", name="do")
        if seconds:
            await ctx.wait(seconds)
        return seconds

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        batch = await ctx.map(item, [0, 5, 9], nesting=nesting)
        await ctx.wait(1)
        return batch.results()

    harness = world.harness(work)
    assert await harness.result() == [0, 5, 9]
    assert sorted(world.effects) == ["item 0", "item 5", "item 9"]
    assert harness.invocations == 4
    # A flat item has no record of its own: its code runs again over what it recorded, until the map has ended.
    assert sorted(bodies) == ([0, 5, 5, 9, 9, 9] if nesting == "nested" else [0, 0, 0, 5, 5, 5, 9, 9, 9])


@pytest.mark.parametrize("when", ["before", "after"])
@both
async def test_a_crash_while_the_winner_is_recorded(nesting, when):
    """The items that ran when it was complete come as far as they came, and nothing new begins."""

    async def item(ctx: DurableContext, seconds: int) -> int:
        await ctx.wait(1)
        await ctx.step(world.do, f"item {seconds}", float(seconds), name="do")
        await ctx.step(world.do, f"after {seconds}", name="do")
        return seconds

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(
            item, [9, 3, 9, 9], completion=Completion.first_successful(), max_concurrency=3, nesting=nesting
        )
        return [item.status for item in batch]

    number = 1
    while True:
        harness = world.harness(work, name=f"t-{number}")
        setattr(harness.client, when, crash_at(number))
        try:
            output = await harness.outcome()
            crashed = False
        except CrashError:
            output = await harness.outcome()
            crashed = True
        assert output.result == '["cancelled","succeeded","cancelled","not started"]', number
        assert set(world.effects) == {"item 3", "after 3"}, number
        if not crashed:
            break
        number += 1


# --- Misuse ------------------------------------------------------------------------------------------------------


@both
async def test_the_outer_context_is_refused_inside_an_item(nesting):
    """Its positions would depend on scheduling."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async def item(_: DurableContext, n: int) -> None:
            await ctx.step(world.do, "x", name="do")

        batch = await ctx.map(item, [0, 1], nesting=nesting)
        assert all(isinstance(item.error, FrameMisuseError) for item in batch)
        return [str(item.error) for item in batch]

    assert "from another task than the one its context belongs to" in (await world.harness(work).result())[0]
    assert world.effects == []


@both
async def test_an_items_context_is_the_current_one(nesting):
    """For helpers that have no context handed to them."""

    async def helper(n: int) -> None:
        await current_context().step(world.do, f"item {n}", name="do")

    async def item(ctx: DurableContext, n: int) -> None:
        await helper(n)
        await anyio.lowlevel.checkpoint()
        await helper(n + 10)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        return (await ctx.map(item, [0, 1], nesting=nesting)).is_successful

    assert await world.harness(work).result() is True
    assert sorted(world.effects) == ["item 0", "item 1", "item 10", "item 11"]


async def test_a_map_inside_a_step_is_refused():
    """A step's body is no place for operations."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def body() -> None:
            await ctx.map(work_on, [1])

        with pytest.raises(FrameMisuseError, match="while step 'body' is running on it"):
            await ctx.step(body)
        return "refused"

    assert await world.harness(work).result() == "refused"


# --- Sagas -------------------------------------------------------------------------------------------------------


@both
async def test_a_map_of_sagas(nesting):
    """Each item undoes its own; the others stay done."""

    async def item(ctx: DurableContext, seconds: int) -> None:
        async with saga(ctx) as scope:
            await scope.step(world.do, f"item {seconds}", float(seconds), name="do", compensate=world.undo)
            await ctx.wait(2)
            if seconds % 2:
                raise ValueError(seconds)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(item, [1, 2, 5], nesting=nesting)
        return [item.status for item in batch]

    harness = world.harness(work)
    assert await harness.result() == ["failed", "succeeded", "failed"]
    assert world.effects == ["item 1", "item 2", "undo item 1", "item 5", "undo item 5"]


@both
async def test_a_saga_around_a_map_undoes_by_item_in_reverse(nesting):
    """In the order of the items, not of their ends; also on the replay of the rollback."""

    async def undo(what: str) -> None:
        world.effects.append(f"undo {what}")
        await current_context().wait(1)

    async def item(ctx: DurableContext, seconds: int) -> None:
        await current_saga().step(world.do, f"item {seconds}", float(seconds), name="do", compensate=undo)
        if seconds == 9:
            raise ValueError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await ctx.map(item, [5, 1, 9, 3], nesting=nesting)
            raise KeyError

    harness = world.harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert world.effects[:4] == ["item 1", "item 3", "item 5", "item 9"]
    assert list(dict.fromkeys(world.effects[4:])) == ["undo item 3", "undo item 9", "undo item 1", "undo item 5"]


# --- Scheduling --------------------------------------------------------------------------------------------------


@both
def test_thirty_schedules_give_one_history(nesting):
    """Steps, waits, retries, failures and an early completion in virtual time."""

    def make():
        async def item(ctx: DurableContext, seconds: int) -> int:
            await ctx.step(world.do, f"item {seconds}", float(seconds), name="do")
            await ctx.wait(seconds)
            if seconds == 3:
                raise ValueError
            await ctx.step(world.do, f"again {seconds}", name="do")
            return seconds

        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[str]:
            batch = await ctx.map(
                item, [4, 1, 3, 2, 5], max_concurrency=4, completion=Completion(min_successful=3), nesting=nesting
            )
            await ctx.wait(1)
            return [item.status for item in batch]

        return work

    one_history(make, world)


async def test_pending_is_answered_while_items_wait():
    """And nothing is recorded of the map yet but its beginning."""

    async def item(ctx: DurableContext, n: int) -> None:
        await ctx.wait(5)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.map(item, [0, 1])

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    updates = [update for call in harness.calls for update in call]
    assert sorted(updates) == [
        "CONTEXT START item",
        "CONTEXT START map-item-0",
        "CONTEXT START map-item-1",
        "WAIT START None",
        "WAIT START None",
    ]
    assert updates[0] == "CONTEXT START item"
