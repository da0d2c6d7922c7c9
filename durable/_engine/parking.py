"""Parking: branches that wait for the world, and what wakes them.

Rules:

 1. A branch is *active* while its task runs. It is not while it is parked, and while it waits for branches of its
    own. When none is active the invocation is suspended: the service invokes again when something has changed.
    Not at once: a cancellation may be on its way to one of them, by a scope of the user's that nobody here knows.
 2. Registered as parked *before* asking whether any is active: the last one to park is the one that finds out.
 3. Whoever wakes somebody counts him as active at once, not when his task gets its turn.
 4. A wake-up is a reason to look again, not a promise: whoever is woken looks at history, and may park again.
 5. While it is found out where branches were, so that something can be decided, nothing new begins (`hold`). And
    while an end is being recorded that decides what becomes of others, those others begin no new operation: a
    replay stops them where they were then.
 6. What the service says changed wakes those who are parked on it. While others are active the service is asked:
    at the time when something falls due, and now and then if it depends on the outside world.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .._wire import Operation
    from ..abc import Clock
    from .branch import Branch
    from .frame import Frame

ASK_AGAIN: Final = (200, 400, 800, 1_600, 3_000)
"""Milliseconds until the service is asked again about what should have fallen due; the last one repeats."""

STILL: Final = 10
"""After so many turns of the event loop without an operation, code that replays is taken to stand still."""

CROWD: Final = 16
"""So many are a crowd. With fewer it counts for more that a crash repeats hardly anything."""

LOOK_AGAIN: Final = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Seconds between looks at what depends on the outside world; the last one repeats."""


class Waiter:
    """Somebody who is parked.

    Attributes:
        frame: On whose behalf.
        woken: Whether he has been told to look again.
        event: Set with that.
    """

    __slots__ = ("event", "frame", "woken")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.woken = False
        self.event = anyio.Event()


class Watch:
    """Something that is to happen when the service says that an operation has changed.

    Attributes:
        operation_id: The operation.
        until: When it falls due by itself (epoch milliseconds); `None` if it does not.
        changed: Called with the operation, each time it changes.
    """

    __slots__ = ("asked", "changed", "operation_id", "until")

    def __init__(self, operation_id: str, until: int | None, changed: Callable[[Operation], None]) -> None:
        self.operation_id = operation_id
        self.until = until
        self.changed = changed
        # How often the service has been asked about it since it fell due.
        self.asked = 0


