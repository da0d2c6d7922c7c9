"""Botocore's model of the Lambda service, as what it says of each request and each answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session  # type: ignore[import-untyped]
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from botocore.model import OperationModel, ServiceModel, Shape  # type: ignore[import-untyped]

from tests.aws.later import with_later

REGION = "eu-west-1"
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@functools.cache
def operation(name: str) -> OperationModel:
    """An operation of the whole model, the one that botocore ships, with what a later one knows of executions."""
    model = botocore.session.Session().get_component("data_loader").load_service_model("lambda", "service-2")
    return ServiceModel(with_later(model), "lambda").operation_model(name)


def violations(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """Everything in which a value does not fit a shape: members, types, enums, patterns, lengths, ranges."""
    yield from _CHECKS[shape.type_name](shape, value, path)


def _in_list(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: {value!r} is not a list"
        return
    for number, item in enumerate(value):
        yield from violations(shape.member, item, f"{path}[{number}]")


def _in_string(shape: Any, value: Any, path: str) -> Iterator[str]:
    metadata = shape.metadata
    if not isinstance(value, str):
        yield f"{path}: {value!r} is not a string"
        return
    if not metadata.get("min", 0) <= len(value) <= metadata.get("max", len(value)):
        yield f"{path}: {len(value)} characters"
    if "pattern" in metadata and re.fullmatch(metadata["pattern"], value) is None:
        yield f"{path}: {value!r} does not match {metadata['pattern']}"
    if metadata.get("enum") and value not in metadata["enum"]:
        yield f"{path}: {value!r} is none of {metadata['enum']}"


def _in_integer(shape: Any, value: Any, path: str) -> Iterator[str]:
    metadata = shape.metadata
    if type(value) is not int or not metadata.get("min", value) <= value <= metadata.get("max", value):
        yield f"{path}: {value!r} is not such an integer"


def _in_boolean(_: Any, value: Any, path: str) -> Iterator[str]:
    if type(value) is not bool:
        yield f"{path}: {value!r} is not a boolean"


def _in_timestamp(_: Any, value: Any, path: str) -> Iterator[str]:
    if type(value) not in {int, float} or not 1e9 < value < 1e10:
        yield f"{path}: {value!r} is not a timestamp in seconds"


def _in_structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is not an object"
        return
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name} is missing"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{path}.{name} is unknown"
        else:
            yield from violations(shape.members[name], member, f"{path}.{name}")


_CHECKS: dict[str, Callable[[Any, Any, str], Iterator[str]]] = {
    "structure": _in_structure,
    "list": _in_list,
    "string": _in_string,
    "integer": _in_integer,
    "long": _in_integer,
    "boolean": _in_boolean,
    "timestamp": _in_timestamp,
}


def is_signed(method: str, url: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a request has the signature that its own bytes give, by our key."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/lambda/aws4_request, "
        r"SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if found is None or found[1] != KEY_ID or found[3] != REGION:
        return False
    signed = {name: headers[name] for name in found[4].split(";")}
    request = AWSRequest(method, url, headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials(KEY_ID, SECRET), "lambda", REGION)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return "host" in signed and bool(expected == found[5])
