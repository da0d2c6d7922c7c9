"""Random sagas: what they are made of, what runs them, and what is known of a run from outside of the library.

A program is a tree. Its nodes are numbered in the order of their positions, so that a higher number is to be undone
earlier. Each node runs at most once in an execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import hypothesis.strategies as st

from durable import (
    CompensationResult,
    Completion,
    DurableContext,
    DurableFunction,
    Retry,
    SagaScope,
    StepOutcome,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._kernel.ledger import OnError
from tests.harness import Harness

Undo = Literal["none", "success", "start", "by hand"]
Way = Literal["at once", "fails", "retried", "waits", "in a child"]


class Boom(Exception):
    """What a program fails with."""


@dataclass
class Node:
    """One thing that a program does."""

    number: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def children(self) -> Sequence[Node]:
        return ()


@dataclass
class Step(Node):
    """A step of no time; a failing one raises. Or, without a step, something registered by hand."""

    undo: Undo
    way: Way
    fails: bool
    attempts: int


@dataclass
class Wait(Node):
    seconds: int


@dataclass
class Fail(Node):
    """Raises here, without any step."""


@dataclass
class Pivot(Node):
    """The point of no return of the saga that it is directly in."""


@dataclass
class Cleanup(Node):
    """Something to be cleaned up at the end of the innermost saga."""


@dataclass
class Body(Node):
    """Several, one after another."""

    nodes: Sequence[Node]

    @property
    def children(self) -> Sequence[Node]:
        return self.nodes


@dataclass
class Retreat(Body):
    """Back to a savepoint after it, if it gets so far."""


@dataclass
class Child(Body):
    handled: bool


@dataclass
class Limit(Body):
    """Under a durable time limit."""

    seconds: int


@dataclass
class Saga(Body):
    """A saga of its own."""

    handled: bool
    on_error: OnError
    deadline: int | None


@dataclass
class Side(Node):
    """Bodies side by side."""

    bodies: Sequence[Body]
    how: Literal["group", "block", "map", "flat", "tolerant"]
    handled: bool

    @property
    def children(self) -> Sequence[Node]:
        return self.bodies


# --- Making them ---------------------------------------------------------------------------------------------

_SECONDS = st.sampled_from([1, 5, 20, 60])
_UNDO: st.SearchStrategy[Undo] = st.sampled_from(["none", "success", "success", "success", "start", "by hand"])
_WAY: st.SearchStrategy[Way] = st.sampled_from(
    ["at once", "at once", "at once", "fails", "retried", "waits", "in a child"]
)
_ON_ERROR: st.SearchStrategy[OnError] = st.sampled_from(["continue", "continue", "stop", "park"])

_steps = st.builds(
    Step,
    undo=_UNDO,
    way=_WAY,
    fails=st.sampled_from([False] * 5 + [True]),
    attempts=st.sampled_from([1, 1, 1, 2]),
)
_leaves = st.one_of(_steps, _steps, _steps, st.builds(Wait, seconds=_SECONDS), st.builds(Cleanup))


def _nested(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    nodes = st.lists(inner, min_size=1, max_size=4)
    bodies = st.lists(st.builds(Body, nodes=st.lists(inner, min_size=1, max_size=3)), min_size=1, max_size=3)
    handled = st.booleans()
    sagas = st.builds(
        Saga,
        nodes=st.lists(
            st.one_of(inner, inner, st.builds(Pivot), st.builds(Fail), st.builds(Retreat, nodes=nodes)),
            min_size=1,
            max_size=5,
        ),
        handled=handled,
        on_error=_ON_ERROR,
        deadline=st.sampled_from([None, None, None, 10, 40]),
    )
    return st.one_of(
        inner,
        sagas,
        sagas,
        st.builds(Child, nodes=nodes, handled=handled),
        st.builds(Limit, nodes=nodes, seconds=_SECONDS),
        st.builds(
            Side, bodies=bodies, how=st.sampled_from(["group", "block", "map", "flat", "tolerant"]), handled=handled
        ),
    )


def numbered(nodes: Sequence[Node]) -> Saga:
    """The program of these nodes."""
    root = Saga(nodes=nodes, handled=False, on_error="continue", deadline=None)
    for number, node in enumerate(walk(root)):
        node.number = number
        if isinstance(node, Saga) and any(isinstance(inner, Retreat) for inner in node.nodes):
            node.on_error = "continue"  # what was not attempted on the way back would be undone later
    return root


def walk(node: Node) -> Iterator[Node]:
    """A node and all inside of it, in the order of their positions."""
    yield node
    for child in node.children:
        yield from walk(child)


programs: st.SearchStrategy[Saga] = st.lists(
    st.recursive(_leaves, _nested, max_leaves=12), min_size=1, max_size=6
).map(numbered)


def is_sequential(root: Saga) -> bool:
    """Whether nothing of it runs side by side."""
    return not any(isinstance(node, Side) for node in walk(root))


# --- Running them --------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What is seen of one execution of a program from outside.

    Attributes:
        effects: What happened, in order: what, of which node, with which key, after how many events of history.
        ends: How each saga's block ended, by the saga's number.
        reports: What the rollback of each saga, or retreat, came to, to the letter, by its number.
        pivots: The pivots that were passed.
        retreats: The retreats that were made.
        by_hand: What was registered by hand.
        cleanups: What was registered to be cleaned up.
        perhaps: What was registered in invocations that crashed, of either kind; if not again, it may not count.
    """

    root: Saga
    effects: list[tuple[str, int, str, int]] = field(default_factory=list)
    ends: dict[int, set[str]] = field(default_factory=dict)
    reports: dict[int, set[str]] = field(default_factory=dict)
    results: dict[int, CompensationResult] = field(default_factory=dict)
    pivots: set[int] = field(default_factory=set)
    retreats: set[int] = field(default_factory=set)
    by_hand: set[int] = field(default_factory=set)
    cleanups: set[int] = field(default_factory=set)
    perhaps: set[int] = field(default_factory=set)
    harness: Harness | None = None
    _before: tuple[set[int], set[int]] = (set(), set())

    def begin(self) -> None:
        """An invocation begins."""
        self._before = set(self.by_hand), set(self.cleanups)

    def crash(self) -> None:
        """It crashed: what was registered in it by hand, in its memory alone, may come to nothing."""
        by_hand, cleanups = self._before
        self.perhaps |= (self.by_hand - by_hand) | (self.cleanups - cleanups)
        self.by_hand, self.cleanups = by_hand, cleanups

    def function(self) -> DurableFunction[Any, Any]:
        """The program as a durable function."""

        @durable_execution
        async def program(event: None, ctx: DurableContext) -> str:
            await self._saga(ctx, self.root)
            return "done"

        return program

    async def _run(self, ctx: DurableContext, node: Node) -> None:  # noqa: C901, PLR0912 - one branch a kind
        if isinstance(node, Step):
            await self._step(ctx, node)
        elif isinstance(node, Wait):
            await ctx.wait(node.seconds)
        elif isinstance(node, Fail):
            raise Boom(node.name)
        elif isinstance(node, Pivot):
            s = current_saga()
            s._savepoints.append(mark := s.savepoint())
            s.pivot()
            if mark not in s._savepoints:  # not in a branch that was stopped before it came to this
                self.pivots.add(node.number)
        elif isinstance(node, Cleanup):
            s = current_saga()
            before = len(s._cleanups)
            s.cleanup(self._tidy, node.number, name=node.name)
            if len(s._cleanups) > before:  # not in a branch that was stopped before it came to this
                self.cleanups.add(node.number)
        elif isinstance(node, Saga):
            await self._handled(node.handled, lambda: self._saga(ctx, node))
        elif isinstance(node, Retreat):
            await self._retreat(ctx, node)
        elif isinstance(node, Child):
            await self._handled(node.handled, lambda: ctx.child(self._body, node, name=node.name))
        elif isinstance(node, Limit):
            async with ctx.move_on_after(node.seconds, name=node.name):
                await self._body(ctx, node)
        elif isinstance(node, Side):
            await self._handled(node.handled, lambda: self._side(ctx, node))
        else:
            assert isinstance(node, Body)
            await self._body(ctx, node)

    @staticmethod
    async def _handled(handled: bool, call: Callable[[], Any]) -> None:
        try:
            await call()
        except Exception:
            if not handled:
                raise

    async def _body(self, ctx: DurableContext, body: Body) -> None:
        for node in body.nodes:
            await self._run(ctx, node)

    async def _side(self, ctx: DurableContext, side: Side) -> None:
        if side.how in {"group", "block"}:
            tasks = side.bodies if side.how == "group" else side.bodies[:-1]
            async with ctx.task_group() as group:
                for body in tasks:
                    group.start_soon(self._body, body, name=body.name)
                if side.how == "block":
                    await self._body(ctx, side.bodies[-1])
            return

        async def item(ctx: DurableContext, index: int) -> None:
            await self._body(ctx, side.bodies[index])

        result = await ctx.map(
            item,
            range(len(side.bodies)),
            name=side.name,
            completion=None if side.how == "tolerant" else Completion(tolerated_failures=0),
            nesting="flat" if side.how == "flat" else "nested",
        )
        if side.how != "tolerant":
            result.results()

    async def _saga(self, ctx: DurableContext, node: Saga) -> None:
        s = saga(ctx, node.name, on_error=node.on_error, deadline=node.deadline)
        end = "rolled back"
        try:
            async with s:
                await self._body(ctx, node)
            end = "succeeded"
        finally:
            if ctx._frame.invocation.ending is None:
                self.ends.setdefault(node.number, set()).add(end)
                if s.result is not None:
                    self._report(node, s.result)

    async def _retreat(self, ctx: DurableContext, node: Retreat) -> None:
        s = current_saga()
        point = s.savepoint()
        await self._body(ctx, node)
        self.retreats.add(node.number)
        try:
            result = await s.rollback_to(point, node.name)
        except Exception as error:
            if isinstance(getattr(error, "result", None), CompensationResult):
                self._report(node, error.result)  # type: ignore[attr-defined]
            raise
        self._report(node, result)

    def _report(self, node: Node, result: CompensationResult) -> None:
        self.results[node.number] = result
        self.reports.setdefault(node.number, set()).add(repr(result))

    # --- What happens ----------------------------------------------------------------------------------------

    async def _step(self, ctx: DurableContext, node: Step) -> None:
        s: SagaScope = current_saga()

        async def undo(_: int) -> None:  # not a plain function: threads take no time on the clock of these tests
            await self._undo(node)

        async def undo_in_doubt(outcome: StepOutcome[int]) -> None:
            await self._undo(node, outcome)

        options: dict[str, Any] = {"name": node.name}
        if node.attempts > 1:
            options["retry"] = Retry(attempts=node.attempts, initial_delay=3, jitter="none")
        if node.undo == "none":
            await ctx.step(self._do, node, **options)
        elif node.undo == "by hand":
            before = len(s._ledger)
            s.compensate(self._undo, node, name=node.name, retry=_retry_of(node))
            if len(s._ledger) > before:
                self.by_hand.add(node.number)
        elif node.undo == "success":
            await s.step(self._do, node, compensate=undo, compensate_retry=_retry_of(node), **options)
        else:
            await s.step(
                self._do,
                node,
                compensate=undo_in_doubt,
                compensate_on="start",
                compensate_retry=_retry_of(node),
                **options,
            )

    async def _do(self, node: Step) -> int:
        self._happened("do", node.number)
        if node.fails:
            raise Boom(node.name)
        return node.number

    async def _undo(self, node: Step, outcome: StepOutcome[int] | None = None) -> None:
        if outcome is not None:
            assert (outcome.status == "succeeded") == (outcome.value == node.number)
        self._happened("try to undo", node.number)
        ctx = current_context()
        if node.way == "fails":
            raise Boom(f"undo {node.name}")
        if node.way == "retried" and current_step().attempt == 1:
            raise Boom(f"undo {node.name} at first")
        if node.way == "waits":
            await ctx.wait(30)
        if node.way == "in a child":
            await ctx.child(self._settle, node)
        self._happened("undo", node.number)

    async def _settle(self, ctx: DurableContext, node: Step) -> None:
        await ctx.wait(2)

    async def _tidy(self, number: int) -> None:
        self._happened("tidy", number)

    def _happened(self, what: str, number: int) -> None:
        assert self.harness is not None
        events = self.harness.store._kept[self.harness.record.id].events
        self.effects.append((what, number, current_step().idempotency_key, len(events)))


def _retry_of(node: Step) -> Retry | None:
    return Retry(attempts=2, initial_delay=4, jitter="none") if node.way == "retried" else None
