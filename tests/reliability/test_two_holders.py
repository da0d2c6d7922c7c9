"""Two invocations of one execution at once, in every way that a few seeds lead to."""

from __future__ import annotations

import pytest

from tests.reliability.two_holders import BACKENDS, PROGRAMS, Outcome, check, run_once


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_invocation_that_was_thought_dead_does_no_harm(program: str, backend: str):
    """It writes nothing, and outcome, history and effects are as they should be."""
    expected = run_once(program, backend, 0, takeovers=0)
    assert expected.takeovers == 0
    assert expected.ending[0] == ("FAILED" if program == "declined" else "SUCCEEDED")
    assert expected.effects["undo hotel"] == (program == "declined")
    found = [check(program, backend, seed, expected) for seed in range(12)]
    assert sum(outcome.takeovers for outcome in found) > 12
    # Older ones really went on: some were refused a call, some steps happened again.
    assert sum(outcome.refused for outcome in found) > 0
    if program != "once":
        assert any(_repeated(outcome, expected) for outcome in found)


def _repeated(found: Outcome, expected: Outcome) -> bool:
    return any(count > expected.effects[what] for what, count in found.effects.items())
