"""The pytest plugin: the conditions under which tests of durable functions run.

pytest loads it with every run, whatever is tested: it imports nothing but pytest until a test needs more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from contextlib import nullcontext
from typing import Any

import pytest

MARKER = "durable_crash_sweep"

_NOTHING: dict[str, object] = {"always_replay": False, "faults": None, "target": ""}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line."""
    group = parser.getgroup("durable", "tests of durable functions")
    group.addoption(
        "--durable-always-replay",
        action="store_true",
        help="precede each new operation by a replay of all before it, in every durable_test",
    )
    group.addoption(
        "--durable-faults",
        type=int,
        metavar="SEED",
        help="let calls to the service be throttled, lost, repeated and so on, by a seed, in every durable_test",
    )
    group.addoption(
        "--durable-target",
        default="",
        metavar="aws:FUNCTION",
        help="let every durable_test start executions of this deployed function; {name} stands for the name of the "
        "durable function, and AWS_ENDPOINT_URL_LAMBDA says where the service is, if not on AWS",
    )
    group.addoption(
        "--durable-schedule",
        type=int,
        metavar="SEED",
        help="let trio shuffle tasks by a seed, in every test",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(pairs=100, limit=60): run the test once, then again with a crash before and after everything "
        "that its durable functions record, and with pairs of crashes. It has to open its durable_test itself, and "
        "make what its steps act upon anew each time",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Let what the command line says hold for the test and its fixtures."""
    config = item.config
    changed: dict[str, Any] = {
        "always_replay": config.getoption("--durable-always-replay"),
        "faults": config.getoption("--durable-faults"),
        "target": config.getoption("--durable-target"),
    }
    schedule = config.getoption("--durable-schedule")
    if schedule is None and changed == _NOTHING:
        yield
        return
    from .testing.conditions import Conditions, under
    from .testing.schedule import trio_schedule

    with under(Conditions(**changed)), nullcontext() if schedule is None else trio_schedule(schedule):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that are marked run by a sweep."""
    for item in items:
        marker = item.get_closest_marker(MARKER)
        if marker is not None and isinstance(item, pytest.Function):
            item.obj = _swept(item.obj, item.nodeid, marker)


def _swept(test: Any, name: str, marker: pytest.Mark) -> Any:
    if not inspect.iscoroutinefunction(test):
        raise pytest.UsageError(f"{name} is marked {MARKER}, and is not an async function")
    if marker.args or not marker.kwargs.keys() <= {"pairs", "limit"}:
        raise pytest.UsageError(f"{name}: {MARKER} takes pairs= and limit=, and nothing else")

    @functools.wraps(test)
    async def swept(*args: Any, **kwargs: Any) -> None:
        from .testing.sweep import sweep

        await sweep(lambda: test(*args, **kwargs), **marker.kwargs)

    return swept
