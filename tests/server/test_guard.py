"""Who may talk to the server."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from durable.server import make_app

from .conftest import opened

LIST = "/2025-12-01/functions/order/durable-executions"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9420", 200),
        ("localhost:9420", 200),
        ("LOCALHOST", 200),
        ("[::1]:9420", 200),
        ("evil.example", 403),
        ("evil.example:9420", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_only_its_own_names_are_answered(client: TestClient, host: str, status: int):
    """A name of somebody else's that points here is how a page reaches what is not its own."""
    answer = client.get(LIST, headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["X-Amzn-ErrorType"] == "AccessDeniedException"
        assert "x-amzn-requestid" in answer.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:9420", 200),
        ("https://evil.example", 403),
        ("http://127.0.0.1:9421", 403),
        ("http://localhost:9420", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_others_are_refused(client: TestClient, origin: str, status: int):
    """Browsers say where a request comes from; no other client does."""
    headers = {"Host": "127.0.0.1:9420", "Origin": origin}
    assert client.get(LIST, headers=headers).status_code == status
    invoked = client.post("/2015-03-31/functions/double/invocations", content=b"1", headers=headers)
    assert invoked.status_code == status


SIGNED = "AWS4-HMAC-SHA256 Credential={}/20261125/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer open-sesame", 200),
        (SIGNED.format("open-sesame"), 200),
        (SIGNED.format("open-sesam"), 403),
        ("Bearer wrong", 403),
        ("Bearer ", 403),
        ("Bearer \u00e9", 403),
        (None, 403),
    ],
)
def test_a_token_is_asked_for(authorization: str | None, status: int):
    """As a bearer token, or as the key that requests are signed with; then any name will do."""
    app = make_app(opened, hosts=frozenset(), token="open-sesame")
    with TestClient(app, base_url="http://anything.example") as client:
        headers = [] if authorization is None else [(b"Authorization", authorization.encode())]
        answer = client.get(LIST, headers=headers)
    assert answer.status_code == status