class Parking:
    """Who is active and who is parked in one invocation.

    Args:
        clock: Wall-clock time, for what falls due.
        suspend: Called when nobody is active any more.
        ask: Asks the service what has changed.
        flush: Returns when all that is queued by then is recorded.
        give_way: Lets others, and a cancellation, have their turn.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        suspend: Callable[[], None],
        ask: Callable[[], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
        give_way: Callable[[], Awaitable[None]],
    ) -> None:
        self.give_way = give_way
        self._clock = clock
        self._suspend = suspend
        self._ask = ask
        self._flush = flush
        # Tasks of user code that are neither parked nor waiting for their own branches; the function is the first.
        self._active = 1
        # How many branches are being started, one a turn of the event loop: the rest of them.
        self.coming = 0
        self._waiters: set[Waiter] = set()
        # Those of them who go on when nobody else is active.
        self._stragglers: set[Waiter] = set()
        # How often an operation or a branch was begun; and what to do when none has been for a while.
        self.turns = 0
        self._when_still: list[Callable[[], None]] = []
        # In which branches it is found out where those inside were, and what tells those who wait for it.
        self._holds: list[Branch] = []
        # How many ends that decide what becomes of others are being recorded.
        self._deciding = 0
        self._released: anyio.Event | None = None
        # How often nobody was active any more, and whether it is being looked into, or has been found to be so.
        self._stops = 0
        self._is_stopping = False
        # Watches of those who parked when nobody else was active: nobody asks about them, for the time being.
        self._unasked: list[Watch] = []
        # What is watched, by operation; and when each falls due, earliest first, numbered.
        self._watches: dict[str, list[Watch]] = {}
        self._timers: list[tuple[int, int, Watch]] = []
        self._numbers = itertools.count()
        # The tasks that ask the service, begun when they are first needed.
        self._tasks: TaskGroup | None = None
        self._keeps_time = False
        self._looks = False
        # What the timekeeper sleeps under; cancelled when there is an earlier timer.
        self._sleep = anyio.CancelScope()

    def open(self, tasks: TaskGroup) -> None:
        """Where to run what asks the service."""
        self._tasks = tasks

    # --- Active or not ---------------------------------------------------------------------------------------

    @property
    def is_crowded(self) -> bool:
        """Whether so many are active, or about to be, that they record much at the same time."""
        return self._active + self.coming >= CROWD

    def rest(self) -> None:
        """One who was active waits for others."""
        self._active -= 1
        if not self._active:
            self._stops += 1
            if not self._is_stopping and self._tasks is not None:
                self._is_stopping = True
                self._tasks.start_soon(self._stop, name="durable: suspends one invocation")

    async def _stop(self) -> None:
        """Suspend, unless somebody goes on."""
        stops = 0
        while not self._active and stops != self._stops:
            stops = self._stops
            # What is not recorded yet goes now: by what the service answers somebody may go on.
            await self._flush()
            # Twice: asyncio tells a task that it is cancelled only when it stands still.
            await self.give_way()
            await self.give_way()
        if not self._active and not self._stragglers:
            self._suspend()
            return
        self._is_stopping = False
        for waiter in () if self._active else self._stragglers:
            self.wake(waiter)
        unasked, self._unasked = self._unasked, []
        for watch in unasked:
            if watch in self._watches.get(watch.operation_id, ()):
                self._ask_about(watch)

    async def _stillness(self) -> None:
        """Return when no operation has begun for some turns of the event loop."""
        turns = -1
        while turns != self.turns:
            turns = self.turns
            for _ in range(STILL):
                await self.give_way()

    @contextmanager
    def hold(self, around: Branch) -> Generator[None]:
        """Let nothing new begin meanwhile: whoever has come to it waits (see `held`).

        Args:
            around: Where it is about to be decided what becomes of branches inside.
        """
        self._holds.append(around)
        try:
            yield
        finally:
            self._holds.remove(around)
            self._release()

    def begin_to_decide(self) -> None:
        """An end that decides about others is about to be recorded: until `decided` they begin nothing new."""
        self._deciding += 1

    def decided(self) -> None:
        """What becomes of them has been decided."""
        self._deciding -= 1
        self._release()

    def _release(self) -> None:
        self.turns += 1  # those who waited go on
        if self._released is not None:
            self._released.set()
            self._released = None

    async def replayed(self, around: Branch) -> None:
        """Return when those inside of a branch have come to where they were: what they decide comes first."""
        await self._stillness()
        while any(hold is not around and hold.is_inside(around) for hold in self._holds):
            await self._stillness()

    @property
    def is_held(self) -> bool:
        """Whether no new operation may begin, at the moment."""
        return self._deciding > 0 or bool(self._holds)

    async def held(self) -> None:
        """Return when a new operation may begin. Whoever waits here is active: it is not for long."""
        while self._deciding or self._holds:
            await self._next_release()

    async def ends_held(self) -> None:
        """Return when the end of something may be recorded: another end that decides is no reason to wait."""
        while self._holds:
            await self._next_release()

    async def _next_release(self) -> None:
        if self._released is None:
            self._released = anyio.Event()
        await self._released.wait()

    def call_when_still(self, function: Callable[[], None]) -> None:
        """Call it when no operation has begun for some turns of the event loop."""
        self._when_still.append(function)
        if len(self._when_still) == 1 and self._tasks is not None:
            self._tasks.start_soon(self._call_when_still, name="durable: waits for stillness")

    async def _call_when_still(self) -> None:
        await self._stillness()
        while self._holds:
            await self._stillness()
        functions, self._when_still = self._when_still, []
        for function in functions:
            function()

    async def wait_for_others(self, frame: Frame) -> None:
        """Return when nobody else is active; there is no suspension before that."""
        waiter = Waiter(frame)
        self._stragglers.add(waiter)
        try:
            await self.wait(waiter)
        finally:
            self._stragglers.discard(waiter)
        await self.give_way()  # it may have been a cancellation that woke it

    def resume(self, count: int = 1) -> None:
        """So many become active."""
        self._active += count

    async def wait(self, waiter: Waiter) -> None:
        """Not active until woken; a cancellation wakes as well."""
        branch = waiter.frame.branch
        branch.waiter = waiter
        self._waiters.add(waiter)
        self.rest()
        try:
            await waiter.event.wait()
        finally:
            if not waiter.woken:
                self._active += 1
            self._waiters.discard(waiter)
            branch.waiter = None

    def wake(self, waiter: Waiter) -> None:
        """Tell one who waits to look again."""
        if not waiter.woken:
            waiter.woken = True
            self._active += 1
            waiter.event.set()

    def wake_all(self) -> None:
        """The invocation ends: everybody has to know, also behind a shield."""
        for waiter in self._waiters:
            self.wake(waiter)

    # --- Waiting for the service -----------------------------------------------------------------------------

    async def park(self, frame: Frame, operation_id: str, until: int | None) -> None:
        """Wait until the service says that an operation has changed. Suspends the execution if all are parked.

        Args:
            frame: Who waits.
            operation_id: For what.
            until: When it falls due by itself (epoch milliseconds), or `None`.
        """
        waiter = Waiter(frame)
        watch = Watch(operation_id, until, lambda _: self.wake(waiter))
        self._watches.setdefault(operation_id, []).append(watch)
        if self._active > 1:
            self._ask_about(watch)
        else:
            self._unasked.append(watch)
        try:
            await self.wait(waiter)
        finally:
            self.forget(watch)

    def watch(self, operation_id: str, until: int | None, changed: Callable[[Operation], None]) -> Watch:
        """Be told when an operation changes, until `forget`; without being parked."""
        watch = Watch(operation_id, until, changed)
        self._watches.setdefault(operation_id, []).append(watch)
        self._ask_about(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop watching, if that has not come to its end by itself."""
        watches = self._watches.get(watch.operation_id, [])
        if watch in watches:
            watches.remove(watch)
            if not watches:
                del self._watches[watch.operation_id]

    def changed(self, operations: Iterable[Operation]) -> None:
        """The service says that these have changed."""
        if not self._watches:
            return
        for operation in operations:
            watches = tuple(self._watches.get(operation.id, ()))
            if operation.is_final:
                # It changes no more. Whoever watches may take long to stop: nobody is to ask all the time.
                self._watches.pop(operation.id, None)
            for watch in watches:
                watch.changed(operation)

    # --- Asking the service ----------------------------------------------------------------------------------

    def _ask_about(self, watch: Watch) -> None:
        if watch.until is not None:
            self._set_timer(watch.until, watch)
        elif not self._looks and self._tasks is not None:
            self._looks = True
            self._tasks.start_soon(self._look, name="durable: looks for what has come in")

    def _set_timer(self, when: int, watch: Watch) -> None:
        entry = (when, next(self._numbers), watch)
        heapq.heappush(self._timers, entry)
        if self._keeps_time:
            if self._timers[0] is entry:
                self._sleep.cancel()
        elif self._tasks is not None:
            self._keeps_time = True
            self._tasks.start_soon(self._keep_time, name="durable: timers of one invocation")

    async def _keep_time(self) -> None:
        """Ask when something has fallen due, as long as somebody is active."""
        while True:
            with anyio.CancelScope() as self._sleep:
                if not self._timers:
                    await anyio.sleep_forever()
                await self._clock.sleep_until(self._timers[0][0])
            now = self._clock.now()
            fallen_due = False
            while self._timers and self._timers[0][0] <= now:
                watch = heapq.heappop(self._timers)[2]
                if watch in self._watches.get(watch.operation_id, ()):
                    fallen_due = True
                    # Its clock is not ours: the service may not think so yet.
                    delay = ASK_AGAIN[min(watch.asked, len(ASK_AGAIN) - 1)]
                    watch.asked += 1
                    heapq.heappush(self._timers, (now + delay, next(self._numbers), watch))
            if fallen_due:
                await self._ask()

    async def _look(self) -> None:
        """Ask now and then, as long as somebody is parked on the outside world while others are active."""
        for number in itertools.count():
            await anyio.sleep(LOOK_AGAIN[min(number, len(LOOK_AGAIN) - 1)])
            if not any(watch.until is None for watches in self._watches.values() for watch in watches):
                self._looks = False
                return
            await self._ask()
