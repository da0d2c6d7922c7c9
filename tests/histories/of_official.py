"""`python -m tests.histories.of_official`: run `official.py` on the local server, and keep what AWS's tools print.

Two documents: boto3's answer, of an execution that is in flight, and AWS's command line, of one that is over.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.histories.index import keep
from tests.server.dev import CREDENTIALS, Dev, served, until

HERE = Path(__file__).parent


def main() -> None:
    """Record both, and keep them."""
    made_by = f"aws-durable-execution-sdk-python-{version('aws-durable-execution-sdk-python')}"
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(HERE / "official.py", directory)
        command = f"{sys.executable} -m awslambdaric official.handler"
        with served(Path(directory), "--function", f"official={command}") as dev:
            arn = _run(dev, in_flight=True)
            until(lambda: "pause-2" in _names(dev, arn), dev)
            answer = dev.client.get_durable_execution_history(DurableExecutionArn=arn, IncludeExecutionData=True)
            document = json.dumps(answer, indent=2, default=str)
            keep("official-in-flight", made_by, (), document.encode())
            over = _run(dev, in_flight=False)
            until(lambda: _status(dev, over) == "SUCCEEDED", dev)
            keep("official", made_by, (), _by_the_command_line(dev, over).encode())


def _run(dev: Dev, *, in_flight: bool) -> str:
    payload = json.dumps({"n": 22, "map": in_flight}).encode()
    answer = dev.client.invoke(FunctionName="official", InvocationType="Event", Payload=payload)
    arn = str(answer["DurableExecutionArn"])
    callback = until(lambda: _callback(dev, arn), dev)
    dev.client.send_durable_execution_callback_success(CallbackId=callback, Result=b'"yes"')
    return arn


def _events(dev: Dev, arn: str) -> list[dict[str, Any]]:
    return list(dev.client.get_durable_execution_history(DurableExecutionArn=arn, MaxItems=1000)["Events"])


def _names(dev: Dev, arn: str) -> set[str]:
    return {event.get("Name", "") for event in _events(dev, arn)}


def _callback(dev: Dev, arn: str) -> str | None:
    found = [event["CallbackStartedDetails"] for event in _events(dev, arn) if "CallbackStartedDetails" in event]
    return found[0]["CallbackId"] if found else None


def _status(dev: Dev, arn: str) -> str:
    return str(dev.client.get_durable_execution(DurableExecutionArn=arn)["Status"])


def _by_the_command_line(dev: Dev, arn: str) -> str:
    command = [sys.executable, "-m", "awscli", "lambda", "get-durable-execution-history"]
    options = ["--include-execution-data", "--endpoint-url", dev.url, "--output", "json"]
    return subprocess.run(
        [*command, "--durable-execution-arn", arn, *options],
        env={**os.environ, **CREDENTIALS},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


if __name__ == "__main__":
    main()
