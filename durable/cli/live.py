"""The live view, on a terminal: what is over is a line that stays, what is under way moves below."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from .._wire.events import Event
from .logs import LogHandler, write_to_stderr
from .outcome import print_ending, title
from .session import Ending, Followed, View
from .story import Moment, Thing
from .terminal import is_terminal, put, signs_of
from .texts import count_text, duration_text, error_text, time_text, value_text

FRAMES_PER_SECOND: Final = 10
ROOM: Final = 4
"""Rows of the terminal that what is under way leaves free."""

MOST: Final = 1_000
"""Characters of a result that are looked at: no line is longer."""

_NARROWEST, _WIDEST = 16, 26
"""Columns for names."""

_DURATION = 10
"""Columns for durations."""


class LiveView(View):
    """Tells on a terminal.

    Args:
        console: The terminal.
        handler: The logging that must not get in the way.
        go_on: The command that goes on with an execution, by its name.
    """

    def __init__(self, console: Console, handler: LogHandler, go_on: Callable[[str], str]) -> None:
        self._console = console
        self._handler = handler
        self._go_on = go_on
        self._signs = signs_of(console)
        self._live: Live | None = None
        # What is followed and has not ended, in order.
        self._followed: list[Followed] = []
        # Columns for the names of executions; none where there is only one.
        self._names = 0
        self._note = ""

    @contextmanager
    def opened(self) -> Generator[None]:
        """Move, and let everything else that is printed appear above."""
        same_terminal = is_terminal(sys.stderr)
        self._live = Live(
            get_renderable=self._under_way,
            console=self._console,
            refresh_per_second=FRAMES_PER_SECOND,
            transient=True,
            redirect_stderr=same_terminal,
        )
        if same_terminal:
            self._handler.write = self._log
        self._live.start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Stand still, and give the terminal back."""
        self._handler.write = write_to_stderr
        if self._live is not None:
            self._followed = []
            self._live.stop()
            self._live = None

    def begin(self, followed: Followed) -> None:
        """A headline, and from now on a place below."""
        head = title(followed.record)
        if followed.was_over:
            when = time_text(followed.record.end_timestamp or followed.record.start_timestamp)
            head.append(f"  was over at {when}, nothing was run", "yellow")
        elif followed.existed:
            head.append(f"  goes on, begun {time_text(followed.record.start_timestamp)}", "yellow")
        put(self._console, head)
        self._followed.append(followed)
        if len(self._followed) > 1:
            self._names = max(len(one.name) for one in self._followed)

    def tell(self, followed: Followed, event: Event, moments: Sequence[Moment]) -> None:  # noqa: ARG002
        """A line for what is over."""
        if not followed.was_over:
            self.resumed(followed, moments)

    def resumed(self, followed: Followed, moments: Sequence[Moment]) -> None:
        """A line for what was interrupted."""
        for moment in moments:
            line = self._line(moment)
            if line is not None:
                self._print(followed, line)
        if self._live is not None:
            self._live.refresh()  # what has just become a line is no longer under way

    def end(self, followed: Followed, ending: Ending) -> None:
        """The outcome."""
        if followed in self._followed:
            self._followed.remove(followed)
        print_ending(self._console, followed, ending, self._go_on(followed.name), named=bool(self._names))

    def stopping(self) -> None:
        """Say why it takes time."""
        self._note = "stopping: a thread is still at work. Ctrl-C once more leaves at once; nothing is lost by it"

    # --- Lines that stay -------------------------------------------------------------------------------------

    def _print(self, followed: Followed, line: Text) -> None:
        put(self._console, self._named(followed, line))

    def _named(self, followed: Followed, line: Text) -> Text:
        """A line that says which execution it is about, where there are several."""
        return Text.assemble((f"{followed.name:<{self._names}}", "cyan"), line) if self._names else line

    def _line(self, moment: Moment) -> Text | None:
        """A moment's line; none for what is only under way."""
        thing = moment.thing
        if thing is None:
            retry = (f"  {self._signs.retry} ", "yellow")
            return Text.assemble(retry, "the invocation failed, it is repeated: ", error_text(moment.error))
        if moment.kind == "skipped":
            names = ", ".join(moment.names)
            return Text.assemble("    " + "  " * thing.depth, ("not attempted: ", "bold red"), names)
        look = self._look(moment, thing)
        if look is None:
            return None
        sign, style, detail = look
        if moment.attempt > 1 and moment.kind in {"succeeded", "failed"}:
            detail = Text.assemble((f"attempt {moment.attempt}  ", "yellow"), detail)
        elapsed = moment.elapsed if moment.kind in {"succeeded", "failed"} else None
        row = self._row(sign, style, thing, elapsed, detail)
        if moment.past:
            row.stylize("dim")
        return row

    def _look(self, moment: Moment, thing: Thing) -> tuple[str, str, Text] | None:
        """Sign, its style, and what there is to say."""
        signs = self._signs
        error = (error_text(moment.error), "red")
        look = None
        match moment.kind:
            case "begun" if thing.role == "context":
                look = signs.context, "bold", Text()
            case "succeeded" if thing.role == "undo":
                look = signs.undone, "yellow", Text("undone", "yellow")
            case "succeeded":
                sign = signs.waiting if thing.role == "wait" else signs.succeeded
                look = sign, "green", Text(value_text(moment.payload, MOST), "dim")
            case "failed":
                prefix = "NOT undone  " if thing.role == "undo" else ""
                look = signs.failed, "bold red", Text.assemble((prefix, "bold red"), error)
            case "retry":
                when = f"attempt {moment.attempt} failed, again at {time_text(moment.until or moment.time)}: "
                look = signs.retry, "yellow", Text.assemble((when, "yellow"), error)
            case "interrupted":
                look = signs.retry, "yellow", Text("was interrupted, runs again", "yellow")
            case "rollback":
                look = signs.undone, "bold yellow", Text.assemble(("rolls back: ", "yellow"), error)
            case _:
                pass  # what is under way is told below, what has been rolled back by its parts
        return look

    def _row(self, sign: str, style: str, thing: Thing, elapsed: int | None, detail: Text) -> Text:
        """Sign, name, duration, and the rest as far as there is room."""
        margin = "  " * (thing.depth + 1)
        room = max(_NARROWEST, min(_WIDEST, self._console.width // 3) - len(margin))
        name = Text(thing.name)
        name.truncate(room, overflow="ellipsis", pad=True)
        shown = "" if elapsed is None else duration_text(elapsed)
        row = Text.assemble(margin, (sign, style), " ", name, (f"{shown:>{_DURATION}}  ", "dim"), detail)
        row.rstrip()
        return row

    def _log(self, line: str) -> None:
        self._console.print(Text(line, "dim"), soft_wrap=True)

    # --- What moves ------------------------------------------------------------------------------------------

    def _under_way(self) -> RenderableType:
        """A line for everything that is under way; called many times a second, from another thread."""
        now = round(time.time() * 1000)
        rows: list[Text] = []
        for followed in list(self._followed):
            things = [thing for thing in list(followed.story.active.values()) if thing.role != "context"]
            leaves = [thing for thing in things if thing.role != "saga"] or things
            rows.extend(self._named(followed, self._moving(thing, now)) for thing in leaves)
        most = max(1, self._console.height - ROOM)
        if len(rows) > most:
            rest = f"  {self._signs.ellipsis} and {count_text(len(rows) - most + 1, 'other')}"
            rows[most - 1 :] = [Text(rest, "dim")]
        if self._note:
            rows.append(Text(self._note, "bold yellow"))
        for row in rows:
            # A terminal echoes Ctrl-C where the cursor is, and must not begin another line for it.
            row.truncate(self._console.width - len("^C") - 1, overflow="ellipsis")
        return Group(*rows)

    def _moving(self, thing: Thing, now: int) -> Text:
        frames = self._signs.spinner
        sign = frames[now * FRAMES_PER_SECOND // 1000 % len(frames)]
        detail = "is being undone" if thing.role == "undo" else ""
        if thing.until is not None:
            detail = f"until {time_text(thing.until, now)}, {duration_text(max(0, thing.until - now))} left"
        attempt = thing.attempt
        if thing.until is not None and thing.role != "wait":
            attempt += 1
            detail = f"waits {detail}"
        if attempt > 1:
            detail = f"attempt {attempt}  {detail}"
        return self._row(sign, "cyan", thing, now - thing.started, Text(detail, "dim"))
