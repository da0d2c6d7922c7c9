"""Retry policies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import Backoff, InvalidDurationError, Retry

NONE = Retry(attempts=10, jitter="none")


def test_delays_grow_by_the_rate_up_to_the_maximum():
    """Without jitter the delay is first * rate^(n-1), at most the maximum."""
    assert [NONE.next_delay(ValueError(), attempt, 0.5) for attempt in range(1, 7)] == [5, 10, 20, 40, 60, 60]


def test_the_last_attempt_has_no_successor():
    """As many attempts as were asked for, the first included."""
    assert Retry(attempts=3).next_delay(ValueError(), 2, 0.5) is not None
    assert Retry(attempts=3).next_delay(ValueError(), 3, 0.5) is None


def test_without_arguments_it_has_the_numbers_of_the_official_sdk():
    """Retry() is 6 attempts, 5 s first, x2, at most 60 s, full jitter."""
    retry = Retry()
    assert (retry.attempts, retry.initial_delay, retry.backoff_rate, retry.max_delay, retry.jitter) == (
        6,
        5.0,
        2.0,
        60.0,
        "full",
    )


@given(chance=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, 5000))
def test_jitter_stays_within_its_bounds(chance: float, attempt: int):
    """Full jitter is within (0, d], half within [d/2, d]; never under a second, always whole seconds."""
    plain = Retry(attempts=10_000, jitter="none").next_delay(ValueError(), attempt, chance)
    full = Retry(attempts=10_000, jitter="full").next_delay(ValueError(), attempt, chance)
    half = Retry(attempts=10_000, jitter="half").next_delay(ValueError(), attempt, chance)
    assert plain is not None
    assert full is not None
    assert half is not None
    assert 1 <= full <= plain
    assert plain / 2 <= half <= plain


@pytest.mark.parametrize(
    ("jitter", "chance", "delay"),
    [
        ("none", 0.5, 40),
        ("full", 0.0, 1),
        ("full", 0.5, 20),
        ("full", 0.999, 40),
        ("half", 0.0, 20),
        ("half", 0.5, 30),
        ("half", 0.999, 40),
    ],
)
def test_jitter_is_as_large_as_chance_says(jitter, chance: float, delay: int):
    """Of the whole delay, or of its second half."""
    retry = Retry(initial_delay=40, jitter=jitter)
    assert retry.next_delay(ValueError(), 1, chance) == delay


def test_a_delay_under_a_second_is_a_second():
    """The wire takes whole seconds from 1."""
    assert Retry(initial_delay=0.01, jitter="none").next_delay(ValueError(), 1, 0.0) == 1
    assert Retry(jitter="full").next_delay(ValueError(), 1, 0.0) == 1
    assert Retry(initial_delay=timedelta(milliseconds=1500), jitter="none").next_delay(ValueError(), 1, 0.0) == 2


@pytest.mark.parametrize("retry_if", [KeyError, (KeyError, OSError), lambda error: isinstance(error, LookupError)])
def test_only_errors_that_are_worth_it_are_tried_again(retry_if):
    """`retry_if` is a class, several, or a predicate."""
    retry = Retry(retry_if=retry_if)
    assert retry.next_delay(KeyError("x"), 1, 0.5) is not None
    assert retry.next_delay(ValueError("x"), 1, 0.5) is None


def test_a_backoff_without_arguments_has_the_numbers_of_the_official_sdk():
    """Backoff() is 5 s first, x1.5, at most 5 min, full jitter."""
    backoff = Backoff()
    assert (backoff.initial_delay, backoff.backoff_rate, backoff.max_delay, backoff.jitter) == (
        5.0,
        1.5,
        300.0,
        "full",
    )


def test_a_backoff_grows_as_a_retrys_delays_do():
    """The same numbers give the same delays."""
    backoff = Backoff(initial_delay=5, backoff_rate=2, max_delay=timedelta(minutes=1), jitter="none")
    assert [backoff.delay_after(attempt, 0.5) for attempt in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    assert backoff.delay_after(100_000, 0.5) == 60
    assert Backoff(initial_delay=0, jitter="none").delay_after(1, 0.0) == 1


def test_a_backoff_is_not_a_retry_policy_nor_the_other_way_round():
    """One in the place of the other would ignore half of what it says."""
    assert not isinstance(Retry(), Backoff)
    assert not isinstance(Backoff(), Retry)


@pytest.mark.parametrize("jitter", ["none", "half", "full"])
@given(chance=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, 5000))
def test_a_delay_is_what_the_service_takes(jitter, chance: float, attempt: int):
    """Whole seconds from 1 to 366 days, whatever the numbers."""
    backoff = Backoff(initial_delay=0.001, max_delay=timedelta(days=10_000), jitter=jitter)
    delay = backoff.delay_after(attempt, chance)
    assert isinstance(delay, int)
    assert 1 <= delay <= 31_622_400


def test_senseless_policies_are_refused_when_they_are_made():
    """A bad policy is an error where it is written, not when something fails."""
    with pytest.raises(ValueError, match="attempts=0"):
        Retry(attempts=0)
    with pytest.raises(ValueError, match="backoff_rate"):
        Retry(backoff_rate=0.5)
    with pytest.raises(ValueError, match="jitter"):
        Retry(jitter="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidDurationError):
        Retry(max_delay=-1)
    with pytest.raises(ValueError, match=r"Backoff\(backoff_rate=0\)"):
        Backoff(backoff_rate=0)
    with pytest.raises(InvalidDurationError, match=r"Backoff\(initial_delay\)"):
        Backoff(initial_delay=float("inf"))
