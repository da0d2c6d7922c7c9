"""Random programs of nested operations, run in every way there is, end the same and leave the same history.

A program is a tree of operations. Each is run

  in one go          something else runs all the while, so that nothing is ever suspended
  always replayed    suspended whenever nothing can go on: between any two things that take time
  always anew        replayed before each operation that has not begun, as the test kit's always-replay mode does
  always crashed     the process dies after every single call
  crashed once       at any call, before it is sent or after it was applied

and each time on another schedule of trio's. What happens first among things that are concurrent is decided by time:
whatever takes time takes a power of two of seconds, and no two things the same, so that nothing ever happens at the
same instant as something else in another branch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import anyio
import msgspec
import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from durable import (
    Completion,
    DurableContext,
    DurableFunction,
    Retry,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._engine.current import saga_var
from durable._engine.probe import Probe, probe_var
from durable._wire import Operation, OperationStatus, OperationType
from durable.testing import trio_schedule
from tests.harness import CrashError, Harness
from tests.properties.examples import EXAMPLES
from tests.sweep import World, crash_at, ending, shape

MOST_TIMES = 23
"""Powers of two of seconds, together less than 366 days."""

world = World()


# --- Programs ----------------------------------------------------------------------------------------------------


class Node(msgspec.Struct, frozen=True, tag=True):
    """One operation of a program."""


class Step(Node, frozen=True):
    does: Literal["succeed", "fail", "retry"] = "succeed"
    undo: Literal["none", "undo", "wait", "fail"] = "undo"


class Wait(Node, frozen=True):
    pass


class Child(Node, frozen=True):
    body: tuple[Node, ...]


class Saga(Node, frozen=True):
    body: tuple[Node, ...]


class Parallel(Node, frozen=True):
    bodies: tuple[tuple[Node, ...], ...]
    nesting: Literal["nested", "flat"] = "nested"
    policy: Literal["all", "all_successful", "first_successful"] = "all"
    limit: int | None = None


class Group(Node, frozen=True):
    block: tuple[Node, ...]
    tasks: tuple[tuple[Node, ...], ...]
    collects: bool = True


class Limit(Node, frozen=True):
    body: tuple[Node, ...]
    fails: bool = False


class Try(Node, frozen=True):
    body: tuple[Node, ...]


class Race(Node, frozen=True):
    bodies: tuple[tuple[Node, ...], ...]


steps = st.builds(
    Step,
    does=st.sampled_from(["succeed", "succeed", "fail", "retry"]),
    undo=st.sampled_from(["none", "undo", "wait", "fail"]),
)


def bodies_of(nodes: st.SearchStrategy[Node], most: int = 3) -> st.SearchStrategy[tuple[Node, ...]]:
    return st.lists(nodes, min_size=1, max_size=most).map(tuple)


def larger(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    body = bodies_of(nodes)
    bodies = st.lists(body, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Child, body),
        st.builds(Saga, body),
        st.builds(Try, body),
        st.builds(Limit, body, fails=st.booleans()),
        st.builds(
            Parallel,
            bodies,
            nesting=st.sampled_from(["nested", "flat"]),
            policy=st.sampled_from(["all", "all_successful", "first_successful"]),
            limit=st.sampled_from([None, 1, 2]),
        ),
        st.builds(Group, body, bodies, collects=st.booleans()),
        st.builds(Race, bodies),
    )


programs = bodies_of(st.recursive(steps | st.builds(Wait), larger, max_leaves=10))


# --- How they are run --------------------------------------------------------------------------------------------


class Run:
    """One run of a program: interprets it, and knows how long everything takes."""

    def __init__(self, program: tuple[Node, ...], exponents: tuple[int, ...], *, in_one_go: bool) -> None:
        self._program = program
        self._in_one_go = in_one_go
        self._exponents = iter(exponents)
        # What is known of each place in the program: its name, and how long things take there.
        self._names: dict[tuple[int, ...], str] = {}
        self._times: dict[tuple[Any, ...], int] = {}

    def seconds(self, *place: Any) -> int:
        """How long something takes, the same each time."""
        return self._times[place]

    def measure(self) -> None:
        """Give everything that takes time its own."""
        for place in timed(self._program):
            self._times[place] = 2 ** next(self._exponents)

    @property
    def function(self) -> DurableFunction[None, Any]:
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> Any:
            async def whole(ctx: DurableContext) -> Any:
                return await self.body(ctx, self._program, ())

            async def beside(ctx: DurableContext) -> None:
                await ctx.step(self._take_all_the_time, name="beside")

            batch = await ctx.parallel([whole, beside])
            return [batch.items[0].result, repr_of(batch.items[0].error)]

        return work

    async def _take_all_the_time(self) -> None:
        if self._in_one_go:
            await world.take(2**MOST_TIMES + 1)

    async def body(self, ctx: DurableContext, nodes: tuple[Node, ...], place: tuple[int, ...]) -> list[Any]:
        return [await self.node(ctx, node, (*place, number)) for number, node in enumerate(nodes)]

    async def branch(self, ctx: DurableContext, nodes: tuple[Node, ...], place: tuple[int, ...]) -> list[Any]:
        await ctx.wait(self.seconds(*place, "begin"))
        return await self.body(ctx, nodes, place)

    async def node(self, ctx: DurableContext, node: Node, place: tuple[int, ...]) -> Any:
        return await getattr(self, f"run_{type(node).__name__.lower()}")(ctx, node, place)

    async def run_wait(self, ctx: DurableContext, node: Wait, place: tuple[int, ...]) -> None:
        await ctx.wait(self.seconds(*place))

    async def run_child(self, ctx: DurableContext, node: Child, place: tuple[int, ...]) -> Any:
        return await ctx.child(self.body, node.body, place, name="child")

    async def run_saga(self, ctx: DurableContext, node: Saga, place: tuple[int, ...]) -> Any:
        async with saga(ctx, f"saga {place}"):
            return await self.body(ctx, node.body, place)

    async def run_try(self, ctx: DurableContext, node: Try, place: tuple[int, ...]) -> Any:
        try:
            return await self.body(ctx, node.body, place)
        except Exception as error:
            return repr_of(error)

    async def run_limit(self, ctx: DurableContext, node: Limit, place: tuple[int, ...]) -> Any:
        limit = (ctx.fail_after if node.fails else ctx.move_on_after)(self.seconds(*place))
        result = None
        async with limit:
            result = await self.body(ctx, node.body, place)
        return [result, limit.expired]

    async def run_group(self, ctx: DurableContext, node: Group, place: tuple[int, ...]) -> Any:
        got: list[Any] = []
        try:
            async with ctx.task_group() as tg:
                handles = [
                    tg.start_soon(self.branch, task, (*place, 1, number), name="task")
                    for number, task in enumerate(node.tasks)
                ]
                await self.branch(ctx, node.block, (*place, 0))
                for handle in handles if node.collects else []:
                    got.append(await handle.wait())  # noqa: PERF401 - what it got counts if it is stopped
        except* Exception as group:
            got.append(repr_of(group))
        return got

    async def run_race(self, ctx: DurableContext, node: Race, place: tuple[int, ...]) -> Any:
        winner = await ctx.race(*self.branches(node.bodies, place))
        return [winner.index, winner.result]

    async def run_parallel(self, ctx: DurableContext, node: Parallel, place: tuple[int, ...]) -> Any:
        batch = await ctx.parallel(
            self.branches(node.bodies, place),
            nesting=node.nesting,
            completion=getattr(Completion, node.policy)(),
            max_concurrency=node.limit,
        )
        return [batch.completion_reason, *([item.status, item.result, repr_of(item.error)] for item in batch)]

    def branches(
        self, bodies: tuple[tuple[Node, ...], ...], place: tuple[int, ...]
    ) -> list[Callable[[DurableContext], Awaitable[Any]]]:
        def branch(number: int, body: tuple[Node, ...]) -> Callable[[DurableContext], Awaitable[Any]]:
            async def run(ctx: DurableContext) -> Any:
                return await self.branch(ctx, body, (*place, number))

            return run

        return [branch(number, body) for number, body in enumerate(bodies)]

    async def run_step(self, ctx: DurableContext, node: Step, place: tuple[int, ...]) -> Any:
        name = f"step {place}"

        async def body() -> str:
            world.effects.append(name)
            if node.does == "fail" or (node.does == "retry" and current_step().attempt == 1):
                raise ValueError(name)
            return name

        retry = None
        if node.does == "retry":
            retry = Retry(attempts=2, initial_delay=self.seconds(*place), jitter="none", max_delay=2**MOST_TIMES)
        if saga_var.get() is None or node.undo == "none":
            return await ctx.step(body, name=name, retry=retry)

        async def undo(what: str) -> None:
            if node.undo == "wait":
                await current_context().wait(self.seconds(*place, "undo"))
            await current_context().step(world.undo, what, name="undo")
            if node.undo == "fail":
                raise KeyError(what)

        return await current_saga().step(body, name=name, retry=retry, compensate=undo)


def repr_of(error: BaseException | None) -> Any:
    """What an error is, without tracebacks and notes."""
    if isinstance(error, BaseExceptionGroup):
        return [type(error).__name__, *(repr_of(member) for member in error.exceptions)]
    return None if error is None else repr(error)


def timed(nodes: tuple[Node, ...], place: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Everything in a program that takes time."""
    for number, node in enumerate(nodes):
        here = (*place, number)
        if isinstance(node, (Wait, Limit)) or (isinstance(node, Step) and node.does == "retry"):
            yield here
        if isinstance(node, Step) and node.undo == "wait":
            yield (*here, "undo")
        if isinstance(node, (Child, Saga, Try, Limit)):
            yield from timed(node.body, here)
        branches = list(enumerate(node.bodies)) if isinstance(node, (Parallel, Race)) else []
        for index, body in branches:
            yield (*here, index, "begin")
            yield from timed(body, (*here, index))
        if isinstance(node, Group):
            yield (*here, 0, "begin")
            yield from timed(node.block, (*here, 0))
            for index, body in enumerate(node.tasks):
                yield (*here, 1, index, "begin")
                yield from timed(body, (*here, 1, index))


