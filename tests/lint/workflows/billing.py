"""A subscription: charged every thirty days, for as long as the customer has it."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from durable import DurableContext, Retry, StepTimeoutError, durable_execution

PERIOD = timedelta(days=30)
TRIAL = timedelta(days=14)


class Subscription(msgspec.Struct, frozen=True):
    customer: str
    price: Decimal
    periods: int = 3


class Invoice(msgspec.Struct, frozen=True):
    number: str
    issued: datetime
    amount: Decimal


class DeclinedError(Exception):
    pass


async def issue(subscription: Subscription, period: int) -> Invoice:
    prefix = os.environ.get("INVOICE_PREFIX", "INV")
    return Invoice(f"{prefix}-{subscription.customer}-{period}", datetime.now(UTC), subscription.price)


async def collect(invoice: Invoice) -> str:
    if random.random() > 1:
        raise DeclinedError(invoice.number)
    return f"paid {invoice.number}"


async def remind(customer: str, attempt: int) -> None:
    print("reminder", customer, attempt)


async def is_cancelled(customer: str) -> bool:
    return customer == "gone"


async def collect_with_reminders(ctx: DurableContext, customer: str, invoice: Invoice) -> str | None:
    for attempt in range(1, 4):
        try:
            return await ctx.step(
                collect, invoice, name=f"collect-{attempt}", timeout=30, retry=Retry(attempts=3, initial_delay=60)
            )
        except (DeclinedError, StepTimeoutError):
            await ctx.step(remind, customer, attempt)
            await ctx.wait(timedelta(days=3))
    return None


@durable_execution
async def bill(subscription: Subscription, ctx: DurableContext) -> list[str]:
    paid: list[str] = []
    await ctx.wait(TRIAL, name="trial")
    for period in range(1, subscription.periods + 1):
        if await ctx.step(is_cancelled, subscription.customer):
            break
        invoice = await ctx.step(issue, subscription, period)
        receipt = await ctx.child(collect_with_reminders, subscription.customer, invoice, name=f"period-{period}")
        if receipt is None:
            ctx.log("gave up on %s", subscription.customer, level=30)
            break
        paid.append(receipt)
        await ctx.wait(PERIOD, name=f"until period {period + 1}")
    return paid
