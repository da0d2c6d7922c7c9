"""What is known not to pass, and why. Whatever is not named here has to."""

from __future__ import annotations

from typing import Final

from .handlers import SERVED

SUITES: Final = (*SERVED, "plugin")
"""In the order of their numbers."""

_NO_PLUGINS: Final = "there are no plugins"

NOT_COVERED: Final = {f"10-{number}": _NO_PLUGINS for number in range(1, 8)}
"""Requirements without a handler: nothing here can do what they ask for."""

FAILING: Final[dict[str, str]] = {}
"""Requirements whose handler does not pass."""
