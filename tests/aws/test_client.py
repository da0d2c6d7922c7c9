"""The client against the fake endpoint: what it sends, what it makes of answers, on both event loops."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from durable import ServiceError
from durable._wire import OperationAction, OperationType, OperationUpdate
from durable.aws import open_client
from durable.aws.untyped import AioConfig
from durable.exceptions import StaleTokenError
from tests.aws.fake_lambda import Fault, error
from tests.aws.flows import World, small_saga
from tests.aws.harness import AwsHarness, arn_of, impatient
from tests.aws.http import Reply

pytestmark = pytest.mark.anyio

START = OperationUpdate(id="op-1", type=OperationType.STEP, action=OperationAction.START, name="s", sub_type="Step")
ENDED = OperationUpdate(
    id="op-1", type=OperationType.STEP, action=OperationAction.SUCCEED, name="s", sub_type="Step"
)


async def started() -> AwsHarness:
    """An execution that exists, and has not been invoked."""
    harness = AwsHarness(small_saga(World(), fails=False))
    await harness.service.create(harness.record)
    return harness


async def test_a_saga_runs_from_end_to_end():
    """Steps, a wait and the result, over HTTP that is checked against the service's model."""
    world = World()
    async with AwsHarness(small_saga(world, fails=False)).connected() as harness:
        assert await harness.result() == ["hotel", "car"]
    assert harness.raised == []
    assert harness.calls == [
        ["STEP START hotel", "STEP SUCCEED hotel"],
        ["WAIT START cooling-off"],
        ["STEP START car", "STEP SUCCEED car"],
    ]


async def test_an_update_carries_all_there_is():
    """The body that is signed and sent has the updates, and our ClientToken; the ARN is encoded in the path."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    async with harness.connected():
        answer = await harness.client.checkpoint(harness.record.arn, event.checkpoint_token, [START], "token-1")
    (request,) = harness.fake.requests
    assert request.target == f"/2025-12-01/durable-executions/{quote(harness.record.arn, safe='')}/checkpoint"
    assert json.loads(request.body) == {
        "CheckpointToken": event.checkpoint_token,
        "ClientToken": "token-1",
        "Updates": [{"Id": "op-1", "Type": "STEP", "Action": "START", "Name": "s", "SubType": "Step"}],
    }
    assert answer.checkpoint_token != event.checkpoint_token
    (operation,) = answer.new_execution_state.operations
    assert operation.start_timestamp == harness.clock.now()


async def test_state_comes_in_pages():
    """The state of an execution is asked for page by page, before user code runs."""
    world = World()
    async with AwsHarness(small_saga(world, fails=False), page_size=1).connected() as harness:
        assert await harness.result() == ["hotel", "car"]
    asked = [request for request in harness.fake.requests if request.method == "GET"]
    assert len(asked) == 1
    assert "MaxItems=1000" in asked[0].target
    assert world.done == ["book hotel", "book car"]


async def test_an_answer_comes_in_pages():
    """What did not fit into the answer of a call is asked for with the new token."""
    async with AwsHarness(small_saga(World(), fails=True), answer_page=1).connected() as harness:
        assert type(await harness.error()).__name__ == "NoSeatError"
    assert any("Marker=rest-0" in request.target for request in harness.fake.requests)


@pytest.mark.parametrize(
    ("status", "code", "message", "retryable"),
    [
        (429, "TooManyRequestsException", "Rate exceeded", True),
        (400, "ThrottlingException", "Rate exceeded", True),
        (500, "ServiceException", "oops", True),
        (503, "ServiceUnavailable", "oops", True),
        (502, "KMSAccessDeniedException", "no", False),
        (502, "KMSDisabledException", "no", False),
        (502, "KMSInvalidStateException", "no", False),
        (502, "KMSNotFoundException", "no", False),
        (400, "InvalidParameterValueException", "the update is wrong", False),
        (403, "AccessDeniedException", "no", False),
        (404, "ResourceNotFoundException", "no", False),
        (408, "RequestTimeoutException", "too slow", True),
        (409, "ResourceConflictException", "no", False),
        (413, "RequestTooLargeException", "no", False),
    ],
)
async def test_errors_are_mapped_by_code_and_status(status: int, code: str, message: str, *, retryable: bool):
    """Each answer that is an error says whether invoking again may help."""
    harness = await started()
    harness.fake.fault = lambda _: error(status, code, message)
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert caught.value.retryable is retryable
    assert caught.value.code == code
    assert str(caught.value) == f"{code}: {message}"
    assert not isinstance(caught.value, StaleTokenError)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ExpiredTokenException"),
        (403, "UnrecognizedClientException"),
        (403, "InvalidSignatureException"),
        (403, "MissingAuthenticationTokenException"),
        (400, "IncompleteSignatureException"),
    ],
)
async def test_credentials_that_are_not_valid_are_no_failure_of_the_execution(status: int, code: str):
    """Invoking again may help, as the next sandbox has others; and the error says what to look at."""
    harness = await started()
    harness.fake.fault = lambda _: error(status, code, "The security token is not valid.")
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert caught.value.retryable
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{code}: The security token is not valid: this is about the credentials")
    assert "AWS_SESSION_TOKEN" in str(caught.value)


async def test_a_call_without_credentials_says_so(monkeypatch: pytest.MonkeyPatch):
    """Nothing is sent; the error is no failure of the execution, and says where they are looked for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    harness = await started()
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert caught.value.retryable
    assert caught.value.code == "NoCredentialsError"
    assert "not sent: Unable to locate credentials: this is about the credentials" in str(caught.value)
    assert "execution role" in str(caught.value)
    assert harness.fake.requests == []


