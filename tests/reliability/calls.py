"""Calls to the service: what fits what is recorded, and everything else as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.reliability.model import Execution, Update

KINDS = {
    "a": "CONTEXT",
    "b": "CONTEXT",
    "c": "CONTEXT",
    "d": "STEP",
    "e": "STEP",
    "f": "WAIT",
    "g": "CALLBACK",
    "h": "CHAINED_INVOKE",
    "i": "CALLBACK",
    "j": "WAIT",
}
"""Operations, and what they mostly are."""
CARRIES = {"SUCCEED": "payload", "FAIL": "error", "RETRY": "error"}
_LARGEST = "x" * 1024 * 1024

which = st.integers(0, 11)
faults = st.sampled_from([None] * 8 + ["before", "after"])
seconds = st.sampled_from([1, 1, 2, 5, 60, 366 * 24 * 60 * 60])
odd_seconds = st.sampled_from([None, 0, -1, 366 * 24 * 60 * 60 + 1])
limits = st.sampled_from([None, 0, 1, 2, 5, 60, 99_999_999])
odd_limits = st.sampled_from([-1, 100_000_000])
texts = st.sampled_from([None, "1", '"é"', "[]"])
tokens = st.sampled_from(["current"] * 9 + ["used", "another's", "older", "garbage"])
odd_texts = st.sampled_from(["", "x" * 64, "x" * 65, "x" * 257, "ä", "a b", "\n"])


@st.composite
def any_updates(draw: st.DrawFn) -> Update:
    """An update as it is mostly, with something odd about it now and then."""
    key = draw(st.sampled_from(list(KINDS)))
    kind = KINDS[key]
    action = draw(st.sampled_from(["START", "START", "SUCCEED", "FAIL", "RETRY", "CANCEL"]))
    update = plain_update(draw, key, kind, action)
    match draw(st.integers(0, 14)):
        case 0:
            update["type"] = draw(st.sampled_from([*KINDS.values(), "EXECUTION"]))
        case 1:
            update["parent"] = draw(st.sampled_from([None, "nobody", *KINDS, "x" * 65]))
        case 2:
            update[draw(st.sampled_from(["name", "sub_type", "id"]))] = draw(odd_texts)
        case 3:
            update[draw(st.sampled_from(["payload", "error"]))] = draw(texts)
        case 4:
            update["delay"] = draw(odd_seconds)
        case 5:
            update[draw(st.sampled_from(["timeout", "heartbeat"]))] = draw(odd_limits)
        case 6:
            update[draw(st.sampled_from(["payload", "error"]))] = _LARGEST + draw(st.sampled_from(["", "x"]))
        case 7:
            update["function"] = draw(st.sampled_from([None, "", "f" * 257]))
        case _:
            pass
    return update


def plain_update(draw: Callable[[Any], Any], key: str, kind: str, action: str) -> Update:
    """An update that is one of its kind."""
    update: Update = {"id": key, "type": kind, "action": action, "parent": AS_PLANNED, "name": f"the {key}"}
    if action in CARRIES:
        update[CARRIES[action]] = "oops"
    if kind == "STEP" and action == "RETRY":
        update["delay"] = draw(seconds)
        if draw(st.booleans()):
            update["payload"] = update.pop("error")
    if kind == "WAIT" and action == "START":
        update["delay"] = draw(seconds)
    if kind == "CONTEXT" and action == "SUCCEED":
        update["replay"] = draw(st.sampled_from([None, False, True]))
    if kind == "CALLBACK" and action == "START":
        update["timeout"], update["heartbeat"] = draw(limits), draw(limits)
    if kind == "CHAINED_INVOKE" and action == "START":
        update["function"], update["payload"] = "callee", draw(texts)
    return update


AS_PLANNED = "as planned"
"""A parent: the one that the machine has for the operation."""


def fitting(execution: Execution, key: str, parent: str | None) -> list[str]:
    """What can be done next to an operation."""
    known = execution.operations.get(key)
    above = None if parent is None else execution.operations.get(parent)
    if parent is not None and (above is None or above["status"] != "STARTED" or not execution.alive(above)):
        return []
    if known is None:
        return ["START"] if KINDS[key] != "STEP" else ["START", "START", "SUCCEED", "FAIL", "RETRY"]
    return {
        ("STEP", "STARTED"): ["SUCCEED", "FAIL", "RETRY", "RETRY"],
        ("STEP", "READY"): ["START", "SUCCEED", "RETRY"],
        ("CONTEXT", "STARTED"): ["SUCCEED", "FAIL"],
        ("WAIT", "STARTED"): ["CANCEL"],
    }.get((KINDS[key], known["status"]), [])
