"""The fan-outs by name: `map`, `parallel` and `race`, over the one machine for all of them (fanout.py).

Contexts are not known here: whoever calls says how to make one of a frame.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .._engine.conversion import converter_of
from .._engine.frame import Frame
from .._engine.perform import perform
from .._kernel.completion import FIRST_COMPLETED, Completion, Winner, winner_of
from .._kernel.signatures import signature_of
from .._wire import SubType
from .branches import Branches, BranchPlan, Nesting
from .fanout import FanOutVerb

if TYPE_CHECKING:
    from ..abc import Serde

T = TypeVar("T")
ItemT = TypeVar("ItemT")
ContextT = TypeVar("ContextT")


def map_verb(
    frame: Frame,
    make_context: Callable[[Frame], ContextT],
    function: Callable[[ContextT, ItemT], Awaitable[T]],
    items: Iterable[ItemT],
    *,
    name: str | None,
    item_name: Callable[[int, ItemT], str] | None,
    max_concurrency: int | None,
    completion: Completion | None,
    nesting: Nesting,
    serde: Serde | None = None,
) -> FanOutVerb[T]:
    """One function over many items (see `DurableContext.map`)."""
    signature = signature_of(function)
    converter = converter_of(signature, frame.invocation.serde)
    given = list(items)

    def plan(index: int) -> BranchPlan[T]:
        item = given[index]

        async def body(own: Frame) -> T:
            return await function(make_context(own), item)

        return BranchPlan(f"map-item-{index}" if item_name is None else item_name(index, item), body)

    return FanOutVerb(
        frame,
        Branches(len(given), plan, lambda _: converter),
        name=signature.name if name is None else name,
        sub_type=SubType.MAP,
        branch_sub_type=SubType.MAP_ITERATION,
        completion=completion or Completion(),
        max_concurrency=max_concurrency,
        nesting=nesting,
        serde=serde,
    )


def parallel_verb(
    frame: Frame,
    make_context: Callable[[Frame], ContextT],
    branches: Sequence[Callable[[ContextT], Awaitable[T]]] | Mapping[str, Callable[[ContextT], Awaitable[T]]],
    *,
    name: str,
    max_concurrency: int | None,
    completion: Completion | None,
    nesting: Nesting,
    serde: Serde | None = None,
) -> FanOutVerb[T]:
    """Many functions side by side (see `DurableContext.parallel`)."""
    named = (
        list(branches.items())
        if isinstance(branches, Mapping)
        else [(f"parallel-branch-{index}", branch) for index, branch in enumerate(branches)]
    )
    converters = [converter_of(signature_of(function), frame.invocation.serde) for _, function in named]

    def plan(index: int) -> BranchPlan[T]:
        branch_name, function = named[index]

        async def body(own: Frame) -> T:
            return await function(make_context(own))

        return BranchPlan(branch_name, body)

    return FanOutVerb(
        frame,
        Branches(len(named), plan, converters.__getitem__),
        name=name,
        sub_type=SubType.PARALLEL,
        branch_sub_type=SubType.PARALLEL_BRANCH,
        completion=completion or Completion(),
        max_concurrency=max_concurrency,
        nesting=nesting,
        serde=serde,
    )


def race_verb(
    frame: Frame,
    make_context: Callable[[Frame], ContextT],
    branches: Sequence[Callable[[ContextT], Awaitable[T]]],
    *,
    name: str,
) -> FanOutVerb[T]:
    """Many functions side by side until the first has ended (see `DurableContext.race`)."""
    if not branches:
        raise ValueError("a race has at least one branch")
    return parallel_verb(
        frame,
        make_context,
        branches,
        name=name,
        max_concurrency=None,
        completion=FIRST_COMPLETED,
        nesting="nested",
    )


async def winner(frame: Frame, race: FanOutVerb[Any]) -> Winner[Any]:
    """Run a race."""
    return winner_of(await perform(frame, race))
