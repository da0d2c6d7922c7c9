"""Following an execution that runs elsewhere, by looking at its history again and again."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import anyio

from .._wire import ExecutionStatus
from .._wire.events import Event, EventType
from ..abc import ExecutionRecord
from ..exceptions import ServiceError
from ..local.stores.file import engine_of
from .exits import ExitCode
from .options import CommandError
from .place import Place, Store
from .reading import Source, find, look
from .session import Ending, Followed, View
from .texts import duration_text

SHORTEST: Final = 0.2
LONGEST: Final = 2.0
LONGEST_HERE: Final = 0.5
"""Seconds between two looks: short after something has happened, then longer and longer; a file costs little."""

GROWTH: Final = 1.5

PATIENCE: Final = 30.0
"""Seconds for which a server that has answered before may give no answer: it is started anew, perhaps."""

_ENDS: Final = frozenset(
    {
        EventType.EXECUTION_SUCCEEDED,
        EventType.EXECUTION_FAILED,
        EventType.EXECUTION_TIMED_OUT,
        EventType.EXECUTION_STOPPED,
    }
)


def watch(place: Place, name: str, view: View, timeout: float | None) -> ExitCode:
    """Follow an execution to its end.

    Args:
        place: Where it is.
        name: Its name, or its ARN.
        view: Who tells.
        timeout: Seconds to wait, at most.

    Raises:
        CommandError: It has not ended by then.
        DurableError: There is none of this name, or it cannot be looked at.
    """

    async def follow(source: Source) -> ExitCode:
        with anyio.move_on_after(math.inf if timeout is None else timeout):
            return await _Watch(source, place, name, view).run()
        raise CommandError(
            f"execution {name!r} is not over after {duration_text((timeout or 0) * 1000)}: it goes on"
        )

    signals: list[int] = []

    def interrupt(number: int, _: object) -> None:
        """Leave as by Ctrl-C, so that the terminal is left as it was found."""
        signals.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return look(place, follow)
    except KeyboardInterrupt:
        if signals:
            return ExitCode.TERMINATED
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class _Watch:
    """Looks at one execution until it is over."""

    def __init__(self, source: Source, place: Place, name: str, view: View) -> None:
        self._source = source
        self._place = place
        self._name = name
        self._view = view
        # When there was an answer last.
        self._heard = time.monotonic()

    async def run(self) -> ExitCode:
        """Tell what has happened, and what happens."""
        record = await find(self._source, self._name)
        past = await self._source.history(self._name)
        followed = Followed(record, None, past)
        story, view = followed.story, self._view
        with view.opened():
            view.begin(followed)
            for event in past:
                view.tell(followed, event, story.recall([event]))
            if not followed.was_over:
                view.resumed(followed, story.awaited(round(time.time() * 1000)))
                record = await self._to_the_end(followed)
            succeeded = record.status is ExecutionStatus.SUCCEEDED
            code = ExitCode.SUCCEEDED if succeeded else ExitCode.FAILED
            view.end(followed, Ending(code=code, record=record))
        return code

    async def _to_the_end(self, followed: Followed) -> ExecutionRecord:
        story, longest = followed.story, LONGEST_HERE if isinstance(self._place, Store) else LONGEST
        pause = SHORTEST
        self._say_if_nobody_runs_it(followed)
        is_over = any(event.event_type in _ENDS for event in followed.past)
        while not is_over:
            await anyio.sleep(pause)
            events = await self._news(story.last_event)
            pause = SHORTEST if events else min(pause * GROWTH, longest)
            for event in events:
                self._view.tell(followed, event, story.tell(event))
                is_over = is_over or event.event_type in _ENDS
        return await self._source.execution(self._name)

    async def _news(self, after: int) -> Sequence[Event]:
        """What has happened after the event of that number."""
        try:
            events = await self._source.history(self._name, after)
        except ServiceError as error:
            if not error.retryable or time.monotonic() - self._heard > PATIENCE:
                raise
            return ()
        self._heard = time.monotonic()
        return events

    def _say_if_nobody_runs_it(self, followed: Followed) -> None:
        """An engine may still come: nothing is wrong with waiting for one."""
        if isinstance(self._place, Store) and engine_of(self._place.path) is None:
            resume = self._place.command("resume", followed.name)
            sys.stderr.write(f"no engine is at work on {self._place}: it does not go on before {resume}\n")
