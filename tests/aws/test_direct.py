"""Calls that go past botocore: on the wire, in their events and in whatever goes wrong, as if they had not."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from durable import ServiceError
from durable.aws import open_client
from durable.aws.untyped import AioConfig, HttpxSession
from tests.aws.direct import Calls, Execution, OtherSession, by_botocore, calling, directly
from tests.aws.fake_lambda import Fault
from tests.aws.harness import READ_TIMEOUT, arn_of
from tests.aws.http import Reply, Request, serve
from tests.aws.model import KEY_ID, SECRET

pytestmark = pytest.mark.anyio

OF_EACH_ATTEMPT = {"x-amz-date", "authorization", "amz-sdk-invocation-id", "host"}
"""Headers that no two requests have the same of."""


# --- On the wire ---------------------------------------------------------------------------------------------


async def test_only_the_first_call_of_an_execution_is_prepared_by_botocore():
    """The later ones are made of it; also of several executions by turns."""
    async with calling() as calls:
        first, second = await calls.execution("a"), await calls.execution("b")
        for _ in range(3):
            await first.call()
            await second.call()
        assert (calls.serialized, len(calls.requests)) == (2, 6)
        await calls.client.get_state(first.arn, first.token, "", 10)
        assert calls.serialized == 3
    assert calls.fake.connections == 1


async def test_the_wire_does_not_tell_who_made_a_call():
    """Target, body, and each header with its place among the others: the same, but for what is of each."""

    async def sent(config: AioConfig, expected: int) -> list[Any]:
        async with calling(config) as calls:
            execution = await calls.execution()
            for _ in range(3):
                await execution.call()
            assert calls.serialized == expected
        return [
            (
                request.method,
                request.target,
                [(name, value if name not in OF_EACH_ATTEMPT else ...) for name, value in request.headers.items()],
                json.loads(request.body).keys(),
                json.loads(request.body)["ClientToken"],
            )
            for request in calls.requests
        ]

    assert await sent(directly(), 1) == await sent(by_botocore(), 3)


async def test_each_call_has_an_id_of_its_own():
    """It is new for each call."""
    async with calling() as calls:
        execution = await calls.execution()
        for _ in range(3):
            await execution.call()
    assert len({request.headers["amz-sdk-invocation-id"] for request in calls.requests}) == 3


# --- What goes wrong -----------------------------------------------------------------------------------------


class Trial:
    """Three calls, of which some go wrong, and all that there is to see of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.sleeps: list[float] = []
        self.quotas: list[Any] = []
        self.outcomes: list[str] = []
        self.requests: list[Request] = []

    async def run(self, config: AioConfig, fault: Fault, first: int, last: int) -> Trial:
        """With the fault at these requests."""
        from aiobotocore.endpoint import AnyioEndpoint  # type: ignore[import-untyped]
        from botocore.retries.quota import RetryQuota  # type: ignore[import-untyped]

        async def sleep(_: Any, seconds: float) -> None:
            self.sleeps.append(seconds)

        def make(quota: Any, *args: Any, **options: Any) -> None:
            self.quotas.append(quota)
            initialise(quota, *args, **options)

        initialise = RetryQuota.__init__
        with self._monkeypatch.context() as patch:
            patch.setattr(AnyioEndpoint, "_sleep", sleep)
            patch.setattr(RetryQuota, "__init__", make)
            async with calling(config) as calls:
                calls.fake.fault = lambda number: fault if first <= number <= last else None
                execution = await calls.execution()
                self.outcomes = [await execution.outcome() for _ in range(3)]
        self.requests = calls.requests
        return self

    def seen(self) -> Any:
        """What is to be the same."""
        ids: list[str] = []
        for request in self.requests:
            if request.headers["amz-sdk-invocation-id"] not in ids:
                ids.append(request.headers["amz-sdk-invocation-id"])
        sent = [
            (
                json.loads(request.body)["ClientToken"],
                request.headers["amz-sdk-request"].partition(";")[0],
                ids.index(request.headers["amz-sdk-invocation-id"]),
            )
            for request in self.requests
        ]
        (quota,) = self.quotas
        return self.outcomes, sent, len(self.sleeps), quota.available_capacity


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("fault", list(Fault))
async def test_one_fault_is_repeated_away_as_by_botocore(
    fault: Fault, number: int, monkeypatch: pytest.MonkeyPatch
):
    """At the first and at a later call: the same attempts, of one call by its id and token, and back-offs."""
    expected = (await Trial(monkeypatch).run(by_botocore(), fault, number, number)).seen()
    assert (await Trial(monkeypatch).run(directly(), fault, number, number)).seen() == expected
    assert expected[0] == ["success"] * 3 or fault in {Fault.TWICE, Fault.GARBLED}
    assert expected[3] == 500  # what repeats may cost is given back as they succeed


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.FAILED, Fault.UNAVAILABLE, Fault.HANG, Fault.RESET, Fault.LOST]
)
async def test_a_fault_that_lasts_is_told_as_by_botocore(
    fault: Fault, number: int, monkeypatch: pytest.MonkeyPatch
):
    """After four attempts, all with the same ClientToken; and the call after that one is fine again."""
    expected = (await Trial(monkeypatch).run(by_botocore(), fault, number, number + 3)).seen()
    trial = await Trial(monkeypatch).run(directly(), fault, number, number + 3)
    assert trial.seen() == expected
    tried = trial.requests[number - 1 : number + 3]
    assert {json.loads(request.body)["ClientToken"] for request in tried} == {f"call-{number}"}
    assert [request.headers["amz-sdk-request"].partition(";")[0] for request in tried] == [
        f"attempt={attempt}" for attempt in (1, 2, 3, 4)
    ]
    assert len({request.headers["amz-sdk-invocation-id"] for request in tried}) == 1
    assert len(trial.sleeps) == 3
    assert [outcome == "success" for outcome in trial.outcomes].count(False) == 1


