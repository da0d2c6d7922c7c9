"""The workloads for async-durable-execution."""

from __future__ import annotations

import os

from async_durable_execution import (
    create_default_sync_client,
    durable_callable,
    durable_execution,
    step,
)
from async_durable_execution import map as durable_map

# The SDK makes its client in the first invocation; its users can make one while Lambda initialises.
CLIENT = create_default_sync_client() if "BENCH_PREPARE" in os.environ else None


@durable_callable
async def book(number: int) -> int:
    """The smallest step there is."""
    return number


@durable_callable
async def cancel(number: int) -> None:
    """Its compensation."""


class SoldOutError(Exception):
    """What the saga fails with."""


@durable_execution(boto3_client=CLIENT)
async def steps(count: int) -> int:
    """So many steps, one after another."""
    total = 0
    for number in range(count):
        total += await step(book(number))
    return total


async def item(number: int) -> int:
    """One step for each item."""
    return await step(book(number))


@durable_execution(boto3_client=CLIENT)
async def map_items(count: int) -> int:
    """A fan-out."""
    return len((await durable_map(item, range(count))).get_results())


@durable_execution(boto3_client=CLIENT)
async def rolled_back(count: int) -> int:
    """So many steps, and all of them undone, by steps as well."""
    done: list[int] = []
    try:
        for number in range(count):
            done.append(await step(book(number)))  # noqa: PERF401 - one after the other
        raise SoldOutError  # noqa: TRY301 - what went wrong
    except SoldOutError:
        while done:
            await step(cancel(done.pop()))
        return count


HANDLERS = {"steps": steps, "map": map_items, "saga": rolled_back}