async def test_a_timeout_that_a_proxy_answers_is_worth_a_repeat():
    """408 without any code of the service's is no refusal."""
    harness = await started()
    harness.fake.fault = lambda _: Reply(b"<html>408</html>", 408, (("Content-Type", "text/html"),))
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert caught.value.retryable


async def test_a_stale_token_is_told_apart():
    """Of the parameters that are wrong, a token that somebody else has made stale is one of its own."""
    harness = await started()
    old = await harness.service.begin_invocation(harness.record.id)
    await harness.service.begin_invocation(harness.record.id)
    async with harness.connected():
        with pytest.raises(StaleTokenError):
            await harness.client.checkpoint(harness.record.arn, old.checkpoint_token, [START], "c")
        with pytest.raises(StaleTokenError):
            await harness.client.get_state(harness.record.arn, old.checkpoint_token, "", 10)
    assert harness.operations() == []


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.RESET, Fault.LATE, Fault.LOST, Fault.GARBLED])
async def test_no_usable_answer_is_worth_a_repeat(fault: Fault):
    """The network, a timeout, an answer cut short: nobody knows what happened; the same call may be repeated."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    harness.fake.fault = lambda number: fault if number == 1 else None
    async with harness.connected():
        call = (harness.record.arn, event.checkpoint_token, [START], "c")
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(*call)
        assert caught.value.retryable
        answer = await harness.client.checkpoint(*call)
    assert answer.checkpoint_token is not None
    assert len(harness.operations()) == 1


async def test_an_endpoint_that_is_not_there_is_worth_a_repeat():
    """A connection that is refused says nothing about the execution."""
    async with open_client(endpoint_url="http://127.0.0.1:9", config=impatient()) as client:
        with pytest.raises(ServiceError) as caught:
            await client.checkpoint(arn_of("t"), "dA==", [], "c")
    assert caught.value.retryable
    assert caught.value.code == "EndpointConnectionError"


async def test_what_does_not_fit_the_model_is_not_sent():
    """A call that botocore itself refuses is an error that no repeat helps."""
    harness = await started()
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "", [], "c")
    assert not caught.value.retryable
    assert harness.fake.requests == []


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.FAILED, Fault.UNAVAILABLE, Fault.RESET, Fault.LOST])
async def test_the_client_itself_repeats_with_the_same_client_token(fault: Fault):
    """Standard retries: throttling, 5xx and the network are repeated below the port, byte for byte."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    harness.fake.fault = lambda number: fault if number == 1 else None
    async with harness.connected(AioConfig(read_timeout=5)):
        await harness.client.checkpoint(harness.record.arn, event.checkpoint_token, [START], "once")
    first, second = harness.fake.requests
    assert first.body == second.body
    assert len(harness.operations()) == 1


