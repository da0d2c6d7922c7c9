"""The process of one SDK: answers invocations as Lambda's runtime would have it do, and says what they took.

python benchmarks/aws/contender.py MODULE [EVENT]

With the file of an event it is a sandbox that starts: it answers that one and ends. Without, each line of standard
input is a workload. Nothing is imported here but the standard library: what Lambda's runtime has loaded anyway.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


class Context:
    """What Lambda hands to a handler beside the event."""

    aws_request_id = "2f2c0dd2-5f1c-4d5e-9f4b-8e7a0e5c1d11"
    function_name = "f"
    function_version = "1"
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:f:1"
    memory_limit_in_mb = "512"
    log_group_name = "/aws/lambda/f"
    log_stream_name = "stream"
    tenant_id = None
    client_context = None
    identity = None

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """There is always enough."""
        return 900_000


def control(url: str, **asked: Any) -> Any:
    """Ask the endpoint for something that is not part of the service."""
    from urllib.request import ProxyHandler, Request, build_opener

    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(f"{url}/control", json.dumps(asked).encode())) as answer:
        return json.loads(answer.read())


def peak_memory() -> int:
    """The most memory that this process has ever had, in kB."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - nothing more is imported
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def start(module: str, event: str) -> dict[str, Any]:
    """A sandbox from its start to the end of its first invocation."""
    handler = importlib.import_module(module).HANDLERS["steps"]
    initialised = time.monotonic()
    with open(event, encoding="utf-8") as file:  # noqa: PTH123
        parsed = json.loads(file.read())
    invoked = time.monotonic()
    answer = handler(parsed, Context())
    assert answer["Status"] == "SUCCEEDED", answer
    return {"initialised": initialised, "invoked": invoked, "cpu": time.process_time(), "peak": peak_memory()}


def work(handlers: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Answer one invocation; of a new execution, or once more of one that there is."""
    url = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
    begun = control(
        url, do="begin", latency=asked["latency"], input=asked["input"], execution=asked.get("execution")
    )
    context = Context()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = handlers[asked["work"]](begun["event"], context)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if answer["Status"] != "SUCCEEDED":
        raise RuntimeError(str(answer)[:1000])
    return {"cpu": cpu, "wall": wall, "execution": begun["execution"], **control(url, do="told")}


def main() -> None:
    """One start, or one workload a line."""
    module, *event = sys.argv[1:]
    # What an SDK prints does not get between the lines.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if event:
        print(json.dumps(start(module, event[0])), file=lines)
        return
    handlers = importlib.import_module(module).HANDLERS
    for line in sys.stdin:
        print(json.dumps(work(handlers, json.loads(line))), file=lines, flush=True)


if __name__ == "__main__":
    main()
