"""What the live view and the plain one make of moments; the pieces that both print with."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from durable import DurableContext, Retry, durable_execution, saga
from durable._wire import ErrorObject, ExecutionStatus, Timestamp
from durable._wire.events import (
    CallbackStartedDetails,
    Event,
    EventError,
    EventResult,
    EventType,
    RetryDetails,
    StepFailedDetails,
    StepSucceededDetails,
)
from durable.abc import ExecutionRecord
from durable.cli.exits import ExitCode
from durable.cli.live import LiveView
from durable.cli.logs import LogHandler, write_to_stderr
from durable.cli.outcome import print_outcome
from durable.cli.plain import PlainView, sentence
from durable.cli.session import Ending, Followed, View
from durable.cli.story import Moment
from durable.cli.terminal import PipeClosedError, console_for, print_rows, put, signs_of
from durable.exceptions import EngineClosedError
from tests.harness import Harness

NOW = 1_764_000_000_000


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(width: int = 80, height: int = 12) -> tuple[Console, Terminal]:
    stream = Terminal()
    console = Console(
        file=stream, force_terminal=True, color_system=None, width=width, height=height, highlight=False
    )
    return console, stream


def record(name: str = "t-1", status: ExecutionStatus = ExecutionStatus.RUNNING, **fields: Any) -> ExecutionRecord:
    return ExecutionRecord(
        id=f"id-of-{name}", name=name, arn="arn", function="shop.py:buy", status=status,
        start_timestamp=Timestamp(NOW), **fields,
    )  # fmt: skip


def followed(name: str = "t-1") -> Followed:
    return Followed(record(name), run=None)  # nothing here runs


def typed(*words: str) -> str:
    """A command, as `follow` makes them."""
    return " ".join(["durable", *words])


def live_view(width: int = 80, height: int = 12) -> tuple[LiveView, Terminal]:
    console, stream = terminal(width, height)
    return LiveView(console, LogHandler(), typed), stream


async def book(what: str) -> str:
    return what


async def refuse(what: str) -> str:
    raise ValueError(what)


@durable_execution
async def work(event: None, ctx: DurableContext) -> None:
    async def inner(child: DurableContext) -> None:
        await child.wait(3, name="pause")

    async with saga(ctx, "trip") as s:
        await s.step(book, "a", compensate=book, name="a")
        await s.step(book, "b", compensate=refuse, name="b")
        await ctx.child(inner, name="sub")
        await ctx.step(refuse, "no", retry=Retry(attempts=2, initial_delay=4, jitter="none"))


async def tell_all(view: View, one: Followed) -> Harness:
    harness = Harness(work)
    await harness.error()
    view.begin(one)
    for event in await harness.service.history(harness.record.id):
        view.tell(one, event, one.story.tell(event))
    return harness


pytestmark = pytest.mark.anyio


async def test_lines_of_the_live_view():
    """A sign, the name at its depth, the duration, and what came of it; in columns."""
    view, stream = live_view()
    await tell_all(view, followed())
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == [
        "buy  t-1  shop.py",
        '  ✓ a                           0.00 s  "a"',
        '  ✓ b                           0.00 s  "b"',
        "  ▸ sub",
        "    ◷ pause                     3.00 s",
        "  ✓ sub                         3.00 s",
        "  ↻ refuse                              attempt 1 failed, again at 16:00:07: Va…",
        "  ✗ refuse                      4.00 s  attempt 2  ValueError: no",
        "  ↶ trip                                rolls back: ValueError: no",
        "    ✗ b                         0.00 s  NOT undone  ValueError: b",
        "    ↶ a                         0.00 s  undone",
    ]


async def test_lines_of_the_plain_view():
    """Words instead of signs; everything that begins is told as well; nothing is cut."""
    stream = io.StringIO()
    view = PlainView(console_for(stream), typed)
    await tell_all(view, followed())
    lines = stream.getvalue().splitlines()
    assert lines[0] == "t-1: shop.py:buy started"
    assert [line.split("  ", 1)[1] for line in lines[1:]] == [
        "a started",
        'a succeeded in 0.00 s: "a"',
        "b started",
        'b succeeded in 0.00 s: "b"',
        "sub started",
        "sub / pause waits until 16:00:03",
        "sub / pause waited 3.00 s",
        "sub succeeded in 3.00 s",
        "refuse started",
        "refuse failed, attempt 1, again at 16:00:07: ValueError: no",
        "refuse started (attempt 2)",
        "refuse FAILED in 4.00 s (attempt 2): ValueError: no",
        "trip rolls back b, a: ValueError: no",
        "undo b started",
        "undo b FAILED in 0.00 s: ValueError: b",
        "undo a started",
        "undo a succeeded in 0.00 s",
        "trip rolled back in 0.00 s",
    ]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch, a_place_of_its_own: None) -> None:
    """Local time is UTC, and today is the day on which the tests' clock begins."""
    import time

    time.tzset()
    monkeypatch.setattr("durable.cli.live.time_text", today)
    monkeypatch.setattr("durable.cli.rows.time_text", today)
    monkeypatch.setattr("durable.cli.plain.time_text", today)


