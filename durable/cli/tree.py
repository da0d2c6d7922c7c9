"""Operations as a tree, in which what undoes a step hangs below that step. Pure: nothing here prints.

A compensation is recorded under its saga. Whoever reads wants to see it beside what it undoes, and in which order
it was undone: the rollback's recorded plan says which belongs to which. What is only how a thing is recorded has no
place of its own: the step that holds the plan, the step that counts a compensation's attempts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .._kernel.ids import compensation_id, rollback_id
from .._kernel.ledger import Plan
from .._wire import Operation, OperationType, SubType
from .story import is_attempt, plan_in


class Undo:
    """What undoes an operation.

    Attributes:
        number: Which one in the order of undoing, from 1.
        total: Of how many.
        node: The compensation; `None` as long as it has not begun.
        saga: The saga that rolls back.
    """

    __slots__ = ("node", "number", "saga", "total")

    def __init__(self, number: int, total: int, node: Node | None, saga: Operation) -> None:
        self.number = number
        self.total = total
        self.node = node
        self.saga = saga


class Node:
    """An operation and what belongs to it.

    Attributes:
        operation: The operation.
        children: What it encloses, in the order of their beginning.
        undo: What undoes it, if a rollback has begun that does.
        attempts: The step that counts its attempts, if it is a compensation with retries.
        plan: Of a saga: what its rollback undoes, and why.
    """

    __slots__ = ("attempts", "children", "operation", "plan", "undo")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.children: list[Node] = []
        self.undo: Undo | None = None
        self.attempts: Operation | None = None
        self.plan: Plan | None = None


class Tree:
    """An execution's operations.

    Args:
        operations: In the order of their first record.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._nodes = {operation.id: Node(operation) for operation in operations}
        self.roots: list[Node] = []
        for node in self._nodes.values():
            self._place(node)
        for node in list(self._nodes.values()):
            self._pair(node)

    def pairs(self) -> dict[str, str]:
        """The ids of compensations that have begun, by the ids of what they undo."""
        return {
            node.operation.id: node.undo.node.operation.id
            for node in self._nodes.values()
            if node.undo is not None and node.undo.node is not None
        }

    def _place(self, node: Node) -> None:
        operation = node.operation
        parent = self._nodes.get(operation.parent_id or "")
        if parent is None:
            self.roots.append(node)
        elif operation.id == rollback_id(parent.operation.id):
            parent.plan = plan_in(operation.result)
        elif _counts_attempts(operation, parent.operation):
            parent.attempts = operation
        else:
            parent.children.append(node)

    def _pair(self, saga: Node) -> None:
        """Hang a saga's compensations below what they undo; those made by hand stay with the saga."""
        planned = [] if saga.plan is None else saga.plan.undo
        for number, undo in enumerate(planned, 1):
            forward = self._nodes.get(undo.id)
            compensation = self._nodes.get(compensation_id(saga.operation.id, undo.id))
            if forward is None:
                continue
            forward.undo = Undo(number, len(planned), compensation, saga.operation)
            if compensation in saga.children:
                saga.children.remove(compensation)


def walk(nodes: Sequence[Node]) -> Iterator[tuple[list[bool], Node | Undo]]:
    """All lines of a tree, top to bottom.

    Yields:
        For each level down to its own, whether this or what encloses it is the last one there; and what it is.
    """
    yield from _walk(nodes, [])


def _walk(entries: Sequence[Node | Undo], levels: list[bool]) -> Iterator[tuple[list[bool], Node | Undo]]:
    for position, entry in enumerate(entries, 1):
        here = [*levels, position == len(entries)]
        yield here, entry
        yield from _walk(_below(entry), here)


def _below(entry: Node | Undo) -> list[Node | Undo]:
    if isinstance(entry, Undo):
        return [] if entry.node is None else [*entry.node.children]
    return [*entry.children] if entry.undo is None else [*entry.children, entry.undo]


def _counts_attempts(operation: Operation, parent: Operation) -> bool:
    return (
        operation.type is OperationType.STEP
        and parent.sub_type == SubType.COMPENSATION
        and is_attempt(operation.id, operation.name, parent.id, parent.name)
    )
