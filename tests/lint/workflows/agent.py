"""A chat agent: a model that is asked again and again, and the tools that it asks for."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from durable import DurableContext, DurableHandler, Retry, durable_execution


class Message(msgspec.Struct):
    role: str
    content: str
    tool: str | None = None


class Chat(msgspec.Struct):
    question: str
    most_turns: int = 6


class Model:
    """A model behind an API; here it is a script."""

    def __init__(self) -> None:
        self.key = os.environ.get("MODEL_KEY", "")

    async def complete(self, messages: list[Message]) -> Message:
        tools = [message for message in messages if message.role == "tool"]
        if not tools:
            return Message("assistant", json.dumps({"city": "Turin"}), tool="weather")
        if len(tools) == 1:
            return Message("assistant", "{}", tool="clock")
        return Message("assistant", f"In Turin it is {tools[0].content}.")


async def weather(city: str) -> str:
    return f"sunny in {city}"


async def clock() -> str:
    return datetime.now(UTC).strftime("%H:%M")


TOOLS: dict[str, Callable[..., Awaitable[str]]] = {"weather": weather, "clock": clock}


class Agent(DurableHandler):
    def __init__(self, model: Model) -> None:
        self.model = model

    async def handle(self, event: Chat, ctx: DurableContext) -> str:
        messages = [Message("user", event.question)]
        for turn in range(event.most_turns):
            answer = await self._ask(ctx, messages, turn)
            messages.append(answer)
            if answer.tool is None:
                return answer.content
            arguments: dict[str, Any] = json.loads(answer.content)
            result = await ctx.step(functools.partial(TOOLS[answer.tool], **arguments), name=f"tool {answer.tool}")
            messages.append(Message("tool", result))
            self._trim(messages)
        return "I give up"

    async def _ask(self, ctx: DurableContext, messages: list[Message], turn: int) -> Message:
        return await ctx.step(
            self.model.complete,
            messages,
            name=f"turn {turn}",
            retry=Retry(attempts=4, initial_delay=2),
            timeout=120,
        )

    def _trim(self, messages: list[Message]) -> None:
        while len(messages) > 20:
            messages.pop(1)


agent = durable_execution(Agent(Model()))
