"""Time on the wire."""

from __future__ import annotations


class Timestamp(int):
    """Milliseconds since the epoch.

    The invocation event carries milliseconds, the API fractional seconds (PROTOCOL section 2). Everything
    above the codec sees milliseconds only.
    """

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """The same instant in seconds since the epoch, as the API has it."""
        return self / 1000
