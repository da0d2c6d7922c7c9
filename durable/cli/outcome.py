"""How an execution ended, for people: the last lines of `run` and `resume`, and the head of `show`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from .._wire import ErrorObject, ExecutionStatus
from ..abc import ExecutionRecord
from ..exceptions import EngineClosedError
from .hints import LABEL, Command, ways
from .rollbacks import Rollback
from .session import Ending, Followed
from .terminal import Signs, put, signs_of
from .texts import (
    count_text,
    duration_text,
    error_name,
    error_text,
    origin_text,
    pretty_json,
    safe_text,
    target_text,
)

STATUS_STYLE = {
    ExecutionStatus.SUCCEEDED: "green",
    ExecutionStatus.FAILED: "red",
    ExecutionStatus.TIMED_OUT: "red",
    ExecutionStatus.STOPPED: "red",
    ExecutionStatus.RUNNING: "yellow",
    ExecutionStatus.PAUSING: "cyan",
    ExecutionStatus.PAUSED: "cyan",
}

_LABEL = 12

MOST_ASKED: Final = 5
"""How much of what somebody outside has to do is listed."""


def title(record: ExecutionRecord) -> Text:
    """`book_trip  t-1  examples/trip.py`: which execution, and of what."""
    where, _, function = target_text(record.function).rpartition(":")
    return Text.assemble((function, "bold"), "  ", (record.name, "cyan"), "  ", (where, "dim"))


def print_ending(console: Console, followed: Followed, ending: Ending, command: Command, *, named: bool) -> None:
    """Print how following an execution ended.

    Args:
        console: Where to.
        followed: The execution.
        ending: How.
        command: Makes a command that can be copied of words.
        named: Whether it must be said which execution it is.
    """
    signs = signs_of(console)
    rollbacks = followed.story.rollbacks.values()
    if ending.record is not None:
        print_outcome(console, ending.record, rollbacks, named=named)
        return
    if isinstance(ending.error, EngineClosedError):
        head = Text.assemble((f"{signs.waiting} stopped", "bold yellow"), f"  {followed.name} stays as it is")
    else:
        head = Text.assemble((f"{signs.failed} cannot go on", "bold red"), f"  {followed.name} stays as it is")
    console.print(head)
    if not isinstance(ending.error, EngineClosedError):
        _labelled(console, "because", safe_text(str(ending.error)), "red")
    print_rollbacks(console, rollbacks)
    asked = [thing for thing in followed.story.innermost() if thing.awaited is not None]
    for thing in asked[:MOST_ASKED]:
        if thing.awaited is not None and thing.callback is not None:
            commands = ways(thing.awaited, followed.name, thing.name, thing.callback, command)
            for number, way in enumerate(commands):
                print_command(console, "" if number else LABEL[thing.awaited], way)
    if len(asked) > MOST_ASKED:
        more = f"{count_text(len(asked) - MOST_ASKED, 'other')}: {command('show', followed.name)}"
        _labelled(console, "", more, "dim")
    print_command(console, "go on with", command("resume", followed.name))


def print_outcome(
    console: Console, record: ExecutionRecord, rollbacks: Iterable[Rollback], *, named: bool = False
) -> None:
    """Print how an execution ended: its result or its error, and what was undone."""
    put(console, verdict(record, signs_of(console), named=named))
    if record.status is ExecutionStatus.SUCCEEDED:
        print_rollbacks(console, rollbacks)
        _print_result(console, record.result)
        return
    if record.error is not None or record.status is not ExecutionStatus.STOPPED:  # a stop need not have a reason
        _print_error(console, "error", record.error)
    for rollback in rollbacks:
        if record.error is not None and rollback.reason is not None and rollback.failed:
            _print_error(console, "because", rollback.reason)
    print_rollbacks(console, rollbacks)


def verdict(record: ExecutionRecord, signs: Signs, *, named: bool = False) -> Text:
    """`✓ succeeded in 2.24 s`."""
    style = STATUS_STYLE.get(record.status, "yellow")
    sign = signs.succeeded if record.status is ExecutionStatus.SUCCEEDED else signs.failed
    elapsed = (record.end_timestamp or record.start_timestamp) - record.start_timestamp
    word = record.status.lower().replace("_", " ")
    name = (f" {record.name}" if named else "", "bold cyan")
    return Text.assemble(
        (sign, f"bold {style}"), name, (f" {word}", f"bold {style}"), (f" in {duration_text(elapsed)}", "dim")
    )


def _print_result(console: Console, payload: str | None) -> None:
    if not payload or payload == "null":
        return
    text = safe_text(pretty_json(payload))
    if console.no_color or not console.is_terminal:
        console.print(Text(text), soft_wrap=True)
        return
    from rich.highlighter import JSONHighlighter

    console.print(JSONHighlighter()(text), soft_wrap=True)


def _print_error(console: Console, label: str, error: ErrorObject | None) -> None:
    if error is None:
        _labelled(console, label, error_text(error), "red")
        return
    text = Text.assemble((error_name(error), "bold red"), ": ", safe_text(error.error_message or ""))
    _labelled(console, label, text)
    origin = origin_text(error)
    if origin:
        _labelled(console, "", Text(f"at {origin}", "dim"))


def print_rollbacks(console: Console, rollbacks: Iterable[Rollback]) -> None:
    """Print what was undone, what was not, and why."""
    for rollback in rollbacks:
        if rollback.undone:
            _labelled(console, "undone", Text(", ".join(rollback.undone), "green"))
        for left in (*rollback.failed, *rollback.skipped):
            why = " (skipped by an operator)" if left.status == "skipped" else ""
            text = Text.assemble((left.name, "bold red"), why, "  ", (error_text(left.error), "red"))
            _labelled(console, "NOT undone", text, "bold red")
        if rollback.not_attempted:
            text = Text(f"{', '.join(rollback.not_attempted)} (not attempted)", "red")
            _labelled(console, "NOT undone", text, "bold red")


def print_command(console: Console, label: str, command: str) -> None:
    """Print what can be typed: it is to be copied, so it is never cut."""
    console.print(Text.assemble((f"  {label:<{_LABEL}}", "dim"), (command, "bold")), soft_wrap=True)


def _labelled(console: Console, label: str, text: Text | str, style: str = "") -> None:
    """A label, and beside it text that may take several lines."""
    shown = Text(text) if isinstance(text, str) else text
    lines = list(shown.wrap(console, max(20, console.width - _LABEL - 2))) if console.is_terminal else [shown]
    for number, line in enumerate(lines):
        head = Text(f"  {label if number == 0 else '':<{_LABEL}}", style or "dim")
        console.print(head + line, soft_wrap=True)
