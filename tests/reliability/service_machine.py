"""The local engine's service and its model (model.py), step by step beside each other, on any store and event loop.

A rule does the same thing to both. What they answer has to be the same, refusals by their kind; and after each rule
everything that the store has, and everything that the service tells, has to be what the model says.
"""

from __future__ import annotations

import base64
import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from durable._wire import (
    ErrorObject,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationStatus,
)
from durable.abc import Caller, Change, Store
from durable.exceptions import (
    StoreError,
)
from durable.local.outside import Outside
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from durable.testing.contracts.log import record_of
from tests.local.fakes import HandClock
from tests.reliability.calls import (
    AS_PLANNED,
    KINDS,
    any_updates,
    faults,
    fitting,
    plain_update,
    texts,
    tokens,
    which,
)
from tests.reliability.model import Execution, Refused, ServiceModel, Token, Update
from tests.reliability.over import OverStore
from tests.reliability.shapes import (
    BEGIN,
    error_of,
    kind_of,
    on_the_wire,
    plain,
    plain_error,
    plain_event,
    plain_extra,
    real_update,
)

HEALTH = [*HealthCheck]
PAGE = 4


class FaultyStore(OverStore):
    """Fails a write when it is told to: before it is applied, or after."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.fault: str | None = None

    async def create(self, change: Change) -> None:
        record = change.execution
        if record is not None and await self.store.find(record.name) is not None:
            self.fault = None  # nothing would be written
        await self._with_faults(partial(self.store.create, change))

    async def commit(self, execution_id: str, change: Change) -> None:
        await self._with_faults(partial(self.store.commit, execution_id, change))

    async def _with_faults(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        fault, self.fault = self.fault, None
        if fault == "before":
            raise StoreError("before")
        await write()
        if fault == "after":
            raise StoreError("after")


class Lost(Exception):
    """What the model says when a write fails."""


# --- The machine ---------------------------------------------------------------------------------------------


class ServiceMachine(RuleBasedStateMachine):
    """See the module. `machine_over` makes one for a store and an event loop.

    Attributes:
        counts: What has been done, over all runs.
    """

    backend: ClassVar[str] = "asyncio"
    kind: ClassVar[str] = "memory"
    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.model = ServiceModel(PAGE)
        self.clock = HandClock()
        self.directory = tempfile.TemporaryDirectory()
        self.store = FaultyStore(MemoryStore() if self.kind == "memory" else self._open())
        self._serve()
        # Those that were created, oldest first.
        self.created: list[str] = []
        # The service's tokens by what they are in the model, and the other way round.
        self.tokens: dict[Token, str] = {}
        self.known: dict[str, Token] = {}
        # Of each execution: the tokens that were given out, oldest first; and the last call.
        self.given: dict[str, list[Token]] = {}
        self.last: dict[str, tuple[Token, str]] = {}
        self.under_way: set[str] = set()
        self.clients = 0
        # Below which contexts operations are.
        self.parents: dict[str, str | None] = dict.fromkeys(KINDS)

    def _open(self) -> Store:
        return open_store(str(Path(self.directory.name) / "store.db"))

    def _serve(self) -> None:
        self.service = LocalService(self.store, self.clock, page_size=PAGE)
        self.outside = Outside(self.service)

    def teardown(self) -> None:
        self.run(self.store.aclose)
        self.directory.cleanup()

    def run(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        """Call the service."""
        return anyio.run(function, *arguments, backend=self.backend)

    def both(
        self,
        key: str,
        real: Callable[[], Coroutine[Any, Any, Any]],
        model: Callable[[ServiceModel], Any],
        fault: str | None = None,
        *,
        keeps: bool = False,
    ) -> tuple[Any, Any] | None:
        """Do it to both. What both answer; `None` if both refuse it, for the same reason.

        Args:
            key: The execution.
            real: Calls the service.
            model: Calls the model.
            fault: What goes wrong with the write, if there is one.
            keeps: Whether what time did stays although the rest is refused.
        """
        self.counts["rules"] += 1
        assert isinstance(real, partial)
        expected, why = self._expect(key, model, fault, keeps=keeps)
        self.store.fault = fault
        try:
            answer = self.run(real)
        except Exception as error:
            assert kind_of(error) == why, (kind_of(error), why)
            self.counts[f"refused: {why}"] += 1
            answer = None
        else:
            assert why is None, why
            self.counts[f"done: {real.func.__name__}"] += 1
        self.store.fault = None
        self._compare(key)
        return None if why is not None else (answer, expected)

    def _expect(
        self, key: str, call: Callable[[ServiceModel], Any], fault: str | None, *, keeps: bool
    ) -> tuple[Any, str | None]:
        """What the model answers, or why it refuses; goes forward as far as is durable then."""
        later = copy.deepcopy(self.model)
        expected, why = None, None
        try:
            expected = call(later)
        except Refused as refused:
            why = refused.kind
            if not keeps:
                later = copy.deepcopy(self.model)
        before, after = (found.executions.get(key) for found in (self.model, later))
        wrote = after is not None and after.changes != (0 if before is None else before.changes)
        if fault is None or not wrote:
            self.model = later
            return expected, why
        if fault == "after":
            self.model = later
        if before is not None:
            self.model.drop(key)
        return None, f"store {fault}"

    # --- Rules -----------------------------------------------------------------------------------------------

    @initialize(
        parents=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=7, max_size=7),
        started=st.lists(st.sampled_from(list(KINDS)), unique=True),
        data=st.data(),
    )
    def begin_with_some(self, parents: list[str | None], started: list[str], data: st.DataObject) -> None:
        """Everything below these contexts; two executions, one of them with some operations."""
        self.parents.update(zip("defghij", parents, strict=True), b="a")
        self.create(0, None)
        self.create(1, None)
        execution = self._ready("id-of-t-0")
        assert execution is not None
        for name in sorted({"a", "b", "c", *started}):
            self._call("id-of-t-0", [plain_update(data.draw, name, KINDS[name], "START")], "current", None)

    @rule(number=st.integers(0, 3), fault=faults)
    def create(self, number: int, fault: str | None) -> None:
        key = f"id-of-t-{number}"
        record = record_of(key.removeprefix("id-of-"), start_timestamp=self.clock.now())
        self.both(key, partial(self.service.create, record), lambda model: model.create(key), fault)
        if key in self.model.executions and key not in self.created:
            self.created.append(key)

    @rule(which=which, fault=faults)
    def begin(self, which: int, fault: str | None) -> None:
        self._begin(self._key(which), fault)

    def _begin(self, key: str, fault: str | None) -> None:
        both = self.both(key, partial(self.service.begin_invocation, key), lambda model: model.begin(key), fault)
        if both is None:
            return
        event, (token, page, changed, marker) = both
        self._give(token, event.checkpoint_token)
        self.under_way.add(key)
        state = event.initial_execution_state
        assert [operation.id for operation in state.operations] == page
        assert list(event.updated_operation_ids or ()) == changed
        assert state.next_marker == marker
        self._same_operations(key, state.operations)

    @rule(which=which, updates=st.lists(any_updates(), max_size=4), token=tokens, fault=faults)
    def call_with_anything(self, which: int, updates: list[Update], token: str, fault: str | None) -> None:
        key = self._key(which)
        self._call(key, updates, token, fault)

    @rule(which=which, fault=faults, data=st.data())
    def call_with_what_fits(self, which: int, fault: str | None, data: st.DataObject) -> None:
        key = self._key(which)
        execution = self._ready(key)
        possible = [
            (name, action)
            for name in KINDS
            for action in (fitting(execution, name, self.parents[name]) if execution is not None else ())
        ]
        if not possible:
            return
        chosen = data.draw(
            st.lists(st.sampled_from(possible), min_size=1, max_size=5, unique_by=lambda one: one[0])
        )
        updates = [plain_update(data.draw, name, KINDS[name], action) for name, action in chosen]
        self._call(key, updates, "current", fault)

    @rule(which=which, fault=faults)
    def poll(self, which: int, fault: str | None) -> None:
        key = self._key(which)
        self._call(key, [], "current", fault)

    @rule(which=which, count=st.sampled_from([250, 251]), token=tokens)
    def call_with_many(self, which: int, count: int, token: str) -> None:
        """At the limit, and over it."""
        key = self._key(which)
        updates: list[Update] = [
            {"id": f"m{number}", "type": "WAIT", "action": "CANCEL"} for number in range(count)
        ]
        if count == 250 and key in self.model.executions and "m0" not in self.model.executions[key].operations:
            updates = [{**update, "type": "CONTEXT", "action": "SUCCEED"} for update in updates]
        self._call(key, updates, token, None)

    @rule(
        which=which,
        action=st.sampled_from(["SUCCEED", "FAIL", "START", "START", "START", "START"]),
        carries=st.sampled_from(["payload", "error", None]),
        before=st.lists(any_updates(), max_size=1),
        after=st.lists(any_updates(), max_size=1),
        fault=faults,
    )
    def end_by_update(
        self,
        which: int,
        action: str,
        carries: str | None,
        before: list[Update],
        after: list[Update],
        fault: str | None,
    ) -> None:
        key = self._key(which)
        update: Update = {"id": key, "type": "EXECUTION", "action": action}
        if carries is not None:
            update[carries] = "the end"
        self._call(key, [*before, update, *after], "current", fault)

    @rule(which=which, updates=st.lists(any_updates(), max_size=1), same_token=st.booleans(), fault=faults)
    def repeat(self, which: int, updates: list[Update], same_token: bool, fault: str | None) -> None:
        """The last call once more, as if its answer had been lost; or another one under the same ClientToken."""
        key = self._key(which)
        if key in self.last:
            token, client = self.last[key]
            self._call(key, updates, token if same_token else "current", fault, client)

    @rule(which=which, token=tokens, marker=st.sampled_from(["", "0", "2", "4", "99", "x", "-1"]))
    def read(self, which: int, token: str, marker: str) -> None:
        key = self._key(which)
        if token == "current":
            self._ready(key)
        wanted, text = self._token(key, token)
        size = 3 if marker != "2" else 1000
        arn = self._arn(key)
        both = self.both(
            key,
            partial(self.service.get_state, arn, text, marker, size),
            lambda model: model.get_state(key, wanted, marker, size),
        )
        if both is not None:
            answer, (page, next_marker) = both
            assert [operation.id for operation in answer.operations] == page
            assert answer.next_marker == next_marker
            self._same_operations(key, answer.operations)

    @rule(
        which=which,
        status=st.sampled_from(["PENDING"] * 9 + ["SUCCEEDED", "FAILED", "RAISED", "RAISED"]),
        text=texts,
        accept_idle=st.booleans(),
        fault=faults,
    )
    def end(self, which: int, status: str, text: str | None, accept_idle: bool, fault: str | None) -> None:
        key = self._key(which)
        self._ready(key)
        if key not in self.under_way:
            return
        self.under_way.discard(key)
        outcome: InvocationOutput | ErrorObject
        if status == "RAISED":
            outcome = ErrorObject(error_message=text)
        else:
            error = error_of(text) if status == "FAILED" else None
            result = text if status == "SUCCEEDED" else None
            outcome = InvocationOutput(status=InvocationStatus(status), result=result, error=error)
        both = self.both(
            key,
            partial(self.service.end_invocation, key, outcome, accept_idle=accept_idle),
            lambda model: model.end_invocation(key, status, text, accept_idle=accept_idle),
            fault,
        )
        assert both is None or both[0] == both[1]

    @rule(
        which=which,
        number=st.integers(0, 7),
        what=st.sampled_from(["succeed", "fail", "heartbeat", "heartbeat"]),
        text=texts,
        fault=faults,
    )
    def callback(self, which: int, number: int, what: str, text: str | None, fault: str | None) -> None:
        key, name = self._operation("CALLBACK", which, number)
        named = base64.b64encode(f"{key}/{name}".encode()).decode().rstrip("=")
        real = {
            "succeed": partial(self.outside.succeed_callback, named, text),
            "fail": partial(self.outside.fail_callback, named, error_of(text) or ErrorObject()),
            "heartbeat": partial(self.outside.heartbeat_callback, named),
        }[what]
        self.both(key, real, lambda model: model.callback(key, name, what, text), fault, keeps=True)

    @rule(
        which=which,
        number=st.integers(0, 7),
        status=st.sampled_from(["SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"]),
        text=texts,
        fault=faults,
    )
    def end_invoke(self, which: int, number: int, status: str, text: str | None, fault: str | None) -> None:
        key, name = self._operation("CHAINED_INVOKE", which, number)
        succeeded = status == "SUCCEEDED"
        result, error = (text, None) if succeeded else (None, error_of(text))
        call = partial(
            self.outside.end_invoke, Caller(key, name), OperationStatus(status), result=result, error=error
        )
        self.both(key, call, lambda model: model.end_invoke(key, name, status, text), fault)

    @rule(which=which, text=texts, fault=faults, really=st.integers(0, 3))
    def stop(self, which: int, text: str | None, fault: str | None, really: int) -> None:
        if really:
            return
        key = self._key(which)
        both = self.both(
            key, partial(self.outside.stop, key, error_of(text)), lambda model: model.stop(key, text), fault
        )
        assert both is None or str(both[0].status) == both[1]

    @rule(milliseconds=st.sampled_from([1, 999, 1000, 1000, 2000, 60_000, 10**9, -1500]))
    def pass_time(self, milliseconds: int) -> None:
        """Also backwards: a clock may be set."""
        self.clock.move(milliseconds / 1000)
        self.model.now += milliseconds

    @rule(which=which)
    def forget(self, which: int) -> None:
        """The engine lets go of what it need not have in memory: nobody can tell."""
        key = self._key(which)
        self.service.forget(key)

    @rule(really=st.integers(0, 2))
    def restart(self, really: int) -> None:
        """Another process has the store now."""
        if really:
            return
        self.counts["restarts"] += 1
        if self.kind == "sqlite":
            self.run(self.store.aclose)
            self.store = FaultyStore(self._open())
        self._serve()
        self.model.restart()
        self.under_way.clear()

    # --- Inside ----------------------------------------------------------------------------------------------

    def _call(
        self, key: str, updates: Sequence[Update], token: str | Token, fault: str | None, client: str | None = None
    ) -> None:
        if client is None:
            self.clients += 1
            client = f"call-{self.clients}"
        updates = [{**one, "parent": self._parent(one)} for one in updates]
        if token == "current":
            self._ready(key)
        wanted, text = (token, self.tokens[token]) if isinstance(token, tuple) else self._token(key, token)
        both = self.both(
            key,
            partial(self.service.checkpoint, self._arn(key), text, [real_update(one) for one in updates], client),
            lambda model: model.checkpoint(key, wanted, updates, client),
            fault,
        )
        if both is None:
            return
        answer, (following, told) = both
        self.counts["calls"] += 1
        assert wanted is not None
        self.last[key] = wanted, client
        if following is None:
            assert answer.checkpoint_token is None
        else:
            self._give(following, answer.checkpoint_token)
        found = answer.new_execution_state.operations
        assert [operation.id for operation in found] == [name for name, _ in told]
        for operation, (_, expected) in zip(found, told, strict=True):
            assert plain(operation) == on_the_wire(expected)

    def _key(self, which: int) -> str:
        """An execution: one that is not over, as a rule."""
        if which == 0:
            return "id-of-nobody"
        if which == 1:
            return self.created[-1]
        running = [key for key in self.created if not self.model.executions[key].is_over]
        if not running:
            self.create(len(self.created), None)
            running = self.created[-1:]
        return running[which % 2 % len(running)]

    def _operation(self, kind: str, which: int, number: int) -> tuple[str, str]:
        """An operation of a type, open if there is one; now and then another one, or none."""
        if number < 2:
            return self._key(which), ("d", "x")[number]
        every = list(self.model.executions.values())
        found = [
            (execution.id, name)
            for execution in every
            for name, operation in execution.operations.items()
            if operation["type"] == kind
        ]
        is_open = [(key, name) for key, name in found if self.model.executions[key].open(name, kind)]
        if which > 2 and is_open:
            return is_open[number % len(is_open)]
        return found[number % len(found)] if found else (self._key(which), "g")

    def _ready(self, key: str) -> Execution | None:
        """The execution; if it can be, in an invocation."""
        execution = self.model.executions.get(key)
        if execution is not None and not execution.is_over and execution.turn.token is None:
            self._begin(key, None)
            execution = self.model.executions[key]
        return execution

    def _parent(self, update: Update) -> str | None:
        parent = update.get("parent")
        return self.parents.get(update["id"]) if parent == AS_PLANNED else parent

    def _give(self, token: Token, text: str) -> None:
        """A token is the same text each time, and another one's never."""
        assert self.tokens.setdefault(token, text) == text
        assert self.known.setdefault(text, token) == token
        given = self.given.setdefault(token[0], [])
        if token not in given:
            given.append(token)

    def _token(self, key: str, which: str) -> tuple[Token | None, str]:
        """A token of that sort, for the model and for the service."""
        own = self.given.get(key, [])
        others = [token for other, given in self.given.items() if other != key for token in given]
        choice = {
            "current": own[-1:],
            "used": own[-2:-1],
            "older": [token for token in own if token[1] < own[-1][1]][-1:],
            "another's": others[-1:],
            "garbage": [],
        }[which]
        return (choice[0], self.tokens[choice[0]]) if choice else (None, "bm9uZQ==")

    @staticmethod
    def _arn(key: str) -> str:
        return record_of(key.removeprefix("id-of-")).arn

    def _same_operations(self, key: str, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if operation.id != key:
                assert plain(operation) == on_the_wire(self.model.executions[key].operations[operation.id])

    def _compare(self, touched: str) -> None:
        """Everything that the store has; and what the service tells of the one that was touched."""
        self.run(self._compare_store)
        if touched in self.model.executions:
            self.run(self._compare_service, touched)

    async def _compare_store(self) -> None:
        for key, execution in self.model.executions.items():
            loaded = await self.store.load(key)
            assert loaded is not None
            extras = loaded.extras
            found = {one.id: {**plain(one), **plain_extra(extras.get(one.id))} for one in loaded.operations}
            assert found == execution.operations
            assert list(found) == list(execution.operations)
            assert (loaded.events, loaded.changes) == (len(execution.events), execution.changes)
            assert loaded.execution == await self.store.find(key.removeprefix("id-of-"))
        everything = await self.store.executions()
        assert {record.id for record in everything} == set(self.model.executions)

    async def _compare_service(self, key: str) -> None:
        execution = self.model.executions[key]
        record = await self.service.record(key)
        told = (str(record.status), record.result, plain_error(record.error), record.invocations)
        assert told == (execution.status, execution.result, execution.error, execution.invocations)
        assert execution.end == (None if record.end_timestamp is None else record.end_timestamp - BEGIN)
        due = await self.service.next_due(key)
        assert (None if due is None else due - BEGIN) == self.model.next_due(key)
        history = await self.service.history(key)
        assert [event.event_id for event in history] == list(range(1, len(execution.events) + 1))
        assert [plain_event(event, key) for event in history] == execution.events


def machine_over(kind: str, backend: str) -> type[ServiceMachine]:
    """A machine for one store and one event loop, that counts by itself."""
    fields = {"backend": backend, "kind": kind, "counts": Counter[str]()}
    return type(f"Over{kind.title()}On{backend.title()}", (ServiceMachine,), fields)


def run_machine(
    machine: type[ServiceMachine], *, examples: int, steps: int, seed: int | None = None
) -> Counter[str]:
    """Run it; with a seed other examples than always.

    Returns:
        What was done: rules, calls, refusals by kind, restarts.
    """
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=seed is None,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=HEALTH,
    )
    run_state_machine_as_test(machine if seed is None else seeded(seed)(machine), settings=how)
    return machine.counts
