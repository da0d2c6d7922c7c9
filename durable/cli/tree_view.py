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
from .awaited import Awaited, Kind, Lookout
from .hints import BEGUN, LABEL, Command, ways_of
from .outcome import print_command, print_outcome, title
from .story import Story
from .terminal import Signs, print_rows, put, signs_of
from .texts import count_text, duration_text, error_text, one_line, time_text, value_text
from .tree import OPERATOR, Node, Tree, Undo, walk

SHOWN: Final = 500
"""Characters of a result or an error; a terminal cuts them off where it ends."""


MOST_AWAITED: Final = 20
"""How much of what somebody outside can do is listed."""

_WHAT: Final[dict[Kind, str]] = {"answer": "callback", "decision": "undoing", "cancellation": "saga"}


def print_execution(
    console: Console,
    record: ExecutionRecord,
    operations: Sequence[Operation],
    events: Iterable[Event],
    *,
    engine: str | None,
    command: Command,
    service: str | None = None,
) -> None:
    """Print what `durable show` shows.

    Args:
        console: Where to.
        record: The execution.
        operations: Its operations.
        events: Its history.
        engine: The engine that has the store, if one has.
        command: Makes a command that can be copied of words.
        service: What sees to it instead of an engine that has a store.
    """
    story = Story()
    story.recall(events)
    now = round(time.time() * 1000)
    put(console, title(record))
    put(console, _facts(record, now))
    put(console, Text.assemble(("  input  ", "dim"), value_text(record.input, SHOWN) or "null"))
    is_over = record.status.is_over
    print_tree(console, Tree(operations), now, is_over=is_over)
    if is_over:
        print_outcome(console, record, story.rollbacks.values())
        return
    at_work = "no engine is at work on it" if engine is None else f"an engine has the store ({engine})"
    if service is not None:
        at_work = f"{service} sees to it"
    put(console, _standing(record, signs_of(console), at_work, now))
    _print_awaited(console, record.name, Lookout(operations).all(), command)
    if record.status.is_paused or (engine is None and service is None):
        print_command(console, "go on with", command("resume", record.name))


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


def _print_awaited(console: Console, execution: str, awaited: list[Awaited], command: Command) -> None:
    """What somebody outside can do, and the commands for it; what nobody need do comes last."""
    for one in sorted(awaited, key=lambda one: one.kind == "cancellation")[:MOST_AWAITED]:
        said = Text.assemble(f"  {_WHAT[one.kind]}", (f" {one.name or ''}".rstrip(), "bold"), f" {BEGUN[one.kind]}")
        if one.is_done:
            said.append(", and that was asked for", "yellow")
        if one.error is not None:
            said.append_text(Text.assemble(": ", (error_text(one.error, SHOWN), "red")))
        put(console, said)
        if not one.is_done:
            for number, way in enumerate(ways_of(one, awaited, execution, command)):
                print_command(console, "" if number else LABEL[one.kind], way)

    if len(awaited) > MOST_AWAITED:
        put(console, Text(f"  and {count_text(len(awaited) - MOST_AWAITED, 'other')}: --json has all", "dim"))


def _standing(record: ExecutionRecord, signs: Signs, at_work: str, now: int) -> Text:
    """Where an execution stands that is not over."""
    if record.pause is None:
        return Text.assemble((f"{signs.running} not over", "bold yellow"), (f", {at_work}", "dim"))
    since = time_text(record.pause.since or record.pause.requested, now)
    how = f"paused since {since}" if record.status is ExecutionStatus.PAUSED else f"to be paused since {since}"
    why = "" if record.pause.reason is None else f": {one_line(record.pause.reason)}"
    return Text.assemble((f"{signs.waiting} {how}", "bold cyan"), why, (f", {at_work}", "dim"))


def _facts(record: ExecutionRecord, now: int) -> Text:
    begun = f"started {time_text(record.start_timestamp, now)}"
    limit = "" if record.timeout is None else f", may take {duration_text(record.timeout * 1000)}"
    return Text(f"  {begun}, {count_text(record.invocations, 'invocation')}{limit}", "dim")


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
        name = Text(node.name or operation.sub_type or operation.type, "" if node.name else "italic")
        if operation.sub_type == SubType.SAGA:
            return self._saga(node, name)
        sign, style = self._sign(operation)
        if operation.type is OperationType.WAIT and operation.status is OperationStatus.SUCCEEDED:
            sign = self._signs.waiting
        if node.outcome is not None and not operation.is_final:
            # The block that it could have stopped has ended: it is of no interest any more.
            return self._signs.skipped, "dim", name, "", Text("in time" if operation.wait_details else "", "dim")
        detail = self._detail(operation, operation)
        if operation.type is OperationType.CALLBACK and not operation.is_final:
            detail = Text("nobody waits for it any more", "dim") if self._is_over else _see_below(node)
        return sign, style, name, self._duration(operation), detail

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
        error = operation.error or counted.error
        if error is not None and counted.status is not OperationStatus.SUCCEEDED:
            text.append(error_text(error, SHOWN), "red")
        elif operation.is_final:
            text.append(value_text(operation.result, SHOWN), "dim")
        else:
            text.append("" if until else operation.status.lower(), "yellow")
        return text


def _see_below(callback: Node) -> Text:
    """What is said of a callback that is listed below, with the commands for it."""
    kind: Kind = "decision" if callback.name == OPERATOR else "answer"
    if callback.operation.sub_type == SubType.CANCELLATION:
        kind = "cancellation"
    return Text(f"{BEGUN[kind]}, see below", "yellow")