def today(milliseconds: int, now: int | None = None) -> str:
    from durable.cli.texts import time_text

    return time_text(milliseconds, milliseconds)


def test_an_invocation_that_failed_is_told():
    """By both views."""
    moment = Moment(kind="invocation failed", time=NOW, error=ErrorObject(error_type="ServiceError"))
    assert sentence(moment) == "the invocation failed, it is repeated: ServiceError"
    view, stream = live_view()
    view.resumed(followed(), [moment])
    assert stream.getvalue() == "  ↻ the invocation failed, it is repeated: ServiceError\n"


@asynccontextmanager
async def under_way(view: LiveView, one: Followed) -> AsyncGenerator[Callable[[int], list[str]]]:
    """An execution in the middle of a child, a step and its retry."""

    async def endless(what: str) -> str:
        await harness.crash_now()
        return what

    @durable_execution
    async def middle(event: None, ctx: DurableContext) -> None:
        async def inner(child: DurableContext) -> None:
            await child.step(endless, "x", name="endless", semantics="at-most-once")

        await ctx.child(inner, name="sub")

    from tests.harness import CrashError

    harness = Harness(middle)
    with pytest.raises(CrashError):
        await harness.invoke()
    view.begin(one)
    for event in await harness.service.history(harness.record.id):
        view.tell(one, event, one.story.tell(event))

    def rows(after: int) -> list[str]:
        group: Any = view._under_way(NOW + after)
        return [row.plain for row in group.renderables]

    yield rows


async def test_what_is_under_way_moves():
    """Its sign and its duration do; what encloses it has been said."""
    view, _ = live_view()
    async with under_way(view, followed()) as rows:
        assert rows(1500) == ["  ⠴ sub / endless               1.50 s"]
        assert rows(1600) == ["  ⠦ sub / endless               1.60 s"]


async def test_waits_and_retries_count_down():
    """Until when, and how long that is."""
    view, _ = live_view(width=100)
    one = followed()
    view._followed = [one]
    harness = Harness(work)
    seen: list[str] = []
    for _ in range(2):
        await harness.invoke()
        due = await harness.service.next_due(harness.record.id)
        assert due is not None
        one.story.recall(await harness.service.history(harness.record.id, one.story.last_event))
        group: Any = view._under_way(due - 1000)
        seen += [row.plain for row in group.renderables]
        await harness.clock.sleep_until(due)
    assert seen == [
        "  ⠋ sub / pause                 2.00 s  until 16:00:03, 1.00 s left",
        "  ⠋ refuse                      3.00 s  attempt 2  waits until 16:00:07, 1.00 s left",
    ]


async def test_more_than_there_is_room_for_is_counted():
    """A terminal of few rows shows some, and how many more there are."""
    view, _ = live_view(height=7)
    many = [followed(f"t-{number}") for number in range(9)]
    for one in many[1:]:
        view.begin(one)
    async with under_way(view, many[0]) as rows:
        for one in many[1:]:
            one.story.active.update(many[0].story.active)
        assert len(rows(0)) == 3
        assert rows(0)[-1] == "  … and 7 others"
        assert rows(0)[0].startswith("t-1  ⠋ sub / endless")


async def test_a_row_under_way_leaves_room_for_what_a_terminal_echoes():
    """Ctrl-C is echoed where the cursor is, and must not make another row."""
    view, _ = live_view(width=40)
    async with under_way(view, followed()) as rows:
        view.stopping()
        assert max(len(row) for row in rows(0)) == 37
        assert rows(0)[-1].startswith("stopping: a thread is still at work")


