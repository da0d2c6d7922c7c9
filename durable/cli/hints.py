"""What somebody may type to act on what an execution waits for. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .awaited import Awaited, Kind

Command = Callable[..., str]
"""A command that a user can copy, by its words: `command("resume", name)`."""

BEGUN: Final[dict[Kind, str]] = {
    "answer": "waits for an answer",
    "decision": "waits for a decision",
    "cancellation": "can be cancelled",
}

LABEL: Final[dict[Kind, str]] = {
    "answer": "answer with",
    "decision": "decide with",
    "cancellation": "cancel with",
}


def ways(
    kind: Kind, execution: str, name: str | None, callback_id: str, command: Command, *, is_only: bool = True
) -> Iterator[str]:
    """The commands.

    Args:
        kind: What is waited for.
        execution: Where.
        name: Of the callback, of the step to be undone, or of the saga.
        callback_id: What the commands complete.
        command: Makes a command of words.
        is_only: Whether there is nothing else of that kind and name.
    """
    which = () if is_only else ("--id", callback_id)
    if kind == "answer":
        yield command("callback", "succeed", callback_id, "--result", "JSON")
    elif kind == "decision":
        for decision in ("retry", "skip", "abandon"):
            yield command("saga", decision, execution, name or "", *which)
    else:
        yield command("cancel", execution, *which)


def ways_of(one: Awaited, awaited: list[Awaited], execution: str, command: Command) -> Iterator[str]:
    """The commands for one of the things that an execution waits for."""
    if one.kind == "decision":
        is_only = sum(other.kind == "decision" and other.name == one.name for other in awaited) == 1
    else:
        is_only = sum(other.kind == "cancellation" for other in awaited) == 1
    return ways(one.kind, execution, one.name, one.callback_id, command, is_only=is_only)
