"""botocore's signer for the calls that are made all the time, with less work for the same signature.

botocore chooses what signs a request by a name, from a table: this adds one to the table, and has it chosen for
calls that would be signed by version 4 as everybody's are.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

_auth: Any = import_module("botocore.auth")
_AWSRequest: Any = import_module("botocore.awsrequest").AWSRequest

_NAME: Final = "durable-v4"
_UNSIGNED_HEADERS: Final = frozenset(_auth.SIGNED_HEADERS_BLACKLIST)


def register_signer(client: Any, operations: frozenset[str]) -> None:
    """Have the calls of some operations of a Lambda client signed by `Signature`.

    Handlers that choose a signer for Lambda or for one of its operations come before that.
    """
    _auth.AUTH_TYPE_MAPS[_NAME] = Signature
    names = frozenset(f"choose-signer.lambda.{operation}" for operation in operations)

    def choose(*, event_name: str, signature_version: object, context: dict[str, Any], **_: Any) -> str | None:
        is_usual = signature_version == "v4" and context.get("auth_type") in {None, "v4"}
        return _NAME if event_name in names and is_usual and not context.get("unsigned_payload") else None

    client.meta.events.register_first("choose-signer", choose)


class Signature(_auth.SigV4Auth):  # type: ignore[misc] # untyped
    """Signature version 4 as botocore has it; what is the same for all calls to one address is worked out once."""

    def headers_to_sign(self, request: Any) -> dict[str, str]:
        """Names in lower case and values without needless blanks, by name."""
        found: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            if key not in _UNSIGNED_HEADERS:
                text = " ".join(value.split())
                found[key] = f"{found[key]},{text}" if key in found else text
        if "host" not in found:
            found["host"] = _host_of(request.url)
        return dict(sorted(found.items()))

    def canonical_headers(self, headers_to_sign: dict[str, str]) -> str:
        """One a line."""
        return "\n".join([f"{name}:{value}" for name, value in headers_to_sign.items()])

    def signed_headers(self, headers_to_sign: dict[str, str]) -> str:
        """Their names."""
        return ";".join(headers_to_sign)

    def _normalize_url_path(self, path: str) -> str:
        return _normalized(path)

    def signature(self, string_to_sign: str, request: Any) -> str:
        """By the key of the day."""
        key = _key(self.credentials.secret_key, self.credential_scope(request))
        return hmac.new(key, string_to_sign.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=64)
def _host_of(url: str) -> str:
    host: str = _auth.SigV4Auth(None, "", "").headers_to_sign(_AWSRequest("GET", url))["host"]
    return host


@lru_cache(maxsize=64)
def _normalized(path: str) -> str:
    normalized: str = _auth.SigV4Auth(None, "", "")._normalize_url_path(path)
    return normalized


@lru_cache(maxsize=4)
def _key(secret: str, scope: str) -> bytes:
    """What a day's requests to a service in a region are signed with."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