def test_the_live_view_gives_everything_back(monkeypatch: pytest.MonkeyPatch):
    """Logging through it while it moves, to standard error again afterwards; the cursor too."""
    console, stream = terminal()
    errors = Terminal()
    monkeypatch.setattr("sys.stderr", errors)
    handler = LogHandler()
    view = LiveView(console, handler, str)
    with view.opened():
        handler.write("a line of the log")
        assert errors.getvalue() == ""
    assert "a line of the log\n" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")
    assert handler.write is write_to_stderr
    view.close()


def test_logging_to_a_file_goes_there_also_while_the_live_view_moves(monkeypatch: pytest.MonkeyPatch):
    """`2> log`: the display is on one terminal, the log is not."""
    console, _ = terminal()
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    handler = LogHandler()
    with LiveView(console, handler, str).opened():
        handler.write("a line of the log")
    assert errors.getvalue() == "a line of the log\n"


def test_endings_say_how_to_go_on():
    """Stopped, it is not over."""
    view, stream = live_view()
    one = followed()
    view.begin(one)
    view.end(one, Ending(code=ExitCode.INTERRUPTED, error=EngineClosedError()))
    assert stream.getvalue().splitlines()[1:] == [
        "◷ stopped  t-1 stays as it is",
        "  go on with  durable resume t-1",
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (ExecutionStatus.SUCCEEDED, "✓ succeeded in 61.0 s"),
        (ExecutionStatus.FAILED, "✗ failed in 61.0 s"),
        (ExecutionStatus.TIMED_OUT, "✗ timed out in 61.0 s"),
        (ExecutionStatus.STOPPED, "✗ stopped in 61.0 s"),
    ],
)
def test_verdicts(status: ExecutionStatus, line: str):
    """Each status in words."""
    console, stream = terminal()
    print_outcome(console, record(status=status, end_timestamp=Timestamp(NOW + 61_000)), ())
    assert stream.getvalue().splitlines()[0] == line.replace("61.0 s", "1 min 01 s")


def test_a_long_error_is_wrapped_beside_its_label():
    """On a terminal; in a file it stays on its line."""
    error = ErrorObject(error_type="a.B", error_message="word " * 20)
    failed = record(status=ExecutionStatus.FAILED, end_timestamp=Timestamp(NOW), error=error)
    console, stream = terminal(width=40)
    print_outcome(console, failed, ())
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("  error       B: word word")
    assert all(line.startswith(" " * 14) for line in lines[2:])
    assert len(lines) == 6
    wide = io.StringIO()
    print_outcome(console_for(wide), failed, ())
    assert len(wide.getvalue().splitlines()) == 2


def test_results_cannot_paint_the_terminal():
    """What a function returned is shown, not obeyed."""
    console, stream = terminal()
    done = record(status=ExecutionStatus.SUCCEEDED, end_timestamp=Timestamp(NOW), result='"\x1b[31m"')
    print_outcome(console, done, ())
    assert "\x1b[31m" not in stream.getvalue()


def test_signs_are_what_the_encoding_can_show(monkeypatch: pytest.MonkeyPatch):
    """ASCII has signs of its own."""
    ascii_stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = console_for(ascii_stream)
    assert signs_of(console).succeeded == "+"
    put(console, "a name with ü")
    ascii_stream.seek(0)
    assert ascii_stream.read() == "a name with ?\n"


def test_rows_are_in_columns_and_cut_only_by_a_terminal():
    """What is on the right goes first."""
    rows = [[Text("a"), Text("22"), Text("the rest")], [Text("bbb"), Text("1"), Text("")]]
    file = io.StringIO()
    print_rows(console_for(file), rows, right=1)
    assert file.getvalue() == "a    22  the rest\nbbb   1\n"
    console, stream = terminal(width=12)
    print_rows(console, rows, right=1)
    assert stream.getvalue() == "a    22  th…\nbbb   1\n"


