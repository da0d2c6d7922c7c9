"""The durable execution service of AWS, by an aiobotocore Lambda client.

One client serves a whole sandbox: it is opened once and stays warm from one invocation to the next. It runs on
asyncio and on trio. Throttling, 5xx and trouble on the network are repeated by botocore's standard retries, with
the same ClientToken; what still fails then is told in errors of ours.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._wire import OperationUpdate
from .._wire.calls import (
    CheckpointDurableExecutionRequest,
    CheckpointDurableExecutionResponse,
    GetDurableExecutionStateResponse,
)
from .._wire.codec import CHECKPOINT_REQUEST
from .._wire.limits import MAX_OPERATIONS
from ..abc import ServiceClient
from . import untyped
from .direct import DirectCalls
from .errors import answered_error, refused_error, unanswered_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .session import PoolSession

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 3
READ_TIMEOUT: Final = 10
"""Seconds. A call takes milliseconds: after these its connection is given up, and the call repeated on another."""

ATTEMPTS: Final = 4
"""Of one call, with botocore's exponential back-off between them."""

_OPERATIONS: Final = frozenset({"CheckpointDurableExecution", "GetDurableExecutionState"})


class _AnotherAnswerError(Exception):
    """An answer to the call before this one.

    HTTP/1.1 numbers nothing: what somebody on the way sends twice is taken for the answer to the next call on that
    connection. Such an answer does not say that this call has been recorded.
    """


class AwsClient(ServiceClient):
    """The service on AWS, over an aiobotocore Lambda client that is open. Made by `open_client`.

    Args:
        lambda_client: The client.
        session: What it sends with, if that is ours: calls then go directly, as long as they succeed (`direct`).

    Attributes:
        lambda_client: The client, for calls that are not the engine's.
    """

    max_operations = MAX_OPERATIONS

    def __init__(self, lambda_client: Any, session: PoolSession | None = None) -> None:
        self.lambda_client = lambda_client
        untyped.register_codecs(lambda_client)
        self._direct: DirectCalls | None = None
        # The other modes of retries want to know of every attempt.
        if session is not None and untyped.retry_mode_of(lambda_client) == "standard":
            self._direct = DirectCalls(lambda_client, _OPERATIONS, session.send)

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates, all or none, in order (see `ServiceClient.checkpoint`)."""
        body = CHECKPOINT_REQUEST.encode(
            CheckpointDurableExecutionRequest(
                checkpoint_token=token, updates=tuple(updates), client_token=client_token
            )
        )
        reset = untyped.body_var.set(body)
        try:
            answer = await decoded(CheckpointDurableExecutionResponse, self._checkpoint(arn, token, client_token))
        finally:
            untyped.body_var.reset(reset)
        if answer.checkpoint_token == token:
            raise unanswered_error(_AnotherAnswerError("the token that was used comes back"))
        return answer

    def _checkpoint(self, arn: str, token: str, client_token: str) -> Awaitable[dict[str, Any]]:
        def by_botocore() -> Awaitable[dict[str, Any]]:
            call: Awaitable[dict[str, Any]] = self.lambda_client.checkpoint_durable_execution(
                DurableExecutionArn=arn, CheckpointToken=token, ClientToken=client_token
            )
            return call

        if self._direct is None:
            return by_botocore()
        return self._direct.call("CheckpointDurableExecution", arn, by_botocore)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the execution's operations (see `ServiceClient.get_state`)."""
        parameters = {"Marker": marker} if marker else {}
        page = await decoded(
            GetDurableExecutionStateResponse,
            self.lambda_client.get_durable_execution_state(
                DurableExecutionArn=arn, CheckpointToken=token, MaxItems=max_items, **parameters
            ),
        )
        if marker and page.next_marker == marker:
            raise unanswered_error(_AnotherAnswerError("the page that was asked for names itself as the next"))
        return page


async def answer_of(call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What a call of a client answers.

    Raises:
        ServiceError: It is an error, or there is no answer.
    """
    try:
        return await call
    except untyped.ClientError as error:
        raise answered_error(getattr(error, "response", {})) from error
    except untyped.ParamValidationError as error:
        raise refused_error(error) from error
    except untyped.BotoCoreError as error:
        raise unanswered_error(error) from error


async def decoded(shape: type[T], call: Awaitable[dict[str, Any]]) -> T:
    """What a call answers whose answer is decoded by our own shapes.

    Raises:
        ServiceError: It is an error, or there is no answer, or none that has this shape.
    """
    answer = (await answer_of(call))[untyped.DECODED]
    if isinstance(answer, shape):
        return answer
    raise unanswered_error(answer) from answer


@asynccontextmanager
async def open_client(
    *, session: Any = None, config: Any = None, endpoint_url: str | None = None, region: str | None = None
) -> AsyncGenerator[AwsClient]:
    """Open a client of the service on AWS.

    Credentials, region, endpoint URL (`AWS_ENDPOINT_URL_LAMBDA`), proxies (`HTTPS_PROXY`, `NO_PROXY`) and CA bundle
    (`AWS_CA_BUNDLE`) are looked up as every AWS SDK does.

    Args:
        session: An aiobotocore session of one's own. Its default client configuration is left as it is: set
            `http_session_cls` there too if its credentials are got over the network on trio.
        config: An `AioConfig` that is merged over the one that is used otherwise.
        endpoint_url: Where the service is, if not where the region says.
        region: If not the one of the environment.

    Raises:
        botocore.exceptions.BotoCoreError: No region, no such endpoint, and the like.
    """
    from .session import PoolSession, own_session_class

    own = untyped.AioConfig(
        http_session_cls=PoolSession,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
    )
    if session is None:
        session = untyped.make_session(own)
    else:
        own = own.merge(session.get_default_client_config() or untyped.AioConfig())
    if region is None and untyped.region_of(session) is None:
        region = os.environ.get("AWS_REGION")
    # Built once here: botocore builds it anew for every call otherwise, for as much as signing it takes.
    own = own.merge(untyped.AioConfig(user_agent=f"{untyped.user_agent_of(session)} durable/{_version()}"))
    session_class = own_session_class()
    if own.http_session_cls is PoolSession:
        own = own.merge(untyped.AioConfig(http_session_cls=session_class))
    if config is not None:
        own = own.merge(config)
    async with untyped.make_client(session, config=own, endpoint_url=endpoint_url, region=region) as lambda_client:
        yield AwsClient(lambda_client, session_class.made)


def _version() -> str:
    import durable

    return durable.__version__
