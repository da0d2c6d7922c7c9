"""Executions: looked at, listed, stopped; and what functions call."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

from durable._engine.clock import SystemClock

from .conftest import Api, ApiError, api_over
from .test_callbacks import asked

NOBODY = "arn:aws:lambda:us-east-1:000000000000:function:order:1/durable-execution/nobody/none"


def test_an_execution_is_told(api: Api):
    """With its input and its result, or without either."""
    arn = api.run("order", {"article": "engine"}, "t-1")
    told = api("GetDurableExecution", DurableExecutionArn=arn)
    assert told["DurableExecutionArn"] == arn
    assert told["DurableExecutionName"] == "t-1"
    assert told["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:order:1"
    assert (told["Status"], told["Version"]) == ("SUCCEEDED", "1")
    assert (told["InputPayload"], told["Result"]) == ('{"article": "engine"}', '"1 x engine"')
    assert told["EndTimestamp"] >= told["StartTimestamp"]
    bare = api("GetDurableExecution", DurableExecutionArn=arn, IncludeExecutionData=False)
    kept = {key for key in told if key not in {"InputPayload", "Result", "ResponseMetadata"}}
    assert {key for key in bare if key != "ResponseMetadata"} == kept


def test_the_error_of_an_execution_is_told(api: Api):
    """As the function raised it."""
    told = api("GetDurableExecution", DurableExecutionArn=api.run("refuse", 1))
    assert told["Status"] == "FAILED"
    assert (told["Error"]["ErrorType"], told["Error"]["ErrorMessage"]) == ("ValueError", "not 1")


def pages(api: Api, arn: str, **parameters: Any) -> list[list[dict[str, Any]]]:
    """A history, page by page."""
    found = []
    marker: dict[str, Any] = {}
    while True:
        page = api("GetDurableExecutionHistory", DurableExecutionArn=arn, **marker, **parameters)
        found.append(page["Events"])
        if "NextMarker" not in page:
            return found
        assert len(found) < 200, "it does not end"
        marker = {"Marker": page["NextMarker"]}


def test_a_history_is_told_in_pages_and_in_both_orders(api: Api):
    """Each event once, whatever the size of a page."""
    arn = api.run("steps", 4)
    (whole,) = pages(api, arn)
    assert [event["EventId"] for event in whole] == list(range(1, len(whole) + 1))
    kinds = [event["EventType"] for event in whole]
    assert kinds == [
        "ExecutionStarted",
        *["StepStarted", "StepSucceeded"] * 4,
        "InvocationCompleted",
        "ExecutionSucceeded",
    ]
    for size in (1, 3, len(whole), 1000):
        paged = pages(api, arn, MaxItems=size)
        assert [event for page in paged for event in page] == whole
        assert all(len(page) == size for page in paged[:-1])
        turned = [event for page in pages(api, arn, MaxItems=size, ReverseOrder=True) for event in page]
        assert turned == whole[::-1]


def test_a_page_of_history_has_100_events_by_default(api: Api):
    """And with MaxItems of 0."""
    arn = api.run("steps", 49)
    assert [len(page) for page in pages(api, arn)] == [100, 1]
    assert [len(page) for page in pages(api, arn, MaxItems=0)] == [100, 1]


def test_a_history_without_data_says_what_it_leaves_out(api: Api):
    """Inputs, results and errors; the rest is the same."""
    for function, payload in (("order", {"article": "a"}), ("refuse", 1)):
        arn = api.run(function, payload)
        (whole,), (bare,) = pages(api, arn), pages(api, arn, IncludeExecutionData=False)
        assert [event["EventType"] for event in whole] == [event["EventType"] for event in bare]
        assert bare[0]["ExecutionStartedDetails"]["Input"] == {"Truncated": True}
        assert whole[0]["ExecutionStartedDetails"]["Input"]["Truncated"] is False
        assert bare[0]["ExecutionStartedDetails"]["ExecutionTimeout"] > 0
        details = bare[-1].get("ExecutionSucceededDetails") or bare[-1]["ExecutionFailedDetails"]
        assert next(iter(details.values())) == {"Truncated": True}


def names(answer: dict[str, Any]) -> list[str]:
    return [one["DurableExecutionName"] for one in answer["DurableExecutions"]]


def test_executions_of_a_function_are_listed(api: Api):
    """By status, name and time, in pages, newest first or oldest first."""
    for name in ("a", "b", "c"):
        api.run("order", {"article": name}, name)
    api.start("approve", name="d")
    listing = "ListDurableExecutionsByFunction"
    assert names(api(listing, FunctionName="order")) == ["c", "b", "a"]
    assert names(api(listing, FunctionName="order:1", ReverseOrder=True)) == ["a", "b", "c"]
    assert names(api(listing, FunctionName="order", DurableExecutionName="b")) == ["b"]
    assert names(api(listing, FunctionName="order", Statuses=["RUNNING", "FAILED"])) == []
    assert names(api(listing, FunctionName="approve", Statuses=["RUNNING", "FAILED"])) == ["d"]
    first = api(listing, FunctionName="order", MaxItems=2)
    assert names(first) == ["c", "b"]
    second = api(listing, FunctionName="order", MaxItems=2, Marker=first["NextMarker"])
    assert (names(second), "NextMarker" in second) == (["a"], False)
    started = first["DurableExecutions"][0]["StartTimestamp"]
    assert names(api(listing, FunctionName="order", StartedAfter=started.timestamp() - 3600)) == ["c", "b", "a"]
    assert names(api(listing, FunctionName="order", StartedBefore=started.timestamp() - 3600)) == []


def test_an_execution_is_stopped(api: Api):
    """With an error or without; one that has ended stays as it is."""
    arn = api.start("approve")
    error = {"ErrorType": "Recall", "ErrorMessage": "withdrawn"}
    stopped = api("StopDurableExecution", DurableExecutionArn=arn, Error=error)["StopTimestamp"]
    told = api("GetDurableExecution", DurableExecutionArn=arn)
    assert (told["Status"], told["Error"], told["EndTimestamp"]) == ("STOPPED", error, stopped)
    assert api("StopDurableExecution", DurableExecutionArn=arn)["StopTimestamp"] == stopped
    other = api.start("approve")
    api("StopDurableExecution", DurableExecutionArn=other)
    assert "Error" not in api("GetDurableExecution", DurableExecutionArn=other)


def shown(api: Api, arn: str, **parameters: Any) -> dict[str, Any]:
    return api("GetDurableExecution", DurableExecutionArn=arn, **parameters)


def when_paused(api: Api, arn: str) -> dict[str, Any]:
    """An execution, once a pause has taken effect: an invocation may still be about to end."""
    for _ in range(500):
        told = shown(api, arn)
        if told["Status"] == "PAUSED":
            return told
        time.sleep(0.01)
    raise AssertionError("it is not paused")


def test_an_execution_is_paused_and_resumed(api: Api):
    """It says since when, and why; what happens meanwhile is seen afterwards."""
    arn = api.start("approve", name="t-1")
    callback_id = asked(api, arn)
    answer = api.answer(
        "PauseDurableExecution", DurableExecutionArn=arn, Reason="lunch", ExecutionTimeoutPaused=False
    )
    assert (answer.raw.status_code, answer.raw.json()) == (202, {})
    told = when_paused(api, arn)
    details = told["PauseDetails"]
    assert (details["Reason"], details["ExecutionTimeoutPaused"]) == ("lunch", False)
    assert "Reason" not in shown(api, arn, IncludeExecutionData=False)["PauseDetails"]
    listed = api("ListDurableExecutionsByFunction", FunctionName="approve", Statuses=["PAUSED"])
    assert names(listed) == ["t-1"]
    api("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result=b'"yes"')
    assert shown(api, arn)["Status"] == "PAUSED"
    assert api.answer("ResumeDurableExecution", DurableExecutionArn=arn, Reason="back").raw.status_code == 202
    assert api.invoke("approve", DurableExecutionName="t-1").raw.json() == "yes"
    (events,) = pages(api, arn)
    paused, resumed = (
        next(event for event in events if event["EventType"] == kind)
        for kind in ("ExecutionPaused", "ExecutionResumed")
    )
    assert paused["ExecutionPausedDetails"] == {
        "PauseRequestTimestamp": details["PauseRequestTimestamp"],
        "Reason": {"Payload": "lunch", "Truncated": False},
        "ExecutionTimeoutPaused": False,
    }
    assert resumed["ExecutionResumedDetails"]["Reason"] == {"Payload": "back", "Truncated": False}
    (bare,) = pages(api, arn, IncludeExecutionData=False)
    assert bare[paused["EventId"] - 1]["ExecutionPausedDetails"]["Reason"] == {"Truncated": True}


def test_what_was_asked_twice_is_done_once(api: Api):
    """By the client's token; without it the second one is refused."""
    arn = api.start("approve")
    asked(api, arn)
    for name in ("PauseDurableExecution", "ResumeDurableExecution"):
        for _ in range(2):
            api(name, DurableExecutionArn=arn, ClientToken="x")
        with pytest.raises(ApiError) as raised:
            api(name, DurableExecutionArn=arn)
        assert (raised.value.code, raised.value.status) == ("ResourceConflictException", 409)


