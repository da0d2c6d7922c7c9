"""What durations and names the service takes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import InvalidDurationError, InvalidNameError
from durable._kernel.durations import to_callback_seconds, to_seconds, to_wait_seconds
from durable._kernel.names import check_name


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(1, 1), (1.2, 2), (timedelta(hours=1), 3600), (timedelta(days=366), 31_622_400), (timedelta(seconds=1), 1)],
)
def test_waits_are_whole_seconds_rounded_up(duration, seconds):
    """A wait is never shorter than what was asked for."""
    assert to_wait_seconds(duration, "a wait") == seconds


@pytest.mark.parametrize("duration", [0, 0.5, -1, timedelta(days=367), timedelta(0), float("inf"), float("nan")])
def test_waits_outside_of_one_second_to_366_days_are_refused(duration):
    """The error names the wait and the limits."""
    with pytest.raises(InvalidDurationError, match=r"for wait 'cooling-off'"):
        to_wait_seconds(duration, "wait 'cooling-off'")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(None, 0), (1, 1), (1.2, 2), (timedelta(days=400), 34_560_000), (99_999_999, 99_999_999)],
)
def test_time_limits_of_callbacks_are_whole_seconds_rounded_up(duration, seconds):
    """Without one there is no limit, which is 0 on the wire."""
    assert to_callback_seconds(duration, "the timeout of a callback") == seconds


@pytest.mark.parametrize("duration", [0, 0.5, -1, 100_000_000, 99_999_999.5, float("inf"), float("nan")])
def test_time_limits_of_callbacks_outside_of_the_services_are_refused(duration):
    """Also zero, which the service would take for none at all."""
    with pytest.raises(InvalidDurationError, match="for the timeout of a callback: a "):
        to_callback_seconds(duration, "the timeout of a callback")


@pytest.mark.parametrize("duration", ["5", None, True])
def test_what_is_no_duration_is_a_type_error(duration):
    """A duration is a number of seconds or a timedelta."""
    with pytest.raises(TypeError, match="a number of seconds or a timedelta"):
        to_seconds(duration, "a wait")


@pytest.mark.parametrize("name", ["a", "x" * 256, "reserve hotel", "~!@#"])
def test_printable_ascii_names_of_1_to_256_characters_are_taken(name):
    """These are the service's own bounds."""
    assert check_name(name, "a step") == name


LENGTH, CHARACTERS = "a name has 1 to 256 characters", "a name has printable ASCII characters only"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", LENGTH),
        ("x" * 257, LENGTH),
        ("ö" * 257, LENGTH),
        ("hôtel", CHARACTERS),
        ("ä", CHARACTERS),
        ("ä" * 256, CHARACTERS),
        ("a\nb", CHARACTERS),
        ("a\tb", CHARACTERS),
        ("a\x7f", CHARACTERS),
    ],
)
def test_other_names_are_refused_with_where_and_why(name, rule):
    """The error says which name, how long, for what, and the rule that it breaks."""
    with pytest.raises(InvalidNameError, match=rf"\({len(name)} characters\) for a step: {rule}$"):
        check_name(name, "a step")
