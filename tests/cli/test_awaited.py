"""What an execution waits for, by its operations and by its events: what it is called, and what can be typed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from durable import DurableContext, DurableFunction, durable_execution, saga
from durable._wire import ErrorObject, ExecutionStatus
from durable.abc import ExecutionRecord
from durable.cli.awaited import Awaited, Lookout
from durable.cli.exits import ExitCode
from durable.cli.hints import ways_of
from durable.cli.live import LiveView
from durable.cli.logs import LogHandler
from durable.cli.plain import PlainView
from durable.cli.session import Ending, Followed, View
from durable.cli.terminal import console_for
from durable.cli.tree import Tree, Undo, walk
from durable.cli.tree_view import print_execution
from durable.exceptions import EngineClosedError
from durable.local.outside import Outside
from tests.harness import Harness

pytestmark = pytest.mark.anyio


async def book(what: str) -> str:
    return what


async def refuse(what: str) -> None:
    raise RuntimeError(f"closed: {what}")


async def submit(callback_id: str) -> None:
    pass


def typed(*words: str) -> str:
    return " ".join(["durable", *words])


@durable_execution
async def everything(event: None, ctx: DurableContext) -> None:
    """A saga that can be cancelled, an answer under a time limit, and then a decision."""
    async with saga(ctx, "trip", on_error="park", cancellable=True) as s:
        await s.step(book, "a", compensate=refuse, name="hotel")
        async with ctx.move_on_after(3600):
            await ctx.wait_for_callback(submit, int, name="approval")
        raise ValueError("too bad")


async def until_it_waits(function: DurableFunction[None, Any], *answers: str) -> Harness:
    """An execution that waits, after each answer that is given to what it waited for last."""
    harness = Harness(function)
    await harness.invoke()
    for answer in answers:
        waiting = [one for one in Lookout(harness.operations()).all() if one.kind != "cancellation"]
        await Outside(harness.service).succeed_callback(waiting[-1].callback_id, answer)
        await harness.invoke()
    return harness


def brief(awaited: list[Awaited]) -> list[tuple[str, str | None]]:
    return [(one.kind, one.name) for one in awaited]


def drawn(harness: Harness) -> list[str]:
    """The tree, a line each."""
    lines = []
    for levels, entry in walk(Tree(harness.operations()).roots):
        name = "undo" if isinstance(entry, Undo) else entry.name or entry.operation.type
        lines.append("  " * (len(levels) - 1) + name)
    return lines


def terminal() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=True, color_system=None, width=100, highlight=False), stream


async def watched(harness: Harness, view: View) -> Followed:
    """An execution as a view tells it, up to now."""
    record = ExecutionRecord(
        id="id", name="t-1", arn="arn", function="shop.py:buy", status=ExecutionStatus.RUNNING,
        start_timestamp=harness.record.start_timestamp,
    )  # fmt: skip
    followed = Followed(record, run=None)  # nothing here runs
    view.begin(followed)
    for event in await harness.service.history(harness.record.id):
        view.tell(followed, event, followed.story.tell(event))
    return followed


async def test_what_waits_at_which_time():
    """First an answer, and that it may be cancelled; once it rolls back, only the decision."""
    harness = await until_it_waits(everything)
    assert brief(Lookout(harness.operations()).all()) == [("cancellation", "trip"), ("answer", "approval")]
    assert Lookout(harness.operations(), is_over=True).all() == []
    harness = await until_it_waits(everything, "1")
    (one,) = Lookout(harness.operations()).all()
    assert (one.kind, one.name, one.saga) == ("decision", "hotel", "trip")
    assert one.error is not None
    assert one.error.error_message == "closed: a"


async def test_a_decision_that_makes_no_sense_is_asked_for_again():
    """The new callback is the one that waits; the one that is answered hangs where it belongs as well."""
    harness = await until_it_waits(everything, "1", '"be nice"')
    (one,) = Lookout(harness.operations()).all()
    assert brief([one]) == [("decision", "hotel")]
    assert drawn(harness).count("    operator") == 2


async def test_an_answer_that_comes_too_late_for_the_function_is_no_longer_awaited():
    """A cancellation that was asked for, and of which the function has not been told, is still there as that."""
    harness = await until_it_waits(everything)
    cancel, answer = Lookout(harness.operations()).all()
    outside = Outside(harness.service)
    await outside.succeed_callback(answer.callback_id, "1")
    await outside.succeed_callback(cancel.callback_id, "null")
    (left,) = Lookout(harness.operations()).all()
    assert (left.kind, left.is_done) == ("cancellation", True)


async def test_what_waits_in_a_context_that_is_over_is_not_awaited():
    """Nobody listens to it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def asks(child: DurableContext) -> int:
            return await child.wait_for_callback(submit, int, name="slow")

        async def waits(child: DurableContext) -> int:
            await child.wait(1)
            return 1

        await ctx.race(asks, waits)
        await ctx.wait_for_callback(submit, int, name="after")

    harness = await until_it_waits(work)
    due = await harness.service.next_due(harness.record.id)
    assert due is not None
    await harness.clock.sleep_until(due)
    await harness.invoke()
    assert brief(Lookout(harness.operations()).all()) == [("answer", "after")]


