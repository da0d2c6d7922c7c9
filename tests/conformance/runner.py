"""Drives the handlers through AWS's own validator, and tells what became of each requirement.

The requirements and the validator are AWS's package `aws-durable-execution-conformance-tests`; nothing of it is
kept here. What is judged is what its validator judges: the status and the result of each execution, its history
event by event, and what it logged.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aws_durable_execution_conformance_tests.config import TESTS_DIR
from aws_durable_execution_conformance_tests.extensions import (
    RequirementCase,
    load_extensions,
    requirement_description,
)
from aws_durable_execution_conformance_tests.sam import Invoker
from aws_durable_execution_conformance_tests.validate import validate_description

from .clients import REGION, STACK
from .expected import NOT_COVERED
from .handlers.helpers import Handler
from .outcome import OWN_PROCESS, Outcome, Status


def requirements(suites: Sequence[str], only: Sequence[str] = ()) -> dict[str, RequirementCase]:
    """AWS's requirements by id: those of some suites, or of these only the ones that are named.

    Raises:
        LookupError: There is none of such an id.
    """
    cases: dict[str, RequirementCase] = load_extensions(TESTS_DIR, entry_points=()).discover_requirements(suites)
    missing = [name for name in only if name not in cases]
    if missing:
        raise LookupError(f"there is no requirement {', '.join(missing)} in the suites {', '.join(suites)}")
    return {name: case for name, case in cases.items() if not only or name in only}


def run(
    cases: Mapping[str, RequirementCase],
    handlers: Mapping[str, Handler],
    clients: Mapping[str, Any],
    directory: Path,
    *,
    workers: int,
    processes: bool,
) -> list[Outcome]:
    """Judge requirements, several at a time.

    Args:
        cases: The requirements.
        handlers: What meets them.
        clients: What talks to the endpoint, by service.
        directory: Where the histories go, and what the validator prints.
        workers: How many at a time.
        processes: Whether the endpoint runs the functions that end their process in one of their own.
    """
    invoker = Invoker(STACK, REGION, lambda_client=clients["lambda"], cfn_client=clients["cloudformation"])

    def judge(case: RequirementCase) -> Outcome:
        name = case.description_id
        title = " ".join((requirement_description(case) or "").split())
        handler = handlers.get(name)
        if handler is None:
            why = [NOT_COVERED.get(name, "there is no handler for it")]
            return Outcome(name, case.suite.name, title, "not covered", why)
        if handler.exits and not processes:
            return Outcome(name, case.suite.name, title, "not covered", [OWN_PROCESS])
        why = _judge(case, handler.function.name, invoker, clients, directory)
        status: Status = "failed" if why else "passed"
        return Outcome(name, case.suite.name, title, status, why, handler.note)

    # The validator prints from all threads; what it says comes back in its results as well.
    with (
        (directory / "validator.log").open("w") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        ThreadPoolExecutor(workers) as pool,
    ):
        return sorted(pool.map(judge, cases.values()), key=lambda outcome: outcome.order)


def _judge(
    case: RequirementCase, function: str, invoker: Invoker, clients: Mapping[str, Any], directory: Path
) -> list[str]:
    """What AWS's validator finds wrong; nothing, if the requirement is met."""
    try:
        result = validate_description(
            function,
            case.description_id,
            str(case.path),
            invoker,
            str(directory),
            REGION,
            clients,
            output_dir=str(directory),
        )
    except Exception:  # the validator's own: it shall not end the others
        return traceback.format_exc().splitlines()
    return [] if result.passed else [str(error) for error in result.errors] or ["the validator does not say why"]