@pytest.mark.parametrize(
    "body", [b"{", b'{"Reason": 1}', b'{"ClientToken": ""}', b'{"Reason": "%s"}' % (b"x" * 1025)]
)
@pytest.mark.parametrize("what", ["pause", "resume"])
def test_a_pause_that_makes_no_sense(client: TestClient, api: Api, what: str, body: bytes):
    """Nothing comes of it."""
    arn = api.start("approve")
    path = arn.replace("/", "%2F")
    answer = client.post(f"/2025-12-01/durable-executions/{path}/{what}", content=body)
    assert (answer.status_code, answer.headers["X-Amzn-ErrorType"]) == (400, "InvalidParameterValueException")
    assert shown(api, arn)["Status"] == "RUNNING"


def test_an_execution_that_is_over_is_deleted(api: Api):
    """It is not there any more, and its name is free; one that is not over is refused."""
    arn = api.start("approve", name="t-1")
    with pytest.raises(ApiError) as raised:
        api("DeleteDurableExecution", DurableExecutionArn=arn)
    assert (raised.value.code, raised.value.status) == ("ResourceConflictException", 409)
    api("StopDurableExecution", DurableExecutionArn=arn)
    answer = api.answer("DeleteDurableExecution", DurableExecutionArn=arn)
    assert answer.raw.status_code == 202
    assert answer.parsed["DeletionRequestTimestamp"]
    with pytest.raises(ApiError) as gone:
        shown(api, arn)
    assert gone.value.code == "ResourceNotFoundException"
    assert names(api("ListDurableExecutionsByFunction", FunctionName="approve")) == []
    assert api.start("approve", name="t-1") != arn


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_time_limit_of_an_execution_is_told(api: Api, backend: Literal["asyncio", "trio"]):
    """What it is, and when it will be reached, which a pause puts off; without one nothing is said of it."""
    assert not {"DurableConfig", "ExpectedExecutionTimeoutTimestamp"} & set(shown(api, api.start("approve")))
    with api_over(backend, clock=SystemClock(), timeout=3600) as limited:
        arn = limited.start("approve")
        asked(limited, arn)
        told = shown(limited, arn)
        assert told["DurableConfig"] == {"ExecutionTimeout": 3600}
        hour = told["StartTimestamp"] + timedelta(hours=1)
        assert told["ExpectedExecutionTimeoutTimestamp"] == hour
        limited("PauseDurableExecution", DurableExecutionArn=arn)
        year = told["StartTimestamp"] + timedelta(days=366)
        assert when_paused(limited, arn)["ExpectedExecutionTimeoutTimestamp"] == year
        limited("ResumeDurableExecution", DurableExecutionArn=arn)
        assert hour <= shown(limited, arn)["ExpectedExecutionTimeoutTimestamp"] < hour + timedelta(minutes=1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_execution_that_takes_too_long(backend: Literal["asyncio", "trio"]):
    """It is TIMED_OUT, and whoever waits for it gets the error."""
    with api_over(backend, timeout=30) as limited:
        answer = limited.invoke("sleep", DurableExecutionName="t-1")
        assert answer.parsed["FunctionError"] == "Unhandled"
        arn = answer.parsed["DurableExecutionArn"]
        told = shown(limited, arn)
        assert (told["Status"], told["Error"]["ErrorType"]) == ("TIMED_OUT", "Execution.Timeout")
        assert (told["EndTimestamp"] - told["StartTimestamp"]).total_seconds() == 30
        assert "ExpectedExecutionTimeoutTimestamp" not in told
        (events,) = pages(limited, arn)
        assert events[0]["ExecutionStartedDetails"]["ExecutionTimeout"] == 30
        assert events[-1]["ExecutionTimedOutDetails"]["Error"]["Payload"] == told["Error"]


def test_a_token_of_others_writes_nothing(api: Api):
    """Made up, or of another execution: as Lambda refuses it."""
    arn = api.start("approve")
    for token in ("bm9uZQ==", base64.b64encode(b"someone/1/0").decode()):
        for name in ("CheckpointDurableExecution", "GetDurableExecutionState"):
            with pytest.raises(ApiError, match="Invalid checkpoint token") as raised:
                api(name, DurableExecutionArn=arn, CheckpointToken=token)
            assert (raised.value.code, raised.value.status) == ("InvalidParameterValueException", 400)


@pytest.mark.parametrize(
    "name",
    [
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "StopDurableExecution",
        "PauseDurableExecution",
        "ResumeDurableExecution",
        "DeleteDurableExecution",
        "CheckpointDurableExecution",
        "GetDurableExecutionState",
    ],
)
def test_an_execution_that_is_not_there(api: Api, name: str):
    """Whatever is asked of it."""
    token = {"CheckpointToken": "bm9uZQ=="} if "Checkpoint" in name or name.endswith("State") else {}
    with pytest.raises(ApiError) as raised:
        api(name, DurableExecutionArn=NOBODY, **token)
    assert (raised.value.code, raised.value.status) == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("MaxItems=1001", "MaxItems"),
        ("MaxItems=-1", "MaxItems"),
        ("MaxItems=many", "MaxItems"),
        ("Marker=elsewhere", "Marker"),
        ("Marker=9999999999999999", "Marker"),
        ("ReverseOrder=perhaps", "ReverseOrder"),
        ("StartedAfter=yesterday", "StartedAfter"),
        ("StartedAfter=nan", "StartedAfter"),
        ("StartedBefore=inf", "StartedBefore"),
        ("Statuses=RUNNING&Statuses=LOST", "Statuses"),
        ("DurableExecutionName=a%20b", "name"),
    ],
)
def test_a_parameter_that_makes_no_sense(client: TestClient, query: str, text: str):
    """Is named."""
    answer = client.get(f"/2025-12-01/functions/order/durable-executions?{query}")
    assert (answer.status_code, answer.headers["X-Amzn-ErrorType"]) == (400, "InvalidParameterValueException")
    assert text in answer.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ErrorType": 1}', b"\xff"])