def canonical(operations: list[Operation]) -> dict[str, Any]:
    """History as it has to be the same; when a timer ended that nobody waits for any more is nobody's business."""
    found = {}
    for key, (kind, *rest) in shape(operations).items():
        if kind is OperationType.WAIT:
            rest[3] = None
        elif rest[3] in {OperationStatus.PENDING, OperationStatus.READY}:
            rest[3] = OperationStatus.PENDING
        found[key] = (kind, *rest)
    return found


class Outcome(msgspec.Struct, frozen=True):
    ending: tuple[str, str, str]
    history: dict[str, Any]
    effects: set[str]
    calls: int


async def run(
    program: tuple[Node, ...],
    exponents: tuple[int, ...],
    *,
    in_one_go: bool = False,
    before: int = 0,
    after: int = 0,
    every_call: bool = False,
    anew: bool = False,
) -> Outcome:
    """Run a program to its end, in one of the ways."""
    interpreter = Run(program, exponents, in_one_go=in_one_go)
    interpreter.measure()
    harness = world.harness(interpreter.function)
    if every_call:
        harness.client.after = always_crash
    else:
        harness.client.before, harness.client.after = crash_at(before), crash_at(after)
    probe = Anew(harness) if anew else None
    token = probe_var.set(probe)
    try:
        with anyio.fail_after(30):
            output = await outcome(harness)
    finally:
        probe_var.reset(token)
    return Outcome(ending(output), canonical(harness.operations()), set(world.effects), len(harness.calls))


