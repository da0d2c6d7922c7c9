"""When a fan-out is complete, and what it came to."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import BatchError, BatchItem, BatchProgress, BatchResult, Completion, DurableError, Winner
from durable._kernel.completion import (
    CODE,
    FIRST_COMPLETED,
    STATUS,
    BatchRecord,
    ItemRecord,
    ItemStatus,
    decode_batch,
    encode_batch,
    winner_of,
)
from durable._wire import ErrorObject

POLICIES = {
    "all": Completion.all(),
    "all_successful": Completion.all_successful(),
    "first_successful": Completion.first_successful(),
    "two successful": Completion(min_successful=2),
    "two failures": Completion(tolerated_failures=2),
    "a quarter": Completion(tolerated_failure_percentage=25),
    "two successful, one failure": Completion(min_successful=2, tolerated_failures=1),
}


# What each policy says to (succeeded, failed) of four branches, in the order above; "." is not yet.
TABLE = """
    0 0   .    .    .    .    .    .    .
    1 0   .    .    MIN  .    .    .    .
    2 0   .    .    MIN  MIN  .    .    MIN
    3 0   .    .    MIN  MIN  .    .    MIN
    4 0   ALL  ALL  MIN  MIN  ALL  ALL  MIN
    0 1   .    TOL  .    .    .    .    .
    1 1   .    TOL  MIN  .    .    .    .
    2 1   .    TOL  MIN  MIN  .    .    MIN
    3 1   ALL  TOL  MIN  MIN  ALL  ALL  MIN
    0 2   .    TOL  .    .    .    TOL  TOL
    1 2   .    TOL  MIN  .    .    TOL  TOL
    2 2   ALL  TOL  MIN  MIN  ALL  TOL  TOL
    0 3   .    TOL  .    .    TOL  TOL  TOL
    1 3   ALL  TOL  MIN  ALL  TOL  TOL  TOL
    0 4   ALL  TOL  ALL  ALL  TOL  TOL  TOL
