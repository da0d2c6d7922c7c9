"""What the runner makes of the validator's verdicts."""

from __future__ import annotations

import pytest

from . import expected
from . import outcome as module
from .handlers import SERVED, load
from .outcome import OWN_PROCESS, Outcome, Status, report


def outcome(requirement: str, status: Status, *why: str) -> Outcome:
    return Outcome(requirement, "step", "what it is about", status, why)


@pytest.mark.parametrize(
    ("requirement", "status", "why", "as_expected"),
    [
        ("1-1", "passed", (), True),
        ("1-1", "failed", ("wrong",), False),
        ("1-1", "not covered", ("there is no handler for it",), False),
        ("1-1", "not covered", (OWN_PROCESS,), True),
        ("1-2", "failed", ("wrong",), True),
        ("1-2", "passed", (), False),
        ("1-3", "not covered", ("cannot be",), True),
    ],
)
def test_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, requirement: str, status: Status, why: tuple[str, ...], as_expected: bool
):
    """All pass, but for those that are named; one that is named and passes is to be taken out."""
    monkeypatch.setattr(module, "FAILING", {"1-2": "known"})
    monkeypatch.setattr(module, "NOT_COVERED", {"1-3": "cannot be"})
    assert outcome(requirement, status, *why).is_as_expected is as_expected


def test_the_report_counts_by_suite_and_names_what_did_not_pass():
    """With the validator's reasons; what passed is only counted."""
    noted = Outcome("1-5", "step", "what it is about", "passed", (), "by other means")
    told = report([outcome("1-1", "passed"), outcome("1-4", "failed", "it was 2, not 3"), noted], 3.4)
    assert told.splitlines() == [
        "suite                 passed  failed  not covered",
        "step                       2       1            0",
        "all                        2       1            0",
        "",
        "1-4    failed: what it is about",
        "       it was 2, not 3",
        "",
        "passed in another way than asked for:",
        "1-5    by other means",
        "",
        "3 requirements in 3 s, not as expected: 1-4",
    ]


def test_what_is_named_as_failing_has_a_handler_and_what_is_not_covered_has_none():
    """No entry outlives what it is about."""
    handlers = load()
    assert set(expected.FAILING) <= set(handlers)
    assert not set(expected.NOT_COVERED) & set(handlers)


def test_each_suite_has_its_module_and_its_numbers():
    """Suite n has the requirements n-1, n-2 and so on, apart from those that end their process."""
    handlers = load()
    for number, suite in enumerate(SERVED, 1):
        assert expected.SUITES[number - 1] == suite
        own = {
            name for name, handler in handlers.items() if handler.function.function.__module__.endswith(f".{suite}")
        }
        assert own == {
            name for name, handler in handlers.items() if name.startswith(f"{number}-") and not handler.exits
        }
