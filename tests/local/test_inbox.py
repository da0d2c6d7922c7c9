"""Requests that others leave for the engine that has a store: carried out, replied to, never lost."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from durable import DurableContext, durable_execution, saga
from durable._wire import ErrorObject, ExecutionStatus
from durable._wire.events import CallbackStartedDetails
from durable.abc import Inbox
from durable.exceptions import CallbackFailedError, ExecutionFailedError, StoreError
from durable.local import Engine, Run, open_engine
from durable.local.inbox import (
    DeleteExecution,
    FailCallback,
    HeartbeatCallback,
    PauseExecution,
    Reply,
    Request,
    ResumeExecution,
    StopExecution,
    SucceedCallback,
    decode_reply,
    encode_request,
    look,
)
from durable.local.stores.file import engine_of
from durable.local.stores.inbox import post
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from durable.testing import SkippingClock

pytestmark = pytest.mark.anyio

LONG_ENOUGH = 20.0
"""Seconds that a reply may take on a busy machine."""


@pytest.fixture(autouse=True)
def an_eager_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks a hundred times as often."""
    monkeypatch.setattr("durable.local.inbox.INTERVAL", 0.005)


@pytest.fixture
def a_lazy_engine(monkeypatch: pytest.MonkeyPatch, an_eager_engine: None) -> None:
    """It looks when it is opened, and then not for an hour."""
    monkeypatch.setattr("durable.local.inbox.INTERVAL", 3600.0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@durable_execution
async def asks(event: None, ctx: DurableContext) -> Any:
    callback = await ctx.create_callback(Any, name="question", heartbeat_timeout=3600)
    return await callback.result()


@durable_execution
async def hangs(event: None, ctx: DurableContext) -> None:
    async with saga(ctx) as s:
        await s.step(anyio.sleep, 0, compensate=_never)
        await ctx.step(anyio.sleep_forever)


async def _never(_: None) -> None:
    raise AssertionError("a stop undoes nothing")


@durable_execution
async def waits(event: None, ctx: DurableContext) -> str:
    await ctx.wait(300 * 24 * 3600)
    return "waited"


async def ask(path: str, request: Request | str) -> Reply:
    """Ask as another process does: over a connection of one's own, from a thread of one's own."""
    text = request if isinstance(request, str) else encode_request(request)

    def blocking() -> str | None:
        return post(path, text).wait(LONG_ENOUGH)

    reply = await anyio.to_thread.run_sync(blocking)
    assert reply is not None, "no reply"
    return decode_reply(reply)


async def started(engine: Engine, name: str = "t-1") -> tuple[Run[Any], str]:
    """An execution that waits for a callback, and the callback's id."""
    run = await engine.start(asks, None, name=name)
    async with aclosing(run.events()) as events:
        async for event in events:
            if isinstance(event.details, CallbackStartedDetails):
                return run, event.details.callback_id
    raise AssertionError("it has ended")


async def left_waiting(path: str, *names: str) -> list[str]:
    """Executions that wait for callbacks in a store that nobody has open; the callbacks' ids."""
    async with open_engine(path) as engine:
        return [(await started(engine, name))[1] for name in names]


def rows(path: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT request, reply FROM inbox ORDER BY number").fetchall()


# --- An engine has the store ---------------------------------------------------------------------------------


async def test_a_callback_is_completed_from_outside(path: str):
    """Whoever waits for it gets the value, who asked hears that it is done, and nothing is left in the file."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        assert await ask(path, SucceedCallback(callback_id, '{"approved":true}')) == Reply()
        assert await run.result() == {"approved": True}
    assert rows(path) == []


async def test_a_callback_is_failed_from_outside(path: str):
    """With everything that was said of the error."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        error = ErrorObject(error_type="ValueError", error_message="no", error_data='"why"', stack_trace=("here",))
        assert await ask(path, FailCallback(callback_id, error)) == Reply()
        with pytest.raises(ExecutionFailedError) as raised:
            await run.result()
    cause = raised.value.__cause__
    assert isinstance(cause, CallbackFailedError)
    assert (cause.error_type, cause.message, cause.data) == ("ValueError", "no", '"why"')
    assert cause.stack_trace == ("here",)


async def test_a_sign_of_life_from_outside(path: str):
    """The time between two of them begins anew."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        before = await heartbeat_at(engine, run)
        assert await ask(path, HeartbeatCallback(callback_id)) == Reply()
        assert await heartbeat_at(engine, run) > before


async def heartbeat_at(engine: Engine, run: Run[Any]) -> int:
    loaded = await engine._store.load(run.id)
    assert loaded is not None
    (extra,) = loaded.extras.values()
    return extra.heartbeat_at or 0


async def test_an_execution_is_stopped_from_outside(path: str):
    """In the middle of a step; nothing of it is undone."""
    async with open_engine(path) as engine:
        run = await engine.start(hangs, None, name="t-1")
        reply = await ask(path, StopExecution("t-1", ErrorObject(error_message="enough")))
        assert reply == Reply(status=ExecutionStatus.STOPPED)
        record = await run.wait()
        assert (record.status, record.error) == (ExecutionStatus.STOPPED, ErrorObject(error_message="enough"))
        # Once more changes nothing, and says how it had ended.
        assert await ask(path, StopExecution("t-1")) == Reply(status=ExecutionStatus.STOPPED)
        assert (await engine.execution("t-1")).error == ErrorObject(error_message="enough")


async def test_an_execution_is_paused_resumed_and_deleted_from_outside(path: str):
    """Each of it once, however often the same request comes; what is left of it is nothing."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        for _ in range(2):
            reply = await ask(path, PauseExecution("t-1", "lunch", holds_timeout=False, token="a"))
            assert reply.status in {ExecutionStatus.PAUSING, ExecutionStatus.PAUSED}
        pause = (await engine.execution("t-1")).pause
        assert pause is not None
        assert (pause.reason, pause.holds_timeout) == ("lunch", False)
        again = await ask(path, PauseExecution("t-1"))
        assert again.error_type == "ExecutionConflictError"
        for _ in range(2):
            assert await ask(path, ResumeExecution("t-1", token="a")) == Reply(status=ExecutionStatus.RUNNING)
        assert (await ask(path, DeleteExecution("t-1"))).error_type == "ExecutionConflictError"
        assert await ask(path, SucceedCallback(callback_id, "1")) == Reply()
        assert await run.result() == 1
        assert await ask(path, DeleteExecution("t-1")) == Reply(status=ExecutionStatus.SUCCEEDED)
        assert (await ask(path, DeleteExecution("t-1"))).error_type == "ExecutionNotFoundError"
        assert await engine.executions() == []


async def test_a_pause_that_was_left_is_carried_out_by_the_next_engine(path: str):
    """Before anything is resumed."""
    (callback_id,) = await left_waiting(path, "t-1")
    posted = [post(path, encode_request(request)) for request in (PauseExecution("t-1"), DeleteExecution("t-1"))]
    async with open_engine(path) as engine:
        assert await engine.resume() == []
        assert (await engine.execution("t-1")).status == "PAUSED"
        await engine.complete_callback(callback_id, 1)
        (run,) = await engine.resume("t-1")
        assert await run.result() == 1
    replies = [decode_reply(one.wait(0) or "") for one in posted]
    assert [reply.error_type for reply in replies] == [None, "ExecutionConflictError"]


async def test_what_cannot_be_done_is_told(path: str):
    """As the engine's own methods tell it; it goes on with the next."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        bad: list[tuple[Request, str, str]] = [
            (SucceedCallback("nonsense", "1"), "CallbackNotFoundError", "there is no callback 'nonsense'"),
            (FailCallback(callback_id[:-4], ErrorObject()), "CallbackNotFoundError", "there is no callback"),
            (StopExecution("t-2"), "ExecutionNotFoundError", "no execution is named 't-2'"),
            (SucceedCallback(callback_id, "x" * 1_100_000), "PayloadTooLargeError", "the limit is 1,048,576"),
        ]
        for request, kind, message in bad:
            reply = await ask(path, request)
            assert reply.error_type == kind
            assert message in (reply.error or "")
        assert await ask(path, SucceedCallback(callback_id, "1")) == Reply()
        assert await run.result() == 1
        reply = await ask(path, SucceedCallback(callback_id, "2"))
        assert reply.error_type == "CallbackCompletedError"
        assert "takes nothing any more: it is SUCCEEDED" in (reply.error or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        '{"ask": "be nice"}',
        '{"ask": "succeed callback"}',
        '{"ask": "stop execution", "name": 1}',
        '{"callback_id": "x", "result": "1"}',
        "[" * 10_000,
    ],
)
async def test_what_nobody_understands_is_told(path: str, text: str):
    """It may come from a later version; it does not stand in the way of others."""
    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        reply = await ask(path, text)
        assert reply.error is not None
        assert reply.error_type in {"DecodeError", "RecursionError"}
        assert await ask(path, SucceedCallback(callback_id, "1")) == Reply()
        assert await run.result() == 1


async def test_several_who_ask_at_once(path: str):
    """Each hears what came of it: of those who complete one callback, one has done so."""
    replies: list[Reply] = []

    async def one(callback_id: str, number: int) -> None:
        replies.append(await ask(path, SucceedCallback(callback_id, str(number))))

    async with open_engine(path) as engine:
        run, callback_id = await started(engine)
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(one, callback_id, number)
        assert sorted(reply.error_type or "" for reply in replies) == ["", *["CallbackCompletedError"] * 7]
        assert await run.result() in range(8)
    assert rows(path) == []


async def test_a_test_s_clock_is_not_held_up(path: str):
    """The engine looks in real time: three hundred days pass at once all the same."""
    async with open_engine(path, clock=SkippingClock()) as engine:
        run = await engine.start(waits, None)
        with anyio.fail_after(LONG_ENOUGH):
            assert await run.result() == "waited"


# --- No engine has it ----------------------------------------------------------------------------------------


async def test_what_was_left_is_carried_out_by_the_next_engine(path: str):
    """Before it does anything else, in the order in which it was left; the replies wait to be fetched."""
    first, second = await left_waiting(path, "t-1", "t-2")
    posted = [
        post(path, encode_request(request))
        for request in (
            SucceedCallback(first, "1"),
            SucceedCallback(first, "2"),
            FailCallback(second, ErrorObject(error_message="no")),
            StopExecution("t-2"),
        )
    ]
    assert posted[0].wait(0) is None
    async with open_engine(path) as engine:
        replies = [decode_reply(one.wait(0) or "") for one in posted]
        assert [reply.error_type for reply in replies] == [None, "CallbackCompletedError", None, None]
        assert replies[-1].status is ExecutionStatus.STOPPED
        (run,) = await engine.resume()
        assert await run.result() == 1
    assert rows(path) == []


async def test_what_was_withdrawn_is_not_carried_out(path: str):
    """Nor replied to."""
    (callback_id,) = await left_waiting(path, "t-1")
    posted = post(path, encode_request(SucceedCallback(callback_id, "1")))
    posted.withdraw()
    async with open_engine(path) as engine:
        await engine.complete_callback(callback_id, 2)
    assert posted.wait(0) is None
    posted.withdraw()


async def test_an_engine_that_is_closed_leaves_it_to_the_next(path: str):
    """It is neither lost nor refused."""
    (callback_id,) = await left_waiting(path, "t-1")
    async with open_engine(path) as engine:
        engine.close()
        posted = post(path, encode_request(SucceedCallback(callback_id, "1")))
        assert engine._store.inbox is not None
        await look(engine, engine._store.inbox)
        assert posted.wait(0) is None
    async with open_engine(path) as engine:
        assert posted.wait(0) == "{}"


# --- Trouble -------------------------------------------------------------------------------------------------


class FakeInbox(Inbox):
    """Requests in memory; a test says what becomes of reading and replying."""

    def __init__(self, *requests: str) -> None:
        self.left = dict(enumerate(requests, 1))
        self.replies: list[Reply] = []
        self.before_read: Callable[[], None] = lambda: None
        self.before_reply: Callable[[], None] = lambda: None
        self.replied = anyio.Event()

    async def requests(self) -> Sequence[tuple[int, str]]:
        self.before_read()
        return list(self.left.items())

    async def reply(self, number: int, text: str) -> None:
        self.before_reply()
        del self.left[number]
        self.replies.append(decode_reply(text))
        self.replied.set()


@asynccontextmanager
async def engine_with(inbox: FakeInbox, store: MemoryStore) -> AsyncGenerator[Engine]:
    store.inbox = inbox
    async with open_engine(store=store, clock=SkippingClock()) as engine:
        yield engine


def once(error: Exception) -> Callable[[], None]:
    """Fails the first time."""
    errors = [error]

    def hook() -> None:
        if errors:
            raise errors.pop()

    return hook


async def test_a_reply_that_cannot_be_written_is_made_up_for(caplog: pytest.LogCaptureFixture):
    """The request is carried out again, which changes nothing: the first answer counts."""
    store = MemoryStore()
    async with open_engine(store=store) as engine:
        _, callback_id = await started(engine)
    inbox = FakeInbox(encode_request(SucceedCallback(callback_id, "1")))
    inbox.before_reply = once(StoreError("no space left on device"))
    async with engine_with(inbox, store) as engine:
        with anyio.fail_after(LONG_ENOUGH):
            await inbox.replied.wait()
        assert [reply.error_type for reply in inbox.replies] == ["CallbackCompletedError"]
        (run,) = await engine.resume()
        assert await run.result() == 1
    assert "could not be read or replied to, it will be tried again" in caplog.text


async def test_an_inbox_that_cannot_be_read_is_read_again(caplog: pytest.LogCaptureFixture):
    """The engine lives on meanwhile, whatever it was."""
    inbox = FakeInbox(encode_request(StopExecution("t-1")))
    inbox.before_read = once(RuntimeError("a mistake of ours"))
    async with engine_with(inbox, MemoryStore()) as engine:
        assert inbox.left
        assert await engine.executions() == []
        with anyio.fail_after(LONG_ENOUGH):
            await inbox.replied.wait()
    assert [reply.error_type for reply in inbox.replies] == ["ExecutionNotFoundError"]
    assert "a mistake of ours" in caplog.text


async def test_one_execution_that_cannot_be_read_holds_nobody_up(caplog: pytest.LogCaptureFixture):
    """Who asked about it is told; the others are served."""

    class Torn(MemoryStore):
        async def find(self, name: str) -> Any:
            if name == "torn":
                raise StoreError("the store has a row that cannot be read")
            return await super().find(name)

    inbox = FakeInbox(encode_request(StopExecution("torn")), encode_request(StopExecution("t-1")))
    async with engine_with(inbox, Torn()):
        assert [reply.error_type for reply in inbox.replies] == ["StoreError", "ExecutionNotFoundError"]
    assert inbox.replies[0].error == "the store has a row that cannot be read"
    assert '"torn"' in caplog.text


async def test_a_file_that_takes_no_requests(path: str):
    """One that is not there, and one whose engine is of a version without an inbox; nothing is made."""
    request = encode_request(StopExecution("t-1"))
    with pytest.raises(StoreError, match="takes no requests: unable to open"):
        post(path, request)
    assert not os.path.exists(path)  # noqa: ASYNC240, PTH110
    await left_waiting(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE inbox")
    with pytest.raises(StoreError, match="takes no requests: no such table: inbox"):
        post(path, request)
    async with open_engine(path):  # such a store gets one
        assert (await ask(path, request)).error_type == "ExecutionNotFoundError"


# --- What it costs, and what it leaves -----------------------------------------------------------------------


@pytest.mark.usefixtures("a_lazy_engine")
async def test_looking_where_nothing_is_new_reads_nothing(path: str):
    """What the engine itself commits is nothing new; what others write is."""
    said: list[str] = []
    store = open_store(path)
    inbox = store.inbox
    assert inbox is not None
    try:
        async with open_engine(store=store) as engine:
            # Nobody else looks meanwhile: the next look is an hour away.
            await store._thread.read(lambda connection: connection.set_trace_callback(said.append))

            async def looked() -> list[str]:
                said.clear()
                await inbox.requests()
                return [line for line in said if "inbox" in line]

            await looked()
            assert await looked() == []
            assert said == ["PRAGMA data_version"]
            await engine.start(asks, None, name="t-1")
            assert await looked() == []
            post(path, encode_request(StopExecution("t-1")))
            assert len(await looked()) == 1
            assert len(await looked()) == 1  # as long as it has no reply
    finally:
        await store.aclose()


async def test_replies_that_nobody_fetches_go_after_a_day(path: str):
    """Not before; and what has no reply stays however old it is."""
    await left_waiting(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO inbox (request, reply, replied) VALUES (?, '{}', datetime('now', ?))",
            [("old", "-25 hours"), ("recent", "-23 hours")],
        )
    async with open_engine(path):
        await ask(path, StopExecution("t-1"))
    assert [request for request, _ in rows(path)] == ["recent"]


async def test_only_an_engine_has_an_inbox(path: str):
    """Who only reads a store carries nothing out; what is in memory nobody else can reach."""
    await left_waiting(path)
    assert engine_of(path) is None
    store = open_store(path, read_only=True)
    assert store.inbox is None
    await store.aclose()
    assert MemoryStore().inbox is None
    async with open_engine(path):
        assert (engine_of(path) or "").startswith(f"process {os.getpid()}, since ")
    assert engine_of(path) is None


async def test_whatever_the_order_each_is_carried_out_once(path: str):
    """Requests left at random moments of engines that come and go: the first for each callback counts."""
    seed = int(os.environ.get("DURABLE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"DURABLE_SEED={seed}")  # noqa: T201 - shown when it fails
    rng = random.Random(seed)
    names = [f"t-{number}" for number in range(4)]
    ids = dict(zip(names, await left_waiting(path, *names), strict=True))
    first: dict[str, str] = {}
    posted = []

    def leave_some() -> None:
        for _ in range(rng.randrange(4)):
            name, value = rng.choice(names), str(rng.randrange(1000))
            first.setdefault(name, value)
            request = encode_request(SucceedCallback(ids[name], value))
            posted.append((name, value, post(path, request)))

    for _ in range(6):
        leave_some()
        async with open_engine(path):
            leave_some()
            if rng.random() < 0.5:
                await anyio.sleep(rng.random() * 0.02)
            leave_some()
    async with open_engine(path) as engine:
        answers = [decode_reply(one.wait(LONG_ENOUGH) or "").error_type for _, _, one in posted]
        seen: set[str] = set()
        for (name, _, _), error in zip(posted, answers, strict=True):
            assert error == ("CallbackCompletedError" if name in seen else None)
            seen.add(name)
        for name in sorted(seen):
            (run,) = await engine.resume(name)
            assert msgspec.json.encode(await run.result()).decode() == first[name]
    assert rows(path) == []
