"""The contract of `ServiceClient`: what every client does, whatever its way to the service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from . import client_calls, client_errors, client_pages, client_programs
from .client_bench import ClientBench, Connect
from .rules import PATIENCE, ContractReport, Rule, check_rules

CLIENT_RULES: Final[tuple[Rule[ClientBench], ...]] = (
    *client_calls.rule.rules,
    *client_errors.rule.rules,
    *client_pages.rule.rules,
    *client_programs.rule.rules,
)
"""All rules for clients; the first ones are those that the others stand on."""


async def check_client(
    connect: Connect, *, rules: Iterable[Rule[ClientBench]] = CLIENT_RULES, patience: float = PATIENCE
) -> ContractReport:
    """Check that a client does what `durable.abc.ServiceClient` promises.

    Each rule gets a service of its own, in memory and in virtual time, and a client of it. Call it on asyncio and
    on trio, if the client is to run on both.

    Args:
        connect: Gives, for a service, an async context manager of the client that is checked, which reaches that
            service by its own transport: a server of its protocol has to stand between the two. The service raises
            `ServiceError` where the server has to answer an error: its `retryable` says which kind. A client that
            repeats by itself what fails should do so without long pauses here.
        rules: Only these.
        patience: Seconds, of real time, that each rule may take.

    Returns:
        Which rules hold.

    Raises:
        ContractError: A rule is broken; the first one.
    """
    return await check_rules(rules, lambda: ClientBench(connect), patience)
