"""Logging that is silent while code runs over ground it has covered before."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .frame import Frame

_logger = logging.getLogger("durable.execution")


class ReplayAwareLogger(logging.LoggerAdapter[logging.Logger]):
    """A standard `LoggerAdapter` that says nothing while its context replays.

    Each record carries `execution` (the name), `execution_arn` and `context_id` as extra attributes.
    """

    def __init__(self, frame: Frame, execution: str, logger: logging.Logger = _logger) -> None:
        super().__init__(
            logger, {"execution": execution, "execution_arn": frame.invocation.arn, "context_id": frame.context_id}
        )
        self._frame = frame

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Whether a message of this level would be seen: never while replaying."""
        return self.logger.isEnabledFor(level) and not self._frame.is_replaying

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log, unless replaying. All other methods of a logger come through here."""
        if self.isEnabledFor(level):
            message, options = self.process(msg, kwargs)
            # One frame further up than a plain logger: the caller is the user's line, not this one.
            options["stacklevel"] = options.get("stacklevel", 1) + 1
            self.logger.log(level, message, *args, **options)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the execution to the caller's own extras."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
