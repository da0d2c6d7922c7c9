"""What became of a requirement, whether that is as expected, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .expected import FAILING, NOT_COVERED, SUITES

Status = Literal["passed", "failed", "not covered"]

OWN_PROCESS: Final = "it ends its process, and this server runs all functions in its own"


@dataclass(frozen=True)
class Outcome:
    """What became of one requirement.

    Attributes:
        requirement: Its id.
        suite: Its suite.
        title: What it is about, by AWS.
        status: What became of it.
        why: What the validator found wrong, or why there is no handler.
        note: What its handler does otherwise than AWS's text has it.
    """

    requirement: str
    suite: str
    title: str
    status: Status
    why: Sequence[str] = field(default_factory=tuple)
    note: str | None = None

    @property
    def is_as_expected(self) -> bool:
        """Whether it is what `expected.py` says: what is named there and passes is to be taken out."""
        if self.status == "not covered":
            return self.requirement in NOT_COVERED or OWN_PROCESS in self.why
        return (self.status == "failed") == (self.requirement in FAILING)

    @property
    def order(self) -> tuple[int, ...]:
        """By suite and number."""
        return tuple(int(part) for part in self.requirement.split("-"))


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """What became of each suite, and of what did not pass or is not as expected."""
    lines = [f"{'suite':20} {'passed':>7} {'failed':>7} {'not covered':>12}"]
    for suite in SUITES:
        own = [outcome for outcome in outcomes if outcome.suite == suite]
        if own:
            lines.append(_row(suite, own))
    lines += [_row("all", outcomes), ""]
    for outcome in outcomes:
        lines += _details(outcome)
    in_another_way = [outcome for outcome in outcomes if outcome.status == "passed" and outcome.note is not None]
    if in_another_way:
        lines += ["passed in another way than asked for:"]
        lines += [f"{outcome.requirement:6} {outcome.note}" for outcome in in_another_way]
        lines.append("")
    unexpected = [outcome.requirement for outcome in outcomes if not outcome.is_as_expected]
    verdict = f"not as expected: {', '.join(unexpected)}" if unexpected else "all as expected"
    return "\n".join([*lines, f"{len(outcomes)} requirements in {seconds:.0f} s, {verdict}"])


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    statuses: tuple[Status, ...] = ("passed", "failed", "not covered")
    passed, failed, not_covered = (sum(outcome.status == status for outcome in outcomes) for status in statuses)
    return f"{name:20} {passed:7} {failed:7} {not_covered:12}"


def _details(outcome: Outcome) -> list[str]:
    if outcome.status == "passed" and outcome.is_as_expected:
        return []
    head = f"{outcome.requirement:6} {outcome.status}: {outcome.title}"
    known = FAILING.get(outcome.requirement)
    lines = [head if known is None else f"{head} (known: {known})"]
    if outcome.status == "passed":
        lines.append("       it passes, and is named in expected.py as failing: take it out there")
    return [*lines, *(f"       {reason}" for reason in outcome.why), ""]
