"""What to do with a compensation that failed: an operator decides, through a callback.

The execution waits as long as it takes. Nothing is decided by whoever is silent, and an answer that makes no sense
is told back by asking again.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .._engine.frame import Frame
from .._kernel.ids import operator_id
from .._operations.callback import CreationVerb, ResultVerb
from .._wire.limits import MAX_NAME_LENGTH
from ..exceptions import CallbackError
from .compensation import perform_or_look_up

OperatorDecision = Literal["retry", "skip", "abandon"]
"""Try the compensation again; go on as if it had succeeded; or give up: nothing more is undone."""

DECISIONS: Final = ("retry", "skip", "abandon")

OPERATOR_SUFFIX: Final = " operator"
"""The callback is called after the compensation: `reserve_hotel operator`."""


class OperatorAnswer(msgspec.Struct, frozen=True):
    """What an operator sends: `{"decision": "retry"}`.

    Attributes:
        decision: What to do.
    """

    decision: OperatorDecision


async def ask_operator(frame: Frame, name: str, compensation: str) -> OperatorDecision:
    """Park until an operator has decided.

    Args:
        frame: The rollback's.
        name: The compensation's name.
        compensation: Its operation's id.

    A failure sent in place of an answer means: abandon.
    """
    name = name[: MAX_NAME_LENGTH - len(OPERATOR_SUFFIX)] + OPERATOR_SUFFIX
    number = 0
    while True:
        callback = CreationVerb(frame, name=name, timeout=None, heartbeat_timeout=None)
        operation_id = operator_id(compensation, number)
        callback_id = await perform_or_look_up(frame, callback, operation_id)
        result: ResultVerb[str | None] = ResultVerb(
            callback.identity, operation_id, callback_id or "", name=name, converter=None
        )
        try:
            answer = await perform_or_look_up(frame, result, operation_id)
        except CallbackError:
            return "abandon"
        decision = _decision_in(answer)
        if decision is not None:
            return decision
        number += 1


def _decision_in(answer: str | None) -> OperatorDecision | None:
    try:
        decoded = msgspec.json.decode(answer or "", type=OperatorAnswer | str)
    except msgspec.DecodeError:
        return None
    decision = decoded if isinstance(decoded, str) else decoded.decision
    return decision if decision in DECISIONS else None  # type: ignore[return-value]
