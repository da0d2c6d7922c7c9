"""An order, with a point of no return, and an operator for what cannot be undone by itself.

    durable run examples/order.py:place_order --input @examples/order.json --name order

Stock is reserved and the card authorised; both can be undone. Then the parcel is handed over: that is the pivot.
What comes after it is tried until it succeeds. With `"stuck": true` the carrier refuses, and the warehouse is
closed when the stock is to be released: the saga parks, and an operator decides. Open the warehouse, and have it
tried again:

    durable run examples/order.py:place_order --input @examples/order-stuck.json --name stuck
    python examples/ledger.py open warehouse
    durable saga retry stuck reserve_stock
"""

from __future__ import annotations

import ledger
import msgspec

from durable import DurableContext, Retry, current_step, durable_execution, saga


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer orders.

    Attributes:
        number: The order's number.
        article: What is ordered.
        amount: What it costs.
        refused: Whether the carrier refuses the parcel.
        stuck: Whether the carrier refuses it, and the warehouse is closed until somebody opens it.
        flaky: How often the bank does not answer when the money is collected.
    """

    number: str
    article: str
    amount: float
    refused: bool = False
    stuck: bool = False
    flaky: int = 0


class CarrierRefusedError(Exception):
    """The parcel is too heavy."""


class WarehouseClosedError(Exception):
    """Nobody is there."""


class BankDownError(Exception):
    """Nobody answers."""


async def reserve_stock(order: Order) -> Order:
    """Put the article aside."""
    note("reserve", "stock", order.article)
    return order


async def release_stock(order: Order) -> None:
    """Put it back."""
    if order.stuck and not any((entry.action, entry.what) == ("open", "warehouse") for entry in ledger.entries()):
        raise WarehouseClosedError(f"the warehouse is closed: {order.article!r} cannot be put back")
    note("release", "stock", order.article)


async def authorise_card(order: Order) -> str:
    """Have the bank put the money aside."""
    note("authorise", "card", f"{order.number} {order.amount:.2f}")
    return order.number


async def void_authorisation(number: str) -> None:
    """Let the bank forget it."""
    note("void", "card", number)


async def hand_over_parcel(order: Order) -> str:
    """Give the parcel to the carrier: nobody gets it back from there."""
    if order.refused or order.stuck:
        raise CarrierRefusedError(f"the parcel of order {order.number} is too heavy")
    note("hand over", "parcel", order.number)
    return f"parcel-{order.number}"


async def collect_money(order: Order) -> float:
    """Take the money. Banks are flaky: this one is asked until it answers."""
    if current_step().attempt <= order.flaky:
        raise BankDownError("the bank does not answer")
    note("collect", "card", f"{order.number} {order.amount:.2f}")
    return order.amount


@durable_execution
async def place_order(order: Order, ctx: DurableContext) -> str:
    """Everything up to the parcel can be undone; from there on everything is done."""
    async with saga(ctx, "order", on_error="park") as s:
        await s.step(reserve_stock, order, compensate=release_stock)
        await s.step(authorise_card, order, compensate=void_authorisation)
        parcel = await s.step(hand_over_parcel, order)
        s.pivot()
        await s.step(collect_money, order, retry=Retry(attempts=20, initial_delay=1, max_delay=3600))
    return parcel


def note(action: str, what: str, reference: str) -> None:
    """Enter in the ledger what has happened."""
    info = current_step()
    ledger.add(action, what, reference, key=info.idempotency_key, attempt=info.attempt)