async def test_what_no_repeat_helps_is_told_once():
    """A refusal of the service's costs one request, and the next call goes directly again."""
    async with calling() as calls:
        execution = await calls.execution()
        await execution.call()
        token, execution.token = execution.token, "dA=="
        with pytest.raises(ServiceError):
            await execution.call()
        assert len(calls.requests) == 2
        execution.token = token
        await execution.call()
    assert len(calls.requests) == 3


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_call_that_is_cancelled_leaves_the_client_usable(is_first: bool):
    """Its connection is given up, and its place is free again, though there is but one."""
    async with calling(directly(max_pool_connections=1)) as calls:
        execution = await calls.execution()
        if not is_first:
            await execution.call()
        begin = len(calls.requests)
        calls.fake.fault = lambda number: Fault.HANG if number <= begin + 3 else None
        for number in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(execution.call)
                with anyio.fail_after(10):
                    while len(calls.requests) <= begin + number:
                        await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        await execution.call()
    assert len(calls.requests) == begin + 4


# --- What is of each call ------------------------------------------------------------------------------------


async def test_a_call_names_the_trace_of_its_own_invocation(monkeypatch: pytest.MonkeyPatch):
    """Recursion is detected by it; an execution goes on in the same sandbox under another trace, or under none."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    async with calling() as calls:
        execution = await calls.execution()
        for trace in ("Root=1-a", "Root=1-b;Lineage=1:a:0", None, "Root=1-c"):
            if trace is None:
                monkeypatch.delenv("_X_AMZN_TRACE_ID")
            else:
                monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
            await execution.call()
    assert [request.headers.get("x-amzn-trace-id") for request in calls.requests] == [
        "Root=1-a",
        "Root=1-b;Lineage=1:a:0",
        None,
        "Root=1-c",
    ]
    assert calls.serialized == 1


async def test_credentials_that_are_new_are_used(monkeypatch: pytest.MonkeyPatch):
    """Those of a role are replaced every few hours: also between two calls of one execution."""
    from datetime import UTC, datetime, timedelta

    given = 0

    async def answer(_: Request) -> Reply:
        nonlocal given
        given += 1
        expiration = datetime.now(UTC) + timedelta(minutes=5)  # so soon that they are replaced before each use
        credentials = {
            "AccessKeyId": KEY_ID,
            "SecretAccessKey": SECRET,
            "Token": f"token-{given}",
            "Expiration": expiration.isoformat(),
        }
        return Reply(json.dumps(credentials).encode())

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with serve(answer) as address:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{address}/credentials")
        async with calling() as calls:
            execution = await calls.execution()
            for _ in range(3):
                await execution.call()
    tokens = [request.headers["x-amz-security-token"] for request in calls.requests]
    assert len(set(tokens)) == 3
    assert calls.serialized == 1


# --- Many of them --------------------------------------------------------------------------------------------


async def in_turn(calls: Calls, executions: int, times: int) -> None:
    """All at the same time, each with one call after the other."""

    async def drive(name: str) -> None:
        execution = await calls.execution(name)
        for _ in range(times):
            await execution.call()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(executions):
                tasks.start_soon(drive, f"t-{number}")


@pytest.mark.parametrize("connections", [1, 2, 10])
async def test_executions_at_the_same_time_do_not_mix_and_none_is_forgotten(connections: int):
    """Each goes on with its own token; however few connections there are, each has its turn."""
    config = AioConfig(max_pool_connections=connections)  # with time enough on a busy machine
    async with calling(config) as calls:
        await in_turn(calls, 30, 4)
    assert len(calls.requests) == 120
    assert calls.serialized == 30
    assert calls.fake.connections <= connections


async def test_what_was_prepared_for_many_executions_is_forgotten_in_time():
    """A sandbox that lives for long does not grow; what is no longer there is prepared anew."""
    async with calling() as calls:
        executions = [await calls.execution(f"t-{number}") for number in range(70)]
        for _ in range(2):
            for execution in executions:
                await execution.call()
        assert calls.client._direct is not None
        assert len(calls.client._direct._prepared) <= 64
    assert 70 < calls.serialized <= 140
    assert len(calls.requests) == 140


# --- Not directly --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        AioConfig(retries={"mode": "legacy"}),
        AioConfig(retries={"mode": "adaptive"}),
        AioConfig(http_session_cls=OtherSession),
    ],
    ids=["legacy", "adaptive", "a session of one's own"],
)
async def test_what_is_not_known_well_enough_goes_in_botocores_way(config: AioConfig):
    """Retries that want to know of every attempt, and sessions that are not ours."""
    async with calling(config.merge(AioConfig(read_timeout=READ_TIMEOUT))) as calls:
        execution = await calls.execution()
        calls.fake.fault = lambda number: Fault.THROTTLED if number == 2 else None
        for _ in range(3):
            await execution.call()
    assert (calls.serialized, len(calls.requests)) == (3, 4)


async def test_a_session_of_the_users_keeps_the_class_that_it_sends_with():
    """Also if it is but its default."""
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]

    session: Any = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=OtherSession))
    async with calling(session=session) as calls:
        execution = await calls.execution()
        for _ in range(2):
            await execution.call()
    assert calls.serialized == 2


async def test_aiobotocores_session_for_both_loops_goes_in_botocores_way():
    """It names the whole URL where others name the path, which AWS understands."""
    tokens = iter(["Mg==", "Mw==", "NA=="])

    async def answer(request: Request) -> Reply:
        assert request.target.startswith("http://127.0.0.1:")
        body = {"CheckpointToken": next(tokens), "NewExecutionState": {"Operations": []}}
        return Reply(json.dumps(body).encode())

    async with (
        serve(answer) as address,
        open_client(endpoint_url=f"http://{address}", config=AioConfig(http_session_cls=HttpxSession)) as client,
    ):
        execution = Execution(client, arn_of("t-1"), "MQ==")
        for _ in range(3):
            await execution.call()
        assert client._direct is None
    assert execution.token == "NA=="


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiobotocores_usual_session_goes_in_botocores_way():
    """The one of aiohttp, which is of asyncio alone."""
    from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]

    async with calling(AioConfig(http_session_cls=AIOHTTPSession)) as calls:
        execution = await calls.execution()
        for _ in range(3):
            await execution.call()
    assert (calls.serialized, len(calls.requests)) == (3, 3)
