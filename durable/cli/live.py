"""The live view, on a terminal: what is over is a line that stays, what is under way moves below."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from .._wire.events import Event
from .hints import Command, ways
from .logs import LogHandler, write_to_stderr
from .outcome import print_ending, title
from .rows import FRAMES_PER_SECOND, Rows
from .session import Ending, Followed, View
from .story import Moment, Thing
from .terminal import is_terminal, put, signs_of
from .texts import count_text, time_text

ROOM: Final = 4
"""Rows of the terminal that what is under way leaves free."""


class LiveView(View):
    """Tells on a terminal.

    Args:
        console: The terminal.
        handler: The logging that must not get in the way.
        command: Makes a command that can be copied of words.
    """

    def __init__(self, console: Console, handler: LogHandler, command: Command) -> None:
        self._console = console
        self._handler = handler
        self._command = command
        self._rows = Rows(console)
        self._live: Live | None = None
        # What is followed and has not ended, in order.
        self._followed: list[Followed] = []
        # Columns for the names of executions; none where there is only one.
        self._names = 0
        self._note = ""
        # The contexts that the last line of each execution was in, outermost first.
        self._around: dict[str, list[Thing]] = {}

    @contextmanager
    def opened(self) -> Generator[None]:
        """Move, and let everything else that is printed appear above."""
        same_terminal = is_terminal(sys.stderr)
        self._live = Live(
            get_renderable=self._frame,
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
        """A line for what was interrupted, and for what is awaited."""
        for moment in moments:
            line = self._rows.of_moment(moment)
            if line is not None:
                self._say_where(followed, moment)
                self._print(followed, line)
            if moment.kind == "begun" and moment.thing is not None and not moment.past:
                self._say_what_to_do(followed, moment.thing)
        if self._live is not None:
            self._live.refresh()  # what has just become a line is no longer under way

    def end(self, followed: Followed, ending: Ending) -> None:
        """The outcome."""
        if followed in self._followed:
            self._followed.remove(followed)
        print_ending(self._console, followed, ending, self._command, named=bool(self._names))

    def stopping(self) -> None:
        """Say why it takes time."""
        self._note = "stopping: a thread is still at work. Ctrl-C once more leaves at once; nothing is lost by it"

    # --- Lines that stay -------------------------------------------------------------------------------------

    def _say_where(self, followed: Followed, moment: Moment) -> None:
        """Name the contexts that the next line is in, unless the line before was in them as well.

        Branches run side by side, so that their lines are mixed.
        """
        if moment.thing is None:
            return
        around = moment.thing.around
        before = self._around.get(followed.name, [])
        for number, thing in enumerate(around):
            if thing not in before[number : number + 1]:
                before = []
                self._print(followed, self._rows.of_context(thing, past=moment.past))
        # The line of a rollback is the headline of what it undoes.
        self._around[followed.name] = [*around, moment.thing] if moment.kind == "rollback" else around

    def _say_what_to_do(self, followed: Followed, thing: Thing) -> None:
        """The command for what somebody outside has to do; it is to be copied, so it is never cut."""
        if thing.awaited is None or thing.callback is None:
            return
        first, *others = ways(thing.awaited, followed.name, thing.name, thing.callback, self._command)
        more = "   or skip, or abandon" if others else ""
        self._console.print(Text.assemble("  " * (thing.depth + 2), (first, "cyan"), (more, "dim")), soft_wrap=True)

    def _print(self, followed: Followed, line: Text) -> None:
        put(self._console, self._named(followed, line))

    def _named(self, followed: Followed, line: Text) -> Text:
        """A line that says which execution it is about, where there are several."""
        return Text.assemble((f"{followed.name:<{self._names}}", "cyan"), line) if self._names else line

    def _log(self, line: str) -> None:
        self._console.print(Text(line, "dim"), soft_wrap=True)

    # --- What moves ------------------------------------------------------------------------------------------

    def _frame(self) -> RenderableType:
        """Called many times a second, from another thread."""
        return self._under_way(round(time.time() * 1000))

    def _under_way(self, now: int) -> RenderableType:
        """A line for everything that is under way."""
        rows: list[Text] = []
        for followed in list(self._followed):
            things = followed.story.innermost()
            rows.extend(self._named(followed, self._rows.of_thing(thing, now)) for thing in things)
        most = max(1, self._console.height - ROOM)
        if len(rows) > most:
            rest = f"  {signs_of(self._console).ellipsis} and {count_text(len(rows) - most + 1, 'other')}"
            rows[most - 1 :] = [Text(rest, "dim")]
        if self._note:
            rows.append(Text(self._note, "bold yellow"))
        for row in rows:
            # A terminal echoes Ctrl-C where the cursor is, and must not begin another line for it.
            row.truncate(self._console.width - len("^C") - 1, overflow="ellipsis")
        return Group(*rows)
