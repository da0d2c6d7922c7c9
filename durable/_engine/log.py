"""Logging that is silent while code runs over ground it has covered before."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Final

from .current import frame_var, is_replaying, step_var
from .frame import Frame

LOGGER: Final = "durable.execution"
"""The logger that messages go to, unless the function names another one."""


class ReplayAwareLogger(logging.LoggerAdapter[logging.Logger]):
    """A standard `LoggerAdapter` that says nothing while the code that logs is replayed.

    What counts is where the code stands that logs, not where the adapter comes from: a logger that is handed down
    to a child or a branch is silent when that is replayed, and only then. The body of a step is never replayed.

    Each record carries as extra attributes:

        execution, execution_arn    the execution's name and ARN
        context_id                  the child context or branch that the code belongs to; `None` at the root
        operation, operation_id     the step, or the compensation, whose body is running; `None` outside
        attempt                     which attempt of it this is, from 1; `None` outside

    Args:
        frame: Whose context it is.
        execution: The execution's name.
        logger: Where messages go.
    """

    def __init__(self, frame: Frame, execution: str, logger: logging.Logger | None = None) -> None:
        super().__init__(logger or logging.getLogger(LOGGER), {})
        self._frame = frame
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Whether a message of this level would be seen: never while replaying."""
        return self.logger.isEnabledFor(level) and not is_replaying(self._current_frame)

    @property
    def disabled(self) -> bool:
        """As a logger's own attribute: structlog asks for it and for the level, and not `isEnabledFor`."""
        return self.logger.disabled or is_replaying(self._current_frame)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the execution; the caller's own extras win."""
        frame = self._current_frame
        step = step_var.get(None)
        kwargs["extra"] = {
            "execution": self._execution,
            "execution_arn": frame.invocation.arn,
            "context_id": frame.context_id,
            "operation": None if step is None else step.name,
            "operation_id": None if step is None else step.operation_id,
            "attempt": None if step is None else step.attempt,
            **(kwargs.get("extra") or {}),
        }
        return msg, kwargs

    @property
    def _current_frame(self) -> Frame:
        current = frame_var.get(None)
        return current if current is not None and current.invocation is self._frame.invocation else self._frame
