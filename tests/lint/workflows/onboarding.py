"""A new colleague: accounts side by side, a welcome on the first day, a question after a while."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from datetime import datetime, timedelta

from durable import DurableContext, current_context, durable_execution, step


@dataclass
class Colleague:
    name: str
    team: str
    first_day: datetime | None = None


@dataclass
class Account:
    system: str
    login: str
    password: str


def password() -> str:
    return "".join(random.choices(string.ascii_letters, k=12))


@step(name="create account", timeout=30)
async def create_account(system: str, login: str) -> Account:
    return Account(system, login, password())


@step
async def send(to: str, text: str) -> int:
    print("to", to, ":", text)
    return len(text)


def login_of(name: str, taken: set[str]) -> str:
    first, *rest = name.lower().split()
    for candidate in (first, "".join([first, *(part[0] for part in rest)])):
        if candidate not in taken:
            return candidate
    return name.replace(" ", ".").lower()


async def wait_until(moment: datetime) -> None:
    ctx = current_context()
    ahead = (moment - ctx.now()).total_seconds()
    if ahead > 1:
        await ctx.wait(ahead)


@durable_execution
async def onboard(colleague: Colleague, ctx: DurableContext) -> dict[str, str]:
    login = login_of(colleague.name, {"ada"})

    async def mail(_: DurableContext) -> Account:
        return await create_account("mail", login)

    async def wiki(branch: DurableContext) -> Account:
        await branch.wait(5)
        return await create_account("wiki", login)

    made = await ctx.parallel({"mail": mail, "wiki": wiki}, name="accounts")
    accounts = made.results()
    start = colleague.first_day or ctx.now() + timedelta(days=1)
    await wait_until(start)
    await send(login, f"Welcome to {colleague.team}!")
    lucky = ctx.random().choice(["Grace", "Edsger"])
    await send(lucky, f"You have lunch with {colleague.name}.")
    await ctx.wait(timedelta(days=90), name="probation")
    await send(login, "How do you like it here?")
    return {account.system: account.login for account in accounts}
