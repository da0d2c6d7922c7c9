"""The clients that AWS's validator is given: boto3 for Lambda, and stand-ins for what an endpoint does not have.

The validator asks CloudFormation what the functions of a stack are called, and CloudWatch what they have logged.
Here the functions are called what the handlers say, and they log to a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from botocore.config import Config  # type: ignore[import-untyped]

REGION = "us-east-1"
STACK = "durable"

_ARN = re.compile(r'\$\.durableExecutionArn = "([^"]+)"')
_LONGEST_CALL = 120
"""Seconds: a synchronous invocation takes as long as its execution."""


def lambda_client(endpoint: str, connections: int) -> Any:
    """A client of an endpoint that answers as AWS Lambda does."""
    import boto3  # only here: the tests of what else is here do without

    return boto3.client(
        "lambda",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(
            max_pool_connections=connections,
            read_timeout=_LONGEST_CALL,
            retries={"mode": "standard", "total_max_attempts": 1},
        ),
    )


class CloudFormation:
    """Knows the functions of the one stack there is, whose names are their own."""

    def __init__(self, functions: Iterable[str]) -> None:
        self._functions = list(functions)

    def get_paginator(self, _operation: str) -> CloudFormation:
        """Of `list_stack_resources`, the only one that is asked for."""
        return self

    def paginate(self, **_: object) -> list[dict[str, Any]]:
        """One page."""
        kind = "AWS::Lambda::Function"
        return [
            {
                "StackResourceSummaries": [
                    {"ResourceType": kind, "LogicalResourceId": name, "PhysicalResourceId": name}
                    for name in self._functions
                ]
            }
        ]

    def describe_stack_resource(self, **asked: str) -> dict[str, Any]:
        """A function is called what it is called."""
        return {"StackResourceDetail": {"PhysicalResourceId": asked["LogicalResourceId"]}}


class Logs:
    """What the handlers have logged to a file (`handlers/helpers.py`)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def filter_log_events(self, **asked: Any) -> dict[str, Any]:
        """The lines of one execution, as CloudWatch finds them by the validator's filter."""
        found = _ARN.search(asked["filterPattern"])
        if found is None:
            raise ValueError(f"a filter of another form than expected: {asked['filterPattern']}")
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        events = [_event(line) for line in lines if json.loads(line)["durableExecutionArn"] == found[1]]
        return {
            "events": [event for event in events if asked["startTime"] <= event["timestamp"] <= asked["endTime"]]
        }


def clients(endpoint: str, functions: Iterable[str], log: Path, *, connections: int) -> Mapping[str, Any]:
    """All clients, by service."""
    return {
        "lambda": lambda_client(endpoint, connections),
        "cloudformation": CloudFormation(functions),
        "logs": Logs(log),
    }


def _event(line: str) -> dict[str, Any]:
    timestamp = json.loads(line)["timestamp"]
    return {"timestamp": timestamp, "ingestionTime": timestamp, "message": line}
