"""What users copy: the function of the example runs, and its templates are what AWS takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable import DurableFunction
from durable.local import load_target
from tests.aws.harness import AwsHarness

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "aws"
TRIP = {"traveller": "Ada", "hotel": "Grand", "flight": "BA 117", "card": "visa"}


@pytest.fixture
def book_trip() -> DurableFunction[Any, Any]:
    """The function of the example."""
    return load_target(f"{EXAMPLE / 'app.py'}:book_trip")


@pytest.mark.anyio
async def test_the_trip_is_booked(book_trip: DurableFunction[Any, Any]):
    """Over HTTP, to its end."""
    event = book_trip.function.__globals__["Trip"](**TRIP)
    async with AwsHarness(book_trip, event).connected() as harness:
        booking = await harness.result()
    assert booking.hotel.startswith("hotel Grand ")


@pytest.mark.anyio
async def test_a_card_that_is_declined(book_trip: DurableFunction[Any, Any], capsys: pytest.CaptureFixture[str]):
    """What was booked is cancelled, in reverse."""
    event = book_trip.function.__globals__["Trip"](**TRIP | {"card": "declined"})
    async with AwsHarness(book_trip, event).connected() as harness:
        error = await harness.error()
    assert type(error).__name__ == "CardDeclinedError"
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["flight", "hotel"]


def lint(template: Path) -> subprocess.CompletedProcess[str]:
    """What cfn-lint says of a template."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from cfnlint.runner import main; sys.exit(main())", str(template)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
def test_the_template_is_what_cloudformation_takes(tmp_path: Path):
    """Nothing to complain of; and a mistake in what makes a function durable would be seen."""
    done = lint(EXAMPLE / "template.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "template.yaml"
    wrong.write_text((EXAMPLE / "template.yaml").read_text().replace("ExecutionTimeout:", "ExecutionTimeuot:"))
    assert "'ExecutionTimeuot' was unexpected" in lint(wrong).stdout


def test_the_template_and_the_function_go_together():
    """The handlers are there, executions are limited by more than the saga's own deadline, and may be recorded."""
    template = (EXAMPLE / "template.yaml").read_text()
    assert "Handler: app.book_trip" in template
    assert 'CMD ["app:book_trip"]' in (EXAMPLE / "Dockerfile").read_text()
    assert "ExecutionTimeout: 86400" in template
    assert "deadline=23 * 3600" in (EXAMPLE / "app.py").read_text()
    for action in ("lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"):
        assert action in template
