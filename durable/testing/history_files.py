"""Recorded histories, read from what tools print and what services answer, and checked to be whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import msgspec

from .._kernel.completion import decode_batch
from .._kernel.rebuild import operations_of
from .._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType, SubType, Timestamp
from .._wire.events import (
    DETAILS_FIELD,
    Event,
    EventError,
    EventInput,
    EventResult,
    EventType,
    ExecutionStartedDetails,
    FailureDetails,
    GetDurableExecutionHistoryResponse,
    ResultDetails,
)
from .._wire.operations import ContextDetails
from ..exceptions import HistoryError

HistorySource: TypeAlias = (
    str | os.PathLike[str] | bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Sequence[Event]
)
"""A file's path; or what is in it, as text, as bytes, or parsed: one page, a list of pages, or a list of events."""

_ENDS: Final = {
    EventType.EXECUTION_SUCCEEDED: ExecutionStatus.SUCCEEDED,
    EventType.EXECUTION_FAILED: ExecutionStatus.FAILED,
    EventType.EXECUTION_TIMED_OUT: ExecutionStatus.TIMED_OUT,
    EventType.EXECUTION_STOPPED: ExecutionStatus.STOPPED,
}
_PAUSES: Final = {
    EventType.EXECUTION_PAUSED: ExecutionStatus.PAUSED,
    EventType.EXECUTION_RESUMED: ExecutionStatus.RUNNING,
}
_ABOUT_EXECUTION: Final = {kind for kind in EventType if kind.startswith(("Execution", "Invocation"))}
_WITHOUT_DATA: Final = {kind for kind in EventType if kind.endswith(("Started", "Cancelled", "Paused", "Resumed"))}
_DATA: Final = (EventInput, EventResult, EventError)
_REBUILT: Final = {
    SubType.RUN_IN_CHILD_CONTEXT,
    SubType.MAP_ITERATION,
    SubType.PARALLEL_BRANCH,
    SubType.WAIT_FOR_CALLBACK,
}
"""Contexts whose record never is empty, unless it is rebuilt from those of its children."""

_LATEST: Final = 253_402_300_799
"""Seconds since the epoch at the end of the year 9999, beyond which there are no dates."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FAN_OUTS: Final = {SubType.MAP, SubType.PARALLEL}


class RecordedHistory(msgspec.Struct, frozen=True, kw_only=True):
    """One execution's history, whole.

    Attributes:
        execution_id: The execution.
        name: What it is called.
        arn: Its ARN, where the document tells it.
        input: JSON text, as it was recorded.
        status: How it ended; or RUNNING, or PAUSED.
        result: What it ended with, JSON text.
        error: What it ended with.
        started: When it began.
        recorded: When the last thing was recorded.
        operations: What an invocation would be given of it now; without the EXECUTION.
        numbers: The number of the first event of each operation.
    """

    execution_id: str
    name: str
    arn: str | None
    input: str | None
    status: ExecutionStatus
    result: str | None
    error: ErrorObject | None
    started: Timestamp
    recorded: Timestamp
    operations: Sequence[Operation]
    numbers: Mapping[str, int]


def read_history(source: HistorySource, name: str | None = None) -> RecordedHistory:
    """A history, from wherever it is.

    Args:
        source: See `HistorySource`.
        name: What it is called in errors; by default the file.

    Raises:
        HistoryError: It cannot be read, is no history, is not whole, or was written without its data.
    """
    shown, documents = _documents_in(source, name or "the history")
    pages = [_page_of(document, shown) for document in documents]
    arns = {str(arn) for document in documents if (arn := _arn_in(document)) is not None}
    if len(arns) > 1:
        raise HistoryError(shown, "its pages are of more than one execution: replay them one by one")
    events = _whole(pages, shown)
    _check(events, shown)
    return _history_of(events, arns.pop() if arns else None)


# --- From bytes to pages -----------------------------------------------------------------------------------------


def _documents_in(source: HistorySource, shown: str) -> tuple[str, list[Any]]:
    """What is in a source, parsed, and what to call it."""
    if isinstance(source, os.PathLike):
        return str(source), _parsed(_bytes_of(Path(source)), str(source))
    if isinstance(source, str) and not source.lstrip().startswith(("{", "[")):
        return source, _parsed(_bytes_of(Path(source)), source)
    if isinstance(source, (str, bytes)):
        return shown, _parsed(source, shown)
    if isinstance(source, Mapping):
        return shown, [source]
    return shown, _pages_in(list(source), shown)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise HistoryError(str(path), f"it cannot be read: {reason}") from error


def _parsed(data: str | bytes, shown: str) -> list[Any]:
    """The documents, one after another: pages, or one list of them."""
    try:
        # Whatever a shell's redirection has made of it.
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise HistoryError(shown, f"it is not text: {error.reason} at byte {error.start}") from error
    documents: list[Any] = []
    try:
        documents.extend(_each(text.removeprefix("\ufeff")))
    except (ValueError, RecursionError) as error:
        raise HistoryError(shown, f"it is not JSON: {error}") from error
    if not documents:
        raise HistoryError(shown, "it is empty")
    return [page for one in documents for page in (_pages_in(_as_list(one), shown) if _is_list(one) else [one])]


def _is_list(document: object) -> bool:
    return isinstance(document, list)


def _as_list(document: Any) -> list[Any]:
    return cast("list[Any]", document)


def _each(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_refuse)
    at = _after_space(text, 0)
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        yield document
        at = _after_space(text, at)


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _pages_in(given: list[Any], shown: str) -> list[Any]:
    """The pages of a list: of pages, or of events, which are one page."""
    if given and all(isinstance(one, Event) for one in given):
        return [GetDurableExecutionHistoryResponse(events=tuple(given))]
    if given and all(isinstance(one, Mapping) and "EventType" in one for one in given):
        return [{"Events": given}]
    if not given:
        raise HistoryError(shown, "it has no events")
    return given


def _arn_in(document: Any) -> object:
    return cast("Mapping[str, object]", document).get("DurableExecutionArn") if _is_mapping(document) else None


def _is_mapping(document: object) -> bool:
    return isinstance(document, Mapping)


# --- From pages to events ----------------------------------------------------------------------------------------


class _Page(GetDurableExecutionHistoryResponse, frozen=True, kw_only=True):
    """A page, also as AWS's own command line has it where it was told to stop."""

    next_token: str | None = None

    @property
    def is_last(self) -> bool:
        return not self.next_marker and not self.next_token


