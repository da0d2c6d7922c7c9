"""An order: stock, card, parcel; what was done is undone if one of them fails."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from durable import DurableContext, Retry, current_step, durable_execution, saga

log = logging.getLogger(__name__)

SHELVES: dict[str, int] = {"lamp": 3, "sofa": 0}
CHARGED: dict[str, float] = {}


@dataclass
class Order:
    number: str
    lines: dict[str, int]
    card: str = "visa"


@dataclass
class Reserved:
    article: str
    amount: int
    at: float


class SoldOutError(Exception):
    pass


async def reserve(article: str, amount: int) -> Reserved:
    log.info("reserving %s", article)
    if SHELVES[article] < amount:
        raise SoldOutError(article)
    SHELVES[article] -= amount
    return Reserved(article, amount, time.time())


async def put_back(reserved: Reserved) -> None:
    SHELVES[reserved.article] += reserved.amount


def charge(card: str, total: float) -> str:
    key = current_step().idempotency_key
    CHARGED.setdefault(key, total)
    return f"{card}-{uuid.uuid4()}"


def refund(receipt: str) -> None:
    print("refund", receipt)


async def total_of(ctx: DurableContext, lines: dict[str, int]) -> float:
    total = 0.0
    for article, amount in sorted(lines.items(), key=lambda line: line[1], reverse=True):
        total += amount * await ctx.step(price_of, article)
    return round(total, 2)


async def price_of(article: str) -> float:
    return {"lamp": 19.5, "sofa": 399.0}[article]


@durable_execution(name="order")
async def place_order(order: Order, ctx: DurableContext) -> str:
    started = ctx.now()
    async with saga(ctx, "order", retry=Retry(attempts=3)) as s:
        for article, amount in order.lines.items():
            reserved = await s.step(reserve, article, amount, compensate=put_back)
            ctx.logger.info("reserved %s", reserved.article)
        total = await total_of(ctx, order.lines)
        await ctx.wait(timedelta(hours=1), name="cooling-off")
        await s.step(charge, order.card, total, compensate=refund, retry=Retry(attempts=2))
    waited = ctx.now() - started
    return f"{order.number}: {total} after {waited.total_seconds():.0f} s"