def test_a_closed_pipe_is_an_error_and_not_the_end():
    """Whoever prints decides what it means."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(PipeClosedError):
        put(console_for(Closed()), "x")


def event(kind: EventType, number: int, operation: str, parent: str | None = None, **fields: Any) -> Event:
    return Event(
        event_type=kind, event_id=number, event_timestamp=Timestamp(NOW), id=operation, name=operation,
        parent_id=parent, **fields,
    )  # fmt: skip


def test_branches_that_run_side_by_side_are_told_apart():
    """Whenever the telling goes over to another branch it is named."""
    view, stream = live_view()
    one = followed()
    events = [event(EventType.CONTEXT_STARTED, 1, branch) for branch in ("left", "right")]
    for name, parent in (("a", "left"), ("b", "left"), ("c", "right"), ("d", "left")):
        events += [event(kind, 2, name, parent) for kind in (EventType.STEP_STARTED, EventType.STEP_SUCCEEDED)]
    events.append(event(EventType.CONTEXT_SUCCEEDED, 3, "right"))
    for each in events:
        view.tell(one, each, one.story.tell(each))
    assert [line.split("  0.00")[0].rstrip() for line in stream.getvalue().splitlines()] == [
        "  ▸ left", "    ✓ a", "    ✓ b", "  ▸ right", "    ✓ c", "  ▸ left", "    ✓ d", "  ✓ right"
    ]  # fmt: skip


def test_a_callback_is_told_with_the_whole_of_its_id():
    """Somebody has to copy it: it is never cut, however long it is and however narrow the terminal."""
    details = CallbackStartedDetails(callback_id="x" * 150)
    started = event(EventType.CALLBACK_STARTED, 1, "approval", callback_started_details=details)
    view, stream = live_view(width=60)
    one = followed()
    view.tell(one, started, one.story.tell(started))
    assert "x" * 150 in stream.getvalue().replace("\n", "")
    plain = io.StringIO()
    one = followed()
    PlainView(console_for(plain), typed).tell(one, started, one.story.tell(started))
    command = f"durable callback succeed {'x' * 150} --result JSON"
    assert plain.getvalue().endswith(f"  approval waits for an answer: {command}\n")


RETRIES = RetryDetails(current_attempt=3, next_attempt_delay_seconds=5)


@pytest.mark.parametrize(
    "failed",
    [
        event(
            EventType.STEP_SUCCEEDED,
            2,
            "ready?",
            step_succeeded_details=StepSucceededDetails(result=EventResult(payload="1"), retry_details=RETRIES),
        ),
        event(
            EventType.STEP_FAILED,
            2,
            "ready?",
            step_failed_details=StepFailedDetails(error=EventError(), retry_details=RETRIES),
        ),
    ],
    ids=["as the service has it", "as stores of old have it"],
)
def test_a_condition_that_is_not_met_has_not_failed(failed: Event):
    """It is looked at again: a line in a log, and a count on a terminal."""
    view, stream = live_view(width=100)
    one = followed()
    view._followed = [one]
    for each in (event(EventType.STEP_STARTED, 1, "ready?"), failed):
        moments = one.story.tell(each)
        view.tell(one, each, moments)
    assert stream.getvalue() == ""
    assert sentence(moments[0]) == "ready? is not met, looked at again at 16:00:05"
    group: Any = view._under_way(NOW)
    assert [row.plain for row in group.renderables] == [
        "  ⠋ ready?                      0.00 s  attempt 4  waits until 16:00:05, 5.00 s left"
    ]


def test_what_happened_before_is_told_again_where_it_is_not_over():
    """Of one that is over the outcome is enough."""
    past = [event(EventType.STEP_STARTED, 1, "a"), event(EventType.STEP_SUCCEEDED, 2, "a")]
    over = record(status=ExecutionStatus.SUCCEEDED, end_timestamp=Timestamp(NOW))
    for each, headline, lines in ((record(), "goes on, begun 16:00:00", 2), (over, "was over at 16:00:00", 1)):
        view, stream = live_view()
        one = Followed(each, run=None, past=past)  # nothing here runs
        view.begin(one)
        for before in past:
            view.tell(one, before, one.story.recall([before]))
        assert headline in stream.getvalue()
        assert len(stream.getvalue().splitlines()) == lines


def test_a_path_that_is_too_long_keeps_its_end():
    """Which is what runs; where it is has been said above."""
    view, _ = live_view(width=60)
    one = followed()
    view._followed = [one]
    one.story.tell(event(EventType.CONTEXT_STARTED, 1, "a-context-of-a-long-name"))
    one.story.tell(event(EventType.STEP_STARTED, 2, "the-step", "a-context-of-a-long-name"))
    group: Any = view._under_way(NOW)
    assert [row.plain for row in group.renderables] == ["  ⠋ …g-name / the-step    0.00 s"]
