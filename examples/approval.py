"""A payment that a human has to approve; the execution waits as long as that takes.

    durable run examples/approval.py:pay_invoice --input @examples/approval.json --name invoice

The money is put aside first. The request for approval shows a callback's id, and somebody answers it:

    durable callback succeed ID --result '{"approved": true, "by": "Grace"}'

If the answer is no, or there is none in time, the money is released. So it is if somebody cancels the whole:

    durable cancel invoice --reason "it was a joke"
"""

from __future__ import annotations

import ledger
import msgspec

from durable import DurableContext, current_step, durable_execution, saga


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be paid.

    Attributes:
        payee: Whom to pay.
        amount: How much.
        patience: Seconds to wait for an approval.
    """

    payee: str
    amount: float
    patience: int = 30 * 24 * 3600


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What the human says.

    Attributes:
        approved: Yes or no.
        by: Who says so.
    """

    approved: bool
    by: str


class NotApprovedError(Exception):
    """Somebody says no."""

    def __init__(self, by: str) -> None:
        super().__init__(f"{by} did not approve it")
        self.by = by


async def put_aside(invoice: Invoice) -> Invoice:
    """Make sure that the money is there."""
    note("put aside", "money", f"{invoice.amount:.2f}")
    return invoice


async def release(invoice: Invoice) -> None:
    """It is free again."""
    note("release", "money", f"{invoice.amount:.2f}")


async def ask(callback_id: str) -> None:
    """Send the request: here it goes into the ledger, for whoever looks there."""
    note("ask", "approval", callback_id)


async def transfer(invoice: Invoice) -> str:
    """Pay."""
    note("transfer", "money", f"{invoice.payee} {invoice.amount:.2f}")
    return f"{invoice.amount:.2f} paid to {invoice.payee}"


@durable_execution
async def pay_invoice(invoice: Invoice, ctx: DurableContext) -> str:
    """Nothing is paid without a yes."""
    async with saga(ctx, "invoice", cancellable=True) as s:
        await s.step(put_aside, invoice, compensate=release)
        approval = await ctx.wait_for_callback(ask, Approval, name="approval", timeout=invoice.patience)
        if not approval.approved:
            raise NotApprovedError(approval.by)
        paid = await s.step(transfer, invoice)
    return f"{paid}, approved by {approval.by}"


def note(action: str, what: str, reference: str) -> None:
    """Enter in the ledger what has happened."""
    info = current_step()
    ledger.add(action, what, reference, key=info.idempotency_key, attempt=info.attempt)