def test_a_body_that_makes_no_sense(client: TestClient, api: Api, body: bytes):
    """Nothing is stopped by it."""
    arn = api.start("approve")
    path = arn.replace("/", "%2F")
    answer = client.post(f"/2025-12-01/durable-executions/{path}/stop", content=body)
    assert (answer.status_code, answer.headers["X-Amzn-ErrorType"]) == (400, "InvalidParameterValueException")
    assert api("GetDurableExecution", DurableExecutionArn=arn)["Status"] == "RUNNING"


def test_more_operations_than_an_execution_may_have(api: Api):
    """The limit holds here as it does on AWS; the tests' server has one of 50."""
    assert api("GetDurableExecution", DurableExecutionArn=api.run("steps", 49))["Status"] == "SUCCEEDED"
    told = api("GetDurableExecution", DurableExecutionArn=api.run("steps", 50))
    assert told["Status"] == "FAILED"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2015-03-31/functions/order"),
        ("GET", "/2015-03-31/functions/order/invocations"),
        ("PUT", "/2025-12-01/durable-executions/x"),
        ("GET", "/"),
    ],
)
def test_the_rest_of_lambda_is_not_there(client: TestClient, method: str, path: str):
    """It is said, and not guessed at."""
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["X-Amzn-ErrorType"]) == (404, "UnsupportedOperationException")
    assert f"{method} {path} is not supported here" in answer.json()["message"]
    assert "x-amzn-requestid" in answer.headers
