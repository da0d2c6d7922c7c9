"""`durable dev` as its users have it: a process, changed code, kill -9, and real clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .dev import CREDENTIALS, Dev, served, until

pytestmark = pytest.mark.process

APP = """
from pathlib import Path
from durable import durable_execution, DurableContext

@durable_execution
async def work(event: int, ctx: DurableContext) -> str:
    async def first() -> int:
        with Path("effects").open("a") as file:
            file.write(f"first {event}\\n")
        return event

    async def second() -> str:
        return "VERSION"

    found = await ctx.step(first, name="first")
    await ctx.wait(SECONDS, name="pause")
    return f"{await ctx.step(second, name='SECOND')} {found}"
"""


def write(directory: Path, version: str, *, seconds: int = 1, second: str = "second") -> None:
    text = APP.replace("VERSION", version).replace("SECONDS", str(seconds)).replace("SECOND", second)
    (directory / "app.py").write_text(text)


def status(client: Any, arn: str) -> str:
    found = client.get_durable_execution(DurableExecutionArn=arn)["Status"]
    assert isinstance(found, str)
    return found


def test_it_starts_anew_when_code_changes(tmp_path: Path):
    """What was under way goes on with the new code; nobody is refused a connection."""
    write(tmp_path, "old", seconds=4)
    with served(tmp_path, "app.py") as dev:
        client = dev.client
        answer = client.invoke(FunctionName="work", InvocationType="Event", Payload=b"1", DurableExecutionName="a")
        until((tmp_path / "effects").exists, dev)
        write(tmp_path, "new", seconds=4)
        until(lambda: dev.log.count("serves work") > 1, dev)
        assert status(client, answer["DurableExecutionArn"]) == "RUNNING"
        answer = dev.client.invoke(FunctionName="work", Payload=b"1", DurableExecutionName="a")
        assert answer["Payload"].read() == b'"new 1"'
        assert (tmp_path / "effects").read_text() == "first 1\n"


def test_code_that_does_not_fit_is_told(tmp_path: Path):
    """The execution stays as it is, and goes on when the code fits again; broken code is told as well."""
    write(tmp_path, "old", seconds=2)
    with served(tmp_path, "app.py") as dev:
        arn = dev.client.invoke(FunctionName="work", InvocationType="Event", Payload=b"1")["DurableExecutionArn"]
        until((tmp_path / "effects").exists, dev)
        text = (tmp_path / "app.py").read_text()
        (tmp_path / "app.py").write_text(text.replace('name="first"', 'name="other"'))
        until(lambda: "does not go on" in dev.log, dev)
        assert "other" in dev.log
        assert status(dev.client, arn) == "RUNNING"
        (tmp_path / "app.py").write_text("def broken(")
        until(lambda: "SyntaxError" in dev.log, dev)
        (tmp_path / "app.py").write_text(text)
        until(lambda: status_or_none(dev, arn) == "SUCCEEDED", dev)
    assert (tmp_path / "effects").read_text() == "first 1\n"


def status_or_none(dev: Dev, arn: str) -> str | None:
    try:
        return status(dev.client, arn)
    except Exception:
        return None


EXECUTIONS = 200


def test_it_is_killed_under_load(tmp_path: Path):
    """kill -9 with 200 executions in flight: nothing is lost, none finishes twice, each step is recorded once."""
    write(tmp_path, "done")

    def start(client: Any, number: int) -> str:
        answer = client.invoke(
            FunctionName="work",
            InvocationType="Event",
            Payload=str(number).encode(),
            DurableExecutionName=f"n-{number}",
        )
        arn = answer["DurableExecutionArn"]
        assert isinstance(arn, str)
        return arn

    with served(tmp_path, "app.py", "--no-reload") as dev, ThreadPoolExecutor(20) as pool:
        arns = list(pool.map(partial(start, dev.client), range(EXECUTIONS)))
        dev.kill()
    with served(tmp_path, "app.py", "--no-reload") as dev:
        until(lambda: dev.log.count("serves work") == 2, dev)
        dev.kill()
    with served(tmp_path, "app.py", "--no-reload") as dev:
        client = dev.client
        with ThreadPoolExecutor(20) as pool:
            answers = list(
                pool.map(
                    lambda number: client.invoke(
                        FunctionName="work", Payload=str(number).encode(), DurableExecutionName=f"n-{number}"
                    ),
                    range(EXECUTIONS),
                )
            )
        assert [answer["DurableExecutionArn"] for answer in answers] == arns
        assert [answer["Payload"].read() for answer in answers] == [
            f'"done {number}"'.encode() for number in range(EXECUTIONS)
        ]
        for arn in arns:
            events = client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
            kinds = [event["EventType"] for event in events]
            assert kinds.count("ExecutionSucceeded") == 1
            assert kinds.count("StepSucceeded") == 2


def test_a_token_beyond_loopback(tmp_path: Path):
    """One is made up and printed; without it nothing is answered."""
    write(tmp_path, "done")
    with served(tmp_path, "app.py", "--no-reload", "--host", "0.0.0.0") as dev:
        dev.url = f"http://127.0.0.1:{dev.port}"
        assert dev.process.stdout is not None
        label, token = dev.process.stdout.readline().decode().split()
        assert label == "token:"
        with pytest.raises(Exception, match="AccessDeniedException"):
            dev.client.list_durable_executions_by_function(FunctionName="work")
        environment = {**CREDENTIALS, "AWS_ACCESS_KEY_ID": token}
        assert json.loads(
            aws(dev, "list-durable-executions-by-function", "--function-name", "work", env=environment)
        ) == {"DurableExecutions": []}


def aws(dev: Dev, *arguments: str, env: dict[str, str] = CREDENTIALS) -> str:
    """Run the AWS CLI."""
    command = [str(Path(sys.executable).with_name("aws")), "lambda", *arguments, "--endpoint-url", dev.url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env).stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["app.py", "other.py"], "'work'"),
        (["app.py", "--function", "work=true"], "'work'"),
        (["app.py:nothing"], "no function nothing"),
        (["nowhere.py"], "no file"),
        ([], "nothing to serve"),
        (["--function", "a b=true"], "NAME=COMMAND"),
        (["app.py", "--port", "9", "--host", "203.0.113.1"], "cannot be listened at"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, arguments: list[str], text: str):
    """It is said before anything is served, in a message and not a traceback."""
    write(tmp_path, "one")
    shutil.copy(tmp_path / "app.py", tmp_path / "other.py")
    command = [sys.executable, "-m", "durable", "dev", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in {2, 3}
    assert ended.stdout == ""
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


APPROVAL = """
from durable import durable_execution, DurableContext

