"""What every test shares: both event loops, and the way to the service."""

from __future__ import annotations

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
        help="drive executions through AWS's client over real HTTP; runs only the tests that drive any",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Over HTTP: each test that can drive an execution is given the way there, before its own fixtures."""
    if not config.getoption("--over-http"):
        return
    for item in items:
        why = item.get_closest_marker("in_process")
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=f"in process only: {why.args[0]}"))
        elif item.get_closest_marker("anyio") is not None and isinstance(item, pytest.Function):
            item.fixturenames.append("_over_http")


@pytest.fixture
async def _over_http(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """The executions of a test go over HTTP."""
    from tests.aws.harness import ENVIRONMENT
    from tests.harness import between_var
    from tests.over_http import over_http

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    async with over_http() as wire:
        reset = between_var.set(wire.client_of)
        yield
        between_var.reset(reset)
