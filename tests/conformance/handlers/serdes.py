"""Serdes that leave their mark on what they encode."""

from __future__ import annotations

import base64
import json
from typing import Any

from durable import BatchItem, BatchResult
from durable.abc import Serde
from durable.serde import JsonSerde


class Uppercase(JsonSerde):
    """JSON, all text in capitals."""

    def encode(self, value: Any) -> str:
        return super().encode(value).upper()


class BareUppercase(Serde):
    """Text in capitals as it is, without JSON's quotes. What comes from outside is JSON."""

    def encode(self, value: Any) -> str:
        return str(value).upper()

    def decode(self, text: str, annotation: Any) -> Any:
        return json.loads(text) if text.startswith('"') else text


class Envelope(JsonSerde):
    """Text in an envelope, `{"wrapped": text}`; everything else is JSON."""

    def encode(self, value: Any) -> str:
        return super().encode({"wrapped": value} if isinstance(value, str) else value)

    def decode(self, text: str, annotation: Any) -> Any:
        return json.loads(text)["wrapped"] if annotation is str else super().decode(text, annotation)


class Prefix(JsonSerde):
    """Text after a prefix, `wrapped:text`; everything else is JSON."""

    def encode(self, value: Any) -> str:
        return f"wrapped:{value}" if isinstance(value, str) else super().encode(value)

    def decode(self, text: str, annotation: Any) -> Any:
        return text.removeprefix("wrapped:") if annotation is str else super().decode(text, annotation)


class Joined(Serde):
    """A whole batch: its results after a mark, `OPSERDE:X,Y`."""

    def encode(self, value: Any) -> str:
        return f"OPSERDE:{','.join(value.results())}"

    def decode(self, text: str, annotation: Any) -> Any:
        results = text.removeprefix("OPSERDE:").split(",")
        items = [
            BatchItem(index=index, name=f"map-item-{index}", status="succeeded", result=result)
            for index, result in enumerate(results)
        ]
        return BatchResult(items=items, completion_reason="ALL_COMPLETED", is_successful=True)


class Trail(str):
    """A state that is text."""

    __slots__ = ()


class TrailSerde(JsonSerde):
    """A `Trail` in Base64, after a mark; everything else is JSON."""

    def check(self, annotation: Any) -> None:
        if annotation is not Trail:
            super().check(annotation)

    def encode(self, value: Any) -> str:
        if not isinstance(value, Trail):
            return super().encode(value)
        return f"trail:{base64.b64encode(value.encode()).decode()}"

    def decode(self, text: str, annotation: Any) -> Any:
        if annotation is not Trail:
            return super().decode(text, annotation)
        return Trail(base64.b64decode(text.removeprefix("trail:")).decode())
