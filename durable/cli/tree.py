"""Operations as a tree, in which what undoes a step hangs below that step. Pure: nothing here prints.

A compensation is recorded under its saga. Whoever reads wants to see it beside what it undoes, and in which order
it was undone: the rollback's recorded plan says which belongs to which. An operator's decision hangs below what it
is about. What is only how a thing is recorded has no place of its own: the step that holds the plan, the step that
counts a compensation's attempts, the step that says how a block ended that something could stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .._kernel.ids import outcome_id, rollback_id
from .._kernel.undo_records import UndoRecord
from .._wire import Operation, OperationType, SubType
from .awaited import name_within, operator_ids
from .rollbacks import Rollback, is_attempt

OPERATOR: Final = "operator"
"""What a decision is called where it hangs below what it is about."""


class Undo:
    """One try to undo an operation.

    Attributes:
        number: Which operation in the order of undoing, from 1.
        total: Of how many.
        node: The compensation; `None` if it has not begun.
        outcome: What the rollback's report says of it, if this is the last try.
        is_over: Whether the rollback is.
    """

    __slots__ = ("is_over", "node", "number", "outcome", "total")

    def __init__(
        self, number: int, total: int, node: Node | None, outcome: UndoRecord | None, *, is_over: bool
    ) -> None:
        self.number = number
        self.total = total
        self.node = node
        self.outcome = outcome
        self.is_over = is_over


class Node:
    """An operation and what belongs to it.

    Attributes:
        operation: The operation.
        name: What it is called, where it is; `None` if it has no name.
        children: What it encloses, in the order of their beginning.
        undos: What undoes it, try by try, if a rollback has begun that does.
        attempts: The step that counts its attempts, if it is a compensation with retries.
        outcome: The step that says how a block ended, if it could have stopped one.
        rollback: If it is a saga: its rollback.
    """

    __slots__ = ("attempts", "children", "name", "operation", "outcome", "rollback", "undos")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.name = operation.name
        self.children: list[Node] = []
        self.undos: list[Undo] = []
        self.attempts: Operation | None = None
        self.outcome: Operation | None = None
        self.rollback: Rollback | None = None
        if operation.sub_type == SubType.SAGA:
            self.rollback = Rollback(operation.id, operation.name or SubType.SAGA)


class Tree:
    """An execution's operations.

    Args:
        operations: In the order of their first record.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._nodes = {operation.id: Node(operation) for operation in operations}
        self.roots: list[Node] = []
        # What may stop a block, by the id of what records how the block ended.
        self._limits = {
            outcome_id(node.operation.id): node
            for node in self._nodes.values()
            if node.operation.type is OperationType.WAIT or node.operation.sub_type == SubType.CANCELLATION
        }
        for node in self._nodes.values():
            self._place(node)
        for node in self._nodes.values():
            if node.rollback is not None:
                self._pair(node, node.rollback)

    def pairs(self) -> dict[str, str]:
        """The ids of what was done, by the ids of the compensations that undo it."""
        return {
            undo.node.operation.id: node.operation.id
            for node in self._nodes.values()
            for undo in node.undos
            if undo.node is not None
        }

    def _place(self, node: Node) -> None:
        operation = node.operation
        parent = self._nodes.get(operation.parent_id or "")
        limit = self._limits.get(operation.id)
        if limit is not None:
            limit.outcome = operation
        elif parent is None:
            self.roots.append(node)
        elif parent.rollback is not None and operation.id == rollback_id(parent.operation.id):
            parent.rollback.plan(operation.result)
        elif _counts_attempts(operation, parent.operation):
            parent.attempts = operation
        else:
            if parent.operation.sub_type == SubType.WAIT_FOR_CALLBACK and operation.name is not None:
                node.name = name_within(parent.name, operation.name)
            parent.children.append(node)

    def _pair(self, saga: Node, rollback: Rollback) -> None:
        """Hang a saga's compensations below what they undo; those made by hand stay with the saga."""
        operation = saga.operation
        tries: dict[str, list[Node]] = {}
        for child in saga.children:
            if child.operation.sub_type == SubType.COMPENSATION:
                forward = rollback.forward_of(child.operation.id)
                tries.setdefault(forward or "", []).append(child)
                for callback in operator_ids(child.operation.id, self._nodes):
                    decision = self._nodes[callback]
                    decision.name = OPERATOR
                    child.children.append(decision)
                    saga.children = [other for other in saga.children if other is not decision]
        if operation.is_final:
            error = operation.error
            rollback.settle(operation.result if error is None else error.error_data)
        total = len(rollback.planned)
        for number, forward in enumerate(rollback.planned, 1):
            node = self._nodes.get(forward)
            if node is None:
                continue
            outcome = rollback.outcome_of(forward)
            nodes: list[Node | None] = [*tries.get(forward, [])] or [None]
            node.undos += [
                Undo(number, total, one, outcome if one is nodes[-1] else None, is_over=operation.is_final)
                for one in nodes
            ]
            saga.children = [child for child in saga.children if child not in nodes]


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
    return [*entry.children, *entry.undos]


def _counts_attempts(operation: Operation, parent: Operation) -> bool:
    return (
        operation.type is OperationType.STEP
        and parent.sub_type in {SubType.COMPENSATION, SubType.CLEANUP}
        and is_attempt(operation.id, operation.name, parent.id, parent.name)
    )
