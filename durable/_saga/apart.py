"""What undoes, or cleans up, is no part of the saga's block."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from .._engine.current import batch_var, saga_var
from .._engine.frame import Frame


@asynccontextmanager
async def apart(frame: Frame, busy_with: str | None = None) -> AsyncGenerator[None]:
    """Around what undoes or cleans up: its steps register nowhere, and are not refused as those of the block are.

    The user's cancellation waits; the invocation's end does not.

    Args:
        frame: The saga's.
        busy_with: What its context cannot be used during. Compensations have contexts of their own: how many
            positions of this one they had taken would depend on where a crash came.
    """
    invocation = frame.invocation
    token = saga_var.set(None)
    batch_token = batch_var.set(False)  # what is undone is recorded to be, one after another
    shield = invocation.user_shield()
    active = frame.active
    frame.active = active if busy_with is None else busy_with
    try:
        with shield:
            yield
    finally:
        frame.active = active
        invocation.release_shield(shield)
        batch_var.reset(batch_token)
        saga_var.reset(token)
