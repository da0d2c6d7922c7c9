"""The events of a call that goes past botocore: handlers of a client are asked and told as by botocore itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from durable.aws.connection import Answer
from durable.aws.untyped import AioConfig, _Headers, make_response
from tests.aws.direct import OPERATION, Calls, by_botocore, calling, directly

pytestmark = pytest.mark.anyio

EVENTS = (
    "before-call",
    "request-created",
    "before-sign",
    "before-send",
    "before-parse",
    "response-received",
    "after-call",
)


def listen(calls: Calls, seen: list[Any]) -> None:
    """Note each event, with its name and the names of its arguments."""

    def handler(**arguments: Any) -> None:
        name = arguments["event_name"]
        if name.endswith(OPERATION):
            seen.append((name, sorted(arguments)))

    for event in EVENTS:
        calls.events.register(f"{event}.lambda", handler)
        calls.events.register(f"{event}.lambda.{OPERATION}", handler)


async def test_each_event_comes_once_a_call_and_as_botocore_has_it():
    """In the same order, with arguments of the same names."""

    async def seen(config: AioConfig) -> list[Any]:
        noted: list[Any] = []
        async with calling(config) as calls:
            execution = await calls.execution()
            await execution.call()
            listen(calls, noted)
            await execution.call()
        return noted

    direct = await seen(directly())
    assert direct == await seen(by_botocore())
    assert Counter(name.partition(".")[0] for name, _ in direct) == dict.fromkeys(EVENTS, 2)


async def test_what_handlers_are_told_is_what_botocore_tells_them():
    """Bodies, statuses, attempts, and the same objects from one event to the next."""

    async def told(config: AioConfig) -> list[Any]:
        noted: list[Any] = []
        contexts: list[Any] = []

        def before_call(params: Any, context: Any, model: Any, **_: Any) -> None:
            contexts.append(context)
            noted.append((model.name, params["method"], params["url_path"], json.loads(params["body"]).keys()))
            assert params["context"] is context

        def before_send(request: Any, **_: Any) -> None:
            noted.append((request.method, json.loads(request.body).keys(), request.context["retries"]["attempt"]))
            assert request.context is contexts[-1]

        def before_parse(operation_model: Any, response_dict: Any, **_: Any) -> None:
            noted.append((operation_model.name, response_dict["status_code"], response_dict["context"]))
            noted.append(response_dict["headers"]["content-TYPE"])

        def received(response_dict: Any, parsed_response: Any, context: Any, exception: Any, **_: Any) -> None:
            noted.append((json.loads(response_dict["body"]).keys(), sorted(parsed_response), exception))
            noted.append(parsed_response["ResponseMetadata"]["HTTPStatusCode"])
            assert context is contexts[-1]

        def after_call(http_response: Any, parsed: Any, model: Any, context: Any, **_: Any) -> None:
            metadata = parsed["ResponseMetadata"]
            noted.append((http_response.status_code, model.name, sorted(metadata), metadata["HTTPHeaders"].keys()))
            noted.append(metadata["RetryAttempts"])
            assert context is contexts[-1]

        async with calling(config) as calls:
            execution = await calls.execution()
            await execution.call()
            for event, handler in (
                ("before-call", before_call),
                ("before-send", before_send),
                ("before-parse", before_parse),
                ("response-received", received),
                ("after-call", after_call),
            ):
                calls.events.register(f"{event}.lambda", handler)
            await execution.call()
        return noted

    assert await told(directly()) == await told(by_botocore())


@pytest.mark.parametrize(
    ("event", "way"),
    [
        *((event, "set") for event in ("before-call", "request-created", "before-sign", "before-send")),
        *((event, way) for event in ("before-call", "before-send") for way in ("update", "setdefault")),
        *((event, "add_header") for event in ("request-created", "before-sign")),
    ],
)
async def test_a_header_that_a_handler_sets_is_sent(event: str, way: str):
    """Of each call anew, by what botocore's headers offer at that event; what is there in time is signed."""
    number = 0

    def handler(**arguments: Any) -> None:
        nonlocal number
        number += 1
        headers = arguments["params"]["headers"] if event == "before-call" else arguments["request"].headers
        if way == "set":
            headers["X-Number"] = str(number)
        elif way == "update":
            headers.update({"X-Number": str(number)})
        elif way == "setdefault":
            assert headers.setdefault("X-Number", str(number)) == str(number)
        else:
            headers.add_header("X-Number", str(number))

    for config in (by_botocore(), directly()):
        number = 0
        async with calling(config) as calls:
            calls.events.register(f"{event}.lambda.{OPERATION}", handler)
            execution = await calls.execution()
            for _ in range(3):
                await execution.call()
        assert [request.headers["x-number"] for request in calls.requests] == ["1", "2", "3"]
        for request in calls.requests:
            assert ("x-number" in request.headers["authorization"]) is (event != "before-send")


