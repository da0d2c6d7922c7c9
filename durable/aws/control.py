"""The control plane of the service: what people and tools ask of it, on AWS and of whatever speaks as AWS does.

The client here has botocore's own model of Lambda, and thereby all that the SDK knows of profiles, regions and
credentials; answers are decoded by our own shapes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from .._wire import ExecutionStatus
from .._wire.calls import (
    DeleteDurableExecutionResponse,
    ExecutionSummary,
    GetDurableExecutionResponse,
    ListDurableExecutionsByFunctionResponse,
    StopDurableExecutionResponse,
)
from .._wire.codec import ERROR_REQUEST
from .._wire.events import Event, GetDurableExecutionHistoryResponse
from .._wire.shapes import ErrorObject
from ..abc import ExecutionRecord, Pause
from . import untyped
from .client import ATTEMPTS, CONNECT_TIMEOUT, answer_of, decoded
from .errors import unanswered_error

T = TypeVar("T")

READ_TIMEOUT: Final = 60
"""Seconds. A page of a history may have megabytes."""

MAX_PAGE: Final = 1000
"""Items of a page, at most."""

NEWEST_PAGE: Final = 100
"""Items of a page where a few are expected."""

_SOME_REGION: Final = "us-east-1"
"""For what is signed by nobody and sent to a URL: botocore wants one."""


class ControlClient:
    """Executions, from outside. Made by `open_control`.

    Each method raises a `ServiceError` if the service refuses the call, or does not answer.
    """

    def __init__(self, lambda_client: Any) -> None:
        self._client = lambda_client

    async def executions(
        self, function: str, *, statuses: Sequence[ExecutionStatus] = (), name: str | None = None
    ) -> list[ExecutionSummary]:
        """The executions of a function, oldest first.

        Args:
            function: Its name or ARN.
            statuses: Only of these statuses; all, if there are none.
            name: Only those of this name.
        """
        wanted: dict[str, Any] = {"FunctionName": function, "ReverseOrder": True, "MaxItems": MAX_PAGE}
        if statuses:
            wanted["Statuses"] = [status.value for status in statuses]
        if name is not None:
            wanted["DurableExecutionName"] = name
        found: list[ExecutionSummary] = []
        marker: str | None = None
        while True:
            page = await decoded(
                ListDurableExecutionsByFunctionResponse,
                self._client.list_durable_executions_by_function(**wanted, **_from(marker)),
            )
            found.extend(page.durable_executions)
            marker = _next(marker, page.next_marker)
            if marker is None:
                return found

    async def execution(self, arn: str, *, with_data: bool = True) -> GetDurableExecutionResponse:
        """One execution; with its input, result and error unless it is said that they are not needed."""
        return await decoded(
            GetDurableExecutionResponse,
            self._client.get_durable_execution(DurableExecutionArn=arn, IncludeExecutionData=with_data),
        )

    async def history(self, arn: str, after: int = 0) -> list[Event]:
        """An execution's events, from the one after number `after`, in their order."""
        found: list[Event] = []
        marker: str | None = None
        # Markers say nothing of numbers: of a history that is known but for its end, that end is read backwards.
        backwards = after > 0
        size = NEWEST_PAGE if backwards else MAX_PAGE
        while True:
            page = await decoded(
                GetDurableExecutionHistoryResponse,
                self._client.get_durable_execution_history(
                    DurableExecutionArn=arn,
                    IncludeExecutionData=True,
                    ReverseOrder=backwards,
                    MaxItems=size,
                    **_from(marker),
                ),
            )
            new = [event for event in page.events if event.event_id > after]
            found.extend(new)
            marker = _next(marker, page.next_marker)
            if marker is None or len(new) < len(page.events):
                return sorted(found, key=lambda event: event.event_id)

    async def start(self, function: str, payload: str, *, name: str | None = None) -> str | None:
        """Start an execution of a function, or find the one of that name.

        Args:
            function: Its name or ARN; on AWS a durable function is invoked by version or alias, `name:alias`.
            payload: Its input, JSON text.
            name: What the execution is called.

        Returns:
            Its ARN; `None` if the function is none that is durable.
        """
        named = {} if name is None else {"DurableExecutionName": name}
        answer = await answer_of(
            self._client.invoke(FunctionName=function, InvocationType="Event", Payload=payload.encode(), **named)
        )
        arn: str | None = answer.get("DurableExecutionArn")
        return arn

    async def stop(self, arn: str, error: ErrorObject | None = None) -> StopDurableExecutionResponse:
        """End an execution as STOPPED."""
        given = {} if error is None else {"Error": _plain(error)}
        return await decoded(
            StopDurableExecutionResponse, self._client.stop_durable_execution(DurableExecutionArn=arn, **given)
        )

    async def pause(self, arn: str, reason: str | None = None, *, holds_timeout: bool = True, token: str) -> None:
        """Have an execution not invoked until it is resumed.

        Args:
            arn: The execution.
            reason: Why.
            holds_timeout: Whether its time limit is put off by the pause.
            token: Asking once more with the same one changes nothing.
        """
        await answer_of(
            self._client.pause_durable_execution(
                DurableExecutionArn=arn,
                ClientToken=token,
                ExecutionTimeoutPaused=holds_timeout,
                **_because(reason),
            )
        )

    async def resume(self, arn: str, reason: str | None = None, *, token: str) -> None:
        """Have an execution that is paused go on."""
        await answer_of(
            self._client.resume_durable_execution(DurableExecutionArn=arn, ClientToken=token, **_because(reason))
        )

    async def delete(self, arn: str) -> DeleteDurableExecutionResponse:
        """Remove an execution that is over."""
        return await decoded(
            DeleteDurableExecutionResponse, self._client.delete_durable_execution(DurableExecutionArn=arn)
        )

    async def succeed_callback(self, callback_id: str, text: str) -> None:
        """Complete a callback with a result, text as it is."""
        await self._answer("success", CallbackId=callback_id, Result=text.encode())

    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Complete a callback with an error."""
        await self._answer("failure", CallbackId=callback_id, Error=_plain(error))

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is at it."""
        await self._answer("heartbeat", CallbackId=callback_id)

    async def _answer(self, how: str, **parameters: Any) -> None:
        call: Awaitable[dict[str, Any]] = getattr(self._client, f"send_durable_execution_callback_{how}")(
            **parameters
        )
        await answer_of(call)