def _page_of(document: Any, shown: str) -> _Page:
    if isinstance(document, GetDurableExecutionHistoryResponse):
        return _Page(events=document.events, next_marker=document.next_marker)
    try:
        return msgspec.convert(document, _Page, dec_hook=_instant)
    except (msgspec.ValidationError, RecursionError) as error:
        what = "what `durable history NAME --json` or GetDurableExecutionHistory gives"
        raise HistoryError(shown, f"it is not {what}: {error}") from error


def _instant(kind: type, value: Any) -> Any:
    """An instant as the API has it, in seconds; as tools print it, ISO 8601; or as boto3 gives it."""
    if kind is Timestamp:
        try:
            if isinstance(value, str):
                value = datetime.fromisoformat(value)
            if isinstance(value, datetime):
                value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LATEST:
                return Timestamp(round(value * 1000))
        except (ValueError, OverflowError):
            pass
    raise TypeError(f"expected an instant, in seconds since the epoch or as ISO 8601 text, not {value!r:.60}")


def _whole(pages: Sequence[_Page], shown: str) -> list[Event]:
    """All events, in their order.

    Raises:
        HistoryError: Some are missing, or two have one number.
    """
    found: dict[int, Event] = {}
    for page in pages:
        for event in page.events:
            if found.setdefault(event.event_id, event) != event:
                raise HistoryError(shown, f"two different events have the number {event.event_id}")
    events = [found[number] for number in sorted(found)]
    if not events:
        raise HistoryError(shown, "it has no events")
    whole = "ask GetDurableExecutionHistory for every page, until there is no NextMarker"
    for number, event in enumerate(events, 1):
        if event.event_id != number:
            raise HistoryError(shown, f"event {number} is missing: {whole}")
    if not any(page.is_last for page in pages):
        raise HistoryError(shown, f"there is more after event {len(events)}: {whole}")
    return events


# --- From events to an execution ---------------------------------------------------------------------------------