async def test_the_tree_has_a_decision_below_what_it_is_about():
    """And hides what only says how a block ended."""
    assert drawn(await until_it_waits(everything, "1")) == [
        "cancel trip", "hotel", "  undo", "    operator", "move_on_after", "approval", "  callback", "  submitter",
        "trip",
    ]  # fmt: skip


async def test_lines_of_what_is_awaited_have_the_command():
    """In a log and on a terminal; what has been decided is told with what was."""
    harness = await until_it_waits(everything, "1", '{"decision":"retry"}')
    stream = io.StringIO()
    await watched(harness, PlainView(console_for(stream), typed))
    lines = [line.split("  ", 1)[-1] for line in stream.getvalue().splitlines()]
    waiting = Lookout(harness.operations()).all()
    answer = next(one for one in harness.operations() if one.name == "approval create callback id")
    assert answer.callback_details is not None
    command = f"durable callback succeed {answer.callback_details.callback_id} --result JSON"
    decide = "undo hotel waits for a decision: durable saga retry t-1 hotel (or skip, or abandon)"
    assert "saga trip can be cancelled: durable cancel t-1" in lines
    assert f"approval / callback waits for an answer: {command}" in lines
    assert lines.count(decide) == 2
    assert any(line.startswith("undo hotel was decided on in ") for line in lines)
    assert [line for line in lines if "outcome" in line] == []

    console, screen = terminal()
    view = LiveView(console, LogHandler(), typed)
    followed = await watched(harness, view)
    shown = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert ["◷", "hotel", "waits", "for", "a", "decision"] in [line.split() for line in shown]
    assert shown.count("      durable saga retry t-1 hotel   or skip, or abandon") == 2
    assert any(line.split()[-2:] == ["decided:", '{"decision":"retry"}'] for line in shown)
    group: Any = view._under_way(harness.clock.now())
    # Neither the time limit, whose block has ended, nor the cancellation, which nobody need ask for.
    assert [row.plain.split()[1:] for row in group.renderables] == [
        ["hotel", "0.00", "s", "waits", "for", "a", "decision"]
    ]
    screen.truncate(0)
    view.end(followed, Ending(code=ExitCode.INTERRUPTED, error=EngineClosedError()))
    assert screen.getvalue().splitlines()[-4:] == [
        "  decide with durable saga retry t-1 hotel",
        "              durable saga skip t-1 hotel",
        "              durable saga abandon t-1 hotel",
        "  go on with  durable resume t-1",
    ]
    assert len(waiting) == 1


