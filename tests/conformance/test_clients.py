"""The stand-ins for CloudWatch and CloudFormation, and the file in between."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from .clients import CloudFormation, Logs
from .handlers.helpers import LOGGER, log_to

ARN = "arn:aws:lambda:local:000000000000:function:f:1/durable-execution/n/i"


def asked(arn: str = ARN, begin: float = 0, end: float = 2**53) -> dict[str, Any]:
    """A question as the validator asks it."""
    pattern = f'{{ ($.durableExecutionArn = "{arn}") || ($.executionArn = "{arn}") }}'
    return {"logGroupName": "/aws/lambda/f", "filterPattern": pattern, "startTime": begin, "endTime": end}


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A file that the handlers log to, for a while."""
    path = tmp_path / "handlers.log"
    handler = log_to(path)
    yield path
    LOGGER.removeHandler(handler)
    handler.close()
    LOGGER.setLevel(logging.NOTSET)


def test_what_an_execution_has_logged_is_found(log: Path):
    """By its ARN and in the time that is asked for, as the handlers have written it."""
    LOGGER.info("one %s", "thing", extra={"execution_arn": ARN})
    LOGGER.warning("another's", extra={"execution_arn": f"{ARN}i"})
    LOGGER.info("nobody's")
    (event,) = Logs(log).filter_log_events(**asked())["events"]
    line = json.loads(event["message"])
    assert (line["message"], line["level"], line["durableExecutionArn"]) == ("one thing", "INFO", ARN)
    assert Logs(log).filter_log_events(**asked(begin=event["timestamp"], end=event["timestamp"]))["events"] == [
        event
    ]
    assert Logs(log).filter_log_events(**asked(begin=event["timestamp"] + 1))["events"] == []


def test_nothing_was_logged(tmp_path: Path):
    """There is no file then."""
    assert Logs(tmp_path / "missing").filter_log_events(**asked())["events"] == []


def test_a_question_of_another_form_is_not_answered_with_nothing(tmp_path: Path):
    """An answer without lines would have the validator count none."""
    with pytest.raises(ValueError, match="another form"):
        Logs(tmp_path / "missing").filter_log_events(filterPattern="ERROR")


def test_functions_are_called_what_they_are_called():
    """The stack's names are the functions' own."""
    stack = CloudFormation(["f", "g"])
    (page,) = stack.get_paginator("list_stack_resources").paginate(StackName="any")
    assert [each["PhysicalResourceId"] for each in page["StackResourceSummaries"]] == ["f", "g"]
    detail = stack.describe_stack_resource(StackName="any", LogicalResourceId="g")["StackResourceDetail"]
    assert detail["PhysicalResourceId"] == "g"
