"""A function of AWS's own SDK. Its histories were made once, on the local server (`of_official.py`).

`PROGRAMS["official"]` is the same in this library, and follows them.
"""

from __future__ import annotations

from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, JitterStrategy, StepConfig
from aws_durable_execution_sdk_python.retries import RetryStrategyConfig, create_retry_strategy

attempts: list[int] = []


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> Any:
    """Steps, a retry, a wait, children, a callback, and a map that is under way where the history was taken."""
    first = context.step(lambda _: 20, name="first")

    def fails_at_first(_: Any) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("at first")
        return "at last"

    retry = RetryStrategyConfig(max_attempts=3, initial_delay=Duration(1), jitter_strategy=JitterStrategy.NONE)
    second = context.step(
        fails_at_first, name="second", config=StepConfig(retry_strategy=create_retry_strategy(retry))
    )
    context.wait(Duration.from_seconds(1), name="pause")

    def inside(child: DurableContext) -> Any:
        return child.step(lambda _: first + event["n"], name="inside")

    third = context.run_in_child_context(inside, name="child")
    callback = context.create_callback(name="answer", config=CallbackConfig(timeout=Duration.from_seconds(600)))
    answer = callback.result()
    if event["map"]:

        def each(child: DurableContext, item: int, index: int, items: Any) -> Any:
            doubled = child.step(lambda _: item * 2, name=f"item-{item}")
            child.wait(Duration.from_seconds(60 * item), name=f"pause-{item}")
            return doubled

        context.map([1, 2], each, name="map")
    return {"sum": third, "second": second, "answer": answer}
