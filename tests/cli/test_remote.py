"""What is read by the API, where a server of ours would not answer so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from durable._wire import ExecutionStatus, Timestamp
from durable._wire.calls import ExecutionSummary
from durable.aws.control import ControlClient
from durable.cli.options import CommandError
from durable.cli.place import Remote
from durable.cli.remote import RemoteReader, connected
from durable.cli.texts import function_of
from durable.exceptions import ServiceError

pytestmark = pytest.mark.anyio

ARN = "arn:aws:lambda:us-east-1:1:function:trip:7/durable-execution/t-1"


class FakeControl(ControlClient):
    """Has two executions of each name: AWS forgets names after a while."""

    def __init__(self) -> None:
        super().__init__(None)
        self.calls = 0

    async def executions(
        self, function: str, *, statuses: Sequence[ExecutionStatus] = (), name: str | None = None
    ) -> list[ExecutionSummary]:
        self.calls += 1
        return [
            ExecutionSummary(
                durable_execution_arn=f"{ARN}/{age}",
                durable_execution_name=name or "",
                function_arn=function,
                status=ExecutionStatus.SUCCEEDED,
                start_timestamp=Timestamp(0),
            )
            for age in ("older", "newer")
        ]


async def test_of_a_name_that_was_used_twice_the_newest_execution_is_meant():
    """It is asked for once in a command. An ARN says which it is."""
    control = FakeControl()
    reader = RemoteReader(control, "trip")
    assert [await reader.arn("t-1"), await reader.arn("t-1")] == [f"{ARN}/newer"] * 2
    assert await reader.arn(f"{ARN}/older") == f"{ARN}/older"
    assert control.calls == 1


async def test_errors_that_say_enough_are_passed_on():
    """What the service refuses is told in its words."""
    with pytest.raises(ServiceError, match="TooManyRequestsException: slower"):
        async with connected(Remote(region="us-east-1")):
            raise ServiceError("slower", code="TooManyRequestsException", retryable=True)
    with pytest.raises(CommandError, match=r"nothing answers at AWS in us-east-1: is there a network\?"):
        async with connected(Remote(region="us-east-1")):
            raise ServiceError("no", code="EndpointConnectionError", retryable=True)
    with pytest.raises(ValueError, match="a mistake of ours"):
        async with connected(Remote(endpoint="http://127.0.0.1:1")):
            raise ValueError("a mistake of ours")


@pytest.mark.parametrize(
    "arn",
    ["trip", "arn:aws:lambda:us-east-1:1:function:trip", "arn:aws:lambda:us-east-1:1:function:trip:7", f"{ARN}/x"],
)
def test_the_function_of_an_arn(arn: Any):
    """With and without a version, and of an execution."""
    assert function_of(arn) == "trip"
