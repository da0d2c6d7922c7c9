"""Rules of a contract: how they are written down, checked one after another, and told when one is broken."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import anyio
import msgspec

from ...exceptions import DurableError

SubjectT = TypeVar("SubjectT")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

PATIENCE = 60.0
"""Seconds, of real time, that one rule may take."""

_SHOWN = 200
"""Characters of a value that an error shows."""


class ContractError(DurableError, AssertionError):
    """A rule of a contract is broken.

    Attributes:
        rule: The rule's name.
        expected: What should have been.
        found: What was instead.
    """

    def __init__(self, rule: str, states: str, expected: str, found: str) -> None:
        super().__init__(f"the rule {rule!r} is broken: {states}\n  expected: {expected}\n  found:    {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


class ContractReport(msgspec.Struct, frozen=True):
    """What was checked; no rule is broken.

    Attributes:
        checked: The rules that hold.
        skipped: The rules that could not be checked, and why.
    """

    checked: Sequence[str]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.checked)} rules hold, {len(self.skipped)} were not checked"]
        return "\n  ".join([*lines, *(f"{name}: {why}" for name, why in self.skipped.items())])


class BrokenRuleError(Exception):
    """Inside of a rule: something is not as it should be."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class RuleSkippedError(Exception):
    """Inside of a rule: it cannot be checked here, for that reason."""


class Rule(Generic[SubjectT]):
    """One rule of a contract.

    Attributes:
        name: What it is called.
        states: What it says.
    """

    def __init__(self, check: Callable[[SubjectT], Awaitable[None]]) -> None:
        self.name: str = getattr(check, "__name__", repr(check))
        self.states: str = " ".join((inspect.getdoc(check) or "").split())
        self._check = check

    async def check(self, subject: SubjectT, patience: float) -> str | None:
        """Check that it holds.

        Args:
            subject: What it is about.
            patience: Seconds, of real time, that this may take.

        Returns:
            Why it could not be checked, if it could not.

        Raises:
            ContractError: It is broken.
        """
        try:
            with anyio.move_on_after(patience) as scope:
                await self._check(subject)
            if scope.cancelled_caught:
                raise BrokenRuleError(f"an end within {patience:g} s", "it does not end")  # noqa: TRY301
        except Exception as error:
            reason = _first(error)
            if isinstance(reason, RuleSkippedError):
                return str(reason)
            if isinstance(reason, BrokenRuleError):
                expected, found = reason.expected, reason.found
            else:
                expected, found = "no error", f"{type(reason).__name__}: {reason}"
            raise ContractError(self.name, self.states, expected, found) from error
        return None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Rule {self.name}>"


class RuleBook(Generic[SubjectT]):
    """Rules in the order in which they are written down: use it as a decorator of what checks one.

    Attributes:
        rules: They.
    """

    def __init__(self) -> None:
        self.rules: list[Rule[SubjectT]] = []

    def __call__(self, check: Callable[[SubjectT], Awaitable[None]]) -> Callable[[SubjectT], Awaitable[None]]:
        """Add a rule: an async function whose docstring states it."""
        self.rules.append(Rule(check))
        return check


async def check_rules(
    rules: Iterable[Rule[SubjectT]], make: Callable[[], SubjectT], patience: float
) -> ContractReport:
    """Check rules one after another, each on a subject of its own.

    Raises:
        ContractError: The first one that is broken.
    """
    checked: list[str] = []
    skipped: dict[str, str] = {}
    for rule in rules:
        why = await rule.check(make(), patience)
        if why is None:
            checked.append(rule.name)
        else:
            skipped[rule.name] = why
    return ContractReport(checked, skipped)


# --- What rules say ------------------------------------------------------------------------------------------


def expect(condition: object, expected: str, found: object) -> None:
    """That something holds.

    Raises:
        BrokenRuleError: It does not.
    """
    if not condition:
        raise BrokenRuleError(expected, found if isinstance(found, str) else _shown(found))


def expect_same(what: str, found: object, expected: object) -> None:
    """That two values are the same, and of the same kind; texts may be long, and structures deep.

    Raises:
        BrokenRuleError: They are not; it says where.
    """
    different = _difference(found, expected, what)
    if different is not None:
        where, one, other = different
        raise BrokenRuleError(f"{where} is {other}", one)


class Refusal:
    """What a call that was to be refused raised: in `error`, after the block."""

    error: Exception


@contextmanager
def expect_refused(kind: type[Exception], what: str) -> Generator[Refusal]:
    """That the block raises an error of a kind, or of a class under it.

    Raises:
        BrokenRuleError: It does not.
    """
    refusal = Refusal()
    try:
        yield refusal
    except kind as error:
        refusal.error = error
        return
    except BrokenRuleError:
        raise
    except Exception as error:
        raise BrokenRuleError(f"{what} raises {kind.__name__}", f"{type(error).__name__}: {error}") from error
    raise BrokenRuleError(f"{what} raises {kind.__name__}", "it raises nothing")


async def in_order(*calls: Callable[[], Awaitable[object]]) -> None:
    """Make calls in this order, each before the one before has returned."""
    turns = [anyio.Event() for _ in range(len(calls) + 1)]

    async def take_turn(number: int) -> None:
        await turns[number].wait()
        # Whoever is next is woken, but only goes on when this one is blocked: inside of its call.
        turns[number + 1].set()
        await calls[number]()

    async with anyio.create_task_group() as tasks:
        for number in range(len(calls)):
            tasks.start_soon(take_turn, number)
        turns[0].set()


def _first(error: BaseException) -> BaseException:
    """What went wrong, where task groups have wrapped it."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        broken = [inner for inner in group.exceptions if isinstance(_first(inner), BrokenRuleError)]
        error = (broken or group.exceptions)[0]
    return error


def _difference(found: Any, expected: Any, where: str) -> tuple[str, str, str] | None:
    """The first place at which two values differ, and what is there; `None` if they do not."""
    if isinstance(expected, str) and isinstance(found, str):
        return None if found == expected else _text_difference(found, expected, where)
    parts = None if isinstance(expected, str) else _parts(found, expected, where)
    if parts is None:
        return None if found == expected else (where, _shown(found), _shown(expected))
    for place, one, other in parts:
        different = _difference(one, other, place)
        if different is not None:
            return different
    return None


def _parts(found: Any, expected: Any, where: str) -> list[tuple[str, Any, Any]] | None:
    """What two values of a kind consist of, side by side; `None` if they are of different kinds, or of no parts."""
    if _are(msgspec.Struct, expected) and type(found) is type(expected):
        fields = expected.__struct_fields__
        return [(f"{where}.{field}", getattr(found, field), getattr(expected, field)) for field in fields]
    if _are(Mapping, found, expected) and found.keys() == expected.keys():
        return [(f"{where}[{key!r}]", found[key], expected[key]) for key in expected]
    if _are(Sequence, found, expected):
        both = enumerate(zip(found, expected, strict=False))
        items = [(f"{where}[{number}]", one, other) for number, (one, other) in both]
        return [*items, (f"the length of {where}", len(found), len(expected))]
    return None


def _are(kind: type[Any], *values: object) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, str) for value in values)


def _text_difference(found: str, expected: str, where: str) -> tuple[str, str, str]:
    if max(len(found), len(expected)) <= _SHOWN:
        return where, ascii(found), ascii(expected)  # what looks alike may differ
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((number for number, (one, other) in pairs if one != other), min(len(found), len(expected)))

    def part(text: str) -> str:
        return f"{text[at : at + 20]!a} there, of {len(text):,} characters"

    return f"{where} from its character {at:,} on", part(found), part(expected)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