def _check(events: Sequence[Event], shown: str) -> None:
    """What every history has, whatever happened in it.

    Raises:
        HistoryError: This one has not; with the event.
    """
    if events[0].event_type is not EventType.EXECUTION_STARTED:
        raise HistoryError(shown, f"it begins with {events[0].event_type}, and not with ExecutionStarted")
    known: dict[str, Event] = {}
    for event in events:
        where = f"event {event.event_id} ({event.event_type})"
        if event.event_type not in _WITHOUT_DATA and event.details is None:
            raise HistoryError(shown, f"{where} has no {_pascal(DETAILS_FIELD[event.event_type])}")
        if event.event_type in _ABOUT_EXECUTION:
            if event is not events[0] and event.event_type is EventType.EXECUTION_STARTED:
                raise HistoryError(shown, f"{where} begins another execution: replay them one by one")
            continue
        if event.id is None:
            raise HistoryError(shown, f"{where} has no Id")
        first = known.setdefault(event.id, event)
        if _identity(first) != _identity(event):
            raise HistoryError(
                shown, f"{where} is of another operation than event {first.event_id}, of the same Id"
            )
        if event.parent_id is not None and event.parent_id not in known:
            raise HistoryError(shown, f"{where} is inside of {event.parent_id}, which has not begun")
    _check_data(events, shown)


def _identity(event: Event) -> tuple[object, ...]:
    kind = next(kind for kind in _KINDS if event.event_type.startswith(kind))
    return kind, event.sub_type, event.name, event.parent_id


_KINDS: Final = ("Context", "Wait", "Step", "ChainedInvoke", "Callback")


def _pascal(field: str) -> str:
    return "".join(part.capitalize() for part in field.split("_"))


def _check_data(events: Sequence[Event], shown: str) -> None:
    """Refuse a history without the values that the code would read.

    Raises:
        HistoryError: Something was left out.
    """
    values = [(event, value) for event in events for value in _values_of(event)]
    left_out = next((event for event, value in values if value.truncated), None)
    # One may well be without a payload, an input for example; if all are, that is why.
    if left_out is None and len(values) > 1 and all(value.payload is None for _, value in values):
        left_out = values[0][0]
    if left_out is not None:
        raise HistoryError(
            shown,
            f"it has been written without data: event {left_out.event_id} ({left_out.event_type}) lacks its "
            "payload. Ask for it with IncludeExecutionData=true (aws lambda get-durable-execution-history "
            "--include-execution-data), or write it by `durable history NAME --json`",
        )


def _values_of(event: Event) -> Iterator[EventInput | EventResult | EventError]:
    if event.event_type is EventType.INVOCATION_COMPLETED:
        return  # an invocation that raised: nothing is read from that
    details = event.details
    for name in ("input", "result", "error"):
        value = getattr(details, name, None)
        if isinstance(value, _DATA):
            yield value


def _history_of(events: Sequence[Event], arn: str | None) -> RecordedHistory:
    first = events[0]
    started = first.details
    end = next((event for event in reversed(events) if event.event_type in _ENDS), None)
    ended_with = None if end is None else end.details
    pauses = [event.event_type for event in events if event.event_type in _PAUSES]
    unfinished = _PAUSES[pauses[-1]] if pauses else ExecutionStatus.RUNNING
    numbers: dict[str, int] = {}
    for event in events:
        if event.id is not None:
            numbers.setdefault(event.id, event.event_id)
    return RecordedHistory(
        execution_id=first.id or "execution",
        name=first.name or "execution",
        arn=arn,
        input=started.input.payload if isinstance(started, ExecutionStartedDetails) else None,
        status=unfinished if end is None else _ENDS[end.event_type],
        result=ended_with.result.payload if isinstance(ended_with, ResultDetails) else None,
        error=ended_with.error.payload if isinstance(ended_with, FailureDetails) and ended_with.error else None,
        started=first.event_timestamp,
        recorded=max(event.event_timestamp for event in events),
        operations=_given(operations_of(events)),
        numbers=numbers,
    )


def _given(operations: Sequence[Operation]) -> list[Operation]:
    """What an invocation is given: not what is inside of contexts that have ended, unless it is needed again."""
    hidden: set[str] = set()
    given: list[Operation] = []
    for operation in operations:
        if operation.parent_id in hidden:
            hidden.add(operation.id)
            continue
        if operation.type is OperationType.CONTEXT and operation.is_final:
            if _is_rebuilt(operation):
                details = operation.context_details or ContextDetails()
                details = msgspec.structs.replace(details, replay_children=True)
                given.append(msgspec.structs.replace(operation, context_details=details))
                continue
            hidden.add(operation.id)
        given.append(operation)
    return given


def _is_rebuilt(context: Operation) -> bool:
    """Whether a context's value is rebuilt from its children's records. No event says so; its own is left out."""
    if context.status is not OperationStatus.SUCCEEDED:
        return False
    if context.sub_type in _FAN_OUTS:
        try:
            return decode_batch(context.result or "").items is None
        except msgspec.DecodeError:
            return False  # the code that reads it says so
    return context.sub_type in _REBUILT and not context.result
