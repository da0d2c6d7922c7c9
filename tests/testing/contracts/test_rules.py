"""What an error says that a broken rule makes: where, what was expected, what was found."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from durable._wire import ErrorObject
from durable.testing import ContractError
from durable.testing.contracts.log import step
from durable.testing.contracts.rules import (
    BrokenRuleError,
    Rule,
    expect,
    expect_refused,
    expect_same,
    in_order,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        (1, 2, ("it is 2", "1")),
        (None, "x", ("it is 'x'", "None")),
        ("a\u0301", "\xe1", ("it is '\\xe1'", "'a\\u0301'")),
        ([1, 2, 3], [1, 5, 3], ("it[1] is 5", "2")),
        ([1], [1, 2], ("the length of it is 2", "1")),
        ((), [1], ("the length of it is 1", "0")),
        ({"a": [1]}, {"a": [2]}, ("it['a'][0] is 2", "1")),
        ({"a": 1}, {"b": 1}, ("it is {'b': 1}", "{'a': 1}")),
        ([step("a")], [step("a", "2")], ("it[0].step_details.result is '2'", "'1'")),
        (step("a"), step("a", name=None), ("it.name is None", "'a'")),
        (ErrorObject(), None, ("it is None", "ErrorObject(")),
        (
            "x" * 500 + "a",
            "x" * 500 + "b",
            ("it from its character 500 on is 'b' there, of 501 characters", "'a' th"),
        ),
        (
            "x" * 500,
            "x" * 501,
            ("it from its character 500 on is 'x' there, of 501 characters", "'' there, of 500"),
        ),
        (list(range(300)), None, ("it is None", "[0, 1, 2")),
    ],
)
def test_where_two_values_differ(found: Any, expected: Any, says: tuple[str, str]):
    """The place, and what is there on either side, however long the values are."""
    with pytest.raises(BrokenRuleError) as caught:
        expect_same("it", found, expected)
    assert caught.value.expected == says[0]
    assert caught.value.found.startswith(says[1])
    assert len(caught.value.found) < 250


@pytest.mark.parametrize("value", [None, 1, "x" * 1000, [step("a")], (1, [2]), {"a": ErrorObject()}])
def test_what_is_the_same(value: Any):
    """Nothing is raised; lists and tuples count as the same."""
    expect_same("it", value, value)
    expect_same("it", [1, [2]], (1, (2,)))


def test_what_holds_and_what_does_not():
    """What was found is shown, shortened if it is long."""
    expect([1], "something", "nothing")
    with pytest.raises(BrokenRuleError, match=r"expected less, found \[0, 1.*\.\.\. \([0-9,]+ characters\)"):
        expect(0, "less", list(range(1000)))


def test_what_is_to_be_refused():
    """By an error of a kind: none, and another one, break the rule; what is raised can be looked at."""
    with expect_refused(LookupError, "it") as refusal:
        raise KeyError("a")
    assert isinstance(refusal.error, KeyError)
    nothing = "expected it raises LookupError, found it raises nothing"
    with pytest.raises(BrokenRuleError, match=nothing), expect_refused(LookupError, "it"):
        pass
    with pytest.raises(BrokenRuleError, match="found ValueError: no"), expect_refused(LookupError, "it"):
        raise ValueError("no")


async def test_calls_in_order():
    """Each is made when the one before is blocked, not when it has returned."""
    said: list[str] = []

    async def call(name: str) -> None:
        said.append(f"{name} begins")
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        said.append(f"{name} ends")

    await in_order(*(lambda name=name: call(name) for name in "abc"))
    assert [line for line in said if "begins" in line] == ["a begins", "b begins", "c begins"]
    assert said[:2] == ["a begins", "b begins"]


async def test_a_rule_tells_what_it_found_inside_of_task_groups():
    """Of several errors the one that is about the rule."""

    async def broken(_: None) -> None:
        """It holds."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, ValueError("beside the point"))
            tasks.start_soon(fail, BrokenRuleError("this", "that"))

    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ContractError) as caught:
        await Rule(broken).check(None, 60)
    assert str(caught.value) == "the rule 'broken' is broken: It holds.\n  expected: this\n  found:    that"


async def test_a_timeout_of_ones_own_is_an_error_like_any_other():
    """Only time that the rule has not is told as such."""

    async def broken(_: None) -> None:
        """It holds."""
        raise TimeoutError("busy")

    with pytest.raises(ContractError, match="expected: no error\n  found:    TimeoutError: busy"):
        await Rule(broken).check(None, 60)
