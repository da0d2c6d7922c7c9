"""`ctx.logger`: a standard logger adapter that is silent for what is replayed."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog

from durable import DurableContext, Retry, current_context, durable_execution, saga
from durable._engine.log import ReplayAwareLogger
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="durable.execution")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "durable.execution"]


def record_of(caplog: pytest.LogCaptureFixture, message: str) -> dict[str, Any]:
    (record,) = [record for record in caplog.records if record.getMessage() == message]
    return record.__dict__


async def book() -> str:
    return "b"


async def test_each_message_is_said_once_over_all_invocations(caplog):
    """With the execution that it belongs to, and the caller's own extras."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("begin %s", 1)
        await ctx.step(book)
        ctx.logger.info("booked")
        await ctx.wait(1)
        current_context().logger.warning("waited", extra={"mine": 3})
        await ctx.wait(1)
        ctx.log("end %s", 2, level=logging.ERROR, mine=4)

    harness = Harness(work, name="t-7")
    await harness.result()
    assert harness.invocations == 3
    assert said(caplog) == ["begin 1", "booked", "waited", "end 2"]
    assert {record.__dict__["execution"] for record in caplog.records} == {"t-7"}
    assert {record.__dict__["execution_arn"] for record in caplog.records} == {harness.record.arn}
    assert [record.levelno for record in caplog.records] == [20, 20, 30, 40]
    assert (record_of(caplog, "waited")["mine"], record_of(caplog, "end 2")["mine"]) == (3, 4)
    outside = record_of(caplog, "begin 1")
    assert [outside[key] for key in ("context_id", "operation", "operation_id", "attempt")] == [None] * 4


async def test_what_was_said_after_the_last_record_may_be_said_again(caplog):
    """Nobody knows of it after a crash; what was said before that is not repeated."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("begin")
        await ctx.step(book)
        ctx.logger.info("booked")
        if harness.invocations == 1:
            await harness.crash_now()

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    await harness.result()
    assert said(caplog) == ["begin", "booked", "booked"]


async def test_in_a_step_it_tells_the_step_and_the_attempt(caplog):
    """A body only runs when it has to: it is never silent, on no attempt, and in a worker thread neither."""

    async def flaky() -> str:
        current_context().logger.info("trying")
        if harness.invocations < 3:
            raise ConnectionError
        return "done"

    def plain() -> str:
        current_context().logger.info("in a thread")
        return "done"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(flaky, name="charge", retry=Retry(jitter="none"))
        await ctx.step(plain)
        await ctx.wait(5)
        ctx.logger.info("after")

    harness = Harness(work)
    await harness.result()
    assert said(caplog) == ["trying"] * 3 + ["in a thread", "after"]
    charge = harness.operation("charge").id
    told = [[record.__dict__[key] for key in ("operation", "operation_id", "attempt")] for record in caplog.records]
    assert told == [
        *(["charge", charge, attempt] for attempt in (1, 2, 3)),
        ["plain", harness.operation("plain").id, 1],
        [None, None, None],
    ]


async def test_in_a_compensation_it_tells_the_compensation_and_is_silent_on_its_replay(caplog):
    """A compensation that suspends runs over its own records again."""

    async def cancel(what: str) -> None:
        ctx = current_context()
        ctx.logger.info("cancelling")
        await ctx.wait(5)
        ctx.logger.info("waited")
        await ctx.step(inner)

    async def inner() -> None:
        current_context().logger.info("inside")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, compensate=cancel)
            ctx.logger.info("failing")
            raise KeyError("no")

    harness = Harness(work)
    await harness.error()
    assert harness.invocations > 1
    assert said(caplog) == ["failing", "cancelling", "waited", "inside"]
    compensation = next(one for one in harness.operations() if one.sub_type == "Compensation")
    for message in ("cancelling", "waited"):
        record = record_of(caplog, message)
        assert (record["operation"], record["operation_id"], record["attempt"]) == ("book", compensation.id, 1)
        assert record["context_id"] == compensation.id
    assert record_of(caplog, "inside")["operation"] == "inner"


@pytest.mark.parametrize("handed_down", [False, True])
@pytest.mark.parametrize("large", [False, True])
async def test_a_child_that_was_replayed_does_not_silence_what_comes_after_it(caplog, handed_down, large):
    """Nor does it speak again: not through its own context's logger, and not through its parent's."""

    async def child(ctx: DurableContext, outer: ReplayAwareLogger) -> str:
        logger = outer if handed_down else ctx.logger
        logger.info("child begins")
        await ctx.step(book)
        await ctx.wait(5)
        logger.info("child ends")
        return "x" * (300_000 if large else 1)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.child(child, ctx.logger)
        ctx.logger.info("after the child")
        await ctx.wait(5)
        ctx.logger.info("the end")

    harness = Harness(work)
    await harness.result()
    assert harness.invocations >= 3
    assert said(caplog) == ["child begins", "child ends", "after the child", "the end"]
    context = harness.operation("child").id
    assert [record.__dict__["context_id"] for record in caplog.records] == [context, context, None, None]


@pytest.mark.parametrize("nesting", ["nested", "flat"])
async def test_branches_are_silent_each_for_itself(caplog, nesting):
    """One that has got further has more to be silent about; each record tells its own context."""

    async def branch(ctx: DurableContext, number: int) -> int:
        for turn in range(3):
            outer.info("%s: %s", number, turn)
            await ctx.wait(1 + number * 10)
        return number

    outer: Any = None

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        nonlocal outer
        outer = ctx.logger
        await ctx.map(branch, [0, 1], nesting=nesting)
        ctx.logger.info("after")

    harness = Harness(work)
    await harness.result()
    assert harness.invocations > 3
    assert sorted(said(caplog)) == [f"{number}: {turn}" for number in (0, 1) for turn in range(3)] + ["after"]
    contexts = {record.getMessage(): record.__dict__["context_id"] for record in caplog.records}
    whole = harness.operation("branch").id
    if nesting == "flat":
        assert {contexts["0: 0"], contexts["1: 0"]} == {whole}
    else:
        assert {contexts["0: 0"], contexts["1: 0"]} == {
            harness.operation("map-item-0").id,
            harness.operation("map-item-1").id,
        }
    assert contexts["after"] is None


async def test_in_a_block_it_is_silent_as_long_as_the_block_is_replayed(caplog):
    """A time limit's block has positions of its own, and the code after it others."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("before")
        async with ctx.move_on_after(3600):
            ctx.logger.info("first")
            await ctx.wait(5)
            ctx.logger.info("second")
        ctx.logger.info("after")
        await ctx.wait(5)
        ctx.logger.info("end")

    await Harness(work).result()
    assert said(caplog) == ["before", "first", "second", "after", "end"]