async def test_what_no_repeat_helps_is_not_repeated():
    """A key that cannot be used comes as 502, and is told at once."""
    harness = await started()
    harness.fake.fault = lambda _: error(502, "KMSDisabledException", "no")
    async with harness.connected(AioConfig(read_timeout=5)):
        with pytest.raises(ServiceError):
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert len(harness.fake.requests) == 1


async def test_a_connection_that_the_server_closed_is_not_used_again():
    """As after a freeze: the next call goes over another connection, without a repeat."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    harness.fake.fault = lambda number: Fault.CLOSED if number == 1 else None
    async with harness.connected():
        first = await harness.client.checkpoint(harness.record.arn, event.checkpoint_token, [START], "c-1")
        assert first.checkpoint_token is not None
        await anyio.wait_all_tasks_blocked()
        second = await harness.client.checkpoint(harness.record.arn, first.checkpoint_token, [ENDED], "c-2")
    assert second.checkpoint_token not in {None, first.checkpoint_token}
    assert len(harness.fake.requests) == 2


async def test_an_answer_that_came_twice_is_not_taken_for_the_next_one():
    """What comes in place of the next call's answer does not say that the next call was recorded."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    harness.fake.fault = lambda number: Fault.TWICE if number == 1 else None
    async with harness.connected():
        first = await harness.client.checkpoint(harness.record.arn, event.checkpoint_token, [START], "c-1")
        assert first.checkpoint_token is not None
        call = (harness.record.arn, first.checkpoint_token, [ENDED], "c-2")
        try:
            second = await harness.client.checkpoint(*call)
        except ServiceError as error:
            assert error.retryable
            second = await harness.client.checkpoint(*call)
    assert second.checkpoint_token not in {None, first.checkpoint_token}


async def test_a_page_that_came_twice_is_not_taken_for_the_next_one():
    """Nothing of an execution's history is missing because of a page that was given twice."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    async with harness.connected():
        first = await harness.client.checkpoint(harness.record.arn, event.checkpoint_token, [START], "c-1")
        token = first.checkpoint_token or ""
        harness.fake.fault = lambda number: Fault.TWICE if number == 2 else None
        page = await harness.client.get_state(harness.record.arn, token, "", 1)
        call = (harness.record.arn, token, page.next_marker or "", 1)
        try:
            rest = await harness.client.get_state(*call)
        except ServiceError as error:
            assert error.retryable
            rest = await harness.client.get_state(*call)
    assert [operation.id for operation in (*page.operations, *rest.operations)] == [harness.record.id, "op-1"]


async def test_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    """AWS_ENDPOINT_URL_LAMBDA says where the service is, as for every AWS SDK."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    async with harness.fake.serve() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        async with open_client() as client:
            await client.checkpoint(harness.record.arn, event.checkpoint_token, [], "c")
    assert len(harness.fake.requests) == 1


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "eu-central-7"])
async def test_the_trimmed_data_knows_every_region(region: str):
    """Endpoints are those of botocore's own data, of regions too that are not in it yet."""
    import botocore.session  # type: ignore[import-untyped]

    expected = botocore.session.Session().create_client("lambda", region_name=region).meta.endpoint_url
    async with open_client(region=region) as client:
        assert client.lambda_client.meta.endpoint_url == expected


async def test_a_session_and_a_configuration_of_ones_own():
    """A user's session is used, and what it is configured with stays; a configuration goes over ours."""
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]

    from durable.aws.session import PoolSession

    session: Any = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=PoolSession, connect_timeout=2, read_timeout=9))
    async with open_client(session=session, config=AioConfig(read_timeout=7)) as client:
        config = client.lambda_client.meta.config
    assert config.read_timeout == 7
    assert config.connect_timeout == 2
    assert config.retries["mode"] == "standard"


async def test_a_call_that_is_cancelled_leaves_the_client_usable():
    """The connection of a cancelled call is given up, and its place in the pool is free again."""
    harness = await started()
    event = await harness.service.begin_invocation(harness.record.id)
    harness.fake.fault = lambda number: Fault.HANG if number <= 3 else None
    async with harness.connected(impatient(max_pool_connections=1)):
        call = (harness.record.arn, event.checkpoint_token, [START], "c")
        for _ in range(3):
            with anyio.move_on_after(0.05):
                await harness.client.checkpoint(*call)
        assert (await harness.client.checkpoint(*call)).checkpoint_token is not None


