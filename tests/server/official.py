"""A function written with AWS's own SDK, as its users write it; the runtime imports it."""

from __future__ import annotations

from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> Any:
    """Steps, a wait, a child, a map."""
    first = context.step(lambda _: 20, name="first")
    context.wait(Duration.from_seconds(event.get("seconds", 1)), name="pause")

    def inside(child: DurableContext) -> Any:
        return child.step(lambda _: first + event["n"], name="inside")

    second = context.run_in_child_context(inside, name="child")

    def each(child: DurableContext, item: int, index: int, items: Any) -> Any:
        return child.step(lambda _: item * 2, name=f"item-{item}")

    return [second, context.map([1, 2], each, name="map").get_results()]
