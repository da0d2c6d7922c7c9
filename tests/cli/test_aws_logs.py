"""`durable logs --aws`: from CloudWatch Logs, by botocore's model, and as Lambda's runtime writes it there."""

from __future__ import annotations

import functools
import json
import logging
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

import anyio
import botocore.session  # type: ignore[import-untyped]
import pytest
from awslambdaric.lambda_runtime_log_utils import JsonFormatter  # type: ignore[import-untyped]

from durable import DurableContext, durable_execution
from durable.local import open_engine
from durable.testing import SkippingClock
from tests.aws.model import violations
from tests.cli.helpers import Call
from tests.server.dev import CREDENTIALS

pytestmark = pytest.mark.in_process

PAGE = 2


@functools.cache
def input_shape() -> Any:
    """What FilterLogEvents takes."""
    model = botocore.session.Session().get_service_model("logs")
    return model.operation_model("FilterLogEvents").input_shape


class Cloud(BaseHTTPRequestHandler):
    """Lambda as far as it tells of one execution, and CloudWatch Logs as far as it has a log group."""

    arn: ClassVar[str] = ""
    groups: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    wrong: ClassVar[list[str]] = []
    calls: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        """GetDurableExecution."""
        arn = unquote(self.path.partition("?")[0].partition("/durable-executions/")[2])
        if arn != self.arn:
            self._answer(404, {"message": "no such execution"}, ("X-Amzn-ErrorType", "ResourceNotFoundException"))
            return
        self._answer(
            200,
            {
                "DurableExecutionArn": arn,
                "DurableExecutionName": "t-1",
                "FunctionArn": arn.partition("/")[0],
                "StartTimestamp": 1.8e9,
                "Status": "RUNNING" if len(self.calls) < 3 else "SUCCEEDED",
            },
        )

    def do_POST(self) -> None:
        """FilterLogEvents."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append(asked)
        self.wrong.extend(violations(input_shape(), asked))
        if self.headers["X-Amz-Target"] != "Logs_20140328.FilterLogEvents":
            self.wrong.append(f"target {self.headers['X-Amz-Target']}")
        if "/us-east-1/logs/aws4_request" not in self.headers["Authorization"]:
            self.wrong.append("the signature")
        group = self.groups.get(asked["logGroupName"])
        if group is None:
            self._answer(400, {"__type": "ResourceNotFoundException", "message": "no such group"})
            return
        fitting = [event for event in group if self._fits(asked, event)]
        begin = int(asked.get("nextToken", "0"))
        answer: dict[str, Any] = {"events": fitting[begin : begin + PAGE]}
        if begin + PAGE < len(fitting):
            answer["nextToken"] = str(begin + PAGE)
        self._answer(200, answer)

    @staticmethod
    def _fits(asked: dict[str, Any], event: dict[str, Any]) -> bool:
        """By the pattern `{ ($.a = "x") || ($.b = "x") }`."""
        pattern = re.fullmatch(r"\{ (.*) \}", asked["filterPattern"])
        assert pattern is not None
        terms = re.findall(r"\(\$\.(\w+) = (\"[^\"]*\")\)", pattern[1])
        assert len(terms) == 2
        try:
            found = json.loads(event["message"])
        except ValueError:
            return False
        is_late = event["timestamp"] >= asked["startTime"]
        return is_late and any(found.get(name) == json.loads(value) for name, value in terms)

    def _answer(self, status: int, document: dict[str, Any], *headers: tuple[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@durable_execution
async def chatty(event: None, ctx: DurableContext) -> None:
    async def work() -> None:
        ctx.logger.info("works \x1b[31m")

    ctx.logger.info("begins")
    await ctx.step(work)
    try:
        raise LookupError("gone")
    except LookupError:
        ctx.logger.exception("no luck")


def logged() -> tuple[str, list[str]]:
    """The ARN of an execution, and what Lambda's runtime would write for what it logs."""
    messages: list[str] = []

    class Writer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(self.format(record))

    async def run() -> str:
        async with open_engine(clock=SkippingClock()) as engine:
            run = await engine.start(chatty, None, name="t-1")
            await run.result()
            return run.arn

    handler = Writer()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("durable.execution")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return anyio.run(run), messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def cloud(monkeypatch: pytest.MonkeyPatch) -> Generator[type[Cloud]]:
    """A cloud of its own, which the environment names."""

    class Own(Cloud):
        groups: ClassVar[dict[str, list[dict[str, Any]]]] = {}
        wrong: ClassVar[list[str]] = []
        calls: ClassVar[list[dict[str, Any]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_CONFIG_FILE", "aws-config")
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    try:
        yield Own
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def event(number: int, message: str) -> dict[str, Any]:
    return {
        "logStreamName": "s",
        "timestamp": 1_800_000_000_000 + number // 2,
        "message": message,
        "eventId": f"e-{number}",
    }


def test_what_was_logged_is_read_from_the_log_group(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """Page by page, of this execution alone; with step, attempt and traceback."""
    with cloud(monkeypatch) as own:
        own.arn, messages = logged()
        noise = ["START RequestId: 1", json.dumps({"message": "x", "execution_arn": f"{own.arn}2"}), "{}"]
        everything = [noise[0], messages[0], noise[1], messages[1], noise[2], messages[2]]
        own.groups["/aws/lambda/chatty"] = [event(number, text) for number, text in enumerate(everything)]
        done = durable("logs", own.arn, "--aws", "--json")
        assert (done.code, done.err, own.wrong) == (0, "", [])
        first, second, third = done.lines
        assert (first["message"], first["level"], first["operation"]) == ("begins", "INFO", None)
        assert (second["message"], second["operation"], second["attempt"]) == ("works \x1b[31m", "work", 1)
        assert (third["message"], third["level"]) == ("no luck", "ERROR")
        assert third["error"].endswith("LookupError: gone")
        assert [call.get("nextToken") for call in own.calls] == [None, "2"]
        shown = durable("logs", own.arn, "--aws").out
        assert "info  work: works \\x1b[31m\n" in shown


def test_it_is_followed_until_the_execution_is_over(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """What comes late, at the same moment as what has been told, is told once."""
    monkeypatch.setattr("durable.cli.messages.AWS_PAUSE", 0)
    with cloud(monkeypatch) as own:
        own.arn, messages = logged()
        group = own.groups["/aws/lambda/chatty"] = [event(0, messages[0])]
        fits = own._fits

        def with_more(asked: dict[str, Any], one: dict[str, Any]) -> bool:
            if len(own.calls) == 2 and len(group) == 1:
                group.append(event(1, messages[1]))
            return fits(asked, one)

        monkeypatch.setattr(own, "_fits", staticmethod(with_more))
        done = durable("logs", own.arn, "--aws", "--follow", "--json")
        assert [line["message"] for line in done.lines] == ["begins", "works \x1b[31m"]
        assert (done.code, own.wrong) == (0, [])
        assert own.calls[1]["startTime"] == 1_800_000_000_000


def test_a_function_without_a_log_group(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """Nothing was logged; what is not there is an error, and so is a service that cannot be reached."""
    with cloud(monkeypatch) as own:
        own.arn, _ = logged()
        done = durable("logs", own.arn, "--aws")
        assert (done.code, done.out, done.err) == (0, "", f"nothing is there that {own.arn} has logged\n")
        assert durable("logs", f"{own.arn}2", "--aws").code == 3
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:1")
        lost = durable("logs", own.arn, "--aws")
        assert lost.code == 3
        assert lost.err.startswith("error: nothing answers at AWS")
