"""What functions log, kept in a file beside the store: written, put aside, cut off, and read again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durable.local import logs
from durable.local.logs import MAX_MESSAGE, LogFile, log_path, read_lines

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:1/durable-execution/t-1/e-1"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "durable.db")


@pytest.fixture
def logger(store: str) -> Iterator[logging.Logger]:
    """A logger whose messages go into the file."""
    found = logging.getLogger("tests.local.logs")
    found.setLevel(logging.INFO)
    handler = LogFile(store)
    found.addHandler(handler)
    yield found
    found.removeHandler(handler)
    handler.close()


def extra(arn: str = ARN, **more: Any) -> dict[str, Any]:
    """What a context's logger adds."""
    known = {"context_id": None, "operation": None, "operation_id": None, "attempt": None}
    return {"execution": "t-1", "execution_arn": arn, **known, **more}


def messages(store: str, position: str = "", arn: str = ARN) -> list[str]:
    return [line.message for line in read_lines(store, arn, position)[0]]


def test_what_is_logged_is_found_by_its_execution(store: str, logger: logging.Logger):
    """Whole; what others log, and what is logged without a context, is not there."""
    logger.info("one\n%s", "ü", extra=extra(operation="charge", operation_id="a", attempt=2, context_id="c"))
    logger.info("another's", extra=extra(f"{ARN}-2"))
    logger.warning("nobody's")
    logger.debug("too quiet", extra=extra())
    try:
        raise LookupError("gone")
    except LookupError:
        logger.exception("two", extra=extra())
    one, two = read_lines(store, ARN)[0]
    assert (one.message, one.level, one.logger, one.execution) == ("one\nü", "INFO", "tests.local.logs", "t-1")
    assert (one.operation, one.operation_id, one.attempt, one.context_id) == ("charge", "a", 2, "c")
    assert (two.level, two.operation, two.attempt) == ("ERROR", None, None)
    assert two.error is not None
    assert two.error.endswith("LookupError: gone")
    assert one.time <= two.time
    assert messages(store, arn=f"{ARN}-2") == ["another's"]
    assert len(log_path(store).read_text().splitlines()) == 3


def test_where_nothing_was_logged(store: str, logger: logging.Logger):
    """There is no file, and that is no error."""
    assert read_lines(store, ARN) == ([], "")
    logger.warning("nobody's")
    assert not log_path(store).exists()


def test_it_is_read_on_from_where_it_was(store: str, logger: logging.Logger):
    """Each line once; half a line is left for the next time."""
    position = ""
    for number in range(3):
        logger.info("%s", number, extra=extra())
        lines, position = read_lines(store, ARN, position)
        assert [line.message for line in lines] == [str(number)]
    assert read_lines(store, ARN, position) == ([], position)
    with log_path(store).open("a") as file:
        file.write(f'{{"time": 1, "level": "INFO", "execution": "t-1", "arn": "{ARN}"')
    assert read_lines(store, ARN, position) == ([], position)
    with log_path(store).open("a") as file:
        file.write(', "message": "late"}\n')
    assert messages(store, position) == ["late"]


def test_whoever_was_killed_in_the_middle_of_a_line(store: str, logger: logging.Logger):
    """The next one begins another; what is no line of ours is passed over."""
    log_path(store).write_text(f'{{"arn": "{ARN}", "mess')
    logger.info("after", extra=extra())
    logger.info("and after", extra=extra())
    assert messages(store) == ["after", "and after"]
    assert len(log_path(store).read_text().splitlines()) == 3


def test_a_file_that_has_become_large_is_put_aside(
    store: str, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
):
    """Once: there are two at most. Who reads on misses nothing that is there, and has nothing twice."""
    (handler,) = logger.handlers
    assert isinstance(handler, LogFile)
    monkeypatch.setattr(handler, "maxBytes", 4000)
    told: list[str] = []
    position = ""
    for number in range(100):
        logger.info("%s", number, extra=extra())
        if number % 7 == 0:
            lines, position = read_lines(store, ARN, position)
            told += [line.message for line in lines]
    told += messages(store, position)
    assert told == [str(number) for number in range(100)]
    left = messages(store)
    assert left == [str(number) for number in range(100 - len(left), 100)]
    assert 10 < len(left) < 50
    assert sorted(path.name for path in Path(store).parent.iterdir()) == ["durable.db.log", "durable.db.log.1"]


def test_what_is_put_aside_while_it_is_read(store: str, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch):
    """It is read again: nothing in between is lost."""
    (handler,) = logger.handlers
    assert isinstance(handler, LogFile)
    for number in range(3):
        logger.info("%s", number, extra=extra())
        if number == 0:
            handler.doRollover()
    read = logs._read
    times = 0

    def read_slowly(path: Path) -> Any:
        nonlocal times
        times += 1
        found = read(path)
        if times == 1:
            handler.doRollover()
            logger.info("3", extra=extra())
        return found

    monkeypatch.setattr(logs, "_read", read_slowly)
    assert messages(store) == ["1", "2", "3"]


def test_a_message_that_is_too_long_is_cut_off(store: str, logger: logging.Logger):
    """And says so."""
    logger.info("x" * (MAX_MESSAGE + 1), extra=extra())
    (message,) = messages(store)
    assert message == "x" * MAX_MESSAGE + "… (cut off)"
