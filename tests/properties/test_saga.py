"""What holds for every saga: random programs, random crashes.

I1  what took effect and is not past a pivot has exactly one outcome: kept, undone, failed to be, skipped, or not
attempted; and it is the recorded one
I2  the undoing within a scope is the exact reverse of positions, whatever the scheduling was
I3  nothing forward begins in a scope after its rollback has begun
I4  nothing is undone twice to success
I5  the outcome is the same with and without crashes
I6  idempotency keys are equal over attempts and replays, and unique otherwise
I7  nothing happens at suspension
I8  nothing past the pivot is undone
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, note

from durable._kernel.ids import compensation_id
from durable._kernel.ledger import OnError
from durable._wire import InvocationOutput, InvocationStatus, Operation, OperationStatus
from durable.testing import trio_schedule
from tests.harness import CrashError, Harness
from tests.properties.examples import EXAMPLES
from tests.properties.programs import (
    Body,
    Child,
    Cleanup,
    Fail,
    Limit,
    Node,
    Pivot,
    Retreat,
    Run,
    Saga,
    Side,
    Step,
    Undo,
    Wait,
    Way,
    is_sequential,
    numbered,
    programs,
    walk,
)
from tests.saga.world import answer, callbacks

crashes = st.lists(st.tuples(st.sampled_from(["before", "after"]), st.integers(1, 30)), max_size=3)
decisions = st.sampled_from(["retry", "skip", "abandon"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_holds_for_every_saga(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the above, for each program: run as it is, and with crashes."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    @EXAMPLES
    @given(program=programs, crashes=crashes, decision=decisions, seed=st.integers(0, 2**32))
    def check(program: Saga, crashes: Sequence[tuple[str, int]], decision: str, seed: int) -> None:
        note(f"{backend}, seed {seed}")
        with trio_schedule(seed):
            whole, ending = anyio.run(execute, program, (), decision, backend=backend)
            History(whole).check()
            if not crashes:
                return
            crashed, other = anyio.run(execute, program, crashes, decision, backend=backend)
            History(crashed).check()
        if is_sequential(program):
            assert told(other) == told(ending), "I5"
            assert crashed.reports == whole.reports, "I5"
            assert happened(crashed) == happened(whole), "I5"

    check()


def _step(undo: Undo = "none", way: Way = "at once", *, fails: bool = False, attempts: int = 1) -> Step:
    return Step(undo=undo, way=way, fails=fails, attempts=attempts)


def _saga(*nodes: Node, deadline: int | None = None, handled: bool = True, on_error: OnError = "continue") -> Saga:
    return Saga(nodes=nodes, handled=handled, on_error=on_error, deadline=deadline)


def _side(how: Literal["group", "block", "map", "flat"], *bodies: list[Node]) -> Side:
    return Side(bodies=[Body(nodes=nodes) for nodes in bodies], how=how, handled=True)


ONCE_WRONG: dict[str, Callable[[], list[Node]]] = {
    "a limit inside that ends with a timer, after the deadline around it": lambda: [
        _saga(
            Child(nodes=[Wait(6), Limit(nodes=[Wait(5), _step("by hand")], seconds=5)], handled=False), deadline=10
        ),
        Wait(1),
    ],
    "branches that wait as long as the limit around them": lambda: [
        Limit(nodes=[_side("flat", [Wait(1), Cleanup()])], seconds=1),
        _step("by hand", "waits"),
        Fail(),
    ],
    "a branch without any record": lambda: [
        Limit(nodes=[Wait(5)], seconds=1),
        Limit(nodes=[_side("flat", [Wait(20)], [Cleanup()])], seconds=1),
    ],
    "two tasks that wait for the same instant, of which one fails then": lambda: [
        _side("group", [Wait(60), Cleanup()], [Wait(60), _step(fails=True)]),
        Wait(20),
    ],
    "a task that has not begun when another fails": lambda: [
        Limit(
            nodes=[_side("group", [_step("by hand")], [_step("by hand", "waits"), _step(fails=True)])], seconds=1
        ),
        Wait(5),
    ],
    "branches that did something by hand before another fails for good": lambda: [
        _side("flat", [Cleanup()], [_step("by hand")], [_step(fails=True, attempts=2)])
    ],
    "a task that did something by hand before the block fails for good": lambda: [
        _side("block", [_side("flat", [Cleanup()], [Wait(5)])], [_step(fails=True, attempts=2)])
    ],
    "a saga that ends with the timer of the limit around it": lambda: [
        Limit(nodes=[_side("flat", [_saga(_step("success"), Wait(1))])], seconds=1),
        Wait(60),
    ],
    "a rollback because of a limit that fails, and is handled inside": lambda: [
        Limit(
            nodes=[_saga(_step("success", "fails"), Wait(5), deadline=40, on_error="stop")],
            seconds=1,
        ),
        Wait(5),
    ],
    "a limit that passes while an inner saga is rolled back": lambda: [
        Limit(nodes=[_saga(_step("success", "waits"), Cleanup(), Wait(60), deadline=10)], seconds=20),
        Wait(20),
    ],
    "a deadline that passes while a saga goes back to a savepoint": lambda: [
        _saga(Retreat(nodes=[_step("by hand", "waits")]), Fail(), deadline=10),
        Wait(5),
    ],
    "a block that fails by itself at the instant at which it is stopped": lambda: [
        _step("start", "waits"),
        Limit(nodes=[Wait(20), _saga(Fail(), handled=False)], seconds=20),
    ],
    "a limit that passes while a saga goes back to a savepoint, and more that fails after it": lambda: [
        Limit(
            nodes=[_saga(Retreat(nodes=[_step("success", "retried")]), Fail()), _saga(Fail(), handled=False)],
            seconds=1,
        ),
        _step("success", "retried"),
        Fail(),
    ],
    "a savepoint inside of two limits": lambda: [
        Limit(nodes=[Limit(nodes=[_saga(Retreat(nodes=[_step("success", "waits")]))], seconds=60)], seconds=20),
        Wait(60),
    ],
    "branches without any record beside one that ends with the limit around them": lambda: [
        Limit(nodes=[_side("flat", [Cleanup()], [Cleanup()], [Wait(60)])], seconds=60)
    ],
    "a branch without any record, after a group that failed, when a limit passes": lambda: [
        Limit(nodes=[_side("group", [_step(fails=True)]), _side("map", [Wait(20)], [Cleanup()])], seconds=1)
    ],
    "a branch that did something by hand at the instant at which another fails": lambda: [
        _side("map", [Wait(60), _step(fails=True)], [Wait(60), Cleanup(), _step(fails=True)]),
        Wait(20),
    ],
    "branches without any record beside one that fails later": lambda: [
        _side("flat", [Cleanup()], [_step(fails=True, attempts=2)], [Cleanup()])
    ],
    "branches without any record beside one that fails later, after other waits": lambda: [
        _saga(Retreat(nodes=[Wait(1), _step("by hand", "waits"), Wait(5)])),
        Wait(20),
        _side("flat", [Cleanup()], [Cleanup()], [_step(fails=True, attempts=2)]),
    ],
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("what", ONCE_WRONG)
def test_what_once_went_wrong(backend: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the test above with other examples: as they are, and with a crash at every call."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)
    with trio_schedule(1):
        whole, _ = anyio.run(execute, numbered(ONCE_WRONG[what]()), (), "skip", backend=backend)
        History(whole).check()
        assert whole.harness is not None
        for number in range(1, len(whole.harness.calls) + 1):
            for when in ("before", "after"):
                crashed, _ = anyio.run(
                    execute, numbered(ONCE_WRONG[what]()), ((when, number),), "skip", backend=backend
                )
                History(crashed).check()


async def execute(program: Saga, crashes: Sequence[tuple[str, int]], decision: str) -> tuple[Run, InvocationOutput]:
    """Run a program to its end."""
    run = Run(program)
    harness = run.harness = Harness(run.function())
    due = {when: {number for at, number in crashes if at == when} for when in ("before", "after")}
    harness.client.before = _crash_at(due["before"])
    harness.client.after = _crash_at(due["after"])
    asked: dict[str, int] = {}
    for _ in range(500):
        run.begin()
        try:
            output = await harness.invoke()
        except CrashError:
            run.crash()
            continue
        if output.status is not InvocationStatus.PENDING:
            return run, output
        for callback in callbacks(harness):
            name = callback.name or ""
            asked[name] = asked.get(name, 0) + 1
            await answer(harness, name, f'"{decision if asked[name] < 3 else "skip"}"')
        instant = await harness.service.next_due(harness.record.id)
        if instant is not None:
            await harness.clock.sleep_until(instant)
    raise AssertionError("it does not end")


def _crash_at(numbers: set[int]) -> Callable[[int], None]:
    def crash(number: int) -> None:
        if number in numbers:
            raise CrashError

    return crash


def told(output: InvocationOutput) -> tuple[object, ...]:
    error = output.error
    return output.status, output.result, error and (error.error_type, error.error_message, error.error_data)


def happened(run: Run) -> list[tuple[str, int]]:
    return list(dict.fromkeys((what, number) for what, number, _, _ in run.effects))


class History:
    """One run, by its records, and by what was seen of it."""

    def __init__(self, run: Run) -> None:
        assert run.harness is not None
        self.run = run
        self.operations = run.harness.operations()
        self.by_id = {operation.id: operation for operation in self.operations}
        self.events = run.harness.store._kept[run.harness.record.id].events
        self.nodes = {node.number: node for node in walk(run.root)}
        # The scopes around each node, innermost first; those that do not enclose it are not there.
        self.around: dict[int, list[Saga | Retreat]] = {}
        self._enclose(run.root, [])
        # When each operation began and ended, as places among the events.
        self.began: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        for place, one in enumerate(self.events):
            operation_id = one.operation_id or ""
            if str(one.type).endswith("Started"):
                self.began.setdefault(operation_id, place)
            elif operation_id in self.by_id:
                self.ended[operation_id] = place

    def _enclose(self, node: Node, around: list[Saga | Retreat]) -> None:
        self.around[node.number] = around
        if isinstance(node, (Saga, Retreat)):
            around = [node, *around]
        for child in node.children:
            self._enclose(child, around)

    def check(self) -> None:
        for number, ends in self.run.ends.items():
            assert len(ends) == 1, f"saga {number} ended {ends}"
        for number, reports in self.run.reports.items():
            assert len(reports) == 1, f"the reports of {number} differ: {reports}"
        undone = self.check_reports()
        self.check_outcomes(undone)
        self.check_order()
        self.check_nothing_forward()
        self.check_once()
        self.check_keys()
        self.check_cleanups()

    # --- Which and how ---------------------------------------------------------------------------------------

    def check_reports(self) -> dict[int, list[str]]:
        """Reports tell what is recorded of each; gives the outcomes of each step, by its number."""
        undone: dict[int, list[str]] = {}
        for scope in self.rollbacks():
            for compensation in self.compensations(scope):
                undone.setdefault(_number(compensation), []).append(compensation.status)
        expected: dict[str, set[OperationStatus | None]] = {
            "succeeded": {OperationStatus.SUCCEEDED},
            "failed": {OperationStatus.FAILED},
            "skipped": {OperationStatus.FAILED},
            "not attempted": {None},
        }
        for number, result in self.run.results.items():
            rolled_back = self.scope_of(number)
            recorded = {} if rolled_back is None else self.last_by_name(rolled_back)
            for item in result.items:
                status = recorded[item.name].status if item.name in recorded else None
                assert status in expected[item.status], f"I1: {item} is recorded as {status}"
            assert [i.name for i in result.items if i.status != "not attempted"] == list(recorded), "I1"
        return undone

    def check_outcomes(self, undone: dict[int, list[str]]) -> None:
        for number, node in self.nodes.items():
            if not isinstance(node, Step) or node.undo == "none" or not self.took_effect(node):
                continue
            if number in self.run.perhaps - self.run.by_hand and number not in undone:
                continue
            scope = self.undone_by(node)
            told = [] if scope is None else self.items(scope, node)
            if scope is None:
                assert number not in undone, f"I1, I8: {node.name} was undone, and is to be kept"
                continue
            assert len(told) == 1, f"I1: {node.name} has the outcomes {told}, undone by {scope.name}"
            if told == ["not attempted"]:
                assert number not in undone, "I1"
                assert isinstance(scope, Saga), "I1"
                assert scope.on_error != "continue", "I1"
            else:
                succeeded = undone[number].count(OperationStatus.SUCCEEDED)
                assert succeeded == (told == ["succeeded"]), f"I1: {node.name}: {undone[number]}, told {told}"
        for number in undone:
            node = self.nodes[number]
            assert isinstance(node, Step)
            assert self.took_effect(node), f"I1: {node.name} was undone, and never was done"

    def took_effect(self, node: Step) -> bool:
        """Whether there is something to undo, by its record."""
        if node.undo == "by hand":
            return node.number in self.run.by_hand | self.run.perhaps
        forward = self.forward(node)
        if forward is None:
            return False
        return node.undo == "start" or forward.status is OperationStatus.SUCCEEDED

    def undone_by(self, node: Step) -> Saga | Retreat | None:
        """Which scope has to undo it: the innermost that was rolled back and has no pivot after it."""
        for place, scope in enumerate(self.around[node.number]):
            if isinstance(scope, Retreat):
                if scope.number in self.run.retreats:
                    return scope
                continue
            pivots = [inner for inner in self.directly_in(scope) if isinstance(inner, Pivot)]
            passed = any(pivot.number in self.run.pivots and pivot.number > node.number for pivot in pivots)
            if passed:
                return None
            ends = self.run.ends.get(scope.number)
            if ends is None:
                return None  # it was cut off by the end of the execution: it cannot be
            if ends == {"rolled back"}:
                return scope
            assert place < len(self.around[node.number])
        return None

    def directly_in(self, scope: Body) -> Iterator[Node]:
        for node in scope.nodes:
            yield node
            if isinstance(node, Retreat):
                yield from self.directly_in(node)

    def items(self, scope: Saga | Retreat, node: Step) -> list[str]:
        result = self.run.results.get(scope.number)
        return [] if result is None else [item.status for item in result.items if item.name == node.name]

    # --- Order -----------------------------------------------------------------------------------------------

    def check_order(self) -> None:
        for scope in self.rollbacks():
            numbers = list(dict.fromkeys(_number(one) for one in self.compensations(scope)))
            assert numbers == sorted(numbers, reverse=True), f"I2: {numbers}"
            spans = [(self.began[one.id], self.ended.get(one.id, 10**9)) for one in self.compensations(scope)]
            assert spans == sorted(spans), "I2"
            assert all(one[1] < two[0] for one, two in pairwise(spans)), "I2: not one by one"
        for number, result in self.run.results.items():
            told = [int(item.name[1:]) for item in result.items]
            assert told == sorted(told, reverse=True), f"I2: {number} told {told}"

    def check_nothing_forward(self) -> None:
        for scope in self.rollbacks():
            node = self.node_of(scope)
            if isinstance(node, Retreat):
                continue
            began = self.began[scope.id]
            for inner in walk(node):
                forward = self.forward(inner) if isinstance(inner, Step) else None
                if forward is not None:
                    assert self.began[forward.id] < began, f"I3: {inner.name} began after {node.name} rolled back"

    # --- Once ------------------------------------------------------------------------------------------------

    def check_once(self) -> None:
        ended: dict[int, int] = {}
        for scope in self.rollbacks():
            for one in self.compensations(scope):
                if one.status is OperationStatus.SUCCEEDED:
                    number = _number(one)
                    assert number not in ended, f"I4: n{number} was undone twice"
                    ended[number] = self.ended[one.id]
        for what, number, _, events in self.run.effects:
            if what != "do" and number in ended and isinstance(self.nodes[number], Step):
                assert events <= ended[number], f"I4: {what} n{number} after its success was recorded"
        for scope in self.rollbacks():
            node = self.node_of(scope)
            assert isinstance(node, Retreat) or self.run.ends.get(node.number) == {"rolled back"}, "I7"

    def check_keys(self) -> None:
        keys: dict[tuple[str, int], set[str]] = {}
        for what, number, key, _ in self.run.effects:
            keys.setdefault(("do" if what == "do" else "undo", number), set()).add(key)
        assert all(len(those) == 1 for those in keys.values()), "I6: one effect, several keys"
        assert len({key for those in keys.values() for key in those}) == len(keys), "I6: several effects, one key"

    def check_cleanups(self) -> None:
        recorded = [operation for operation in self.operations if operation.sub_type == "Cleanup"]
        numbers = {_number(one) for one in recorded}
        assert numbers >= self.run.cleanups, "every cleanup is run"
        assert numbers <= self.run.cleanups | self.run.perhaps, "nothing else is run as a cleanup"
        assert len(recorded) == len(numbers)
        assert all(one.status is OperationStatus.SUCCEEDED for one in recorded)

    # --- Records ---------------------------------------------------------------------------------------------

    def rollbacks(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.sub_type == "Saga"]

    def compensations(self, scope: Operation) -> list[Operation]:
        """Of one rollback, in the order in which they began."""
        found = [o for o in self.operations if o.parent_id == scope.id and o.sub_type == "Compensation"]
        return sorted(found, key=lambda one: self.began[one.id])

    def last_by_name(self, scope: Operation) -> dict[str, Operation]:
        """Of several tries the last one counts."""
        return {one.name or "": one for one in self.compensations(scope)}

    def forward(self, node: Step) -> Operation | None:
        named = (o for o in self.operations if o.name == node.name and o.sub_type == "Step")
        # An attempt at undoing it is a step too, inside of its compensation.
        return next((o for o in named if self.sub_type_of(o.parent_id) != "Compensation"), None)

    def sub_type_of(self, operation_id: str | None) -> str | None:
        return None if operation_id is None else self.by_id[operation_id].sub_type

    def node_of(self, scope: Operation) -> Saga | Retreat:
        """Whose rollback it is: a saga's by its name, a retreat's by its reason."""
        name = scope.name or ""
        if not name.endswith(" to savepoint"):
            node = self.nodes[int(name[1:])]
            assert isinstance(node, Saga)
            return node
        plan = next(o for o in self.operations if o.parent_id == scope.id and o.name == "rollback")
        found = [n for n in self.nodes.values() if isinstance(n, Retreat) and f': {n.name}"' in (plan.result or "")]
        assert len(found) == 1, plan.result
        return found[0]

    def scope_of(self, number: int) -> Operation | None:
        return next((one for one in self.rollbacks() if self.node_of(one).number == number), None)


def _number(operation: Operation) -> int:
    return int((operation.name or "")[1:])


def test_a_compensations_id_is_what_the_checks_above_rely_on() -> None:
    """Its parent is the rollback, and each of an operator's tries has one of its own."""
    assert len({compensation_id("s", "f"), compensation_id("s", "f", 1), compensation_id("t", "f")}) == 3
