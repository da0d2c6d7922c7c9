"""What is known not to pass, and why. Whatever is not named here has to."""

from __future__ import annotations

from typing import Final

from .handlers import SERVED

SUITES: Final = (*SERVED, "plugin")
"""In the order of their numbers."""

_NO_PLUGINS: Final = "there are no plugins"
_NO_BATCH_SERDE: Final = (
    "there is no serde for a batch as a whole: what is recorded of one is the library's own, with the items as the "
    "function's serde gave them"
)

NOT_COVERED: Final = {
    **{f"10-{number}": _NO_PLUGINS for number in range(1, 8)},
    "9-19": _NO_BATCH_SERDE,
    "9-20": _NO_BATCH_SERDE,
}
"""Requirements without a handler: nothing here can do what they ask for."""

FAILING: Final[dict[str, str]] = {}
"""Requirements whose handler does not pass."""
