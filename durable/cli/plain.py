"""The plain view: a line of text for everything that happens. For files, pipes and simple terminals."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

from rich.console import Console
from rich.text import Text

from .._wire.events import Event
from .hints import BEGUN, Command, ways
from .outcome import print_ending
from .session import Ending, Followed, View
from .story import PAUSES, Moment, pause_text
from .texts import duration_text, error_text, stamp_text, target_text, time_text, value_text

MOST: Final = 120
"""Characters of a result that are shown."""


_BEFORE: Final = {"undo": "undo", "cleanup": "cleanup", "operator": "undo", "cancellation": "saga"}
"""What a thing's name is not told without."""

_SUCCEEDED: Final = {"wait": "waited", "operator": "was decided on", "cancellation": "was asked to be cancelled"}
"""In one word, unless it is that one."""


class PlainView(View):
    """Tells in lines: when, what, and how it went.

    Args:
        console: Where to.
        command: Makes a command that can be copied of words.
    """

    def __init__(self, console: Console, command: Command) -> None:
        self._console = console
        self._command = command
        # Whether lines have to say which execution they are about.
        self._several = False
        self._began = 0

    def opened(self) -> AbstractContextManager[object]:
        """Nothing is needed."""
        return contextlib.nullcontext()

    def begin(self, followed: Followed) -> None:
        """Say what it is."""
        record = followed.record
        self._began += 1
        self._several = self._began > 1
        what = f"{record.name}: {target_text(record.function)}"
        if followed.was_over:
            how = f"was over at {time_text(record.end_timestamp or record.start_timestamp)}, nothing was run"
        elif followed.existed:
            how = f"goes on, begun {time_text(record.start_timestamp)}"
        else:
            how = "started"
        self._print(f"{what} {how}")

    def tell(self, followed: Followed, event: Event, moments: Sequence[Moment]) -> None:  # noqa: ARG002
        """A line a moment."""
        if not followed.was_over:
            self.resumed(followed, moments)

    def resumed(self, followed: Followed, moments: Sequence[Moment]) -> None:
        """A line for each."""
        for moment in moments:
            name = f"{followed.name}  " if self._several else ""
            self._print(f"{stamp_text(moment.time)}  {name}{sentence(moment)}{self._what_to_do(followed, moment)}")

    def end(self, followed: Followed, ending: Ending) -> None:
        """The outcome."""
        print_ending(self._console, followed, ending, self._command, named=self._several)

    def stopping(self) -> None:
        """Say why it takes time."""
        self._print("stopping: a thread is still at work")

    def close(self) -> None:
        """Nothing is to be given back."""

    def _what_to_do(self, followed: Followed, moment: Moment) -> str:
        """The command for what somebody outside has to do."""
        thing = moment.thing if moment.kind == "begun" and not moment.past else None
        if thing is None or thing.awaited is None or thing.callback is None:
            return ""
        first, *others = ways(thing.awaited, followed.name, thing.name, thing.callback, self._command)
        return f": {first}{' (or skip, or abandon)' if others else ''}"

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
        self._console.file.flush()


def sentence(moment: Moment) -> str:  # noqa: C901 - one line a kind
    """A moment in words."""
    thing = moment.thing
    if thing is None:
        return _of_the_whole(moment)
    name = f"{_BEFORE[thing.role]} {thing.path}" if thing.role in _BEFORE else thing.path
    again = f" (attempt {moment.attempt})" if moment.attempt > 1 else ""
    took = "" if thing.role == "wait" else "in "
    took += duration_text(moment.elapsed)
    match moment.kind:
        case "begun" if moment.until is not None:
            said = f"waits until {time_text(moment.until)}"
        case "begun" if thing.awaited is not None:
            said = BEGUN[thing.awaited]
        case "begun":
            said = f"started{again}"
        case "succeeded":
            value = value_text(moment.payload, MOST)
            said = f"{_SUCCEEDED.get(thing.role, 'succeeded')} {took}{again}{f': {value}' if value else ''}"
        case "failed":
            said = f"FAILED {took}{again}: {error_text(moment.error)}"
        case "retry":
            when = time_text(moment.until or moment.time)
            said = f"failed, attempt {moment.attempt}, again at {when}: {error_text(moment.error)}"
        case "not yet":
            said = f"is not met, looked at again at {time_text(moment.until or moment.time)}"
        case "interrupted":
            said = "was interrupted, runs again"
        case "rollback":
            said = f"rolls back {', '.join(moment.names)}: {error_text(moment.error)}"
        case "skipped":
            said = f"did not attempt to undo {', '.join(moment.names)}"
        case _:
            said = f"rolled back {took}"
    return f"{name} {said}"


def _of_the_whole(moment: Moment) -> str:
    """A moment of the execution itself."""
    if moment.kind in PAUSES:
        return pause_text(moment)
    return f"the invocation failed, it is repeated: {error_text(moment.error)}"
