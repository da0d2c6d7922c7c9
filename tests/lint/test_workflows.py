"""Realistic workflows: they run, nothing is found in them, and a mistake that is planted in one is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from durable._wire.events import CallbackStartedDetails
from durable.lint import check_source
from durable.local import Engine, Run, load_target, open_engine
from durable.testing import SkippingClock

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = Path(__file__).parent / "workflows"

# The function, its input, what somebody answers to each callback, and what it comes to.
RUNS: dict[str, tuple[str, Any, list[Any], Any]] = {
    "order": ("place_order", {"number": "o-1", "lines": {"lamp": 2}}, [], "o-1: 39.0 after 3600 s"),
    "billing": (
        "bill",
        {"customer": "ada", "price": "9.90"},
        [],
        ["paid INV-ada-1", "paid INV-ada-2", "paid INV-ada-3"],
    ),
    "document": (
        "approve",
        {"title": "Notes", "author": "ada", "reviewers": ["grace", "edsger"]},
        [{"decision": "approve"}, {"decision": "approve", "remark": "nice"}],
        "Notes was approved: nice",
    ),
    "provisioning": (
        "provision",
        {"name": "acme"},
        [],
        {"buckets": ["acme-eu", "acme-us"], "quota": 10, "token": 36},
    ),
    "etl": ("run_job", {"source": "sales", "parts": 3}, [], {"AT": 36.0, "CH": 12.0}),
    "agent": ("agent", {"question": "How is the weather?"}, [], "In Turin it is sunny in Turin."),
    "refund": ("give_back", {"order": "o-1", "amount": 250}, [True], "250.00 paid out, reference of 36 characters"),
    "onboarding": ("onboard", {"name": "Ada Lovelace", "team": "engines"}, [], {"mail": "adal", "wiki": "adal"}),
    "migration": ("migrate", {"tables": ["users", "orders"]}, [], {"users": 3, "orders": 5}),
    "polling": ("make_report", {"report": "sales"}, [], "contents of sales-1"),
}

IMPORTS = "import asyncio, anyio, secrets; from datetime import datetime\n"
"""What the mistakes need, on one line, instead of another one."""


class Mistake(NamedTuple):
    """In which workflow, what is written instead of what; what is found there, or so many lines from there."""

    workflow: str
    right: str
    wrong: str
    code: str
    beside: int = 0


MISTAKES = [
    Mistake("order", "started = ctx.now()", "started = datetime.now()", "DUR101"),
    Mistake("order", 'await ctx.wait(timedelta(hours=1), name="cooling-off")', "time.sleep(3600)", "DUR201"),
    Mistake(
        "order", "total += amount * await ctx.step(price_of, article)", "total += amount * time.time()", "DUR101"
    ),
    Mistake("order", 'ctx.logger.info("reserved', 'log.info("reserved', "DUR108"),
    Mistake("order", "await s.step(charge,", "s.step(charge,", "DUR301"),
    Mistake("billing", "await ctx.step(remind, customer, attempt)", "await remind(customer, attempt)", "DUR108"),
    Mistake(
        "billing", "if await ctx.step(is_cancelled, subscription.customer)", "if os.environ.get('STOP')", "DUR103"
    ),
    Mistake(
        "billing", "await ctx.step(issue, subscription, period)", "await issue(subscription, period)", "DUR103"
    ),
    Mistake("billing", "await ctx.wait(PERIOD, ", "ctx.wait(PERIOD, ", "DUR301"),
    Mistake("document", "await ask_reviewer(branch,", "await ask_reviewer(ctx,", "DUR304"),
    Mistake("document", "reviews = await ctx.map(", "reviews = ctx.map(", "DUR301"),
    Mistake(
        "provisioning", "tasks.start_soon(regional, region,", "tasks.start_soon(regional, ctx, region,", "DUR304"
    ),
    Mistake("provisioning", "token = str(ctx.uuid4())", "token = secrets.token_hex()", "DUR102"),
    Mistake(
        "provisioning",
        "            await database_up(tenant.name)",
        "            database_up(tenant.name)",
        "DUR301",
    ),
    Mistake("provisioning", "ctx.task_group() as tasks", "anyio.create_task_group() as tasks", "DUR302", 1),
    Mistake(
        "etl",
        "for country in sorted(countries):\n            await",
        "for country in countries:\n            await",
        "DUR106",
    ),
    Mistake("etl", "rows = await ctx.step(extract, part)", "rows = extract(part)", "DUR104"),
    Mistake(
        "etl",
        "await ctx.step(list_parts,",
        "await ctx.step(list_parts, str(Path(job['source']).read_text()),",
        "DUR104",
    ),
    Mistake("agent", "            self._trim(messages)", "            await asyncio.sleep(1)", "DUR201"),
    Mistake("agent", "        while len(messages) > 20:", "        while datetime.now().hour > 20:", "DUR101", -13),
    Mistake("agent", "functools.partial(TOOLS[answer.tool], **arguments)", "lambda: messages.clear()", "DUR305"),
    Mistake("refund", "reference = ctx.uuid4()", "reference = uuid4()", "DUR102"),
    Mistake(
        "refund",
        "async with ctx.move_on_after(timedelta(hours=2)) as limit, saga",
        "with anyio.move_on_after(7200) as limit:\n      async with saga",
        "DUR202",
        3,
    ),
    Mistake("refund", "    except CallbackError:", "    except:", "DUR307"),
    Mistake("onboarding", 'lucky = ctx.random().choice(["', 'lucky = random.choice(["', "DUR102"),
    Mistake("onboarding", "await branch.wait(5)", "await ctx.wait(5)", "DUR304"),
    Mistake(
        "onboarding",
        "login = login_of(colleague.name, ",
        "login = password() + login_of(colleague.name, ",
        "DUR102",
    ),
    Mistake("migration", 'await ctx.wait(1, name="be kind', 'await ctx.wait(0.1, name="be kind', "DUR401"),
    Mistake(
        "migration",
        "copied += await ctx.step(write_page, table, page.rows)",
        "copied += write_page(table, page.rows)",
        "DUR107",
    ),
    Mistake("migration", "return digest(OLD[table])", "ctx.now(); return digest(OLD[table])", "DUR303"),
    Mistake("polling", "report = await ctx.step(submit, request)", "report = submit(request)", "DUR104"),
    Mistake("polling", "return await branch.step(fetch, report)", "return submit(report)", "DUR104"),
    Mistake(
        "polling", "(await ctx.race(patient, eager)).result", "asyncio.gather(patient(ctx), eager(ctx))", "DUR302"
    ),
]


@pytest.fixture
def workflow(request: pytest.FixtureRequest, anyio_backend: str) -> Iterator[Any]:
    """The durable function of a workflow, loaded anew."""
    name = request.param
    before, modules = list(sys.path), set(sys.modules)
    yield load_target(f"{WORKFLOWS / name}.py:{RUNS[name][0]}")
    sys.path[:] = before
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(WORKFLOWS)):
            del sys.modules[module]


@pytest.mark.anyio
@pytest.mark.parametrize("workflow", RUNS, indirect=True)
async def test_a_workflow_runs_to_its_end(workflow: Any, request: pytest.FixtureRequest):
    """In virtual time, with somebody who answers its callbacks."""
    _, event, answers, expected = RUNS[request.node.callspec.params["workflow"]]
    async with open_engine(clock=SkippingClock()) as engine, anyio.create_task_group() as tasks:
        raw = msgspec.json.encode(event).decode()
        run = await engine.start(workflow, await _input(workflow, raw))
        tasks.start_soon(_answer, engine, run, list(answers))
        assert msgspec.to_builtins(await run.result()) == expected


async def _input(workflow: Any, raw: str) -> Any:
    return workflow.plain_input_converter().decode(raw, "the input")


async def _answer(engine: Engine, run: Run[Any], answers: list[Any]) -> None:
    async for event in run.events():
        if isinstance(event.details, CallbackStartedDetails):
            await engine.complete_callback(event.details.callback_id, answers.pop(0))
    assert answers == []


@pytest.mark.parametrize(
    "path",
    [*sorted(WORKFLOWS.glob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))],
    ids=lambda path: path.stem,
)
def test_nothing_is_found_in_a_workflow_and_in_an_example(path: Path):
    """No false alarm in what works."""
    assert check_source(path.read_bytes()) == []


def test_every_workflow_is_run():
    """None is there only to be looked at."""
    assert {path.stem for path in WORKFLOWS.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{one.workflow}-{n}" for n, one in enumerate(MISTAKES)])
def test_a_planted_mistake_is_found_and_nothing_else(mistake: Mistake):
    """On its line, by its rule."""
    source = (WORKFLOWS / f"{mistake.workflow}.py").read_text()
    assert source.count(mistake.right) == 1, "the workflow has changed"
    before, after = source.split(mistake.right)
    broken = f"{before}{mistake.wrong}{after}".replace("from __future__ import annotations\n", IMPORTS)
    line = before.count("\n") + 1 + mistake.beside
    assert [(one.code, one.line) for one in check_source(broken)] == [(mistake.code, line)]