async def test_what_is_still_awaited_is_told_after_what_happened_before():
    """With the command, where one who resumes looks; what had been answered by then has none."""
    harness = await until_it_waits(everything, "1", '{"decision":"retry"}')
    stream = io.StringIO()
    view = PlainView(console_for(stream), typed)
    followed = Followed(harness.record, run=None)  # nothing here runs
    for event in await harness.service.history(harness.record.id):
        view.tell(followed, event, followed.story.recall([event]))
    assert "durable" not in stream.getvalue()
    view.resumed(followed, followed.story.resume(harness.clock.now()))
    assert stream.getvalue().endswith(
        "  undo hotel waits for a decision: durable saga retry t-1 hotel (or skip, or abandon)\n"
    )
    assert stream.getvalue().count("durable") == 1
    console, screen = terminal()
    live = LiveView(console, LogHandler(), typed)
    live.resumed(followed, followed.story.resume(harness.clock.now()))
    assert screen.getvalue().splitlines()[-1].strip() == "durable saga retry t-1 hotel   or skip, or abandon"


async def test_a_cancellation_is_told_when_it_is_asked_for():
    """In a log and on a terminal, with the reason."""
    harness = await until_it_waits(everything)
    cancel = Lookout(harness.operations()).all()[0]
    await Outside(harness.service).succeed_callback(cancel.callback_id, '"a joke"')
    stream = io.StringIO()
    await watched(harness, PlainView(console_for(stream), typed))
    assert stream.getvalue().endswith('saga trip was asked to be cancelled in 0.00 s: "a joke"\n')
    console, screen = terminal()
    await watched(harness, LiveView(console, LogHandler(), typed))
    assert screen.getvalue().rstrip().endswith('was asked to be cancelled  "a joke"')


@pytest.mark.parametrize(
    ("engine", "said"), [(None, "no engine is at work on it"), ("process 7", "an engine has the store (process 7)")]
)
async def test_show_says_who_is_at_work_and_what_can_be_typed(engine: str | None, said: str):
    """What nobody need do comes last; whoever runs it already need not be told how to go on."""
    harness = await until_it_waits(everything)
    console, screen = terminal()
    print_execution(console, harness.record, harness.operations(), (), engine=engine, command=typed)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    answer = Lookout(harness.operations()).all()[1]
    below = lines[lines.index(f"● not over, {said}") + 1 :]
    assert below[0] == "  callback approval waits for an answer"
    assert "".join(below[1:-3] if engine is None else below[1:-2]) == (
        f"  answer with durable callback succeed {answer.callback_id} --result JSON"
    )
    end = ["  saga trip can be cancelled", "  cancel with durable cancel t-1"]
    assert below[-3:] == [*end, "  go on with  durable resume t-1"] if engine is None else below[-2:] == end


async def test_a_list_that_is_too_long_is_cut():
    """On a terminal; how many more there are is said."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def asks(child: DurableContext, number: int) -> int:
            return await child.wait_for_callback(submit, int, name=f"approval {number}")

        await ctx.map(asks, range(25))

    harness = await until_it_waits(work)
    console, screen = terminal()
    print_execution(console, harness.record, harness.operations(), (), engine="x", command=typed)
    assert screen.getvalue().count("waits for an answer\n") == 20
    assert screen.getvalue().endswith("  and 5 others: --json has all\n")
    view = LiveView(console, LogHandler(), typed)
    followed = await watched(harness, view)
    screen.truncate(0)
    view.end(followed, Ending(code=ExitCode.INTERRUPTED, error=EngineClosedError()))
    assert screen.getvalue().count("durable callback succeed") == 5
    assert "20 others: durable show t-1" in screen.getvalue()


def test_the_id_is_in_the_command_only_where_it_must_be():
    """Where there are several of one name, or several sagas to cancel."""

    def one(kind: Any, name: str, callback_id: str) -> Awaited:
        return Awaited(kind=kind, name=name, callback_id=callback_id, error=ErrorObject())

    a, b, c = one("decision", "a", "1"), one("decision", "b", "2"), one("decision", "b", "3")
    d, e = one("cancellation", "d", "4"), one("cancellation", "e", "5")
    waiting = [a, b, c, d, e]
    assert next(ways_of(a, waiting, "t-1", typed)) == "durable saga retry t-1 a"
    assert list(ways_of(c, waiting, "t-1", typed))[2] == "durable saga abandon t-1 b --id 3"
    assert list(ways_of(d, waiting, "t-1", typed)) == ["durable cancel t-1 --id 4"]
    assert list(ways_of(d, [a, d], "t-1", typed)) == ["durable cancel t-1"]
