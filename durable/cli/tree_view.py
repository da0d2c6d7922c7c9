"""An execution and the tree of its operations, printed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from .._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType, SubType
from .._wire.events import Event
from ..abc import ExecutionRecord
from .outcome import print_outcome, title
from .story import Story
from .terminal import Signs, print_rows, put, signs_of
from .texts import count_text, duration_text, error_text, time_text, value_text
from .tree import Node, Tree, Undo, walk

SHOWN: Final = 500
"""Characters of a result or an error; a terminal cuts them off where it ends."""


def print_execution(
    console: Console, record: ExecutionRecord, operations: Sequence[Operation], events: Iterable[Event]
) -> None:
    """Print what `durable show` shows."""
    story = Story()
    story.recall(events)
    now = round(time.time() * 1000)
    put(console, title(record))
    put(console, _facts(record, now))
    put(console, Text.assemble(("  input  ", "dim"), value_text(record.input, SHOWN) or "null"))
    print_tree(console, Tree(operations), now, is_over=record.status is not ExecutionStatus.RUNNING)
    if record.status is ExecutionStatus.RUNNING:
        put(console, Text(f"{signs_of(console).running} not over", "bold yellow"))
        _print_callbacks(console, operations)
    else:
        print_outcome(console, record, story.rollbacks.values())


def print_tree(console: Console, tree: Tree, now: int, *, is_over: bool) -> None:
    """Print the tree of an execution's operations.

    Args:
        console: Where to.
        tree: The operations.
        now: For what is still under way; milliseconds.
        is_over: Whether the execution is, so that nothing is.
    """
    rows = _Rows(signs_of(console), now, is_over=is_over)
    print_rows(console, [rows.row(levels, entry) for levels, entry in walk(tree.roots)], right=1)


def _print_callbacks(console: Console, operations: Iterable[Operation]) -> None:
    """The ids of callbacks that wait for an answer: somebody has to copy them, so they are never cut."""
    for operation in operations:
        details = operation.callback_details
        if details is not None and details.callback_id is not None and not operation.is_final:
            name = operation.name or operation.type
            console.print(Text.assemble("  callback ", (name, "bold"), f"\n{details.callback_id}"), soft_wrap=True)


def _facts(record: ExecutionRecord, now: int) -> Text:
    begun = f"started {time_text(record.start_timestamp, now)}"
    return Text(f"  {begun}, {count_text(record.invocations, 'invocation')}", "dim")


class _Rows:
    """The rows of a tree's lines: where and what, how long, what came of it."""

    def __init__(self, signs: Signs, now: int, *, is_over: bool) -> None:
        self._signs = signs
        self._now = now
        self._is_over = is_over

    def row(self, levels: Sequence[bool], entry: Node | Undo) -> tuple[Text, Text, Text]:
        """One line."""
        sign, style, name, duration, detail = self._undo(entry) if isinstance(entry, Undo) else self._node(entry)
        where = Text("  ")
        where.append("".join("   " if last else self._signs.line for last in levels[:-1]), "dim")
        where.append(self._signs.last_branch if levels[-1] else self._signs.branch, "dim")
        where.append(sign, style)
        where.append(" ")
        where.append_text(name)
        return where, Text(duration, "dim"), detail

    def _node(self, node: Node) -> tuple[str, str, Text, str, Text]:
        operation = node.operation
        name = Text(operation.name or operation.sub_type or operation.type, "" if operation.name else "italic")
        if operation.sub_type == SubType.SAGA:
            return self._saga(node, name)
        sign, style = self._sign(operation)
        if operation.type is OperationType.WAIT and operation.status is OperationStatus.SUCCEEDED:
            sign = self._signs.waiting
        return sign, style, name, self._duration(operation), self._detail(operation, operation)

    def _saga(self, node: Node, name: Text) -> tuple[str, str, Text, str, Text]:
        verb = "rolls back: " if not node.operation.is_final else "rolled back: "
        reason: ErrorObject | None = None if node.rollback is None else node.rollback.reason
        style = "bold red" if node.operation.status is OperationStatus.FAILED else "bold yellow"
        detail = Text.assemble((verb, "yellow"), (error_text(reason, SHOWN), "red"))
        return self._signs.undone, style, name, self._duration(node.operation), detail

    def _undo(self, undo: Undo) -> tuple[str, str, Text, str, Text]:
        order = Text(f"{undo.number} of {undo.total}  " if undo.total > 1 else "", "dim")
        if undo.node is None:
            words = "not attempted" if undo.is_over else "to be undone"
            return self._signs.skipped, "bold red", Text(words, "red"), "", order
        operation = undo.node.operation
        duration = self._duration(operation)
        detail = self._detail(undo.node.attempts or operation, operation)
        outcome = undo.outcome
        if operation.status is OperationStatus.SUCCEEDED:
            return self._signs.undone, "yellow", Text("undone", "yellow"), duration, order + detail
        if operation.status is OperationStatus.FAILED or (outcome is not None and outcome.status == "failed"):
            if not operation.is_final and outcome is not None:  # the rollback's time was over
                detail = Text(error_text(outcome.error, SHOWN), "red")
            if outcome is not None and outcome.status == "skipped":
                detail = Text("skipped by an operator  ", "yellow") + detail
            return self._signs.failed, "bold red", Text("NOT undone", "bold red"), duration, order + detail
        sign, style = self._sign(operation)
        return sign, style, Text("being undone", "yellow"), duration, order + detail

    def _sign(self, operation: Operation) -> tuple[str, str]:
        signs = self._signs
        match operation.status:
            case OperationStatus.SUCCEEDED:
                return signs.succeeded, "green"
            case OperationStatus.FAILED | OperationStatus.TIMED_OUT | OperationStatus.STOPPED:
                return signs.failed, "bold red"
            case OperationStatus.CANCELLED:
                return signs.skipped, "dim"
            case OperationStatus.PENDING | OperationStatus.READY:
                return signs.retry, "yellow"
            case _:
                return signs.running, "yellow"

    def _duration(self, operation: Operation) -> str:
        if operation.end_timestamp is not None:
            return duration_text(operation.end_timestamp - operation.start_timestamp)
        return "" if self._is_over else duration_text(self._now - operation.start_timestamp)

    def _detail(self, counted: Operation, operation: Operation) -> Text:
        """What came of an operation; `counted` is what keeps count of its attempts."""
        text = Text()
        step, wait = counted.step_details, operation.wait_details
        attempts = 0 if step is None else (step.attempt or 0) + (0 if counted.is_final else 1)
        if attempts > 1:
            text.append(f"attempt {attempts}  ", "yellow")
        until = step.next_attempt_timestamp if step is not None else None
        if wait is not None and not operation.is_final:
            until = wait.scheduled_end_timestamp
        if until is not None:
            text.append(f"waits until {time_text(until, self._now)}  ", "yellow")
        callback = operation.callback_details
        if callback is not None and callback.callback_id is not None and not operation.is_final:
            text.append("waits for an answer to callback, see below", "yellow")
            return text
        error = operation.error or counted.error
        if error is not None and counted.status is not OperationStatus.SUCCEEDED:
            text.append(error_text(error, SHOWN), "red")
        elif operation.is_final:
            text.append(value_text(operation.result, SHOWN), "dim")
        else:
            text.append("" if until else operation.status.lower(), "yellow")
        return text
