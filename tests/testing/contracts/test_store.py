"""The rules for stores: each can be broken, and says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from durable.abc import ExecutionRecord, Store
from durable.testing import ContractError, check_store
from durable.testing.contracts import STORE_RULES
from tests.testing.contracts import broken_stores as broken
from tests.testing.contracts import broken_values as values
from tests.testing.contracts.broken_stores import GoodStore, ListInbox

pytestmark = pytest.mark.anyio

BROKEN: list[tuple[str, type[Store]]] = [
    ("what_is_committed_is_there", broken.LosesAnEvent),
    ("what_is_committed_is_there", broken.DoesNotCountChanges),
    ("what_is_committed_is_there", broken.FindsTheFirstRecord),
    ("what_is_committed_stays", broken.ForgetsWhenClosed),
    ("an_operation_is_replaced_as_a_whole_and_keeps_its_place", broken.MovesWhatChanges),
    ("an_operation_is_replaced_as_a_whole_and_keeps_its_place", broken.MergesOperations),
    ("extras_are_kept_for_each_operation", broken.ForgetsExtras),
    ("extras_are_kept_for_each_operation", broken.ReplacesAllExtras),
    ("a_name_is_taken_once", broken.AcceptsATakenName),
    ("a_name_is_taken_once", broken.RefusesTooLate),
    ("a_name_is_taken_once", broken.AnotherErrorForATakenName),
    ("a_name_stays_taken", broken.FreesNames),
    ("a_name_that_many_want_at_once", broken.LooksBeforeItTakesAName),
    ("names_are_told_apart", broken.FoldsNames),
    ("names_are_told_apart", broken.TrimsNames),
    ("what_is_not_there", broken.IgnoresWhatIsNotThere),
    ("what_is_not_there", broken.HasNoEventsOfWhatIsNotThere),
    ("events_after_a_number", broken.RepeatsAnEvent),
    ("events_after_a_number", broken.NumbersFromOne),
    ("what_has_been_read_does_not_change", broken.GivesItsOwnState),
    ("a_change_that_cannot_be_kept_leaves_nothing", broken.AppliesHalf),
    ("a_change_that_cannot_be_kept_leaves_nothing", broken.RaisesAfterwards),
    ("what_is_deleted_is_gone", broken.KeepsEventsOfWhatIsDeleted),
    ("what_is_deleted_is_gone", broken.TakesOthersAlong),
    ("what_is_deleted_stays_gone", broken.BringsBackWhatWasDeleted),
    ("pages_go_on_where_they_were_when_something_is_deleted", broken.LosesItsPlace),
    ("what_is_written_at_the_moment_of_a_deletion", broken.DeletesFromWhatItRemembers),
    ("many_executions_at_once", broken.MixesExecutions),
    ("changes_of_one_execution_are_applied_in_the_order_of_the_calls", broken.Overtakes),
    ("changes_of_one_execution_are_applied_in_the_order_of_the_calls", broken.RecordsOvertake),
    ("a_reader_sees_whole_changes", broken.ShowsHalf),
    ("a_commit_that_is_cancelled_is_made_or_not", broken.StopsHalfway),
    ("a_commit_that_is_cancelled_is_made_or_not", broken.CommitsLater),
    ("an_execution_whose_creation_is_cancelled_exists_or_not", broken.ReservesNames),
    ("closing_twice", broken.ClosesOnce),
    ("closing_finishes_what_is_under_way", broken.DropsWhatIsUnderWay),
    ("executions_by_status", values.SortsById),
    ("the_executions_of_a_function_are_listed", values.ListsWithInputs),
    ("the_executions_of_a_function_are_listed", values.ListsEveryStatus),
    ("the_executions_of_a_function_are_listed", values.IncludesTheLimit),
    ("a_listing_comes_in_pages", values.HasAlwaysANextPage),
    ("a_listing_comes_in_pages", values.PagesAreTooLong),
    ("what_happens_between_two_pages_repeats_nothing", values.CountsFromTheBeginning),
    ("texts_come_back_as_they_were", values.DropsNul),
    ("texts_come_back_as_they_were", values.Composes),
    ("the_largest_payloads", values.Truncates),
    ("every_type_of_operation_comes_back_as_it_was", values.ForgetsCallees),
    ("every_type_of_operation_comes_back_as_it_was", values.RoundsTimes),
    ("every_event_comes_back_as_it_was", values.ForgetsWhenInvocationsBegan),
    ("every_optional_field_comes_back_as_it_was", values.ForgetsCallers),
    ("every_optional_field_comes_back_as_it_was", values.TakesEmptyForNothing),
    ("an_engine_goes_on_where_it_was", values.ForgetsParentsOfCallbacks),
    ("an_inbox_begins_empty", values.with_inbox(values.PhantomInbox)),
    ("requests_stay_until_there_is_a_reply", values.with_inbox(values.NewestFirstInbox)),
    ("requests_stay_until_there_is_a_reply", values.with_inbox(values.OnceInbox)),
    ("a_request_is_found_whenever_it_comes", values.with_inbox(values.DeafInbox)),
]


@asynccontextmanager
async def closed(store: Store) -> AsyncGenerator[Store]:
    """A store, closed after the block."""
    try:
        yield store
    finally:
        await store.aclose()


async def post(store: Store, text: str) -> None:
    assert isinstance(store.inbox, ListInbox)
    store.inbox.post(text)


@pytest.mark.parametrize(("rule", "kind"), BROKEN)
async def test_what_is_broken_is_named(rule: str, kind: type[Store]):
    """The whole suite stops at the rule that the store breaks, and says what it was to be and what it is."""
    with pytest.raises(ContractError) as caught:
        await check_store(lambda: closed(kind()), reopen=closed, post=post)
    assert caught.value.rule == rule
    assert isinstance(caught.value, AssertionError)
    states = next(known.states for known in STORE_RULES if known.name == rule)
    assert str(caught.value).startswith(f"the rule '{rule}' is broken: {states}\n  expected: ")
    assert caught.value.expected != caught.value.found


def test_every_rule_can_be_broken():
    """There is a broken store for each rule, and each rule says what it states in a sentence."""
    assert {rule for rule, _ in BROKEN} == {rule.name for rule in STORE_RULES}
    assert all(rule.states.endswith(".") for rule in STORE_RULES)


async def test_a_store_that_does_all():
    """Every rule is checked, and none skipped."""
    report = await check_store(lambda: closed(GoodStore()), reopen=closed, post=post)
    assert report.checked == [rule.name for rule in STORE_RULES]
    assert report.skipped == {}
    assert str(report) == f"{len(STORE_RULES)} rules hold, 0 were not checked"


async def test_what_cannot_be_checked_is_told():
    """Rules about what is durable, and about inboxes, need more than a store."""
    report = await check_store(lambda: closed(GoodStore()))
    assert report.skipped == {
        "what_is_committed_stays": "`reopen` was not given",
        "what_is_deleted_stays_gone": "`reopen` was not given",
        "closing_finishes_what_is_under_way": "`reopen` was not given",
        "requests_stay_until_there_is_a_reply": "`post` was not given",
        "a_request_is_found_whenever_it_comes": "`post` was not given",
    }
    assert len(report.checked) + len(report.skipped) == len(STORE_RULES)
    assert "a_request_is_found_whenever_it_comes: `post` was not given" in str(report)


async def test_a_store_that_hangs():
    """It is given up after some time, and the rule is named."""

    class Hangs(GoodStore):
        async def find(self, name: str) -> ExecutionRecord | None:
            await anyio.sleep_forever()
            return None

    with pytest.raises(ContractError, match=r"an end within 0\.1 s\n  found:    it does not end") as caught:
        await check_store(lambda: closed(Hangs()), patience=0.1)
    assert caught.value.rule == "what_is_committed_is_there"


async def test_a_store_that_raises_what_nobody_expects():
    """The error is what was found, and the cause."""

    class Raises(GoodStore):
        async def executions(self, status: object = None) -> list[ExecutionRecord]:
            raise KeyError("nobody")

    with pytest.raises(ContractError, match="expected: no error\n  found:    KeyError: 'nobody'") as caught:
        await check_store(lambda: closed(Raises()))
    assert caught.value.rule == "a_name_is_taken_once"
    assert isinstance(caught.value.__cause__, KeyError)