async def test_a_handler_that_answers_itself_is_the_answer():
    """Nothing is sent, whether it does so before the call or instead of sending."""

    def send(request: Any, **_: Any) -> Any:
        body = json.dumps({"CheckpointToken": "bmV4dA==", "NewExecutionState": {"Operations": []}}).encode()
        return make_response(request.url, 200, [], Answer(200, [], body, reusable=True))

    async with calling() as calls:
        execution = await calls.execution()
        await execution.call()
        calls.events.register(f"before-send.lambda.{OPERATION}", send)
        await execution.call()
        assert execution.token == "bmV4dA=="
    assert (calls.serialized, len(calls.requests)) == (1, 1)


async def test_a_handler_that_refuses_a_call_is_asked_once():
    """As a stub of botocore's does: the error is the one that it gives."""
    asked = 0

    def refuse(**_: Any) -> Any:
        nonlocal asked
        asked += 1
        parsed = {
            "Error": {"Code": "AccessDeniedException", "Message": "no"},
            "ResponseMetadata": {"HTTPStatusCode": 403},
        }
        return make_response("http://x", 403, [], Answer(403, [], b"", reusable=True)), parsed

    async with calling() as calls:
        execution = await calls.execution()
        await execution.call()
        calls.events.register(f"before-call.lambda.{OPERATION}", refuse)
        assert await execution.outcome() == "AccessDeniedException: no (invoke again: False)"
    assert (asked, len(calls.requests)) == (1, 1)


@pytest.mark.parametrize("event", EVENTS)
async def test_an_error_of_a_handler_is_not_hidden(event: str):
    """It comes out, as from a call in botocore's way, and the next call is fine."""

    class OwnError(Exception):
        pass

    fails = False

    def fail(**_: Any) -> None:
        if fails:
            raise OwnError

    for config in (by_botocore(), directly()):
        async with calling(config) as calls:
            execution = await calls.execution()
            calls.events.register(f"{event}.lambda.{OPERATION}", fail)
            await execution.call()
            fails = True
            with pytest.raises(OwnError):
                await execution.call()
            fails = False
            await execution.call()
        assert len(calls.requests) == (2 if EVENTS.index(event) <= EVENTS.index("before-send") else 3)


def test_headers_are_as_both_of_botocores():
    """Before the signature and after it handlers may do what they may do otherwise."""
    headers = _Headers({"Content-Type": "a", "X-B": "b"})
    headers["content-TYPE"] = "c"
    headers.update({"X-D": "d"})
    assert "CONTENT-type" in headers
    assert (headers["content-type"], headers.get("X-NONE"), headers.get("X-NONE", "e")) == ("c", None, "e")
    assert (headers.get_all("x-d"), headers.get_all("x-none", [])) == (["d"], [])
    assert headers.items() == [("content-TYPE", "c"), ("X-B", "b"), ("X-D", "d")]
    assert list(headers) == headers.keys() == ["content-TYPE", "X-B", "X-D"]
    assert headers.values() == ["c", "b", "d"]
    assert (headers.setdefault("x-b", "f"), headers.setdefault("X-G", "g")) == ("b", "g")
    assert (headers.pop("x-b"), headers.pop("x-b"), headers.pop("x-b", "h")) == ("b", None, "h")
    del headers["x-d"], headers["x-d"]
    headers.replace_header("x-g", "i")
    assert headers.items() == [("content-TYPE", "c"), ("x-g", "i")]
    assert len(headers) == 2
