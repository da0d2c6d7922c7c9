"""The environment of a Lambda sandbox; and for connections: whom TLS trusts, and that no socket is left."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator

import anyio
import pytest
import trustme

from tests.aws.harness import enter_sandbox
from tests.aws.peers import HOST, Tls, open_sockets


@pytest.fixture(autouse=True)
def sandbox_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region, and nothing of the machine that the tests run on."""
    enter_sandbox(monkeypatch)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom only those trust who are told to."""
    return trustme.CA()


@pytest.fixture(params=[None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["plain", "TLS 1.2", "TLS 1.3"])
def tls(request: pytest.FixtureRequest, authority: trustme.CA) -> Tls | None:
    """Without TLS, and with each of its versions."""
    return None if request.param is None else Tls(authority, HOST, request.param)


@pytest.fixture
def secure(authority: trustme.CA) -> Tls:
    """With TLS."""
    return Tls(authority, HOST, ssl.TLSVersion.TLSv1_3)


@pytest.fixture
async def no_socket_is_left() -> AsyncGenerator[None]:
    """Whatever happens to a connection, its socket is closed afterwards."""
    before = open_sockets()
    yield
    await anyio.wait_all_tasks_blocked()  # the event loop closes some only then
    assert open_sockets() == before