class Anew(Probe):
    """Has each invocation do one new thing."""

    always_replays = True

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def cut(self, arn: str) -> None:
        await self._harness.crash_now()


def always_crash(call: int) -> None:
    raise CrashError


async def outcome(harness: Harness) -> Any:
    while True:
        try:
            return await harness.outcome()
        except CrashError:
            continue


def same(found: Outcome, expected: Outcome) -> None:
    assert found.ending == expected.ending
    assert found.history == expected.history
    assert found.effects == expected.effects


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_way_to_run_a_program_is_the_same(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome, the history and the set of effects."""
    # Nothing depends on how fast the machine is: a step's START goes out with its end.
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    @EXAMPLES
    @given(
        program=programs,
        exponents=st.permutations(range(MOST_TIMES)).map(tuple),
        seed=st.integers(0, 2**16),
        cut=st.floats(0, 1, exclude_max=True),
    )
    def check(program: tuple[Node, ...], exponents: tuple[int, ...], seed: int, cut: float) -> None:
        assume(len(list(timed(program))) <= MOST_TIMES)
        note(f"{backend}, seed {seed}")
        with trio_schedule(seed):
            anyio.run(in_every_way, program, exponents, cut, backend=backend)

    check()


def _shuffled(*first: int) -> tuple[int, ...]:
    """Exponents: these, then all others."""
    return (*first, *(exponent for exponent in range(MOST_TIMES) if exponent not in first))


_FAIL, _RETRY, _OK = Step("fail", "none"), Step("retry", "none"), Step("succeed", "none")

ONCE_WRONG: dict[str, tuple[tuple[Node, ...], tuple[int, ...]]] = {
    "a flat branch that had room as others had ended": (
        (
            Parallel(
                ((Wait(), _RETRY, _FAIL), (Wait(),), (_FAIL, _OK)),
                nesting="flat",
                policy="all_successful",
                limit=2,
            ),
        ),
        _shuffled(13, 15, 16, 1, 11, 20),
    ),
    "a group that was stopped by a task, in a block that had ended": (
        (
            Parallel(
                (
                    (
                        Group(
                            (Group((Wait(), Wait()), ((_FAIL, _OK), (Wait(),), (_FAIL, _OK)), collects=False), _OK),
                            ((_OK,),),
                            collects=False,
                        ),
                        Wait(),
                    ),
                )
            ),
            _OK,
        ),
        _shuffled(0, 2, 1, 3, 4, 6, 5),
    ),
    "a group that ended in a block, after which a task fails": (
        (
            Group(
                (
                    Try((Group((Wait(), _FAIL), ((_OK, _RETRY), (_RETRY,))),)),
                    _OK,
                    _OK,
                ),
                ((_FAIL,),),
                collects=False,
            ),
        ),
        _shuffled(4, 5, 10, 7, 8, 9, 6, 11),
    ),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("what", ONCE_WRONG)
def test_what_once_went_wrong(backend: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the test above with other examples."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)
    program, exponents = ONCE_WRONG[what]
    with trio_schedule(1):
        anyio.run(in_every_way, program, exponents, 0.5, backend=backend)


async def in_every_way(program: tuple[Node, ...], exponents: tuple[int, ...], cut: float) -> None:
    expected = await run(program, exponents)
    same(await run(program, exponents, in_one_go=True), expected)
    same(await run(program, exponents, every_call=True), expected)
    same(await run(program, exponents, anew=True), expected)
    number = 1 + int(cut * expected.calls)
    same(await run(program, exponents, before=number), expected)
    same(await run(program, exponents, after=number), expected)
