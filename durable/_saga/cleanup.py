"""Cleaning up at the logical end of a saga's block, whatever the outcome was."""

from __future__ import annotations

from collections.abc import Sequence

from .._engine.frame import Frame
from .._engine.perform import perform
from .._kernel.ledger import Entry, Policy
from .._wire import SubType
from ..exceptions import CleanupError
from .apart import apart
from .compensation import CompensationVerb


async def clean_up(
    frame: Frame, cleanups: Sequence[Entry], policy: Policy, saga: str, outcome: Exception | None
) -> None:
    """Run the cleanups, each whatever became of the others; what was registered last is run first.

    Args:
        frame: The saga's.
        cleanups: What to run.
        policy: The saga's own, for those that have none.
        saga: The saga, for people.
        outcome: What comes out of the saga, if not all went well: what cleanups raise is noted there.

    Raises:
        CleanupError: Cleanups failed, and there is no other outcome.
    """
    errors: list[Exception] = []
    async with apart(frame):
        for entry in sorted(cleanups, key=_path, reverse=True):
            verb = CompensationVerb(
                entry,
                parent_id=frame.context_id,
                sub_type=SubType.CLEANUP,
                key_id=entry.forward_id,
                retry=policy.retry,
                timeout=policy.timeout,
            )
            try:
                await perform(frame, verb, entry.forward_id)
            except Exception as error:  # noqa: BLE001 - told below; the others have to be run
                errors.append(error)
        await frame.invocation.journal.flush()  # the last one's end, before the code goes on
    if frame.invocation.ending is not None:
        await frame.invocation.leave(f"the cleanup of {saga}")
    if errors and outcome is None:
        raise CleanupError(f"cleaning up after {saga} failed", errors)
    for failure in errors:
        assert outcome is not None  # noqa: S101 - see above
        outcome.add_note(f"cleaning up after {saga} failed: {type(failure).__name__}: {failure}")


def _path(entry: Entry) -> tuple[int, ...]:
    return entry.path
