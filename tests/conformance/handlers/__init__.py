"""One durable function a requirement, one file a suite."""

from __future__ import annotations

import importlib
from typing import Final

from .helpers import HANDLERS, Handler

SERVED: Final = (
    "step",
    "wait",
    "child",
    "callback",
    "invoke",
    "wait_for_condition",
    "wait_for_callback",
    "parallel",
    "map",
)
"""The modules that one server can serve in its own process, by suite."""

EXITS: Final = "exits"
"""The module of those that end their process."""


def load() -> dict[str, Handler]:
    """All handlers, by requirement id."""
    for module in (*SERVED, EXITS):
        importlib.import_module(f"{__name__}.{module}")
    return HANDLERS