# --- A standard logger ---------------------------------------------------------------------------------------


async def test_every_method_tells_the_users_line(caplog):
    """Its function and file, also where a helper of the user's asks for its caller's."""

    def helper(logger: ReplayAwareLogger) -> None:
        logger.info("helped", stacklevel=2)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        log = ctx.logger
        log.debug("debug")
        log.info("info")
        log.warning("warning")
        log.error("error")
        log.critical("critical")
        log.log(logging.INFO, "log")
        helper(log)
        ctx.log("context")
        try:
            raise KeyError("x")
        except KeyError:
            log.exception("exception")

    await Harness(work).result()
    assert said(caplog) == [
        "debug", "info", "warning", "error", "critical", "log", "helped", "context", "exception",
    ]  # fmt: skip
    assert {(record.funcName, record.pathname) for record in caplog.records} == {("work", __file__)}
    first = caplog.records[0].lineno
    assert [record.lineno - first for record in caplog.records] == [0, 1, 2, 3, 4, 5, 6, 7, 11]
    assert caplog.records[-1].exc_info is not None


async def test_nothing_is_formatted_while_replaying():
    """What nobody sees costs nothing."""
    formatted = []

    class Costly:
        def __str__(self) -> str:
            formatted.append(1)
            return "costly"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("%s", Costly())
        assert ctx.logger.isEnabledFor(logging.INFO) == (harness.invocations == 1)
        await ctx.wait(5)

    harness = Harness(work)
    await harness.invoke()
    count = len(formatted)
    assert count
    await harness.result()
    assert len(formatted) == count


async def test_it_touches_no_logger_but_its_own(caplog):
    """No handler, no level, no filter is set; what others log while the code is replayed is their business."""
    root, package = logging.getLogger(), logging.getLogger("durable")
    caplog.set_level(logging.INFO, logger="elsewhere")
    before = [(one.level, list(one.handlers), list(one.filters), one.propagate) for one in (root, package)]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        logging.getLogger("elsewhere").info("said on every replay")
        await ctx.wait(5)
        ctx.logger.info("once")

    harness = Harness(work)
    await harness.result()
    after = [(one.level, list(one.handlers), list(one.filters), one.propagate) for one in (root, package)]
    assert after == before
    assert [record.getMessage() for record in caplog.records] == ["said on every replay"] * harness.invocations + [
        "once"
    ]


async def test_the_level_is_that_of_its_logger(caplog):
    """As of any adapter: whoever configures logging decides."""
    caplog.set_level(logging.WARNING, logger="durable.execution")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.logger.info("not seen")
        ctx.logger.warning("seen")

    await Harness(work).result()
    assert said(caplog) == ["seen"]


# --- structlog -----------------------------------------------------------------------------------------------


async def test_structlogs_logger_can_be_put_around_it(caplog):
    """`filter_by_level` asks it, so it is silent on replay; bound values and ours are both in the record."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        log = structlog.wrap_logger(
            ctx.logger,
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
        ).bind(city="Rome")
        log.info("begin", nights=2)
        await ctx.wait(5)
        log.warning("waited")

    harness = Harness(work, name="t-9")
    await harness.result()
    assert harness.invocations > 1
    assert said(caplog) == ["begin", "waited"]
    record = record_of(caplog, "begin")
    assert (record["city"], record["nights"], record["execution"]) == ("Rome", 2, "t-9")


async def test_structlogs_formatter_shows_what_it_adds():
    """For whom structlog renders what the standard library logs."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )

    async def charge() -> None:
        current_context().logger.info("charging")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(charge)

    logger = logging.getLogger("durable.execution")
    logger.addHandler(handler)
    try:
        await Harness(work, name="t-9").result()
    finally:
        logger.removeHandler(handler)
    (line,) = lines
    told = json.loads(line)
    assert (told["event"], told["execution"], told["operation"], told["attempt"]) == (
        "charging",
        "t-9",
        "charge",
        1,
    )
