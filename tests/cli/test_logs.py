"""`durable logs`: what functions have logged, from the file beside the store and from a server."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cli.helpers import JOBS, ROOT, Call, job, said, start_process
from tests.server.dev import Dev, served

CHATTY = """
from durable import DurableContext, Retry, current_context, current_step, durable_execution

async def work(name: str) -> str:
    current_context().logger.info("works for %s", name)
    return name

async def fails() -> None:
    try:
        raise LookupError("gone")
    except LookupError:
        current_context().logger.exception("no luck")
    if current_step().attempt < 2:
        raise LookupError("gone")

@durable_execution
async def chatty(name: str, ctx: DurableContext) -> None:
    ctx.logger.info("begins")
    ctx.logger.debug("nobody wants to know")
    await ctx.step(work, name)
    await ctx.wait(1)
    await ctx.step(fails, retry=Retry(attempts=2, initial_delay=1, jitter="none"))
    ctx.logger.warning("ends \\x1b[31m")
"""


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a function that logs."""
    path = tmp_path_factory.mktemp("chatty") / "chatty.py"
    path.write_text(CHATTY)
    return str(path)


def shown(text: str) -> list[str]:
    """Lines without times, tracebacks and their like."""
    return [line.partition("  ")[2] for line in text.splitlines() if line[:2].isdigit()]


EXPECTED = [
    "info: begins",
    "info  work: works for Ada",
    "error  fails: no luck",
    "error  fails (attempt 2): no luck",
    "warning: ends \\x1b[31m",
]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_was_logged_is_shown_afterwards(durable: Call, chatty: str, backend: str):
    """Once, whatever was replayed; in order, with the step and its attempt; of this execution and of no other."""
    run = ("run", f"{chatty}:chatty", "--backend", backend)
    assert durable(*run, "-i", '"Ada"', "-n", "t-1").code == 0
    assert durable(*run, "-i", '"Grace"', "-n", "t-2").code == 0
    done = durable("logs", "t-1")
    assert (done.code, done.err, shown(done.out)) == (0, "", EXPECTED)
    assert said(done.out, "no luck\nTraceback", "LookupError: gone\n")
    first, second, third, *_ = durable("logs", "t-1", "--json").lines
    assert (first["level"], first["message"], first["operation"]) == ("INFO", "begins", None)
    assert (second["operation"], second["attempt"], second["logger"]) == ("work", 1, "durable.execution")
    assert third["error"].endswith("LookupError: gone")
    assert Path("durable.db.log").stat().st_size > 0
    assert shown(durable("logs", "t-2", "--follow").out)[1] == "info  work: works for Grace"


def test_more_is_kept_if_more_is_shown(durable: Call, chatty: str):
    """With -v."""
    assert durable("run", f"{chatty}:chatty", "-i", '"Ada"', "-n", "t-1", "-v").code == 0
    assert shown(durable("logs", "t-1").out)[1] == "debug: nobody wants to know"


def test_a_name_that_stood_for_another_one_before(durable: Call):
    """What that has logged is not told of this one."""
    for name in ("t-1", "t-1"):
        assert durable("run", job("talks"), "-n", name).code == 0
        assert len(durable("logs", "t-1", "--json").lines) == 1
        assert durable("delete", "t-1").code == 0
    assert durable("logs", "t-1").code == 3


def test_where_nothing_was_logged(durable: Call):
    """It says so; an execution that is not there is an error."""
    assert durable("run", job("double"), "-i", "2", "-n", "t-1").code == 0
    done = durable("logs", "t-1")
    assert (done.code, done.out, done.err) == (0, "", "nothing is there that t-1 has logged\n")
    assert durable("logs", "t-1", "--json").err == ""
    assert durable("logs", "t-2").code == 3


@pytest.mark.process
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_is_followed_until_the_execution_is_over(durable: Call, chatty: str, tmp_path: Path, backend: str):
    """By whoever looks on while another process runs it."""
    arguments = ("run", f"{chatty}:chatty", "-i", '"Ada"', "-n", "t-1", "--backend", backend)
    running = start_process(*arguments, cwd=tmp_path)
    end = time.monotonic() + 30
    while not Path("durable.db").exists() or durable("show", "t-1").code != 0:
        assert time.monotonic() < end
    following = durable("logs", "t-1", "--follow")
    assert (following.code, shown(following.out)) == (0, EXPECTED)
    running.communicate(timeout=30)
    assert running.returncode == 0


@pytest.fixture(scope="module")
def dev(chatty: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Dev]:
    directory = tmp_path_factory.mktemp("dev")
    with served(directory, chatty, f"{JOBS}:double", "--no-reload", "--token", "secret") as dev:
        yield dev


@pytest.mark.process
def test_a_server_tells_what_its_functions_log(durable: Call, dev: Dev):
    """With its token, and not without; the same as on the file of its store."""
    where = ("--endpoint", dev.url, "--token", "secret")
    assert durable("start", "chatty", "-i", '"Ada"', "-n", "t-1", *where).code == 0
    followed = durable("logs", "t-1", "--function", "chatty", "--follow", *where)
    assert (followed.code, followed.err, shown(followed.out)) == (0, "", EXPECTED)
    arn = durable("show", "t-1", "--function", "chatty", "--json", *where).document["arn"]
    assert durable("logs", arn, *where).out == followed.out
    assert durable("logs", "t-1", "--store", str(dev.directory / "durable.db")).out == followed.out
    assert durable("logs", arn, "--endpoint", dev.url, "--token", "wrong").code == 3
    assert durable("logs", f"{arn}x", *where).code == 3
    assert str(ROOT) not in followed.err
