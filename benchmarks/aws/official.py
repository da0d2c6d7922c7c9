"""The workloads for aws-durable-execution-sdk-python."""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_durable_execution_sdk_python import (
    DurableContext,
    StepContext,
    durable_execution,
    durable_step,
)

# The SDK makes its client in the first invocation; its users can make one while Lambda initialises.
CLIENT = boto3.client("lambda") if "BENCH_PREPARE" in os.environ else None


@durable_step
def book(_: StepContext, number: int) -> int:
    """The smallest step there is."""
    return number


@durable_step
def cancel(_: StepContext, number: int) -> None:
    """Its compensation."""


class SoldOutError(Exception):
    """What the saga fails with."""


@durable_execution(boto3_client=CLIENT)
def steps(count: int, ctx: DurableContext) -> int:
    """So many steps, one after another."""
    total = 0
    for number in range(count):
        total += ctx.step(book(number))
    return total


def item(ctx: DurableContext, number: int, *_: Any) -> int:
    """One step for each item."""
    return ctx.step(book(number))


@durable_execution(boto3_client=CLIENT)
def map_items(count: int, ctx: DurableContext) -> int:
    """A fan-out."""
    return len(ctx.map(range(count), item).get_results())


@durable_execution(boto3_client=CLIENT)
def rolled_back(count: int, ctx: DurableContext) -> int:
    """So many steps, and all of them undone: by hand, as there are no sagas."""
    done: list[int] = []
    try:
        for number in range(count):
            done.append(ctx.step(book(number)))  # noqa: PERF401 - one after the other
        raise SoldOutError  # noqa: TRY301 - what went wrong
    except SoldOutError:
        while done:
            ctx.step(cancel(done.pop()))
        return count


HANDLERS = {"steps": steps, "map": map_items, "saga": rolled_back}
