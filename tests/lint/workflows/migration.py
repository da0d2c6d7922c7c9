"""A migration of tables: each in a child context, page by page, checked at the end."""

from __future__ import annotations

import hashlib
import logging
from typing import Final

import msgspec

from durable import DurableContext, Retry, durable_execution

logger = logging.getLogger("migration")

PAGE: Final = 2
OLD: Final = {"users": ["ada", "grace", "edsger"], "orders": ["o-1", "o-2", "o-3", "o-4", "o-5"]}
new: dict[str, list[str]] = {}


class Page(msgspec.Struct):
    rows: list[str]
    next: int | None


class Plan(msgspec.Struct):
    tables: list[str]
    check: bool = True


def read_page(table: str, start: int) -> Page:
    logger.debug("reading %s from %d", table, start)
    rows = OLD[table][start : start + PAGE]
    end = start + len(rows)
    return Page(rows, end if end < len(OLD[table]) else None)


def write_page(table: str, rows: list[str]) -> int:
    target = new.setdefault(table, [])
    target.extend(row for row in rows if row not in target)
    return len(rows)


def digest(rows: list[str]) -> str:
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


async def copy_table(ctx: DurableContext, table: str) -> int:
    copied, start = 0, 0
    while True:
        page = await ctx.step(read_page, table, start, retry=Retry(attempts=3))
        copied += await ctx.step(write_page, table, page.rows)
        if page.next is None:
            return copied
        start = page.next
        await ctx.wait(1, name="be kind to the database")


async def verify(ctx: DurableContext, table: str) -> bool:
    def compare() -> bool:
        return digest(OLD[table]) == digest(new[table])

    return await ctx.step(compare, name=f"compare {table}")


@durable_execution
async def migrate(plan: Plan, ctx: DurableContext) -> dict[str, int]:
    copied: dict[str, int] = {}
    for table in plan.tables:
        copied[table] = await ctx.child(copy_table, table, name=f"copy {table}")
        if plan.check:
            if not await ctx.child(verify, table):
                raise ValueError(f"{table} differs")
            ctx.logger.info("%s is the same", table)
    biggest = max(copied, key=lambda table: copied[table])
    ctx.log("the biggest is %s", biggest)
    return copied
