"""Looking at executions over Lambda's API: the interface of a store's reader, and errors that say what to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from .._kernel.rebuild import operations_of
from .._wire import ExecutionStatus, Operation
from .._wire.calls import ExecutionSummary, GetDurableExecutionResponse
from .._wire.events import Event, EventType
from ..abc import ExecutionRecord
from ..aws.control import ControlClient, open_control, record_of
from ..aws.untyped import BotoCoreError
from ..exceptions import ExecutionNotFoundError, ServiceError
from .exits import ExitCode
from .options import ENDPOINT_VARIABLE, TOKEN_VARIABLE, CommandError
from .place import Remote
from .texts import function_of

ARN: Final = "arn:"

_UNREACHED: Final = {"EndpointConnectionError", "ConnectTimeoutError"}
_NO_CREDENTIALS: Final = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
_NOT_FOUND: Final = "ResourceNotFoundException"
_DENIED: Final = "AccessDeniedException"


class RemoteReader:
    """Executions over the API, for what reads a store otherwise.

    It lives for one command: the beginning of an execution's history is not asked for twice.

    Args:
        client: What asks.
        function: Of which function executions that are asked for by their names are.
    """

    def __init__(self, client: ControlClient, function: str | None) -> None:
        self._client = client
        self._function = function
        # The ARNs of names, and the histories of ARNs.
        self._arns: dict[str, str] = {}
        self._events: dict[str, list[Event]] = {}

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """The function's executions, or those of one status, oldest first; without what they came to."""
        if self._function is None:
            raise CommandError(
                "the API lists the executions of one function: say which with --function", code=ExitCode.USAGE
            )
        statuses = () if status is None else (status,)
        return [_record(one) for one in await self._client.executions(self._function, statuses=statuses)]

    async def execution(self, name: str) -> ExecutionRecord:
        """One execution, by its name or ARN; without the number of invocations, which is in its history.

        Raises:
            ExecutionNotFoundError: There is none.
        """
        arn = await self.arn(name)
        try:
            return _record(await self._client.execution(arn))
        except ServiceError as error:
            if error.code == _NOT_FOUND:
                raise ExecutionNotFoundError(name) from error
            raise

    async def operations(self, name: str) -> Sequence[Operation]:
        """An execution's operations as far as its events tell them, in the order of their first record."""
        return operations_of(await self.history(name))

    async def history(self, name: str, after: int = 0) -> Sequence[Event]:
        """An execution's history events, from the one after number `after`."""
        arn = await self.arn(name)
        if after:
            return await self._client.history(arn, after)  # what is new
        events = self._events.get(arn)
        if not events:
            events = self._events[arn] = await self._client.history(arn)
        return events

    async def arn(self, name: str) -> str:
        """The ARN of an execution, given that or its name.

        Raises:
            ExecutionNotFoundError: The function has none of this name.
            CommandError: Which function is not known.
        """
        if name.startswith(ARN):
            return name
        if self._function is None:
            raise CommandError(
                f"a name is one of a function's executions: say with --function which function {name!r} is of, "
                "or give the execution's ARN",
                code=ExitCode.USAGE,
            )
        if name not in self._arns:
            found = await self._client.executions(self._function, name=name)
            if not found:
                raise ExecutionNotFoundError(name)
            self._arns[name] = found[-1].durable_execution_arn  # the newest
        return self._arns[name]


@asynccontextmanager
async def connected(place: Remote) -> AsyncGenerator[ControlClient]:
    """A client of a place.

    Raises:
        CommandError: There is no such place, it cannot be reached, or it refuses whoever asks.
        ServiceError: It refuses what is asked.
    """
    with explaining(place):
        async with open_control(
            endpoint_url=place.endpoint, token=place.token, region=place.region, profile=place.profile
        ) as client:
            yield client


@contextmanager
def explaining(place: Remote) -> Generator[None]:
    """What goes wrong in the block, as errors that say what to do about it.

    Raises:
        CommandError: There is no such place, it cannot be reached, or it refuses whoever asks.
        ServiceError: It refuses what is asked.
    """
    try:
        yield
    except ServiceError as error:
        explained = _explained(error, place)
        if explained is None:
            raise
        raise CommandError(explained) from error
    except BotoCoreError as error:
        hint = " (--region)" if type(error).__name__ == "NoRegionError" else ""
        raise CommandError(f"{place} cannot be called: {error}{hint}") from error
    except ValueError as error:
        if not str(error).startswith("Invalid endpoint"):
            raise
        raise CommandError(
            f"{place.endpoint!r} is no URL: it is as http://127.0.0.1:9420", code=ExitCode.USAGE
        ) from error


def _explained(error: ServiceError, place: Remote) -> str | None:
    """What to do about an error, where that is known."""
    if error.code in _UNREACHED:
        what = "is there a durable dev?" if place.endpoint is not None else "is there a network?"
        where = f" --endpoint or {ENDPOINT_VARIABLE} says where it is." if place.endpoint is not None else ""
        return f"nothing answers at {place}: {what}{where}"
    if error.code in _NO_CREDENTIALS:
        return f"there are no credentials for {place}: --profile, or what AWS's SDKs take ({error})"
    if error.code == _DENIED and place.endpoint is not None:
        return f"{place} refuses: {error}. --token or {TOKEN_VARIABLE} is the token."
    return None


def _record(one: ExecutionSummary | GetDurableExecutionResponse) -> ExecutionRecord:
    return record_of(one, function_of(one.function_arn))


def with_history(record: ExecutionRecord, events: Sequence[Event]) -> ExecutionRecord:
    """An execution with what only its history tells: how many invocations are over, and since when it is paused."""
    import msgspec

    number = sum(event.event_type is EventType.INVOCATION_COMPLETED for event in events)
    paused = [event for event in events if event.event_type is EventType.EXECUTION_PAUSED]
    pause = record.pause
    if pause is not None and record.status is ExecutionStatus.PAUSED and paused:
        pause = msgspec.structs.replace(pause, since=paused[-1].event_timestamp)
    return msgspec.structs.replace(record, invocations=number, pause=pause)
