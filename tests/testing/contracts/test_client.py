"""The rules for clients: each can be broken, and says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from durable.abc import ServiceClient
from durable.testing import ContractError, Faults, check_client
from durable.testing.contracts import CLIENT_RULES
from tests.harness import SlowClient
from tests.testing.contracts import broken_clients as broken
from tests.testing.contracts.broken_clients import Passing

pytestmark = pytest.mark.anyio

BROKEN: list[tuple[str, type[Passing]]] = [
    ("what_is_sent_arrives", broken.DropsTenants),
    ("what_is_sent_arrives", broken.TakesNoForNothing),
    ("what_is_sent_arrives", broken.Sorts),
    ("what_is_sent_arrives", broken.HasItsOwnClientTokens),
    ("what_is_sent_arrives", broken.SendsNoPolls),
    ("what_is_answered_comes_back", broken.RoundsTimes),
    ("what_is_answered_comes_back", broken.ForgetsErrors),
    ("the_answer_that_ends_an_execution_has_no_token", broken.KeepsTheLastToken),
    ("each_token_is_good_for_one_call", broken.UsesTokensUp),
    ("texts_come_through_as_they_are", broken.DropsNul),
    ("large_payloads_come_through", broken.TruncatesErrors),
    ("large_payloads_come_through", broken.RefusesLargeCalls),
    ("an_answer_may_be_long", broken.TakesTheFirstPage),
    ("a_poll_tells_what_has_changed", broken.LosesWhatAPollTells),
    ("the_same_client_token_again", broken.RepeatsUnderAnotherToken),
    ("an_answer_that_is_lost", broken.RepeatsByItself),
    ("an_answer_that_is_lost", broken.RaisesTimeouts),
    ("a_stale_token_is_told_apart", broken.TakesStaleForRefused),
    ("what_is_refused_is_not_worth_a_repeat", broken.TakesRefusedForFailed),
    ("what_is_refused_is_not_worth_a_repeat", broken.TakesRefusedForStale),
    ("what_is_refused_is_not_worth_a_repeat", broken.LosesCodes),
    ("an_execution_that_is_not_there", broken.TakesUnknownForFailed),
    ("errors_that_no_repeat_helps", broken.GoesByTheStatus),
    ("what_fails_is_worth_a_repeat", broken.TakesThrottlingForRefusal),
    ("a_call_that_is_cancelled_leaves_the_client_usable", broken.LosesConnections),
    ("others_go_on_while_a_call_is_under_way", broken.HasOneConnection),
    ("the_state_comes_in_pages", broken.AsksForAll),
    ("the_state_comes_in_pages", broken.BeginsAnew),
    ("the_state_comes_in_pages", broken.LosesMarkers),
    ("the_state_comes_in_pages", broken.LosesTheExecution),
    ("many_executions_at_once", broken.MixesExecutions),
    ("programs_end_as_they_do_without_the_client", broken.KnowsNoIterations),
    ("programs_end_as_they_do_when_calls_fail", broken.GivesUp),
]

HANGS = {broken.LosesConnections, broken.HasOneConnection}


@pytest.mark.parametrize(("rule", "kind"), BROKEN)
async def test_what_is_broken_is_named(rule: str, kind: type[Passing]):
    """The whole suite stops at the rule that the client breaks, and says what it was to be and what it is."""

    @asynccontextmanager
    async def connect(service: ServiceClient) -> AsyncGenerator[ServiceClient]:
        yield kind(service)

    names = [known.name for known in CLIENT_RULES]
    rules, patience = CLIENT_RULES, 60.0
    if kind in HANGS:  # no time is spent on waiting for it
        await check_client(connect, rules=CLIENT_RULES[: names.index(rule)])
        rules, patience = CLIENT_RULES[names.index(rule) :], 0.2
    with pytest.raises(ContractError) as caught:
        await check_client(connect, rules=rules, patience=patience)
    assert caught.value.rule == rule
    states = next(known.states for known in CLIENT_RULES if known.name == rule)
    assert str(caught.value).startswith(f"the rule '{rule}' is broken: {states}\n  expected: ")


def test_every_rule_can_be_broken():
    """There is a broken client for each rule, and each rule says what it states in a sentence."""
    assert {rule for rule, _ in BROKEN} == {rule.name for rule in CLIENT_RULES}
    assert all(rule.states.endswith(".") for rule in CLIENT_RULES)


CLIENTS: dict[str, Callable[[ServiceClient], ServiceClient]] = {
    "the service": lambda service: service,
    "slow": lambda service: SlowClient(service, 3),
    "late": Faults(seed=1, rate=0.5, kinds=["late"]),
    "twice": Faults(seed=2, rate=0.5, kinds=["twice"]),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_clients_that_do_all(client: str):
    """The service itself does all that a client of it has to do; so does who is slow, or says everything twice."""

    @asynccontextmanager
    async def connect(service: ServiceClient) -> AsyncGenerator[ServiceClient]:
        yield CLIENTS[client](service)

    report = await check_client(connect)
    assert report.checked == [rule.name for rule in CLIENT_RULES]
    assert report.skipped == {}