@durable_execution
async def approve(event: dict[str, str], ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name="approval")
    return f"{event['what']}: {await callback.result()}"
"""


def test_the_aws_command_line(tmp_path: Path):
    """Invoke, history, a callback, and what came of it, by AWS's own program."""
    (tmp_path / "app.py").write_text(APPROVAL)
    out = tmp_path / "out.json"
    with served(tmp_path, "app.py", "--no-reload") as dev:
        invoke = ["invoke", "--function-name", "approve", "--payload", '{"what": "tea"}']
        invoke += ["--durable-execution-name", "n-1"]
        started = json.loads(aws(dev, *invoke, "--invocation-type", "Event", str(out)))
        arn = started["DurableExecutionArn"]
        assert started["StatusCode"] == 202

        def asked() -> str | None:
            found = json.loads(aws(dev, "get-durable-execution-history", "--durable-execution-arn", arn))
            callbacks = [
                event["CallbackStartedDetails"] for event in found["Events"] if "CallbackStartedDetails" in event
            ]
            return callbacks[0]["CallbackId"] if callbacks else None

        send = ["send-durable-execution-callback-success", "--callback-id", until(asked, dev)]
        aws(dev, *send, "--result", '"yes"')
        assert json.loads(aws(dev, *invoke, str(out)))["StatusCode"] == 200
    assert json.loads(out.read_text()) == "tea: yes"


OURS = """
from typing import Any
from durable import durable_execution, DurableContext

@durable_execution
async def ours(event: dict[str, int], ctx: DurableContext) -> list[Any]:
    async def value(number: int) -> int:
        return number

    first = await ctx.step(value, 20, name="first")
    await ctx.wait(event["seconds"], name="pause")

    async def inside(child: DurableContext) -> int:
        return await child.step(value, first + event["n"], name="inside")

    async def each(child: DurableContext, item: int) -> int:
        return await child.step(value, item * 2, name=f"item-{item}")

    second = await ctx.child(inside, name="child")
    return [second, (await ctx.map(each, [1, 2], name="map")).results()]
"""


def facts(client: Any, arn: str, *keys: str) -> set[tuple[Any, ...]]:
    """What happened to each operation: in which order branches ran is nobody's business."""
    events = client.get_durable_execution_history(DurableExecutionArn=arn, MaxItems=1000)["Events"]
    return {tuple(event.get(key) for key in keys) for event in events if "SubType" in event}


def check_another_sdk(directory: Path, command: str, *keys: str) -> None:
    """A function of another SDK, killed and started again with the server: it records what ours does, by these."""
    (directory / "app.py").write_text(OURS)
    function = f"theirs={command}"
    payload = json.dumps({"n": 22, "seconds": 3}).encode()
    invoke = {"Payload": payload, "DurableExecutionName": "n-1", "FunctionName": "theirs"}
    with served(directory, "app.py", "--function", function, "--no-reload") as dev:
        arn = dev.client.invoke(**invoke, InvocationType="Event")["DurableExecutionArn"]
        until(lambda: any(fact == ("WaitStarted",) for fact in facts(dev.client, arn, "EventType")), dev)
        dev.kill()
    with served(directory, "app.py", "--function", function, "--no-reload") as dev:
        client = dev.client
        theirs = client.invoke(**invoke)
        assert theirs["DurableExecutionArn"] == arn
        assert "FunctionError" not in theirs, dev.log
        ours = client.invoke(FunctionName="ours", Payload=payload)
        assert [json.loads(answer["Payload"].read()) for answer in (theirs, ours)] == 2 * [[42, [2, 4]]]
        assert facts(client, arn, *keys) == facts(client, ours["DurableExecutionArn"], *keys)


def test_the_official_sdk_runs_on_it(tmp_path: Path):
    """Unmodified, under AWS's runtime client; what it records is what ours does, ids and all."""
    shutil.copy(Path(__file__).with_name("official.py"), tmp_path)
    command = f"{sys.executable} -m awslambdaric official.handler"
    check_another_sdk(tmp_path, command, "EventType", "SubType", "Id", "Name", "ParentId")


def test_the_official_sdk_for_javascript_runs_on_it(tmp_path: Path):
    """The same, under AWS's runtime client for Node.js; its ids are its own."""
    packages = os.environ.get("DURABLE_NODE_PACKAGES")
    if packages is None or shutil.which("node") is None:
        pytest.skip("there is no Node.js, or no packages for it: `nox -s javascript` installs them")
    (tmp_path / "node_modules").symlink_to(Path(packages) / "node_modules")
    shutil.copy(Path(__file__).with_name("official.mjs"), tmp_path)
    command = f"{packages}/node_modules/.bin/aws-lambda-ric official.handler"
    check_another_sdk(tmp_path, command, "EventType", "SubType", "Name")
