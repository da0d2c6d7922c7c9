"""Each rule: its example, what it finds and what it leaves alone. `#! DUR101` marks a line where it is to find."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from durable.lint import EXAMPLES_BEGIN, RULES, check_source

ROOT = Path(__file__).parent.parent.parent

BEGIN = """\
from __future__ import annotations
import asyncio, functools, logging, os, pathlib, random, secrets, subprocess, time, uuid
from collections import deque
from contextlib import asynccontextmanager
from datetime import date, datetime as dt, timedelta
import anyio, boto3, httpx, trio
import requests as http
from durable import Callback, DurableContext, DurableHandler, SagaScope, durable_execution, saga, step
from durable import current_context, current_saga
async def charge(card: str) -> str: ...
async def refund(receipt: str) -> None: ...
"""

CASES = {
    "clocks, whatever they were imported as": """
        from time import monotonic as clock
        now = dt.utcnow
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            dt.now()  #! DUR101
            date.today()  #! DUR101
            clock()  #! DUR101
            now()  #! DUR101
            time.strftime("%Y")  #! DUR101
            time.strftime("%Y", time.gmtime(0))
            dt.fromtimestamp(0)
            await ctx.step(charge, time.time())  #! DUR101
            await ctx.step(time.time)
            await ctx.step(lambda: time.time())
            ctx.now()
        """,
    "what only looks like a clock": """
        class Time:
            def time(self) -> float: ...
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            time = Time()
            time.time()
            def now() -> int: ...
            now()
        """,
    "chance, and what has a seed": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            random.random()  #! DUR102
            random.Random()  #! DUR102
            random.Random(7).random()
            uuid.uuid4()  #! DUR102
            uuid.uuid5(uuid.NAMESPACE_URL, event)
            uuid.UUID(event)
            secrets.token_hex()  #! DUR102
            secrets.compare_digest(event, "a")
            os.urandom(8)  #! DUR102
            ctx.random().choice(event)
            await ctx.step(uuid.uuid4)
        """,
    "the environment": """
        REGION = os.environ["REGION"]
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            os.environ.get("A")  #! DUR103
            "A" in os.environ  #! DUR103
            os.getenv("A")  #! DUR103
            REGION
            os.path.join("a", "b")
        """,
    "the outside world, by functions and by clients": """
        s3 = boto3.client("s3")
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            http.get(event)  #! DUR104
            open(event)  #! DUR104
            subprocess.run([event])  #! DUR104
            s3.put_object(Key=event)  #! DUR104
            boto3.resource("s3").Bucket("a")  #! DUR104
            pathlib.Path(event).with_suffix(".b").read_text()  #! DUR104
            (pathlib.Path(event) / "a").exists()  #! DUR104
            pathlib.Path(event).name.replace("a", "b")
            async with httpx.AsyncClient(timeout=3) as client:
                await client.get(event)  #! DUR104
                await ctx.step(client.get, event)
                await ctx.step(lambda: client.get(event))
            await asyncio.to_thread(http.get, event)  #! DUR104
            await anyio.to_thread.run_sync(slow, event)  #! DUR104
            await ctx.step(http.get, event)
            httpx.Timeout(3)
        def slow(event: str) -> None:
            http.get(event)
        """,
    "clients that are handed in or kept": """
        class Shop(DurableHandler):
            def __init__(self, client: httpx.AsyncClient) -> None:
                self.client = client
                self.path = pathlib.Path("a")
            async def handle(self, event: str, ctx: DurableContext) -> None:
                await self.client.get(event)  #! DUR104
                await ctx.step(self.client.get, event)
                await self.fetch(event)  #! DUR104
                await ctx.step(self.fetch, event)
                self.path.touch()  #! DUR104
            async def fetch(self, event: str) -> None:
                await self.client.get(event)
        async def helper(ctx: DurableContext, client: "httpx.AsyncClient", either: httpx.Client | None) -> None:
            await client.post("a")  #! DUR104
            either.post("a")  #! DUR104
        """,
    "functions of the same file that are called, and those that are not": """
        def make_id() -> str:
            return prefix() + "a"
        def prefix() -> str:
            return str(time.time())
        @step
        def declared() -> str:
            return make_id()
        @asynccontextmanager
        async def connection():
            yield http.get("a")
        @functools.cache
        def settings() -> str:
            return os.environ["A"]
        def endless() -> None:
            endless()
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            make_id()  #! DUR101
            await declared()
            async with connection():
                pass
            settings()  #! DUR103
            await ctx.step(make_id)
            endless()
            sorted(event, key=lambda one: make_id())  #! DUR101
            sorted(event, key=lambda one: random.random())  #! DUR102
        def elsewhere() -> None:
            make_id(), time.time(), http.get("a")
        """,
    "hash and id": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            hash(event)  #! DUR105
            id(event)  #! DUR105
        async def other(ctx: DurableContext, id: int) -> None:
            id(7)
        """,
    "the order of sets": """
        @durable_execution
        async def work(event: set[str], ctx: DurableContext) -> None:
            names = set(event) | {"a"}
            for name in event:
                print  # nothing durable
            for name in list(names):  #! DUR106
                await ctx.step(charge, name)
            for name in sorted(names):
                await ctx.step(charge, name)
            for name in {"a": 1}:
                await ctx.step(charge, name)
            [await ctx.step(charge, name) for name in names]  #! DUR106
            await ctx.map(branch, names)  #! DUR106
            await ctx.map(branch, sorted(names))
            ordered = list(names)
            ordered.sort()
            for name in ordered:
                await branch(ctx, name)
            for name in names:  #! DUR106
                await branch(ctx, name)
        async def branch(ctx: DurableContext, name: str) -> None:
            await ctx.step(charge, name)
        async def other(ctx: DurableContext, names: frozenset[str]) -> None:
            await ctx.parallel([lambda branch: branch.wait(9) for name in names])  #! DUR106
        """,
    "globals": """
        seen: list[str] = []
        count = 0
        table = dict()
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            global count
            count += 1  #! DUR107
            seen.append(event)  #! DUR107
            table[event] = 1  #! DUR107
            del table[event]  #! DUR107
            own = []
            own.append(event)
            seen.count(event), table[event]
            await ctx.step(seen.append, event)
            await ctx.step(keep, event)
            await ctx.step(shared().get, event)
            if event not in table:
                table[event] = "a cache"
            if event:
                table[event] = "none"  #! DUR107
        client = None
        def shared() -> httpx.Client:
            global client
            if client is None:
                client = httpx.Client()
            return client
        class Handler(DurableHandler):
            def __init__(self) -> None:
                self.count = 0
                self.by_name = {}
            async def handle(self, event: str, ctx: DurableContext) -> None:
                self.count += 1  #! DUR107
                self.by_name[event] = 1  #! DUR107
                self.note()  #! DUR107
                event.name = "a"
            def note(self) -> None:
                self.last = "a"
        class Flow:
            def __init__(self, ctx: DurableContext) -> None:
                self.count = 0
            async def run(self, ctx: DurableContext) -> None:
                self.count += 1
        def keep(event: str) -> None:
            seen.append(event)
        """,
    "what is said": """
        log = logging.getLogger(__name__)
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            print(event)  #! DUR108
            log.info(event)  #! DUR108
            logging.warning(event)  #! DUR108
            log.isEnabledFor(10)
            if not ctx.is_replaying:
                print(event)
            ctx.logger.info(event)
            ctx.log(event)
            await ctx.step(print, event)
        """,
    "sleeps": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            await asyncio.sleep(1)  #! DUR201
            await trio.sleep(1)  #! DUR201
            time.sleep(1)  #! DUR201
            await anyio.sleep(0)
            await ctx.step(anyio.sleep, 1)
        """,
    "time limits of the event loop": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            with anyio.move_on_after(9):
                async with saga(ctx) as s:
                    await s.step(charge, event)
                    await ctx.wait(9)  #! DUR202
            with anyio.fail_after(9):
                await ctx.step(charge, event)  #! DUR202
            async with asyncio.timeout(9):
                await ctx.invoke("other")  #! DUR202
            await asyncio.wait_for(ctx.step(charge, event), 9)  #! DUR202
            async with ctx.fail_after(9):
                await ctx.wait(9)
            await ctx.step(limited, event)
            with anyio.move_on_after(9):
                len(event)
        async def limited(event: str) -> None:
            with anyio.fail_after(9):
                await charge(event)
        """,
    "shields": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            with anyio.CancelScope(shield=True):
                await ctx.step(charge, event)
                await (await ctx.create_callback(str)).result()  #! DUR203
            with anyio.CancelScope():
                await ctx.wait(9)
            with anyio.CancelScope(shield=False):
                await ctx.wait(9)
            with anyio.move_on_after(9, shield=True):
                await ctx.wait(9)  #! DUR203
                await asyncio.wait_for(charge(event), 9)
        """,
    "operations that are not awaited": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> str:
            ctx.step(charge, event)  #! DUR301
            s = saga(ctx)
            async with saga(ctx) as s:
                s.step(charge, event, compensate=refund)  #! DUR301
                s.compensate(refund, event)
                s.pivot()
                receipt = s.step(charge, event)  #! DUR301
                await s.step(charge, receipt)
            callback = await ctx.create_callback(str)
            callback.result()  #! DUR301
            later = ctx.step(charge, event)
            await later
            if ctx.step(charge, event):  #! DUR301
                await ctx.step(charge, ctx.step(charge, event))  #! DUR301
            f"{ctx.step(charge, event)}"  #! DUR301
            declared()  #! DUR301
            async with ctx.task_group() as tasks:
                handle = tasks.start_soon(branch, event)
                handle.wait()  #! DUR301
            await helper(ctx)
            ctx.now(), ctx.uuid4()
            chosen = await (ctx.wait(1) if event else ctx.wait(2))
            return ctx.step(charge, event)  #! DUR301
        @step
        async def declared() -> None: ...
        async def branch(ctx: DurableContext, event: str) -> None:
            await ctx.step(charge, event)
        def helper(ctx: DurableContext):
            return ctx.step(charge, "a")
        """,
    "tasks of the event loop": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            await asyncio.gather(helper(ctx, "a"), helper(ctx, "b"))  #! DUR302
            task = asyncio.create_task(ctx.step(charge, event))  #! DUR302
            async def nested() -> None:
                await ctx.step(charge, event)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nested)  #! DUR302
                tasks.start_soon(helper, ctx, "a")  #! DUR302
                tasks.start_soon(ctx.wait, 9)  #! DUR302
                tasks.start_soon(heartbeat)
                await ctx.step(charge, event)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(declared)  #! DUR302
            async with ctx.task_group() as durable_tasks:
                durable_tasks.start_soon(helper, "a")
        @step
        async def declared() -> None: ...
        async def heartbeat() -> None:
            await asyncio.gather(anyio.sleep(1), anyio.sleep(2))
        async def helper(ctx: DurableContext, event: str) -> None:
            await ctx.step(charge, event)
        async def gathers(items: list[str]) -> None:
            await asyncio.gather(*[charge(item) for item in items])
        @durable_execution
        async def other(items: list[str], ctx: DurableContext) -> None:
            await ctx.step(gathers, items)
        """,
    "inside of steps": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            async def body() -> None:
                await ctx.wait(9)  #! DUR303
                ctx.logger.info("a")
                ctx.execution_name
                async with saga(ctx):  #! DUR303
                    pass
            await ctx.step(body)
            await ctx.step(lambda: ctx.uuid4())  #! DUR303
            await ctx.step(handed, ctx)
            await ctx.step(functools.partial(looks, ctx=ctx))
            async def check(state: str) -> str:
                return await ctx.step(charge, state)  #! DUR303
            await ctx.wait_for_condition(check, "a", until=bool)
            await ctx.wait_for_callback(lambda id: ctx.step(charge, id))  #! DUR303
            async def calls() -> None:
                await looks(ctx)
                await deeper(ctx)  #! DUR303
            await ctx.step(calls)
        async def deeper(ctx: DurableContext) -> None:
            await ctx.wait(9)
        async def handed(ctx) -> None:
            await ctx.wait(9)  #! DUR303
        async def looks(ctx) -> None:
            ctx.logger.info("a")
        @step
        async def outer() -> None:
            await inner()  #! DUR303
            current_context().now()  #! DUR303
        @step
        async def inner() -> None: ...
        """,
    "the context around": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            async def child(own: DurableContext) -> None:
                await ctx.step(charge, event)  #! DUR304
                await own.step(charge, event)
                ctx.logger.info("a")
                await helper(ctx)  #! DUR304
                await helper(own)
                await current_saga().step(charge, event)
                await s.step(charge, event)
                async with saga(ctx):  #! DUR304
                    pass
                async with saga(own):
                    pass
            async def undo() -> None:
                await ctx.wait(9)  #! DUR304
                await current_context().wait(9)
                http.post("a")
            async with saga(ctx) as s:
                await ctx.child(child)
                s.compensate(undo)
                await ctx.race(child, lambda own: ctx.wait(9))  #! DUR304
                await ctx.parallel({"a": child, "b": lambda ctx: ctx.wait(9)})
                await ctx.child(handed, ctx)  #! DUR304
            async with ctx.task_group() as tasks:
                tasks.start_soon(functools.partial(partly, "a"))
        async def helper(ctx: DurableContext) -> None:
            await ctx.wait(9)
        async def handed(ctx: DurableContext, other) -> None: ...
        async def partly(event, own) -> None:
            own.wait(9)  #! DUR301
        """,
    "changes that are lost": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            total, found, seen, by_name = 0, [], deque(), {}
            async def body() -> None:
                nonlocal total
                total += 1  #! DUR305
                found.append(event)  #! DUR305
                by_name[event] = 1  #! DUR305
                by_name["a"]["b"].append(event)  #! DUR305
                own = []
                own.append(event)
                len(found), found.count("a"), by_name["a"]
            async def item(branch: DurableContext, name: str) -> None:
                seen.append(await branch.step(charge, name))  #! DUR305
                kept = {}
                kept[name] = 1
            def inline(name: str) -> None:
                found.append(name)
            await ctx.step(body)
            await ctx.map(item, [event])
            inline(event)
            found.append(await ctx.step(charge, event))
            client = httpx.AsyncClient()
            await ctx.step(lambda: client.delete(event))
        async def helper(ctx: DurableContext, found: list[str], other: str) -> None:
            async def body() -> None:
                found.append("a")  #! DUR305
                other.add("a")
                other.name = "a"  #! DUR305
            await ctx.step(body)
        async def test_something() -> None:
            log = []
            @durable_execution
            async def inner(event: str, ctx: DurableContext) -> None:
                async def body() -> None:
                    log.append(event)
                await ctx.step(body)
        """,
    "unwinding": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            try:
                await ctx.wait(9)
            except Exception:
                await ctx.step(charge, event)
            finally:
                len(event)
            try:
                await ctx.wait(9)
            except (ValueError, asyncio.CancelledError):  #! DUR307
                await ctx.step(charge, event)  #! DUR306
            try:
                await helper(ctx)
            except:
                len(event)
                raise
            try:
                await helper(ctx)
            except anyio.get_cancelled_exc_class():  #! DUR307
                pass
            try:
                len(event)
            except BaseException:
                pass
        async def helper(ctx: DurableContext) -> None:
            try:
                await ctx.wait(9)
            finally:
                ctx.now()  #! DUR306
        async def body() -> None:
            try:
                await charge("a")
            except BaseException:
                pass
            finally:
                await refund("a")
        """,
    "constants that are refused": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            await ctx.wait(0)  #! DUR401
            await ctx.wait(timedelta(days=367))  #! DUR401
            await ctx.wait(timedelta(days=366))
            await ctx.wait(-1)  #! DUR401
            await ctx.wait(float(event))
            async with ctx.move_on_after(timedelta(milliseconds=5)):  #! DUR401
                await ctx.step(charge, event, name="")  #! DUR402
            await ctx.step(charge, event, name="x" * 300)
            await ctx.step(charge, event, name=f"ä {event}")
        """,
    "where a context comes from": """
        class Flow:
            def __init__(self, ctx: DurableContext) -> None:
                self.ctx = ctx
            async def run(self) -> None:
                await self.ctx.step(charge, "a")
                time.time()  #! DUR101
            def pure(self) -> None:
                time.time()
        async def plain(c, event):
            await c.step(charge, time.time())  #! DUR101
        async def typed(c: "DurableContext | None", callback: Callback[str], s: SagaScope) -> None:
            time.time()  #! DUR101
            callback.result()  #! DUR301
            s.step(charge, "a")  #! DUR301
        async def ambient() -> None:
            ctx = current_context()
            await ctx.wait(9)
            time.time()  #! DUR101
        async def by_call(event, context):
            await plain(context, event)
            time.time()  #! DUR101
        made = durable_execution(by_call)
        class Base(DurableHandler): ...
        class Derived(Base):
            async def handle(self, event, ctx):
                ctx.wait(9)  #! DUR301
        @durable_execution
        class Decorated:
            async def handle(self, event, ctx):
                time.time()  #! DUR101
        class Other:
            async def handle(self, event, ctx):
                ctx.wait(9)
                time.time()
        """,
    "what names stand for": """
        client = None
        client = httpx.Client()
        later = time.time
        later = str
        class Clock(DurableHandler):
            time = 3
            async def handle(self, event: str, ctx: DurableContext) -> None:
                time.time()  #! DUR101
                client.get(event)  #! DUR104
                later()
                self.time.time()
            @staticmethod
            async def of(ctx: DurableContext, event: str) -> None:
                ctx.wait(9)  #! DUR301
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            names = set(event) if event else {"a"}
            [await ctx.step(charge, names) for names in names]  #! DUR106
            some = set(event) if event else sorted(event)
            time = [time for time in event]
            (first := httpx.Client()).get(event)  #! DUR104
            first.post(event)  #! DUR104
            match event:
                case [random, *uuid]:
                    random.random()
                case {"a": 1, **secrets}:
                    secrets.token_hex()
        async def other(ctx: DurableContext, random: str, *time: str, **uuid: str) -> None:
            random.random(), time.time(), uuid.uuid4()
            def inner() -> None:
                global now
                nonlocal random
                random = now = 1
        """,
    "compensations": """
        async def undo(receipt: str) -> None:
            await current_context().wait(9)
            time.time()
        async def undo_by_hand() -> None:
            await current_context().wait(9)
            http.post("a")
        async def not_an_undo() -> None:
            await current_context().wait(9)
            http.post("a")  #! DUR104
        @step(compensate=undo, name="a")
        async def declared() -> str: ...
        @step(retry=not_an_undo)
        async def other() -> str: ...
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            count = 0
            def undo_inside(receipt: str) -> None:
                nonlocal count
                count += 1  #! DUR305
            async with saga(ctx) as s:
                s.compensate(undo_by_hand)
                await s.step(charge, event, compensate=undo_inside)
        """,
    "another library's functions": """
        from aws_durable_execution_sdk_python import DurableContext, durable_execution
        @durable_execution
        def handler(event, context: DurableContext):
            context.step(charge)
            time.time()
        """,
    "noqa": """
        @durable_execution
        async def work(event: str, ctx: DurableContext) -> None:
            time.time()  # noqa: DUR101
            time.time()  # noqa
            time.time()  # NOQA:DUR1,E501
            time.time()  # noqa: DUR102  #! DUR101
            time.time()  # noqa: E501  #! DUR101
            len(
                str(
                    time.time()
                )
            )  # noqa: DUR101
            if time.time():  # noqa: DUR101
                time.time()  #! DUR101
            "# noqa"; time.time()  #! DUR101
        """,
}


def marked(source: str) -> list[tuple[int, str]]:
    return [
        (number, code)
        for number, line in enumerate(source.splitlines(), 1)
        for code in re.findall(r"#! (DUR\d+)", line)
    ]


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name: str):
    """On the lines that are marked, and on no other."""
    source = BEGIN + dedent(CASES[name])
    assert [(one.line, one.code) for one in check_source(source)] == marked(source)


@pytest.mark.parametrize("code", RULES)
def test_the_example_of_a_rule(code: str):
    """The bad one is found, by this rule alone; in the good one there is nothing."""
    rule = RULES[code]
    assert {one.code for one in check_source(EXAMPLES_BEGIN + rule.bad)} == {code}
    assert check_source(EXAMPLES_BEGIN + rule.good) == []


def test_the_page_has_every_rule():
    """As the rules themselves say it."""
    rows = re.findall(r"^\| (DUR\d+) \| (.*) \| (.*) \|$", (ROOT / "docs" / "check.md").read_text(), re.MULTILINE)
    assert rows == [(rule.code, rule.finds, rule.instead) for rule in RULES.values()]


def test_a_message_is_one_line_and_says_what_to_do():
    """What is wrong, a colon, and what to do."""
    for rule in RULES.values():
        for one in check_source(EXAMPLES_BEGIN + rule.bad):
            assert "\n" not in one.message
            assert re.fullmatch(r".+: .+", one.message), one.message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("async def f(context: DurableContext):\n    time.time()", "use context.now(), or a step"),
        ("async def f(_: DurableContext):\n    uuid.uuid4()", "use ctx.uuid4(), or a step"),
        ("async def f(ctx: DurableContext):\n    os.urandom(8)", "make it in a step"),
        ("async def f(ctx: DurableContext):\n    random.random()", "use ctx.random(), or a step"),
        (
            "def helper(): http.get('a')\nasync def f(ctx: DurableContext):\n    helper()",
            "helper() comes to http.get() (line 12), which is done again on every replay: do it in a step",
        ),
        (
            "async def f(ctx: DurableContext):\n    await ctx.child(lambda own: ctx.wait(9))",
            "ctx.wait() uses the context around the lambda: use its own, own",
        ),
        (
            "async def f(ctx: DurableContext):\n    await ctx.child(lambda _: ctx.wait(9))",
            "ctx.wait() uses the context around the lambda: use its own, its first argument",
        ),
        (
            (
                "async def f(ctx: DurableContext):\n    async def undo(): await ctx.wait(9)\n"
                "    current_saga().compensate(undo)"
            ),
            "ctx.wait() uses the context around undo: use its own, current_context()",
        ),
    ],
)
def test_what_is_said(code: str, said: str):
    """What to do, in the words of the code itself."""
    (found,) = check_source(f"{BEGIN}{code}\n")
    assert found.message.endswith(said)


def test_columns_are_counted_in_characters():
    """Not in the bytes of UTF-8, as Python does it."""
    source = BEGIN + 'async def f(ctx: DurableContext) -> None:\n    ("ääää", time.time())\n'
    (found,) = check_source(source)
    assert found.column == source.splitlines()[-1].index("time") + 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:\n", "does not parse: "),
        ("x = 1\n  y = 2\n", "does not parse: unexpected indent"),
        ("a\0b", "null"),
        (b"# coding: nonsense\n", "nonsense"),
        (b"\xff = 1\n", "utf"),
        ("-" * 100_000 + "1", ""),
    ],
)
def test_what_does_not_parse_is_told(source: str | bytes, said: str):
    """With its place, as a finding; it is not an error of the linter's."""
    (found,) = check_source(source)
    assert found.code == "DUR001"
    assert said in found.message
