"""What an operation may be called."""

from __future__ import annotations

from .._wire.limits import MAX_NAME_LENGTH
from ..exceptions import InvalidNameError


def check_name(name: str, where: str) -> str:
    """The name itself, when the service takes it: 1 to 256 printable ASCII characters.

    Raises:
        InvalidNameError: Empty, too long, or with other characters.
    """
    if not (1 <= len(name) <= MAX_NAME_LENGTH and name.isascii() and name.isprintable()):
        rule = (
            f"a name has 1 to {MAX_NAME_LENGTH} characters"
            if not 1 <= len(name) <= MAX_NAME_LENGTH
            else "a name has printable ASCII characters only"
        )
        raise InvalidNameError(name, where, rule)
    return name
