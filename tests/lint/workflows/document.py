"""A document that two people have to approve; whoever is asked has a week."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Literal

import msgspec

from durable import CallbackTimeoutError, DurableContext, durable_execution

WEEK = 7 * 24 * 3600


class Document(msgspec.Struct):
    title: str
    author: str
    reviewers: list[str]


class Verdict(msgspec.Struct):
    decision: Literal["approve", "reject"]
    remark: str = ""


class Mailer:
    """Sends mail; nothing of it where there is no server."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host
        self.sent: list[EmailMessage] = []

    def send(self, to: str, text: str) -> None:
        message = EmailMessage()
        message["To"] = to
        message.set_content(text)
        if self.host is not None:
            with smtplib.SMTP(self.host) as server:
                server.send_message(message)
        self.sent.append(message)


mailer = Mailer()


async def ask_reviewer(ctx: DurableContext, reviewer: str, title: str) -> Verdict:
    def ask(callback_id: str) -> None:
        mailer.send(reviewer, f"Please review {title!r}: https://example.org/review/{callback_id}")

    try:
        return await ctx.wait_for_callback(ask, Verdict, name=f"verdict of {reviewer}", timeout=WEEK)
    except CallbackTimeoutError:
        ctx.logger.warning("%s did not answer", reviewer)
        return Verdict("reject", "no answer")


def summary_of(verdicts: Sequence[Verdict]) -> str:
    remarks = [verdict.remark for verdict in verdicts if verdict.remark]
    return "; ".join(sorted(remarks)) or "no remarks"


@durable_execution
async def approve(document: Document, ctx: DurableContext) -> str:
    async def review(branch: DurableContext, reviewer: str) -> Verdict:
        return await ask_reviewer(branch, reviewer, document.title)

    reviews = await ctx.map(
        review, document.reviewers, name="reviews", item_name=lambda index, reviewer: f"{index}-{reviewer}"
    )
    verdicts = reviews.results()
    approved = all(verdict.decision == "approve" for verdict in verdicts)
    outcome = "approved" if approved else "rejected"
    text = f"{document.title} was {outcome}: {summary_of(verdicts)}"
    await ctx.step(mailer.send, document.author, text, name="tell the author")
    return text
