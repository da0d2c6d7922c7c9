"""The journal: the only caller of the service, and the order of everything that is recorded.

Theory of operation:

 1. Updates queue up in order and are never reordered or dropped. An update is forgotten when it is known to be
    recorded, not when it is sent.
 2. There is one call in flight. What arrives meanwhile goes out together in the next one, as much of it as fits.
 3. Whoever waits for a record makes the call itself when none is in flight: no task switch on the hot path. While
    many branches run, they have turns before it, for as long as they have something to record as well.
 4. An update nobody waits for lingers for company: a fast step's START leaves with its SUCCEED. The journal's own
    task sends what has lingered long enough.
 5. The token is the journal's. Each answer brings the next one; a repeat of a call carries the same ClientToken,
    so that an answer that was lost is given again instead of the updates being applied twice.
 6. In a batch successes lag: they count before they are recorded, and are sent when a call is full, when somebody
    waits for anything, or when the first of them has lingered long enough.
 7. What a call raises is latched in the invocation, which ends. Those who wait leave without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from .._kernel.batch import ENVELOPE_BYTES, fitting
from .._kernel.history import History
from .._wire import OperationType, OperationUpdate
from .._wire.limits import MAX_BYTES_PER_CALL, MAX_STATE_PAGE, MAX_UPDATES_PER_CALL
from ..exceptions import ServiceError, StaleTokenError

if TYPE_CHECKING:
    from .._wire.calls import CheckpointDurableExecutionResponse
    from ..abc import Clock, ServiceClient
    from .invocation import Invocation

LINGER: Final = 0.005
"""Seconds that an update nobody waits for may stay behind."""

BATCH_LINGER: Final = 0.5
"""The same while a batch is open: what a crash may undo is at most so old, beside what a call takes."""

FIRST_CALL: Final = 64
"""How many updates are enough for the first call of an invocation."""

REPEATS_AFTER: Final = (100, 500)
"""Milliseconds before a call without a usable answer is repeated. After the last one the invocation ends."""


class Journal:
    """Records updates, in order, for one invocation."""

    def __init__(
        self, invocation: Invocation, client: ServiceClient, clock: Clock, *, arn: str, token: str, history: History
    ) -> None:
        self._invocation = invocation
        self._client = client
        self._clock = clock
        self._arn = arn
        self._history = history
        self.token = token
        # Not yet known to be recorded, oldest first; its head may be in flight.
        self._queue: list[OperationUpdate] = []
        # How many have ever been queued, and how many of those are recorded: queued - recorded == len(queue).
        self._queued = 0
        self._recorded = 0
        self._calling = False
        # About how many bytes of what lags have been queued since the last call.
        self._lagging_bytes = 0
        # How many batches are open, and what the journal's task waits under while something lingers.
        self._batches = 0
        self._linger = anyio.CancelScope()
        # Set when the call in flight has ended; made by the first who waits for it.
        self._call_ended: anyio.Event | None = None
        # Set when something has been noted and no call is under way; `None` while the journal's task is awake.
        self._noted: anyio.Event | None = None
        # Shields of those who record: they outlive the user's cancellation, not the invocation's abandonment.
        self._shields: set[anyio.CancelScope] = set()
        self._calls = 0
        self._call_prefix = uuid4().hex
        self.closed = False

    def note(self, update: OperationUpdate) -> None:
        """Queue an update that nobody waits for."""
        self._queue.append(update)
        self._queued += 1
        if not self._calling:
            self._wake()

    def assume(self, update: OperationUpdate) -> None:
        """Queue an outcome that nobody waits for, and go on as if it was recorded: it is in history now.

        What the service says of the operation may be older, until it has heard of this. Nobody asks history for it
        meanwhile: whoever called it has its outcome.
        """
        self.note(update)
        self._history.assume(update, self._clock.now())

    async def record(self, update: OperationUpdate) -> None:
        """Queue an update and return when it, and all before it, are recorded and the answer is in history.

        The user's own cancellation waits until then: what has happened is recorded. When the invocation ends
        first, this does not return (see `Invocation.leave`).
        """
        self._queue.append(update)
        self._queued += 1
        await self.sync()

    async def sync(self, but: int = 0) -> None:
        """Return when all that is queued is recorded and the answer is in history; otherwise as `record`.

        Args:
            but: How many of the last may still be on their way.
        """
        shield = anyio.CancelScope(shield=True)
        self._shields.add(shield)
        try:
            with shield:
                await self.flush(but)
        finally:
            self._shields.discard(shield)
        if self._invocation.has_failed:
            await self._invocation.leave("a record")

    def open_batch(self) -> None:
        """What nobody waits for may stay behind longer."""
        self._batches += 1

    async def close_batch(self) -> None:
        """It may not, again; return when all that is queued is recorded."""
        self._batches -= 1
        self._linger.cancel()
        await self.sync()

    async def lag(self, update: OperationUpdate) -> None:
        """Queue an outcome that nobody waits for, as `assume`; if it makes a call full, return when it is recorded.

        So a batch sends full calls, and what lags behind is bounded however slow the service is.
        """
        self.assume(update)
        self._lagging_bytes += ENVELOPE_BYTES + len(update.payload or "")
        if len(self._queue) >= MAX_UPDATES_PER_CALL or self._lagging_bytes >= MAX_BYTES_PER_CALL:
            await self.sync()

    async def lag_beside(self, update: OperationUpdate) -> None:
        """The same where others queue as well: it waits for them to have left room, and not for itself.

        It does so before: what an answer says that was on the way meanwhile may be older, and would be believed.
        """
        if self._lagging_bytes >= MAX_BYTES_PER_CALL:
            await self.sync()
        elif len(self._queue) >= MAX_UPDATES_PER_CALL:
            await self.sync(but=MAX_UPDATES_PER_CALL - 1)
        self._lagging_bytes += ENVELOPE_BYTES + len(update.payload or "")
        self.assume(update)

    async def flush(self, but: int = 0) -> None:
        """Return when all that is queued now, `but` so many, is recorded, or the invocation has failed."""
        mark = self._queued - but
        while self._recorded < mark and not self._invocation.has_failed:
            if self._calling:
                await self._wait_for_call()
            else:
                await self._call()

    async def poll(self) -> None:
        """Ask the service what has changed; what is queued goes along."""
        if self._invocation.has_failed:
            return
        if self._calling:
            await self._wait_for_call()
        else:
            await self._call()

    async def drain(self) -> None:
        """Return when nothing is queued and no call is in flight, or the invocation has failed."""
        while not self._invocation.has_failed and (self._calling or self._queue):
            if self._calling:
                await self._wait_for_call()
            else:
                await self._call()

    async def run(self) -> None:
        """The journal's own task: send what has lingered, and notice when the invocation is abandoned.

        It runs outside of the shield that user code is under, so it is the first to see a cancellation from
        outside, and marks the invocation before user code unwinds: a saga must not take it for its own.
        """
        try:
            while not self._invocation.has_failed:
                if self._queue and not self._calling:
                    await self._linger_and_flush()
                else:
                    # What is noted during a call, or found one under way, is looked at again after it.
                    self._noted = anyio.Event()
                    await self._noted.wait()
            await anyio.sleep_forever()
        finally:
            if not self.closed:
                self._invocation.abandon()

    async def _linger_and_flush(self) -> None:
        mark = self._queued
        until = anyio.current_time() + (BATCH_LINGER if self._batches else LINGER)
        with anyio.CancelScope(deadline=until) as self._linger:
            await anyio.sleep_forever()
        if self._recorded < mark and not self._calling:
            await self.flush()

    def _wake(self) -> None:
        if self._noted is not None:
            self._noted.set()
            self._noted = None

    def cut(self) -> None:
        """Let go of those who wait for a record: the invocation is abandoned."""
        for shield in self._shields:
            shield.cancel()

    async def _wait_for_call(self) -> None:
        if self._call_ended is None:
            self._call_ended = anyio.Event()
        await self._call_ended.wait()

    async def _call(self) -> None:
        self._calling = True
        try:
            if self._invocation.parking.is_crowded:
                await self._gather()
            batch = self._queue[: fitting(self._queue)]
            self._lagging_bytes = 0
            answer = await self._send(batch)
            await self._take_over(answer, batch)
        except BaseException as error:
            self._invocation.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            del self._queue[: len(batch)]
            self._recorded += len(batch)
        finally:
            self._calling = False
            if self._call_ended is not None:
                self._call_ended.set()
                self._call_ended = None
            if self._queue:
                self._wake()

    async def _gather(self) -> None:
        """Let others have turns for as long as each brings something to go along, and there is enough of it.

        That is a full call; less for the first one, as nothing is under way while it is waited for.
        """
        from anyio.lowlevel import cancel_shielded_checkpoint  # only here: `import durable` loads this module

        enough = MAX_UPDATES_PER_CALL if self._calls else FIRST_CALL
        queued = -1
        while queued != self._queued and len(self._queue) < enough:
            queued = self._queued
            # Twice: trio shuffles who comes when; in one turn this task may come before those it waits for.
            await cancel_shielded_checkpoint()
            await cancel_shielded_checkpoint()

    async def _send(self, batch: Sequence[OperationUpdate]) -> CheckpointDurableExecutionResponse:
        self._calls += 1
        client_token = f"{self._call_prefix}-{self._calls}"
        for delay in REPEATS_AFTER:
            try:
                return await self._client.checkpoint(self._arn, self.token, batch, client_token)
            except StaleTokenError:
                raise
            except ServiceError as error:
                if not error.retryable:
                    raise
            await self._clock.sleep_until(self._clock.now() + delay)
        return await self._client.checkpoint(self._arn, self.token, batch, client_token)

    async def _take_over(
        self, answer: CheckpointDurableExecutionResponse, batch: Sequence[OperationUpdate]
    ) -> None:
        state = answer.new_execution_state
        operations = state.operations
        if answer.checkpoint_token is not None:
            self.token = answer.checkpoint_token
        marker = state.next_marker
        while marker:
            page = await self._client.get_state(self._arn, self.token, marker, MAX_STATE_PAGE)
            operations = (*operations, *page.operations)
            marker = page.next_marker
        self._history.merge(operations)
        answered = {operation.id for operation in operations}
        for update in batch:
            if update.id not in answered:
                self._history.assume(update, self._clock.now())
        if answer.checkpoint_token is None and not (batch and batch[-1].type is OperationType.EXECUTION):
            self._invocation.revoke()
        self._invocation.parking.changed(operations)
