"""A report that somebody else makes: asked for, looked after with growing delays, fetched, or given up."""

from __future__ import annotations

import json
import time
import urllib.request

import msgspec

from durable import (
    Backoff,
    ConditionNotMetError,
    ConditionTimeoutError,
    DurableContext,
    current_step,
    durable_execution,
)


class Request(msgspec.Struct):
    report: str
    url: str = ""
    ready_after: int = 3


class Status(msgspec.Struct):
    report: str
    state: str = "queued"
    looked_at: float = 0.0
    history: list[str] = []


def submit(request: Request) -> str:
    if request.url:
        with urllib.request.urlopen(request.url) as answer:
            return str(json.load(answer)["id"])
    return f"{request.report}-1"


async def look(status: Status) -> Status:
    attempt = current_step().attempt
    history = [*status.history, f"look {attempt}"]
    state = "ready" if attempt >= 3 else "running"
    return msgspec.structs.replace(status, state=state, looked_at=time.time(), history=history)


async def fetch(report: str) -> str:
    return f"contents of {report}"


def delay(status: Status, attempt: int) -> float:
    return 60.0 * attempt if status.state == "running" else 5.0


async def race_for_it(ctx: DurableContext, report: str) -> str:
    async def patient(branch: DurableContext) -> str:
        await branch.wait(3600)
        return "slow"

    async def eager(branch: DurableContext) -> str:
        return await branch.step(fetch, report)

    return (await ctx.race(patient, eager)).result


@durable_execution
async def make_report(request: Request, ctx: DurableContext) -> str:
    report = await ctx.step(submit, request)
    try:
        status = await ctx.wait_for_condition(
            look, Status(report), until=lambda seen: seen.state == "ready", delay=delay, timeout=86_400
        )
        await ctx.wait_for_condition(
            look, status, until=lambda seen: len(seen.history) > 4, delay=Backoff(), name="look again"
        )
    except ConditionTimeoutError as error:
        return f"not ready in time: {error.state}"
    except ConditionNotMetError:
        return "not ready"
    return await race_for_it(ctx, status.report)
