"""The rules: what each finds, what to do instead, and an example of both."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        code: What it is called by, for ever.
        finds: What it finds.
        instead: What to do instead.
        bad: Code in which it finds something; after `EXAMPLES_BEGIN`.
        good: The same put right.
    """

    code: str
    finds: str
    instead: str
    bad: str
    good: str


EXAMPLES_BEGIN: Final = """\
from durable import DurableContext, durable_execution, saga, step
"""
"""What the examples begin with, and do not show."""


def _rule(code: str, finds: str, instead: str, bad: str, good: str) -> Rule:
    return Rule(code, finds, instead, dedent(bad).lstrip("\n"), dedent(good).lstrip("\n"))


_ALL: Final = [
    _rule(
        "DUR001",
        "a file that cannot be read or parsed",
        "put it right: nothing in it was checked",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(60
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(60)
        """,
    ),
    _rule(
        "DUR101",
        "the clock is asked: another time on every replay",
        "`ctx.now()`, or a step",
        """
        from datetime import UTC, datetime

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> str:
            return datetime.now(UTC).isoformat()
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> str:
            return ctx.now().isoformat()
        """,
    ),
    _rule(
        "DUR102",
        "chance: other numbers, or another identity, on every replay",
        "`ctx.uuid4()`, `ctx.random()`; secrets in a step",
        """
        import random

        @durable_execution
        async def order(tickets: list[str], ctx: DurableContext) -> str:
            return random.choice(tickets)
        """,
        """
        @durable_execution
        async def order(tickets: list[str], ctx: DurableContext) -> str:
            return ctx.random().choice(tickets)
        """,
    ),
    _rule(
        "DUR103",
        "the environment, the process or the machine is asked",
        "a step; or the input",
        """
        import os

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> str:
            return os.environ["SHOP"]
        """,
        """
        import os

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> str:
            return await ctx.step(os.getenv, "SHOP", name="shop") or ""
        """,
    ),
    _rule(
        "DUR104",
        "files, network, databases or processes are used outside of a step: again on every replay",
        "a step",
        """
        import httpx

        @durable_execution
        async def order(url: str, ctx: DurableContext) -> int:
            async with httpx.AsyncClient() as client:
                return (await client.post(url)).status_code
        """,
        """
        import httpx

        async def post(url: str) -> int:
            async with httpx.AsyncClient() as client:
                return (await client.post(url)).status_code

        @durable_execution
        async def order(url: str, ctx: DurableContext) -> int:
            return await ctx.step(post, url)
        """,
    ),
    _rule(
        "DUR105",
        "`hash()` or `id()`: other values in another process",
        "`hashlib` of the value; a key of its own",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> int:
            return hash(event) % 8
        """,
        """
        import zlib

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> int:
            return zlib.crc32(event.encode()) % 8
        """,
    ),
    _rule(
        "DUR106",
        "durable operations in the order of a set, which another process has in another order",
        "`sorted(...)`, or a list",
        """
        async def ship(article: str) -> None: ...

        @durable_execution
        async def order(articles: list[str], ctx: DurableContext) -> None:
            for article in set(articles):
                await ctx.step(ship, article)
        """,
        """
        async def ship(article: str) -> None: ...

        @durable_execution
        async def order(articles: list[str], ctx: DurableContext) -> None:
            for article in sorted(set(articles)):
                await ctx.step(ship, article)
        """,
    ),
    _rule(
        "DUR107",
        "a global, or an attribute of a handler, is changed: by every replay again, and other executions see it",
        "return values, or a step that keeps it elsewhere",
        """
        SEEN: list[str] = []

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            SEEN.append(event)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> list[str]:
            seen: list[str] = []
            seen.append(event)
            return seen
        """,
    ),
    _rule(
        "DUR108",
        "`print` or `logging`: said again on every replay",
        "`ctx.logger`, or a step",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            print("order", event)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            ctx.logger.info("order %s", event)
        """,
    ),
    _rule(
        "DUR201",
        "a sleep of the event loop: slept again on every replay, and nothing is suspended",
        "`ctx.wait()`",
        """
        import anyio

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await anyio.sleep(3600)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(3600)
        """,
    ),
    _rule(
        "DUR202",
        "a time limit of the event loop around durable operations: it begins anew in every invocation, and whether "
        "it passed is not recorded. (Around a whole saga it is fine, if nothing in it waits for the world)",
        "`ctx.move_on_after()`, `ctx.fail_after()`, or `timeout=` of the operation",
        """
        import anyio

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            with anyio.move_on_after(3600):
                await ctx.wait_for_callback(print)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async with ctx.move_on_after(3600):
                await ctx.wait_for_callback(print)
        """,
    ),
    _rule(
        "DUR203",
        "something that waits for the world under a shield: it cannot suspend there (`SuspendedError`)",
        "no shield around it",
        """
        import anyio

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            with anyio.CancelScope(shield=True):
                await ctx.wait(3600)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(3600)
        """,
    ),
    _rule(
        "DUR301",
        "a durable operation that is not awaited: it does not happen (`UnawaitedOperationError`)",
        "`await`",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            ctx.wait(3600)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(3600)
        """,
    ),
    _rule(
        "DUR302",
        "durable operations in tasks of the event loop: their order depends on scheduling (`FrameMisuseError`)",
        "`ctx.task_group()`, `ctx.parallel`, `ctx.map`, `ctx.race`",
        """
        import asyncio

        async def price(shop: str) -> float:
            return len(shop) * 9.5

        @durable_execution
        async def order(shops: list[str], ctx: DurableContext) -> list[float]:
            return await asyncio.gather(*[ctx.step(price, shop) for shop in shops])
        """,
        """
        async def price(shop: str) -> float:
            return len(shop) * 9.5

        async def ask(ctx: DurableContext, shop: str) -> float:
            return await ctx.step(price, shop)

        @durable_execution
        async def order(shops: list[str], ctx: DurableContext) -> list[float]:
            return (await ctx.map(ask, shops)).results()
        """,
    ),
    _rule(
        "DUR303",
        "a durable operation inside of a step (`FrameMisuseError`)",
        "`ctx.child`; or hand the step what it needs",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async def charge() -> None:
                await ctx.wait(60)

            await ctx.step(charge)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async def charge(child: DurableContext) -> None:
                await child.wait(60)

            await ctx.child(charge)
        """,
    ),
    _rule(
        "DUR304",
        "the context around a child, a branch or a compensation is used inside of it (`FrameMisuseError`)",
        "its own: the first argument, or `current_context()`",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async def settle(child: DurableContext) -> None:
                await ctx.wait(60)

            await ctx.child(settle)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async def settle(child: DurableContext) -> None:
                await child.wait(60)

            await ctx.child(settle)
        """,
    ),
    _rule(
        "DUR305",
        "a body changes a variable of the code around it: on replay it does not run, and the change is lost",
        "return the value",
        """
        async def fetch(shop: str) -> float:
            return len(shop) * 9.5

        @durable_execution
        async def order(shop: str, ctx: DurableContext) -> list[float]:
            prices: list[float] = []

            async def ask() -> None:
                prices.append(await fetch(shop))

            await ctx.step(ask)
            return prices
        """,
        """
        async def fetch(shop: str) -> float:
            return len(shop) * 9.5

        @durable_execution
        async def order(shop: str, ctx: DurableContext) -> list[float]:
            prices: list[float] = []
            prices.append(await ctx.step(fetch, shop))
            return prices
        """,
    ),
    _rule(
        "DUR306",
        "a durable operation in a `finally`, or where a cancellation is caught: at a suspension it records nothing",
        "a saga, its `cleanup`; `except Exception`",
        """
        async def tidy_up() -> None: ...

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            try:
                await ctx.wait(60)
            finally:
                await ctx.step(tidy_up)
        """,
        """
        async def tidy_up() -> None: ...

        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            async with saga(ctx) as s:
                s.cleanup(tidy_up)
                await ctx.wait(60)
        """,
    ),
    _rule(
        "DUR307",
        "a cancellation is caught around durable operations and does not go on: suspensions are cancellations",
        "`except Exception`, or `raise` at its end",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            try:
                await ctx.wait(60)
            except BaseException:
                pass
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            try:
                await ctx.wait(60)
            except Exception:
                pass
        """,
    ),
    _rule(
        "DUR401",
        "a duration outside of its bounds: 1 second to 366 days (`InvalidDurationError`)",
        "one within",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(0.5)
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(1)
        """,
    ),
    _rule(
        "DUR402",
        "a name that is not 1 to 256 printable ASCII characters (`InvalidNameError`)",
        "one that is",
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(60, name="Abkühlung")
        """,
        """
        @durable_execution
        async def order(event: str, ctx: DurableContext) -> None:
            await ctx.wait(60, name="cooling-off")
        """,
    ),
]

RULES: Final = {rule.code: rule for rule in _ALL}
"""All of them, by code."""
