"""trio's schedule by a seed: who of those who can run runs first."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def trio_schedule(seed: int) -> Generator[None]:
    """Let trio shuffle its tasks in a way that can be repeated, as long as the block lasts.

    trio runs those that can run in a random order, on purpose: code that depends on it shows sooner. What a test
    found with one seed it finds with it again. asyncio has one order, and is left as it is.

    Args:
        seed: What chance is made of.
    """
    try:
        # There is no public way; Hypothesis takes this one too.
        from trio._core import _run
    except ImportError:  # it is not installed
        yield
        return
    before = _run._r
    _run._r = random.Random(seed)  # noqa: S311 - it has to be the same again
    try:
        yield
    finally:
        _run._r = before
