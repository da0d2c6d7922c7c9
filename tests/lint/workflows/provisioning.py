"""A tenant's resources: made one after another or side by side, and taken down again if it does not work out."""

from __future__ import annotations

import functools
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from durable import (
    CompensationError,
    DurableContext,
    Retry,
    StepOutcome,
    current_saga,
    durable_execution,
    saga,
    step,
)


@dataclass
class Tenant:
    name: str
    regions: list[str] = field(default_factory=lambda: ["eu", "us"])
    fail: bool = False


class QuotaError(Exception):
    pass


def database_down(name: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT ?", (name,))


@step(compensate=database_down, timeout=60, retry=Retry(attempts=3))
def database_up(name: str) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE tenants (name TEXT, password TEXT)")
        connection.execute("INSERT INTO tenants VALUES (?, ?)", (name, secrets.token_hex(16)))
    return name


async def bucket_up(region: str, tenant: str) -> str:
    return f"{tenant}-{region}"


async def bucket_down(outcome: StepOutcome[str]) -> None:
    if outcome.status == "succeeded":
        print("deleting", outcome.value)


async def check_quota(*, tenant: str, fail: bool) -> int:
    if fail:
        raise QuotaError(tenant)
    return 10


async def regional(ctx: DurableContext, region: str, tenant: str) -> str:
    bucket = await current_saga().step(
        bucket_up, region, tenant, compensate=bucket_down, compensate_on="start", name=f"bucket {region}"
    )
    await ctx.wait(30, name="let DNS settle")
    return bucket


@durable_execution
async def provision(tenant: Tenant, ctx: DurableContext) -> dict[str, Any]:
    token = str(ctx.uuid4())
    try:
        async with saga(ctx, "tenant", retry=Retry(attempts=5)) as s:
            await database_up(tenant.name)
            async with ctx.task_group() as tasks:
                handles = [tasks.start_soon(regional, region, tenant.name) for region in tenant.regions]
            quota = await s.step(
                functools.partial(check_quota, tenant=tenant.name, fail=tenant.fail), name="check quota"
            )
            s.cleanup(print, "provisioned or not:", tenant.name)
            s.pivot()
    except QuotaError as error:
        return {"error": f"no quota for {error}"}
    except CompensationError as error:
        return {"error": str(error)}
    return {"buckets": [handle.result() for handle in handles], "quota": quota, "token": len(token)}
