"""What the kit has between an engine's invocations and the world: calls counted, bodies replaced, crashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import anyio

from .._engine.current import StepInfo
from .._engine.probe import Probe
from .._wire import OperationUpdate
from .._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from ..abc import ServiceClient

T = TypeVar("T")

Moment = Literal["before", "after"]


class Crash(NamedTuple):
    """Where the process dies: at a call that records something, of all that a test makes.

    Attributes:
        call: The call's number, from 1.
        moment: Before anything of it is recorded, or after all of it is, but nobody knows.
    """

    call: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment} call {self.call}"


class StandIn:
    """What is called instead of a body, as long as it applies.

    Args:
        what: It for people: `fail_step('charge')`.
        applies: Whether it is for this attempt at this operation.
        body: What is called.
    """

    __slots__ = ("applies", "body", "used", "what")

    def __init__(self, what: str, applies: Callable[[StepInfo], bool], body: Callable[..., Any]) -> None:
        self.what = what
        self.applies = applies
        self.body = body
        self.used = False


class KitProbe(Probe):
    """The probe of one test.

    Args:
        always_replays: See `Probe`.
        crashes: Where the process is to die, in order.
        faulty: Puts what goes wrong between a client and the service.
    """

    def __init__(
        self,
        *,
        always_replays: bool = False,
        crashes: Sequence[Crash] = (),
        faulty: Callable[[ServiceClient], ServiceClient] | None = None,
    ) -> None:
        self.always_replays = always_replays
        self._crashes = list(crashes)
        self._faulty = faulty
        # How many calls that record something have been made, by all executions.
        self.calls = 0
        # What each execution has recorded, call by call, by its ARN.
        self.recorded: dict[str, list[Sequence[OperationUpdate]]] = {}
        self._noted: set[str] = set()
        self._stand_ins: list[StandIn] = []
        self._names: dict[str, None] = {}
        # Cuts off all invocations, or the one of that ARN. Set by whoever has the engine.
        self.cut_off: Callable[[str | None], None] = lambda _: None
        # Told of what was recorded, with the ARN.
        self.on_recorded: Callable[[str, Sequence[OperationUpdate]], None] = lambda _arn, _updates: None

    # --- For invocations -------------------------------------------------------------------------------------

    def between(self, client: ServiceClient) -> ServiceClient:
        """Calls go through here, and on through what goes wrong; what gets through is noted."""
        noting = _NotingClient(client, self)
        return _WatchedClient(noting if self._faulty is None else self._faulty(noting), self)

    def instead_of(self, info: StepInfo, body: Callable[..., Any]) -> Callable[..., Any]:
        """The newest stand-in that applies, or the body itself."""
        self._names[info.name] = None
        for stand_in in reversed(self._stand_ins):
            if stand_in.applies(info):
                stand_in.used = True
                return stand_in.body
        return body

    async def cut(self, arn: str) -> None:
        """Abandon the invocation of one execution: it is invoked again."""
        self.cut_off(arn)
        await anyio.sleep_forever()

    # --- For the kit -----------------------------------------------------------------------------------------

    def add(self, stand_in: StandIn) -> None:
        """Have it called from now on."""
        self._stand_ins.append(stand_in)

    def unused(self) -> list[str]:
        """The stand-ins that nobody has called."""
        return [stand_in.what for stand_in in self._stand_ins if not stand_in.used]

    @property
    def names(self) -> list[str]:
        """What the steps, checks and compensations were called that have run."""
        return list(self._names)

    async def through(self, updates: Sequence[OperationUpdate], call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and die where that is planned."""
        if not updates:  # it only asks
            return await call()
        self.calls += 1
        number = self.calls
        await self._die_at(Crash(number, "before"))
        answer = await call()
        await self._die_at(Crash(number, "after"))
        return answer

    def note(self, arn: str, updates: Sequence[OperationUpdate], client_token: str) -> None:
        """The service has recorded this, whether anybody hears of it or not; a repeat of a call records nothing."""
        if updates and client_token not in self._noted:
            self._noted.add(client_token)
            self.recorded.setdefault(arn, []).append(tuple(updates))
            self.on_recorded(arn, updates)

    async def _die_at(self, here: Crash) -> None:
        if self._crashes and self._crashes[0] == here:
            del self._crashes[0]
            self.cut_off(None)
            await anyio.sleep_forever()


class _ProbedClient(ServiceClient):
    """A client whose calls that record something the probe has to do with."""

    def __init__(self, client: ServiceClient, probe: KitProbe) -> None:
        self._client = client
        self._probe = probe
        self.max_operations = client.max_operations

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the operations (see `ServiceClient.get_state`)."""
        return await self._client.get_state(arn, token, marker, max_items)


class _WatchedClient(_ProbedClient):
    """What an invocation calls."""

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates (see `ServiceClient.checkpoint`)."""
        return await self._probe.through(
            updates, lambda: self._client.checkpoint(arn, token, updates, client_token)
        )


class _NotingClient(_ProbedClient):
    """What the service hears, after all that may go wrong on the way to it."""

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates (see `ServiceClient.checkpoint`)."""
        answer = await self._client.checkpoint(arn, token, updates, client_token)
        self._probe.note(arn, updates, client_token)
        return answer
