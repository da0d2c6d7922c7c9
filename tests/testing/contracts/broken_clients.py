"""Clients that are wrong on purpose, each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from durable._wire import OperationType, OperationUpdate, SubType, Timestamp
from durable._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from durable.abc import ServiceClient
from durable.exceptions import ServiceError, StaleTokenError

replace = msgspec.structs.replace
Answer = CheckpointDurableExecutionResponse
Page = GetDurableExecutionStateResponse


class Passing(ServiceClient):
    """Nothing is wrong with it: it passes calls on."""

    def __init__(self, service: ServiceClient) -> None:
        self.service = service

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        return await self.service.checkpoint(arn, token, updates, client_token)

    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        return await self.service.get_state(arn, token, marker, max_items)


# --- What is sent --------------------------------------------------------------------------------------------


class Rewriting(Passing):
    """Each update is rewritten."""

    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        raise NotImplementedError

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        return await super().checkpoint(arn, token, tuple(map(self.rewrite, updates)), client_token)


class DropsTenants(Rewriting):
    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        options = update.chained_invoke_options
        if options is None:
            return update
        return replace(update, chained_invoke_options=replace(options, tenant_id=None))


class TakesNoForNothing(Rewriting):
    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        options = update.context_options
        return update if options is None or options.replay_children else replace(update, context_options=None)


class DropsNul(Rewriting):
    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        return update if update.payload is None else replace(update, payload=update.payload.replace("\x00", ""))


class TruncatesErrors(Rewriting):
    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        error = update.error
        if error is None:
            return update
        return replace(
            update, error=replace(error, error_message=error.error_message and error.error_message[:100_000])
        )


class KnowsNoIterations(Rewriting):
    def rewrite(self, update: OperationUpdate) -> OperationUpdate:
        return replace(update, sub_type=None) if update.sub_type == SubType.MAP_ITERATION else update


class Sorts(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        ordered = sorted(updates, key=lambda update: update.id)
        return await super().checkpoint(arn, token, ordered, client_token)


class HasItsOwnClientTokens(Passing):
    count = 0

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        self.count += 1
        return await super().checkpoint(arn, token, updates, f"own-{self.count}")


class SendsNoPolls(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        if updates:
            return await super().checkpoint(arn, token, updates, client_token)
        return Answer(checkpoint_token=token, new_execution_state=CheckpointUpdatedExecutionState())


class RefusesLargeCalls(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        if sum(len(update.payload or "") for update in updates) > 5_000_000:
            raise ServiceError("too large", code="RequestTooLargeException", retryable=False)
        return await super().checkpoint(arn, token, updates, client_token)


# --- What is answered ----------------------------------------------------------------------------------------


class RoundsTimes(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        answer = await super().checkpoint(arn, token, updates, client_token)
        rounded = [
            replace(each, start_timestamp=Timestamp(each.start_timestamp // 1000 * 1000))
            for each in answer.new_execution_state.operations
        ]
        return with_operations(answer, rounded)


class ForgetsErrors(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        answer = await super().checkpoint(arn, token, updates, client_token)
        found = [
            each
            if each.context_details is None
            else replace(each, context_details=replace(each.context_details, error=None))
            for each in answer.new_execution_state.operations
        ]
        return with_operations(answer, found)


class KeepsTheLastToken(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        answer = await super().checkpoint(arn, token, updates, client_token)
        return replace(answer, checkpoint_token=answer.checkpoint_token or token)


class TakesTheFirstPage(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        answer = await super().checkpoint(arn, token, updates, client_token)
        return with_operations(answer, answer.new_execution_state.operations[:100])


class LosesWhatAPollTells(Passing):
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        answer = await super().checkpoint(arn, token, updates, client_token)
        return answer if updates else with_operations(answer, [])


class UsesTokensUp(Passing):
    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        page = await super().get_state(arn, token, marker, max_items)
        await self.service.checkpoint(arn, token, [], "look")
        return page


def with_operations(answer: Answer, operations: Sequence[Any]) -> Answer:
    state = replace(answer.new_execution_state, operations=tuple(operations))
    return replace(answer, new_execution_state=state)


# --- Repeats, and what fails ---------------------------------------------------------------------------------


class RepeatsUnderAnotherToken(Passing):
    def __init__(self, service: ServiceClient) -> None:
        super().__init__(service)
        self.seen: set[tuple[str, str]] = set()

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        given = f"{client_token}-2" if (arn, client_token) in self.seen else client_token
        self.seen.add((arn, client_token))
        return await super().checkpoint(arn, token, updates, given)


class RepeatsByItself(Passing):
    """What fails is repeated as another call."""

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        try:
            return await super().checkpoint(arn, token, updates, client_token)
        except StaleTokenError:
            raise
        except ServiceError as error:
            if not error.retryable:
                raise
            return await super().checkpoint(arn, token, updates, f"{client_token}-2")


class Translating(Passing):
    """Errors become others."""

    def translate(self, error: ServiceError) -> Exception:
        raise NotImplementedError

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        try:
            return await super().checkpoint(arn, token, updates, client_token)
        except ServiceError as error:
            raise self.translate(error) from error

    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        try:
            return await super().get_state(arn, token, marker, max_items)
        except ServiceError as error:
            raise self.translate(error) from error


class TakesStaleForRefused(Translating):
    def translate(self, error: ServiceError) -> Exception:
        stale = isinstance(error, StaleTokenError)
        return ServiceError(str(error), code=error.code, retryable=False) if stale else error


class RaisesTimeouts(Translating):
    def translate(self, error: ServiceError) -> Exception:
        return error if not error.retryable or isinstance(error, StaleTokenError) else ConnectionError("lost")


class TakesRefusedForFailed(Translating):
    def translate(self, error: ServiceError) -> Exception:
        refused = error.code == "InvalidParameterValueException" and not isinstance(error, StaleTokenError)
        return ServiceError("again", code=error.code, retryable=True) if refused else error


class LosesCodes(Translating):
    def translate(self, error: ServiceError) -> Exception:
        return error if error.retryable else ServiceError(str(error), retryable=False)


class TakesRefusedForStale(Translating):
    def translate(self, error: ServiceError) -> Exception:
        return StaleTokenError("refused") if error.code == "InvalidParameterValueException" else error


class TakesUnknownForFailed(Translating):
    def translate(self, error: ServiceError) -> Exception:
        unknown = error.code == "ResourceNotFoundException"
        return ServiceError("again", code=error.code, retryable=True) if unknown else error


class GoesByTheStatus(Translating):
    def translate(self, error: ServiceError) -> Exception:
        keys = (error.code or "").startswith("KMS")
        return ServiceError("again", code=error.code, retryable=True) if keys else error


class TakesThrottlingForRefusal(Translating):
    def translate(self, error: ServiceError) -> Exception:
        throttled = error.code == "TooManyRequestsException"
        return ServiceError("no", code=error.code, retryable=False) if throttled else error


class GivesUp(Translating):
    """After so many failures it works no more."""

    failures = 0

    def translate(self, error: ServiceError) -> Exception:
        self.failures += 1
        return error

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        if self.failures > 6:
            raise ServiceError("given up", retryable=True)
        return await super().checkpoint(arn, token, updates, client_token)


# --- Connections ---------------------------------------------------------------------------------------------


class LosesConnections(Passing):
    """Those of calls that are cancelled do not come back into its pool."""

    def __init__(self, service: ServiceClient) -> None:
        super().__init__(service)
        self.pool = anyio.Semaphore(5)

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        await self.pool.acquire()
        try:
            answer = await super().checkpoint(arn, token, updates, client_token)
        except ServiceError:
            self.pool.release()
            raise
        self.pool.release()
        return answer


class HasOneConnection(Passing):
    def __init__(self, service: ServiceClient) -> None:
        super().__init__(service)
        self.lock = anyio.Lock()

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        async with self.lock:
            return await super().checkpoint(arn, token, updates, client_token)


class MixesExecutions(Passing):
    arn = ""

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> Answer:
        self.arn = arn
        await anyio.lowlevel.checkpoint()
        return await super().checkpoint(self.arn, token, updates, client_token)


# --- Pages ---------------------------------------------------------------------------------------------------


class AsksForAll(Passing):
    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        return await super().get_state(arn, token, marker, 1000)


class BeginsAnew(Passing):
    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        return await super().get_state(arn, token, "" if marker.isdigit() else marker, max_items)


class LosesMarkers(Passing):
    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        return replace(await super().get_state(arn, token, marker, max_items), next_marker=None)


class LosesTheExecution(Passing):
    async def get_state(self, arn: str, token: str, marker: str, max_items: int) -> Page:
        page = await super().get_state(arn, token, marker, max_items)
        found = (each for each in page.operations if each.type is not OperationType.EXECUTION or max_items != 7)
        return replace(page, operations=tuple(found))
