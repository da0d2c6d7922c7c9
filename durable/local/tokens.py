"""Checkpoint tokens: whose turn it is.

A token names the execution, the invocation and the call it is good for. A new invocation has a higher number, so
that every token of the ones before is stale from then on: two holders of one execution cannot both write.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from ..exceptions import StaleTokenError


class Token(NamedTuple):
    """What a token says."""

    execution_id: str
    invocation: int
    call: int

    def encode(self) -> str:
        """The token as text, of the base64 alphabet."""
        return base64.b64encode(f"{self.execution_id}/{self.invocation}/{self.call}".encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Token:
        """A token from its text.

        Raises:
            StaleTokenError: It is not one of ours.
        """
        try:
            execution_id, invocation, call = base64.b64decode(text, validate=True).decode().split("/")
            return cls(execution_id, int(invocation), int(call))
        except ValueError as error:
            raise StaleTokenError("Invalid checkpoint token: it is malformed") from error
