"""What is kept in memory of an execution that is under way."""

from __future__ import annotations

import anyio

from .._wire import Timestamp
from .._wire.calls import CheckpointDurableExecutionResponse
from .machine.state import ExecutionState


class Live:
    """An execution that is in memory."""

    __slots__ = (
        "answer",
        "answered",
        "began",
        "call",
        "held",
        "last_token",
        "released",
        "revoked",
        "state",
        "token",
        "told",
        "untold",
    )

    def __init__(self, state: ExecutionState) -> None:
        self.state = state
        # Whether somebody has it to himself, and what to tell those who wait for it. One flag and not a lock: a
        # call to the service is mostly this.
        self.held = False
        self.released: anyio.Event | None = None
        # The only token that is good now, and the number of the call it is good for; no token when no invocation is
        # under way.
        self.token: str | None = None
        self.call = 0
        # The token before, for a repeat of the last call.
        self.last_token: str | None = None
        # The ClientToken of the last call, and what was answered.
        self.answered: str | None = None
        self.answer: CheckpointDurableExecutionResponse | None = None
        self.began = Timestamp(0)
        # What changed by itself or from outside and the invocation has not been told of, in order (the values are
        # nothing); and whether its last answer told of such a thing, perhaps too late for it to see.
        self.untold: dict[str, None] = {}
        self.told = False
        # Whether a pause has taken the token from the invocation that is under way: its answer does not count.
        self.revoked = False

    def release(self) -> None:
        """Let the next one have it."""
        self.held = False
        if self.released is not None:
            self.released.set()
            self.released = None
