"""The rows of the live view: a sign, a name at its depth, a duration, and what there is to say."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from .hints import BEGUN
from .story import PAUSES, Moment, Thing, pause_text
from .terminal import signs_of
from .texts import duration_text, error_text, time_text, value_text

FRAMES_PER_SECOND: Final = 10

MOST: Final = 1_000
"""Characters of a result that are looked at: no line is longer."""

_NARROWEST, _WIDEST = 16, 26
"""Columns for names."""

_DURATION: Final = 10
"""Columns for durations."""

_UNDER_WAY: Final = {
    "undo": "is being undone",
    "cleanup": "cleans up",
    "callback": "waits for an answer",
    "operator": "waits for a decision",
}


class Rows:
    """Makes rows that fit a terminal.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._signs = signs_of(console)

    def of_moment(self, moment: Moment) -> Text | None:
        """A moment's row; none for what is only under way."""
        row = self._of(moment)
        if row is not None and moment.past:
            row.stylize("dim")
        return row

    def of_context(self, thing: Thing, *, past: bool) -> Text:
        """The headline of what is in a context."""
        row = self._columns(thing.depth, (self._signs.context, "bold"), thing.name, "", Text())
        if past:
            row.stylize("dim")
        return row

    def of_thing(self, thing: Thing, now: int) -> Text:
        """The row of what is under way, as it is now."""
        frames = self._signs.spinner
        sign = frames[now * FRAMES_PER_SECOND // 1000 % len(frames)]
        detail = _UNDER_WAY.get(thing.role, "")
        attempt = thing.attempt
        if thing.until is not None:
            detail = f"until {time_text(thing.until, now)}, {duration_text(max(0, thing.until - now))} left"
            if thing.role != "wait":
                attempt += 1
                detail = f"waits {detail}"
        if attempt > 1:
            detail = f"attempt {attempt}  {detail}"
        # By its path: the rows above may be in other branches.
        elapsed = duration_text(now - thing.started)
        return self._columns(0, (sign, "cyan"), thing.path, elapsed, Text(detail, "dim"))

    def _of(self, moment: Moment) -> Text | None:
        thing = moment.thing
        if thing is None and moment.kind in PAUSES:
            return Text.assemble((f"  {self._signs.waiting} ", "cyan"), (pause_text(moment), "cyan"))
        if thing is None:
            retry = (f"  {self._signs.retry} ", "yellow")
            return Text.assemble(retry, "the invocation failed, it is repeated: ", error_text(moment.error))
        if moment.kind == "skipped":
            names = ", ".join(moment.names)
            return Text.assemble("    " + "  " * thing.depth, ("not attempted: ", "bold red"), names)
        look = self._look(moment, thing)
        if look is None:
            return None
        sign, detail = look
        elapsed = ""
        if moment.kind in {"succeeded", "failed"}:
            elapsed = duration_text(moment.elapsed)
            if moment.attempt > 1:
                detail = Text.assemble((f"attempt {moment.attempt}  ", "yellow"), detail)
        return self._columns(thing.depth, sign, thing.name, elapsed, detail)

    def _look(self, moment: Moment, thing: Thing) -> tuple[tuple[str, str], Text] | None:
        """The sign and its style, and what there is to say."""
        signs = self._signs
        error = (error_text(moment.error), "red")
        look = None
        match moment.kind:
            case "begun" if thing.awaited is not None:
                look = (signs.waiting, "cyan"), Text(BEGUN[thing.awaited], "cyan")
            case "succeeded":
                look = self._succeeded(moment, thing)
            case "failed":
                prefix = "NOT undone  " if thing.role == "undo" else ""
                look = (signs.failed, "bold red"), Text.assemble((prefix, "bold red"), error)
            case "retry":
                when = f"attempt {moment.attempt} failed, again at {time_text(moment.until or moment.time)}: "
                look = (signs.retry, "yellow"), Text.assemble((when, "yellow"), error)
            case "interrupted":
                look = (signs.retry, "yellow"), Text("was interrupted, runs again", "yellow")
            case "rollback":
                look = (signs.undone, "bold yellow"), Text.assemble(("rolls back: ", "yellow"), error)
            case _:
                pass  # what is under way is told as such, what has been rolled back by its parts
        return look

    def _succeeded(self, moment: Moment, thing: Thing) -> tuple[tuple[str, str], Text]:
        signs = self._signs
        value = value_text(moment.payload, MOST)
        match thing.role:
            case "undo":
                return (signs.undone, "yellow"), Text("undone", "yellow")
            case "cleanup":
                return (signs.succeeded, "green"), Text("cleaned up", "dim")
            case "wait":
                return (signs.waiting, "green"), Text(value, "dim")
            case "operator":
                return (signs.succeeded, "green"), Text(f"decided: {value}", "dim")
            case "cancellation":
                return (signs.undone, "yellow"), Text(f"was asked to be cancelled  {value}", "yellow")
            case _:
                return (signs.succeeded, "green"), Text(value, "dim")

    def _columns(self, depth: int, sign: tuple[str, str], label: str, elapsed: str, detail: Text) -> Text:
        margin = "  " * (depth + 1)
        room = max(_NARROWEST, min(_WIDEST, self._console.width // 3) - len(margin))
        name = Text(self._cut(label, room))
        name.truncate(room, overflow="ellipsis", pad=True)
        row = Text.assemble(margin, sign, " ", name, (f"{elapsed:>{_DURATION}}  ", "dim"), detail)
        row.rstrip()
        return row

    def _cut(self, label: str, room: int) -> str:
        """A path that is too long loses its beginning, which the rows above have; a name loses its end."""
        if len(label) <= room or " / " not in label:
            return label
        ellipsis = self._signs.ellipsis
        return f"{ellipsis}{label[len(label) - room + len(ellipsis) :]}"
