"""The ports: what the engine needs from the outside, and nothing of how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ._wire import OperationUpdate, Timestamp
from ._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse


class ServiceClient(ABC):
    """The durable execution service as one invocation of a function sees it (PROTOCOL section 1).

    Nothing above this port knows which service answers: AWS, the embedded engine or a fake.
    """

    @abstractmethod
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates, all or none, in order.

        Args:
            arn: The execution.
            token: From the invocation or from the last answer; good for one call.
            updates: At most 250. None at all is a poll for what changed.
            client_token: Repeating a call with the same one gets the first answer again.

        Returns:
            The next token, and the operations that changed.

        Raises:
            ServiceError: Not recorded, or nobody knows; `retryable` says whether repeating may help.
        """

    @abstractmethod
    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the execution's operations.

        Args:
            arn: The execution.
            token: The current checkpoint token; it stays good.
            marker: Where the page begins: `next_marker` of the page before.
            max_items: 1 to 1,000.

        Raises:
            ServiceError: `retryable` says whether repeating may help.
        """


class Clock(ABC):
    """Wall-clock time, so that tests can skip it."""

    @abstractmethod
    def now(self) -> Timestamp:
        """Milliseconds since the epoch."""

    @abstractmethod
    async def sleep_until(self, when: int) -> None:
        """Return at or after `when`, in milliseconds since the epoch."""
