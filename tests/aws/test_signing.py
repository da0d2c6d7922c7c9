"""Signatures: the same as botocore's, whatever the request; and whoever chooses another signer is heard."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import botocore  # type: ignore[import-untyped]
import botocore.auth  # type: ignore[import-untyped]
import pytest
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped]

from durable.aws.signing import Signature
from tests.aws.direct import OPERATION, calling

NOW = dt.datetime(2026, 11, 29, 12, 30, 15)  # noqa: DTZ001 - as botocore has it


def request(chance: random.Random) -> Any:
    """One of any kind, the same for the same state of chance."""
    host = chance.choice(["http://h", "http://h:80", "https://h.x:443", "https://h:8443", "http://[::1]:99"])
    path = "".join(chance.choice(["a", "b", "/", "%2F", " ", "~", ".", ":", "$", "%", "\u00e9"]) for _ in range(12))
    query = chance.choice(["", "?b=2&a=1", "?x=%20y&x=1&y"])
    made = AWSRequest(chance.choice(["POST", "GET"]), f"{host}/{path}{query}", data=chance.choice([b"", b"abc"]))
    for _ in range(chance.randrange(6)):
        name = chance.choice(
            ["X-A", "x-a", "Content-Type", "User-Agent", "Baggage", "X-Amzn-Trace-Id", "Host", "Z"]
        )
        made.headers[name] = chance.choice([" a  b ", "c", "d\te", ""])
    if chance.random() < 0.2:
        made.context["payload_signing_enabled"] = False
    return made


def test_signatures_are_botocores(monkeypatch: pytest.MonkeyPatch):
    """For any address, headers, body and credentials."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    chance = random.Random(seed)
    for number in range(500):
        now = NOW + dt.timedelta(days=number // 100)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda now=now: now)
        credentials = ReadOnlyCredentials("AKID", f"secret-{chance.randrange(3)}", chance.choice([None, "token"]))
        region = chance.choice(["eu-central-1", "us-east-1"])
        state = chance.getstate()
        usual, ours = request(chance), None
        chance.setstate(state)
        ours = request(chance)
        botocore.auth.SigV4Auth(credentials, "lambda", region).add_auth(usual)
        Signature(credentials, "lambda", region).add_auth(ours)
        assert ours.headers.items() == usual.headers.items(), (usual.method, usual.url, usual.headers.items())


@pytest.mark.anyio
@pytest.mark.parametrize("event", ["choose-signer.lambda", f"choose-signer.lambda.{OPERATION}"])
async def test_whoever_chooses_another_signer_is_heard(event: str):
    """A handler that has a call not signed, for one."""
    async with calling() as calls:
        execution = await calls.execution()
        await execution.call()
        assert "authorization" in calls.requests[-1].headers
        calls.events.register(event, lambda **_: botocore.UNSIGNED)
        await execution.outcome()
        assert "authorization" not in calls.requests[-1].headers
        calls.fake.violations.clear()  # it has noticed


@pytest.mark.anyio
async def test_calls_are_signed_by_it():
    """Directly and by botocore: it is in the table under its name, and chosen."""
    chosen: list[object] = []
    async with calling() as calls:
        calls.events.register(
            "before-sign.lambda", lambda *, signature_version, **_: chosen.append(signature_version)
        )
        execution = await calls.execution()
        for _ in range(2):
            await execution.call()
    assert chosen == ["durable-v4", "durable-v4"]
    assert botocore.auth.AUTH_TYPE_MAPS["durable-v4"] is Signature
    assert botocore.auth.AUTH_TYPE_MAPS["v4"] is not Signature


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("version", "context", "chosen"),
    [
        ("v4", {}, "durable-v4"),
        ("v4", {"auth_type": "v4"}, "durable-v4"),
        ("v4", {"auth_type": "v4", "unsigned_payload": True}, "v4"),
        ("v4", {"auth_type": "none"}, botocore.UNSIGNED),
        ("v4a", {"auth_type": "v4a"}, "v4a"),
        (botocore.UNSIGNED, {}, None),
    ],
)
async def test_it_is_chosen_for_what_is_usual_alone(version: object, context: dict[str, Any], chosen: object):
    """Whatever else an operation or a client may want, botocore knows how."""
    async with calling() as calls:
        _, found = await calls.events.emit_until_response(
            f"choose-signer.lambda.{OPERATION}",
            signing_name="lambda",
            region_name="eu-central-1",
            signature_version=version,
            context=context,
        )
    assert found == chosen
