"""Callbacks are completed from outside."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from .conftest import Api, ApiError


def asked(api: Api, arn: str) -> str:
    """The id of the callback that an execution waits for."""
    for _ in range(500):
        events = api("GetDurableExecutionHistory", DurableExecutionArn=arn)["Events"]
        found = [event for event in events if event["EventType"] == "CallbackStarted"]
        if found:
            callback_id = found[0]["CallbackStartedDetails"]["CallbackId"]
            assert isinstance(callback_id, str)
            return callback_id
        time.sleep(0.01)
    raise AssertionError("it does not ask")


def outcome(api: Api, name: str) -> Any:
    """How an execution ended."""
    return api.invoke("approve", DurableExecutionName=name)


def test_a_callback_succeeds(api: Api):
    """What is sent is passed on as it is."""
    callback_id = asked(api, api.start("approve", name="a"))
    api("SendDurableExecutionCallbackHeartbeat", CallbackId=callback_id)
    api("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result='"yes, sofort — ja"'.encode())
    assert outcome(api, "a").raw.json() == "yes, sofort — ja"


def test_a_callback_fails(api: Api):
    """With the sender's error, or without one."""
    for name, error in (("a", {"ErrorType": "No", "ErrorMessage": "too late"}), ("b", None)):
        callback_id = asked(api, api.start("approve", name=name))
        sent = {} if error is None else {"Error": error}
        api("SendDurableExecutionCallbackFailure", CallbackId=callback_id, **sent)
        answer = outcome(api, name)
        assert answer.parsed["FunctionError"] == "Unhandled"
        assert "CallbackFailedError" in answer.raw.json()["errorType"]
    assert "too late" in outcome(api, "a").raw.json()["errorMessage"]


@pytest.mark.parametrize("name", ["Success", "Failure", "Heartbeat"])
def test_a_callback_that_is_over_or_is_none(api: Api, name: str):
    """Lambda has a code for each."""
    callback_id = asked(api, api.start("approve"))
    api("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result=b"1")
    with pytest.raises(ApiError) as raised:
        api(f"SendDurableExecutionCallback{name}", CallbackId=callback_id)
    assert (raised.value.code, raised.value.status) == ("CallbackTimeoutException", 400)
    for nobody in ("bm9uZQ==", "a/b+c="):
        with pytest.raises(ApiError) as raised:
            api(f"SendDurableExecutionCallback{name}", CallbackId=nobody)
        assert (raised.value.code, raised.value.status) == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("path", "body"),
    [("succeed", b"\xff"), ("succeed", b"x" * (1024 * 1024 + 1)), ("fail", b"{"), ("fail", b'{"ErrorType": 1}')],
)
def test_what_cannot_be_sent(client: TestClient, api: Api, path: str, body: bytes):
    """The callback is still waited for."""
    callback_id = asked(api, api.start("approve"))
    url = f"/2025-12-01/durable-execution-callbacks/{callback_id.replace('/', '%2F')}/{path}"
    answer = client.post(url, content=body)
    assert (answer.status_code, answer.headers["X-Amzn-ErrorType"]) == (400, "InvalidParameterValueException")
    api("SendDurableExecutionCallbackHeartbeat", CallbackId=callback_id)