@asynccontextmanager
async def open_control(
    *,
    endpoint_url: str | None = None,
    token: str | None = None,
    region: str | None = None,
    profile: str | None = None,
) -> AsyncGenerator[ControlClient]:
    """Open a client of the control plane.

    On AWS credentials and all else are looked up as every AWS SDK does. With an endpoint URL nothing is: what is
    sent is not signed, goes through no proxy, and is not repeated.

    Args:
        endpoint_url: Where the service is, if not on AWS.
        token: What a server at that URL wants to be shown.
        region: If not the one of the profile or the environment.
        profile: If not the one of the environment.

    Raises:
        botocore.exceptions.BotoCoreError: No region, no such profile, and the like.
        ValueError: That is no URL.
    """
    own = client_config()
    if endpoint_url is not None:
        region = region or _SOME_REGION
        own = own.merge(
            untyped.AioConfig(signature_version=untyped.UNSIGNED, proxies={}, retries={"total_max_attempts": 1})
        )
    session = untyped.make_usual_session(own, profile)
    region = region_of_environment(session, region)
    async with untyped.make_client(session, config=own, endpoint_url=endpoint_url, region=region) as lambda_client:
        untyped.register_control_codecs(lambda_client)
        if token is not None:
            untyped.register_token(lambda_client, token)
        yield ControlClient(lambda_client)


def record_of(one: ExecutionSummary | GetDurableExecutionResponse, function: str) -> ExecutionRecord:
    """An execution as a store would have it; without the number of invocations, which is in its history.

    Args:
        one: What the service says of it.
        function: What its function is called.
    """
    record = ExecutionRecord(
        id=one.durable_execution_arn.rpartition("/")[2],
        name=one.durable_execution_name,
        arn=one.durable_execution_arn,
        function=function,
        status=one.status,
        start_timestamp=one.start_timestamp,
        end_timestamp=one.end_timestamp,
    )
    if isinstance(one, ExecutionSummary):
        return record
    import msgspec

    config, paused = one.durable_config, one.pause_details
    pause = None
    if paused is not None:
        pause = Pause(
            requested=paused.pause_request_timestamp,
            reason=paused.reason,
            holds_timeout=paused.execution_timeout_paused,
        )
    return msgspec.structs.replace(
        record,
        input=one.input_payload,
        result=one.result,
        error=one.error,
        timeout=None if config is None else config.execution_timeout,
        pause=pause,
    )


def client_config() -> Any:
    """How clients for people and tools are configured."""
    from .session import PoolSession

    return untyped.AioConfig(
        http_session_cls=PoolSession,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
    )


def region_of_environment(session: Any, region: str | None) -> str | None:
    """The region that a client is to have, where a session does not know it by itself."""
    if region is None and untyped.region_of(session) is None:
        return os.environ.get("AWS_REGION")
    return region


def _because(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"Reason": reason}


def _from(marker: str | None) -> dict[str, str]:
    return {} if marker is None else {"Marker": marker}


def _next(marker: str | None, following: str | None) -> str | None:
    """Where the next page begins; `None` if there is none.

    Raises:
        ServiceError: It is the page that has just been read: it would be read for ever.
    """
    if following and following == marker:
        raise unanswered_error(ValueError("the page that was asked for names itself as the next"))
    return following or None


def _plain(error: ErrorObject) -> Any:
    """An error as botocore takes it."""
    import msgspec

    return msgspec.json.decode(ERROR_REQUEST.encode(error))
