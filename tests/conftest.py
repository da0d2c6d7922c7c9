"""What every test shares: both event loops, and the way to the service."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run the test on each event loop."""
    backend: str = request.param
    return backend


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--over-http`: the contract suite (`nox -s contract`)."""
    parser.addoption(
        "--over-http",
        action="store_true",
        help="drive executions through AWS's client over real HTTP",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Over HTTP: what can drive an execution is given the way there."""
    if not config.getoption("--over-http"):
        return
    every = list(items)
    items[:] = _over_http_once([item for item in every if _is_async(item)])
    config.hook.pytest_deselected(items=[item for item in every if item not in items])
    for item in items:
        assert isinstance(item, pytest.Function)
        why = item.get_closest_marker("in_process")
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=f"in process only: {why.args[0]}"))
        else:
            item.fixturenames.append("_over_http")


def _is_async(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)


def _over_http_once(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of a test with many cases each event loop takes every other one; the other tests run on both."""
    cases: dict[tuple[object, ...], list[pytest.Item]] = {}
    for item in items:
        loop = getattr(item, "callspec", None) and item.callspec.params.get("anyio_backend")  # type: ignore[attr-defined]
        cases.setdefault((item.parent, getattr(item, "originalname", item.name), loop), []).append(item)
    many = 4
    chosen: set[pytest.Item] = set()
    for (*_, loop), found in cases.items():
        chosen.update(found if len(found) < many else found[loop == "trio" :: 2])
    return [item for item in items if item in chosen]


@pytest.fixture
async def _over_http(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """The executions of a test go over HTTP."""
    from tests.aws.harness import enter_sandbox
    from tests.harness import between_var
    from tests.over_http import over_http

    enter_sandbox(monkeypatch)
    async with over_http() as wire:
        reset = between_var.set(wire.client_of)
        yield
        between_var.reset(reset)
