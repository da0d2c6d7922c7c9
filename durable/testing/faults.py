"""What can go wrong between a function and the service, by a seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Final, Literal, get_args

import anyio.lowlevel

from .._wire import OperationUpdate
from .._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from ..abc import ServiceClient
from ..exceptions import ServiceError, StaleTokenError

FaultKind = Literal["throttled", "unavailable", "reset", "lost", "late", "twice", "stale"]

KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)

_LATE_TURNS: Final = 20
"""Turns of the event loop that an answer takes which is late."""


class Faults:
    """Puts faults between functions and a service: `durable_test(book_trip, faults=Faults(seed=7))`.

      throttled    refused: TooManyRequestsException
      unavailable  refused: ServiceException
      reset        the connection breaks before the service has the call
      lost         the service has recorded the call, and the answer does not arrive
      late         others go on for a while before the answer arrives
      twice        the call reaches the service twice
      stale        somebody else holds the execution: the invocation has to end, and another one begins

    None of them may make an execution fail, or anything be recorded twice. The same seed gives the same faults as
    long as the calls are the same.

    Args:
        seed: What chance is made of.
        rate: How many of the calls something happens to: 0 to 1, and less than 1.
        kinds: What may happen.

    Attributes:
        happened: What has, in order.

    Raises:
        ValueError: Another rate, or a kind that there is not.
    """

    def __init__(self, seed: int, *, rate: float = 0.3, kinds: Collection[FaultKind] = KINDS) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Faults(rate={rate!r}): 0 or more, and less than 1: nothing would ever succeed")
        unknown = set(kinds) - set(KINDS)
        if unknown or not kinds:
            raise ValueError(f"Faults(kinds={kinds!r}): some of {', '.join(KINDS)}")
        self.happened: list[FaultKind] = []
        self._seed = seed
        self._rate = rate
        self._kinds = sorted(kinds)
        self._random = random.Random(seed)  # noqa: S311 - it has to be the same again

    def __call__(self, client: ServiceClient) -> ServiceClient:
        """The client with faults."""
        return _FaultyClient(client, self)

    def next(self, *, reading: bool = False) -> FaultKind | None:
        """What happens to the next call; nothing that only a call can suffer that records, if it reads."""
        if self._random.random() >= self._rate:
            return None
        kind = self._random.choice(self._kinds)
        if reading and kind in {"twice", "lost", "stale"}:
            return None
        self.happened.append(kind)
        return kind

    def __repr__(self) -> str:
        return f"Faults(seed={self._seed}, rate={self._rate}, kinds={self._kinds})"


class _FaultyClient(ServiceClient):
    def __init__(self, client: ServiceClient, faults: Faults) -> None:
        self._client = client
        self._faults = faults
        self.max_operations = client.max_operations

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates (see `ServiceClient.checkpoint`), if nothing happens."""
        fault = self._faults.next()
        _refuse(fault)
        answer = await self._client.checkpoint(arn, token, updates, client_token)
        if fault == "late":
            await _be_late()
        elif fault == "twice":
            answer = await self._client.checkpoint(arn, token, updates, client_token)
        elif fault == "lost":
            raise ServiceError("the answer was lost", retryable=True)
        return answer

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the operations (see `ServiceClient.get_state`), if nothing happens."""
        fault = self._faults.next(reading=True)
        _refuse(fault)
        if fault == "late":
            await _be_late()
        return await self._client.get_state(arn, token, marker, max_items)


def _refuse(fault: FaultKind | None) -> None:
    """What happens before the service has the call."""
    if fault == "throttled":
        raise ServiceError("slow down", code="TooManyRequestsException", retryable=True)
    if fault == "unavailable":
        raise ServiceError("try again", code="ServiceException", retryable=True)
    if fault == "reset":
        raise ServiceError("the connection was reset", retryable=True)
    if fault == "stale":
        raise StaleTokenError("Invalid checkpoint token: another invocation has begun")


async def _be_late() -> None:
    for _ in range(_LATE_TURNS):
        await anyio.lowlevel.checkpoint()