"""
REASONS = {
    ".": None,
    "ALL": "ALL_COMPLETED",
    "MIN": "MIN_SUCCESSFUL_REACHED",
    "TOL": "FAILURE_TOLERANCE_EXCEEDED",
}
CASES = [
    pytest.param(policy, int(succeeded), int(failed), REASONS[said], id=f"{name}-{succeeded}-{failed}")
    for succeeded, failed, *says in (line.split() for line in TABLE.strip().splitlines())
    for (name, policy), said in zip(POLICIES.items(), says, strict=True)
]


@pytest.mark.parametrize(("policy", "succeeded", "failed", "reason"), CASES)
def test_when_it_is_complete(policy: Completion, succeeded: int, failed: int, reason: str | None):
    """The table above, whole."""
    assert policy.reason(BatchProgress(4, succeeded, failed)) == reason


@pytest.mark.parametrize(
    ("policy", "succeeded", "failed", "met"),
    [
        (Completion.all(), 4, 0, True),
        (Completion.all(), 3, 1, False),
        (Completion.all_successful(), 4, 0, True),
        (Completion(tolerated_failures=2), 2, 2, True),
        (Completion(tolerated_failure_percentage=50), 2, 2, True),
        (Completion(min_successful=2), 1, 3, False),
        (Completion(min_successful=9), 4, 0, False),
        (Completion(when=lambda _: None), 0, 4, True),
    ],
)
def test_whether_it_was_met_when_all_have_ended(policy, succeeded, failed, met):
    """Without a policy nothing may fail, with one what it says; fewer successes than asked for are too few."""
    assert policy.is_met("ALL_COMPLETED", BatchProgress(4, succeeded, failed)) is met


@pytest.mark.parametrize(
    ("reason", "met"),
    [
        ("MIN_SUCCESSFUL_REACHED", True),
        ("CUSTOM_COMPLETION_SUCCEEDED", True),
        ("CUSTOM_COMPLETION_FAILED", False),
        ("FAILURE_TOLERANCE_EXCEEDED", False),
    ],
)
def test_whether_it_was_met_when_it_was_complete_early(reason, met):
    """The reason tells."""
    assert Completion.all().is_met(reason, BatchProgress(4, 1, 1)) is met


def test_an_empty_fan_out_is_complete():
    """By every policy without a mind of its own; there is no division by zero."""
    for policy in POLICIES.values():
        assert policy.reason(BatchProgress(0, 0, 0)) == "ALL_COMPLETED"


@given(
    total=st.integers(1, 30),
    ends=st.lists(st.booleans(), max_size=30),
    minimum=st.none() | st.integers(1, 31),
    tolerated=st.none() | st.integers(0, 31),
    percentage=st.none() | st.floats(0, 100),
)
def test_a_policy_takes_nothing_back(total, ends, minimum, tolerated, percentage):
    """Once complete, it is complete with whatever comes after: so a replay finds at once what came bit by bit."""
    policy = Completion(
        min_successful=minimum, tolerated_failures=tolerated, tolerated_failure_percentage=percentage
    )
    ends = ends[:total]
    complete = False
    for number in range(len(ends) + 1):
        succeeded = sum(ends[:number])
        reason = policy.reason(BatchProgress(total, succeeded, number - succeeded))
        assert reason is not None or not complete
        complete = reason is not None
    assert complete or len(ends) < total


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_successful": 0}, "min_successful=0"),
        ({"tolerated_failures": -1}, "tolerated_failures=-1"),
        ({"tolerated_failure_percentage": 100.5}, "tolerated_failure_percentage=100.5"),
        ({"tolerated_failure_percentage": -1}, "0 to 100"),
        ({"tolerated_failure_percentage": float("nan")}, "0 to 100"),
        ({"when": lambda _: None, "min_successful": 1}, "cannot be combined"),
        ({"when": lambda _: None, "tolerated_failures": 0}, "cannot be combined"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments, text):
    """Where it is made, and by name."""
    with pytest.raises(ValueError, match=text):
        Completion(**arguments)


def test_conditions_are_given_by_name():
    """A number alone would say nothing."""
    with pytest.raises(TypeError):
        Completion(1)  # type: ignore[call-arg]


@pytest.mark.parametrize("percentage", [0, 100])
def test_no_failure_at_all_and_any_number_of_them_are_policies(percentage: int):
    """The limits themselves make sense: the first failure completes it, or nothing but the end does."""
    policy = Completion(tolerated_failure_percentage=percentage)
    exceeded = "FAILURE_TOLERANCE_EXCEEDED" if percentage == 0 else None
    assert policy.reason(BatchProgress(3, 0, 1)) == exceeded
    assert policy.reason(BatchProgress(3, 0, 2)) == exceeded
    assert policy.reason(BatchProgress(3, 3, 0)) == "ALL_COMPLETED"


def test_a_policy_of_ones_own():
    """It gets the progress, and is the only one asked, until all have ended."""
    asked = []

    def when(progress: BatchProgress):
        asked.append((progress.total, progress.succeeded, progress.failed, progress.completed))
        return {(1, 0): None, (1, 1): "failed", (2, 0): "succeeded"}.get((progress.succeeded, progress.failed))

    policy = Completion(when=when)
    assert policy.reason(BatchProgress(9, 1, 0)) is None
    assert policy.reason(BatchProgress(9, 1, 1)) == "CUSTOM_COMPLETION_FAILED"
    assert policy.reason(BatchProgress(9, 2, 0)) == "CUSTOM_COMPLETION_SUCCEEDED"
    assert policy.reason(BatchProgress(9, 3, 6)) == "ALL_COMPLETED"
    assert asked == [(9, 1, 0, 1), (9, 1, 1, 2), (9, 2, 0, 2), (9, 3, 6, 9)]


@pytest.mark.parametrize("said", ["success", "FAILED", True, False, 1])
def test_a_policy_that_says_something_else_is_an_error(said):
    """A misspelt verdict is not taken for a failure."""
    with pytest.raises(ValueError, match="'succeeded', 'failed' or None, not"):
        Completion(when=lambda _: said).reason(BatchProgress(2, 1, 0))


def test_the_policy_of_a_race():
    """Whoever ends first, one way or the other."""
    assert FIRST_COMPLETED.reason(BatchProgress(3, 0, 0)) is None
    assert FIRST_COMPLETED.reason(BatchProgress(3, 1, 0)) == "CUSTOM_COMPLETION_SUCCEEDED"
    assert FIRST_COMPLETED.reason(BatchProgress(3, 0, 1)) == "CUSTOM_COMPLETION_SUCCEEDED"


# --- What it came to ---------------------------------------------------------------------------------------------


def item(
    index: int, status: ItemStatus, result: object = None, error: Exception | None = None
) -> BatchItem[object]:
    return BatchItem(index=index, name=f"i{index}", status=status, result=result, error=error)


def batch(*items: BatchItem[object], successful: bool = False) -> BatchResult[object]:
    return BatchResult(items=items, completion_reason="ALL_COMPLETED", is_successful=successful)


def test_a_result_is_a_collection_of_its_items():
    """Iteration, length, and what succeeded and failed, in input order."""
    items = [
        item(0, "failed", error=ValueError("a")),
        item(1, "succeeded"),
        item(2, "cancelled"),
        item(3, "failed"),
    ]
    result = batch(*items)
    assert list(result) == items
    assert len(result) == 4
    assert [found.index for found in result.failed] == [0, 3]
    assert [found.index for found in result.succeeded] == [1]


def test_results_keep_none():
    """A branch that returned nothing is not one that has no result."""
    result = batch(item(0, "succeeded", 1), item(1, "succeeded"), item(2, "not started"), successful=True)
    assert result.results() == [1, None]


def test_results_of_a_batch_that_was_not_met_raise_what_its_branches_raised():
    """Together, in input order, with their names."""
    result = batch(
        item(0, "failed", error=ValueError("a")), item(1, "succeeded"), item(2, "failed", error=KeyError(1))
    )
    with pytest.raises(BatchError) as caught:
        result.results()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert caught.value.message == "2 of 3 branches failed (ALL_COMPLETED): 'i0', 'i2'"
    assert isinstance(caught.value.split(ValueError)[0], BatchError)


def test_an_error_names_five_branches_at_most():
    """And says how many more there are."""
    result = batch(*(item(index, "failed", error=ValueError(str(index))) for index in range(7)))
    with pytest.raises(BatchError, match="'i0', 'i1', 'i2', 'i3', 'i4' and 2 more"):
        result.results()


def test_a_policy_that_was_not_met_although_nothing_failed():
    """The group has a member all the same."""
    with pytest.raises(BatchError, match="0 of 1 branches failed") as caught:
        batch(item(0, "succeeded")).results()
    assert [type(error) for error in caught.value.exceptions] == [DurableError]


def test_the_winner_of_a_race():
    """The first that has ended, in the order given; its error is raised as it is."""
    assert winner_of(batch(item(0, "cancelled"), item(1, "succeeded", 7), item(2, "succeeded", 8))) == Winner(
        index=1, result=7
    )
    with pytest.raises(KeyError):
        winner_of(batch(item(0, "cancelled"), item(1, "failed", error=KeyError("x")), item(2, "succeeded", 8)))


# --- What is recorded --------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was():
    """With items and without."""
    items = [
        ItemRecord("succeeded", msgspec.Raw(b"null")),
        ItemRecord("failed", error=ErrorObject(error_type="ValueError", error_message="x")),
        ItemRecord("cancelled"),
    ]
    whole = BatchRecord(reason="ALL_COMPLETED", successful=False, statuses="sfc", items=items)
    again = decode_batch(encode_batch(whole))
    assert again.items is not None
    assert [(found.status, bytes(found.result), found.error) for found in again.items] == [
        (found.status, bytes(found.result), found.error) for found in items
    ]
    assert decode_batch(encode_batch(BatchRecord(reason="ALL_COMPLETED", successful=True, statuses="sn"))) == (
        BatchRecord(reason="ALL_COMPLETED", successful=True, statuses="sn")
    )


def test_a_summary_has_a_character_an_item():
    """So that 10,000 of them are no large payload."""
    assert set(STATUS) == {"s", "f", "c", "n"}
    assert {STATUS[code] for code in CODE.values()} == set(CODE)
    summary = encode_batch(BatchRecord(reason="ALL_COMPLETED", successful=True, statuses="s" * 10_000))
    assert len(summary) < 10_100


@pytest.mark.parametrize("payload", ["", "{}", "[]", '{"reason":"NO","successful":true,"statuses":""}', "nonsense"])
def test_what_is_no_record_is_refused(payload):
    """Malformed records do not come out as results."""
    with pytest.raises(msgspec.DecodeError):
        decode_batch(payload)
