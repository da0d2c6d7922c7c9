"""Rules for clients: the state in pages, and many executions."""

from __future__ import annotations

from typing import Final

import anyio

from ..._wire import Operation
from .client_bench import PAGES, ClientBench, ClientRules, step
from .rules import BrokenRuleError, expect, expect_same

rule = ClientRules()

_OPERATIONS: Final = 120


@rule
async def the_state_comes_in_pages(bench: ClientBench) -> None:
    """A page begins at its marker and has at most `max_items`; all together are the state, each operation once."""
    async with bench.connected():
        caller = await bench.start()
        for number in range(_OPERATIONS):
            await caller.call(*step(f"s-{number}", f'"{number}"'))
        expected = await caller.recorded()
        for size in (1, 7, 50, _OPERATIONS, _OPERATIONS + 1, 1000):
            del bench.door.pages[:]
            found: list[Operation] = []
            marker = ""
            for _ in range(PAGES):
                page = await bench.client.get_state(caller.arn, caller.token, marker, size)
                expect(len(page.operations) <= size, f"{size} operations in a page at most", len(page.operations))
                found += page.operations
                marker = page.next_marker or ""
                if not marker:
                    break
            else:
                raise BrokenRuleError("an end of the pages", f"{PAGES} pages, and another marker")
            expect(set(bench.door.pages) == {size}, f"pages of {size} asked for", bench.door.pages)
            expect_same("the first operation", (found[0].id, found[0].type), (caller.record.id, "EXECUTION"))
            details = found[0].execution_details
            expect_same("the input", None if details is None else details.input_payload, caller.record.input)
            expect_same(f"the state in pages of {size}", found[1:], expected)


@rule
async def many_executions_at_once(bench: ClientBench) -> None:
    """Each call gets the answer to itself, however many are under way, and for however many executions."""
    names = [f"t-{number}" for number in range(12)]

    async def live(name: str) -> None:
        caller = await bench.start(name)
        for number in range(6):
            text = f'"{name} {number}"'
            found = await caller.call(*step(f"s-{number}", text))
            expect_same(f"the answer to call {number + 1} of {name}", [each.result for each in found], [text])
            state = await bench.client.get_state(caller.arn, caller.token, "", 1000)
            last = state.operations[-1]
            expect_same(f"the state after call {number + 1} of {name}", last.result, text)

    async with bench.connected(), anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(live, name)
