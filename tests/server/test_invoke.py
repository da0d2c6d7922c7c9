"""Invoke: what is started, what is called, what is waited for, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from .conftest import Api, ApiError

LOCAL = "arn:aws:lambda:us-east-1:000000000000:function:"


@pytest.mark.parametrize(
    "function",
    ["order", "order:7", "order:$LATEST", f"{LOCAL}order", f"{LOCAL}order:1", "000000000000:function:order"],
)
def test_a_durable_function_is_run_to_its_end(api: Api, function: str):
    """Its result is the answer; a version, or an ARN around the name, makes no difference."""
    answer = api.invoke(function, {"article": "engine", "amount": 2})
    assert answer.raw.json() == "2 x engine"
    assert answer.raw.status_code == 200
    assert answer.parsed["DurableExecutionArn"].startswith(f"{LOCAL}order:1/durable-execution/")
    assert answer.parsed["ExecutedVersion"] == "1"
    assert "FunctionError" not in answer.parsed


def test_what_it_raises_is_a_function_error(api: Api):
    """The call itself is fine; the error has type and message."""
    answer = api.invoke("refuse", "this")
    assert (answer.raw.status_code, answer.parsed["FunctionError"]) == (200, "Unhandled")
    told = answer.raw.json()
    assert (told["errorType"], told["errorMessage"]) == ("ValueError", "not this")
    assert "stackTrace" in told


def test_an_event_that_does_not_fit_is_the_functions_error(api: Api):
    """As on Lambda, where only the function itself knows its types."""
    answer = api.invoke("order", {"amount": 2})
    assert answer.parsed["FunctionError"] == "Unhandled"
    assert "article" in answer.raw.json()["errorMessage"]


def test_an_execution_is_started_and_not_waited_for(api: Api):
    """`Event` answers at once."""
    answer = api.invoke("approve", InvocationType="Event")
    assert (answer.raw.status_code, answer.raw.content) == (202, b"")
    arn = answer.parsed["DurableExecutionArn"]
    assert api("GetDurableExecution", DurableExecutionArn=arn)["Status"] == "RUNNING"


def test_a_name_stands_for_one_execution(api: Api):
    """The same input finds it, whether it is over or not; another input, or another function, is refused."""
    first = api.start("order", {"article": "a"}, "n-1")
    assert api.start("order", {"article": "a"}, "n-1") == first == api.run("order", {"article": "a"}, "n-1")
    for function, payload in (("order", {"article": "b"}), ("steps", {"article": "a"})):
        with pytest.raises(ApiError, match="'n-1' exists") as raised:
            api.start(function, payload, "n-1")
        assert (raised.value.code, raised.value.status) == ("DurableExecutionAlreadyStartedException", 409)


def test_an_empty_payload_is_an_empty_object(api: Api, client: TestClient):
    """As on Lambda."""
    answer = client.post("/2015-03-31/functions/refuse/invocations")
    assert answer.json()["errorMessage"] == "not {}"


def test_nothing_happens_in_a_dry_run(api: Api):
    """Only what is wrong with it is said."""
    assert api.invoke("order", InvocationType="DryRun").raw.status_code == 204
    assert api("ListDurableExecutionsByFunction", FunctionName="order")["DurableExecutions"] == []
    with pytest.raises(ApiError, match="nobody"):
        api.invoke("nobody", InvocationType="DryRun")


def test_a_plain_function_is_called(api: Api):
    """Its result is the answer, what it raises a function error; there is no execution."""
    answer = api.invoke("double", 21)
    assert answer.raw.json() == 42
    assert "DurableExecutionArn" not in answer.parsed
    failed = api.invoke("fail", 1)
    assert (failed.parsed["FunctionError"], failed.raw.json()["errorType"]) == ("Unhandled", "LookupError")
    for function in ("double", "fail"):
        assert api.invoke(function, 1, InvocationType="Event").raw.status_code == 202
    with pytest.raises(ApiError, match="no names"):
        api.invoke("double", 1, DurableExecutionName="n")


def test_a_stopped_execution_is_a_function_error(api: Api):
    """Whoever asks for it by its name is told how it ended."""
    arn = api.start("approve", name="stopped")
    api("StopDurableExecution", DurableExecutionArn=arn)
    answer = api.invoke("approve", DurableExecutionName="stopped")
    assert answer.parsed["FunctionError"] == "Unhandled"
    assert answer.raw.json() == {"errorType": "Execution.STOPPED", "errorMessage": "the execution is STOPPED"}


@pytest.mark.parametrize(
    ("function", "changed", "body", "code", "status"),
    [
        ("nobody", {}, b"1", "ResourceNotFoundException", 404),
        ("order", {"X-Amz-Invocation-Type": "Later"}, b"1", "InvalidParameterValueException", 400),
        ("order", {"X-Amz-Durable-Execution-Name": "a b"}, b"1", "InvalidParameterValueException", 400),
        ("order", {"X-Amz-Durable-Execution-Name": "x" * 65}, b"1", "InvalidParameterValueException", 400),
        ("order", {}, b"{", "InvalidRequestContentException", 400),
        ("order", {}, b"\xff", "InvalidRequestContentException", 400),
        ("order", {}, b'"\xff"', "InvalidRequestContentException", 400),
        ("order", {}, b'"' + b"x" * (6 * 1024 * 1024) + b'"', "RequestTooLargeException", 413),
        ("order", {"X-Amz-Invocation-Type": "Event"}, b"9" * (1024 * 1024 + 1), "RequestTooLargeException", 413),
        ("order", {}, b"9" * (21 * 1024 * 1024), "RequestTooLargeException", 413),
    ],
)
def test_what_is_refused(
    client: TestClient, function: str, changed: dict[str, str], body: bytes, code: str, status: int
):
    """With Lambda's code, and nothing is started."""
    answer = client.post(f"/2015-03-31/functions/{function}/invocations", content=body, headers=changed)
    assert (answer.headers["X-Amzn-ErrorType"], answer.status_code) == (code, status)
    told: dict[str, Any] = answer.json()
    assert told["message"] == told["Message"]
    listed = client.get("/2025-12-01/functions/order/durable-executions")
    assert listed.json() == {"DurableExecutions": []}
