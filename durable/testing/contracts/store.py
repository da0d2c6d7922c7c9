"""The contract of `Store`: what every store does, whatever it keeps executions in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from . import store_changes, store_deletion, store_engine, store_listing, store_order, store_values
from .rules import PATIENCE, ContractReport, Rule, check_rules
from .store_bench import OpenStore, Post, Reopen, StoreBench

STORE_RULES: Final[tuple[Rule[StoreBench], ...]] = (
    *store_changes.rule.rules,
    *store_order.rule.rules,
    *store_listing.rule.rules,
    *store_values.rule.rules,
    *store_deletion.rule.rules,
    *store_engine.rule.rules,
)
"""All rules for stores; the first ones are those that the others stand on."""


async def check_store(
    open_store: OpenStore,
    *,
    reopen: Reopen | None = None,
    post: Post | None = None,
    rules: Iterable[Rule[StoreBench]] = STORE_RULES,
    patience: float = PATIENCE,
) -> ContractReport:
    """Check that a store does what `durable.abc.Store` promises.

    Each rule gets a store of its own. Call it on asyncio and on trio, if the store is to run on both.

    Args:
        open_store: Gives an async context manager of a store that is new and empty. What leaving it does is what
            `reopen` comes after: it closes the store, or lets go of it as if whoever had it had died.
        reopen: Gives, for a store that `open_store` or `reopen` gave, and whose block was left, an async context
            manager of the same store again. Without it the rules about what is durable are not checked.
        post: Leaves a request in the inbox of a store that is open, if it has one. Without it most of what is to be
            said of an inbox is not checked.
        rules: Only these.
        patience: Seconds, of real time, that each rule may take.

    Returns:
        Which rules hold, and which were not checked, and why.

    Raises:
        ContractError: A rule is broken; the first one.
    """
    return await check_rules(rules, lambda: StoreBench(open_store, reopen, post), patience)