async def test_limits_of_the_service_are_known():
    """An execution on AWS has at most 3,000 operations: a saga fails while its rollback still fits."""
    async with open_client() as client:
        assert client.max_operations == 3_000


def test_the_fake_refuses_what_the_model_does_not_allow():
    """The fake endpoint is worth something: enums, patterns, lengths, ranges and unknown members are seen."""
    from tests.aws.model import operation, violations

    shape = operation("CheckpointDurableExecution").input_shape
    good = {"DurableExecutionArn": arn_of("t"), "CheckpointToken": "dA==", "Updates": []}
    assert list(violations(shape, good)) == []
    for wrong in (
        {"CheckpointToken": "not base64!"},
        {"ClientToken": "c" * 65},
        {"ClientToken": "with space"},
        {"Unknown": 1},
        {"DurableExecutionArn": "arn:aws:lambda:local:0:function:f:1/durable-execution/t/x"},
        {"Updates": [{"Id": "x", "Type": "STEP"}]},
        {"Updates": [{"Id": "x", "Type": "STEP", "Action": "BEGIN"}]},
        {"Updates": [{"Id": "x" * 65, "Type": "STEP", "Action": "START"}]},
        {"Updates": [{"Id": "x", "Type": "STEP", "Action": "START", "Name": "é"}]},
        {"Updates": [{"Id": "x", "Type": "WAIT", "Action": "START", "WaitOptions": {"WaitSeconds": 0}}]},
    ):
        assert len(list(violations(shape, good | wrong))) == 1, wrong


@pytest.mark.parametrize("change", ["body", "target", "authorization"])
def test_the_fake_refuses_what_is_not_signed(change: str):
    """The signature is over the bytes that were sent."""
    from tests.aws.model import is_signed

    headers = {
        "host": "127.0.0.1:1",
        "x-amz-date": "20260101T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/lambda/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    }
    assert not is_signed("POST", "http://127.0.0.1:1/x", headers, change.encode())


def test_the_service_model_agrees_with_botocores():
    """Each operation and each of its parameters is the one of the botocore that is installed."""
    from botocore.session import Session

    from durable.aws.model import SERVICE

    theirs = Session().get_service_model("lambda")
    assert SERVICE["metadata"].items() <= theirs.metadata.items()
    for name, operation in SERVICE["operations"].items():
        model = theirs.operation_model(name)
        assert operation["http"] == model.http
        for member, shape in SERVICE["shapes"][operation["input"]["shape"]]["members"].items():
            serialization = model.input_shape.members[member].serialization
            where = {"location": shape.get("location"), "name": shape.get("locationName")}
            assert where == {"location": serialization.get("location"), "name": serialization.get("name")}, member


@pytest.mark.parametrize(
    ("region", "options"),
    [
        ("eu-central-1", {}),
        ("us-east-1", {"use_fips_endpoint": True}),
        ("eu-west-1", {"use_dualstack_endpoint": True}),
        ("cn-north-1", {}),
        ("us-gov-west-1", {}),
    ],
)
def test_a_region_has_the_endpoint_that_botocore_has_for_it(region: str, options: dict[str, bool]):
    """The rules of the partitions lead to the same hosts as the whole of botocore's data."""
    from botocore.config import Config  # type: ignore[import-untyped]
    from botocore.session import Session

    from durable.aws.untyped import make_loader

    def url(session: Session) -> str:
        client = session.create_client("lambda", region_name=region, config=Config(**options))
        return str(client.meta.endpoint_url)

    ours = Session()
    ours.register_component("data_loader", make_loader())
    assert url(ours) == url(Session())


async def test_a_garbage_reply_with_a_good_status_is_no_answer():
    """HTML from a proxy in between, with status 200, is not taken for an answer."""
    harness = await started()
    harness.fake.fault = lambda _: Reply(b"<html>welcome</html>", 200, (("Content-Type", "text/html"),))
    async with harness.connected():
        with pytest.raises(ServiceError) as caught:
            await harness.client.checkpoint(harness.record.arn, "dA==", [], "c")
    assert caught.value.retryable
