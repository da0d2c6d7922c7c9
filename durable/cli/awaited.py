"""What an execution waits for that somebody outside has to do, by its operations. Pure: nothing here prints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from .._kernel.ids import operator_id, outcome_id
from .._wire import ErrorObject, Operation, OperationType, SubType

Kind = Literal["answer", "decision", "cancellation"]
"""A callback's result; what to do with a compensation that failed; a saga's cancellation, which need not come."""

_CANCEL: Final = "cancel "
"""What the callback that cancels a saga is called, before the saga's name (`_saga/interruption.py`)."""

_CREATION: Final = "create callback id"
"""What the callback of a `wait_for_callback` is called, after its name (`_operations/callback.py`)."""

_SIDE_BY_SIDE: Final = {SubType.MAP, SubType.PARALLEL}
"""Contexts whose operations may belong to different branches that have no context of their own (flat nesting)."""


class Awaited(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody outside can do.

    Attributes:
        kind: What.
        name: Of the callback; of the step whose compensation failed; of the saga. Perhaps there is none.
        callback_id: What is to be completed.
        saga: What the saga is called whose rollback waits for a decision.
        error: What the compensation failed with.
        around: Ids of the contexts that it is in, outermost first.
        is_done: Whether it has been done, and the function has not been told.
    """

    kind: Kind
    name: str | None
    callback_id: str
    saga: str | None = None
    error: ErrorObject | None = None
    around: tuple[str, ...] = ()
    is_done: bool = False


class Lookout:
    """Finds what an execution waits for.

    Args:
        operations: Its operations, in the order of their first record.
        is_over: Whether it is, so that it waits for nothing.
    """

    def __init__(self, operations: Sequence[Operation], *, is_over: bool = False) -> None:
        self.is_over = is_over
        self._known = {operation.id: operation for operation in operations}
        self._place = {operation.id: number for number, operation in enumerate(operations)}
        # Where the last rollback of a saga of that name, in that context, has begun.
        self._rollbacks = {
            (operation.parent_id, operation.name): self._place[operation.id]
            for operation in operations
            if operation.sub_type == SubType.SAGA
        }
        # The compensations that operators decide on, by the ids of the callbacks by which they do.
        self._failed = {
            callback: operation
            for operation in operations
            if operation.sub_type == SubType.COMPENSATION
            for callback in operator_ids(operation.id, self._known)
        }

    def all(self) -> list[Awaited]:
        """All that can be done, in the order of its beginning."""
        found: list[Awaited] = []
        for operation in () if self.is_over else self._known.values():
            details = operation.callback_details
            if operation.type is not OperationType.CALLBACK or details is None or not details.callback_id:
                continue
            around = self._around(operation)
            if any(context.is_final for context in around):
                continue  # whoever waited for it is over
            one = self._of(operation, details.callback_id, around)
            if one is not None:
                found.append(one)
        return found

    def outermost(self, cancellations: Iterable[Awaited]) -> list[Awaited]:
        """Of the sagas that can be cancelled those that no other one of them surrounds."""
        found: list[Awaited] = []
        for one in cancellations:  # what surrounds another begins before it
            if not any(self._surrounds(other, one) for other in found):
                found.append(one)
        return found

    def _of(self, operation: Operation, callback_id: str, around: Sequence[Operation]) -> Awaited | None:
        ids = tuple(context.id for context in around)
        if operation.sub_type == SubType.CANCELLATION:
            if self._is_left(operation):
                return None
            return Awaited(
                kind="cancellation",
                name=saga_of(operation.name),
                callback_id=callback_id,
                around=ids,
                is_done=operation.is_final,
            )
        if operation.is_final:
            return None
        compensation = self._failed.get(operation.id)
        if compensation is not None:
            return Awaited(
                kind="decision",
                name=compensation.name,
                callback_id=callback_id,
                saga=around[-1].name or SubType.SAGA,
                error=compensation.error,
                around=ids,
            )
        of_a_wait = bool(around) and around[-1].sub_type == SubType.WAIT_FOR_CALLBACK
        name = around[-1].name if of_a_wait else operation.name  # as the user calls it
        return Awaited(kind="answer", name=name, callback_id=callback_id, around=ids)

    def _is_left(self, callback: Operation) -> bool:
        """Whether the block of a saga that can be cancelled is over.

        How it ended is recorded; unless something around it was cancelled: then its rollback is.
        """
        if outcome_id(callback.id) in self._known:
            return True
        parent = self._known.get(callback.parent_id or "")
        if parent is not None and parent.sub_type in _SIDE_BY_SIDE:
            return False
        rollback = self._rollbacks.get((callback.parent_id, saga_of(callback.name)), 0)
        return rollback > self._place[callback.id]

    def _surrounds(self, outer: Awaited, inner: Awaited) -> bool:
        if inner.around[: len(outer.around)] != outer.around:
            return False
        return not outer.around or self._known[outer.around[-1]].sub_type not in _SIDE_BY_SIDE

    def _around(self, operation: Operation) -> list[Operation]:
        around: list[Operation] = []
        parent = self._known.get(operation.parent_id or "")
        while parent is not None:
            around.append(parent)
            parent = self._known.get(parent.parent_id or "")
        return around[::-1]


def saga_of(callback: str | None) -> str | None:
    """The name of the saga that a callback of that name cancels, if it has one."""
    _, _, name = (callback or "").partition(_CANCEL)
    return name or None


def name_within(wait: str | None, name: str) -> str:
    """What is inside of a `wait_for_callback` without the name of that before it: `callback`, `submitter`."""
    rest = name.removeprefix(f"{wait} ")
    return "callback" if rest == _CREATION else rest


def operator_ids(compensation: str, among: Collection[str]) -> Iterator[str]:
    """The ids of the callbacks by which operators were asked to decide on a compensation, in order.

    Args:
        compensation: Its operation's id.
        among: The ids of all operations.
    """
    number = 0
    while (callback := operator_id(compensation, number)) in among:
        yield callback
        number += 1
