"""TLS, CA bundles and proxies: what is between a sandbox and the service."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from durable import ServiceError
from durable.aws import open_client
from durable.aws.untyped import AioConfig
from tests.aws.flows import World, small_saga
from tests.aws.harness import AwsHarness, impatient

pytestmark = pytest.mark.anyio


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's certificate by that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """A CA bundle with the authority in it."""
    path = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


class Proxy:
    """An HTTP proxy that tunnels, and that may want to know who asks."""

    def __init__(self, credentials: str | None = None) -> None:
        self.connects: list[str] = []
        self._wanted = None if credentials is None else base64.b64encode(credentials.encode()).decode()

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        """Serve; gives `host:port`."""
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, self._tunnel)
            yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            tasks.cancel_scope.cancel()

    async def _tunnel(self, stream: SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            self.connects.append(target.decode())
            if self._wanted is not None and f"Basic {self._wanted}".encode() not in head:
                await stream.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
            host, _, port = target.decode().rpartition(":")
            async with await anyio.connect_tcp(host, int(port)) as other, anyio.create_task_group() as tasks:
                tasks.start_soon(_relay, stream, other)
                tasks.start_soon(_relay, other, stream)


async def _relay(source: ByteStream, sink: ByteStream) -> None:
    try:
        async for data in source:
            await sink.send(data)
        await sink.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


async def started() -> AwsHarness:
    """An execution that exists."""
    harness = AwsHarness(small_saga(World(), fails=False))
    await harness.service.create(harness.record)
    return harness


async def poll(harness: AwsHarness, url: str, config: AioConfig | None = None) -> None:
    """One call."""
    event = await harness.service.begin_invocation(harness.record.id)
    async with open_client(endpoint_url=url, config=config or impatient()) as client:
        answer = await client.checkpoint(harness.record.arn, event.checkpoint_token, [], "c")
        assert answer.checkpoint_token is not None


async def test_a_ca_bundle_of_ones_own(tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch):
    """AWS_CA_BUNDLE says whom to trust."""
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    harness = await started()
    async with harness.fake.serve(tls) as url:
        await poll(harness, url)
    assert harness.fake.violations == []


async def test_an_authority_that_nobody_knows_is_not_trusted(tls: ssl.SSLContext):
    """Without the bundle the handshake fails, and nothing is sent: trouble of the network, not the execution's."""
    harness = await started()
    async with harness.fake.serve(tls) as url:
        with pytest.raises(ServiceError) as caught:
            await poll(harness, url)
    assert caught.value.code == "SSLError"
    assert caught.value.retryable
    assert harness.fake.requests == []


async def test_a_certificate_of_another_host_is_not_accepted(
    authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
):
    """Whom the authority has signed for counts, not only that it has."""
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    harness = await started()
    async with harness.fake.serve(context) as url:
        with pytest.raises(ServiceError, match="SSLError"):
            await poll(harness, url)


@pytest.mark.parametrize("credentials", [None, "ada:secret"])
async def test_a_proxy_of_the_environment(
    credentials: str | None, tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch
):
    """HTTPS_PROXY is asked for a tunnel, with the credentials that are in it; NO_PROXY goes past it."""
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    harness = await started()
    proxy = Proxy(credentials)
    async with harness.fake.serve(tls) as url, proxy.serve() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{credentials + '@' if credentials else ''}{address}")
        await poll(harness, url)
        assert proxy.connects == [url.removeprefix("https://")]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await poll(harness, url)
    assert len(proxy.connects) == 1
    assert harness.fake.violations == []


async def test_a_proxy_that_refuses(tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch):
    """A proxy's refusal, and one that is not there, are worth a repeat."""
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    harness = await started()
    proxy = Proxy("ada:secret")
    async with harness.fake.serve(tls) as url, proxy.serve() as address:
        for where in (f"http://{address}", "http://127.0.0.1:9"):
            with pytest.raises(ServiceError) as caught:
                await poll(harness, url, impatient(proxies={"https": where}))
            assert caught.value.code == "ProxyConnectionError"
            assert caught.value.retryable


async def test_credentials_of_a_container_are_got_on_both_loops(monkeypatch: pytest.MonkeyPatch):
    """As under SnapStart: over the network, by the same session class, before the first call."""
    import json

    from tests.aws.http import Reply, Request, serve
    from tests.aws.model import KEY_ID, SECRET

    async def answer(request: Request) -> Reply:
        assert request.target.endswith("/credentials")
        return Reply(
            json.dumps(
                {
                    "AccessKeyId": KEY_ID,
                    "SecretAccessKey": SECRET,
                    "Token": "t",
                    "Expiration": "2100-01-01T00:00:00Z",
                }
            ).encode()
        )

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    harness = await started()
    async with serve(answer) as address, harness.fake.serve() as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{address}/credentials")
        await poll(harness, url)
    assert harness.fake.violations == []
    assert harness.fake.requests[0].headers["x-amz-security-token"] == "t"
