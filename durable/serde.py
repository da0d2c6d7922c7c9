"""Serdes: how values become text in records, in place of JSON by annotation (see `durable.abc.Serde`).

A serde that encrypts or compresses is made of another one: it encodes what that one gives.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec

from ._kernel.ids import digest_of
from ._kernel.values import PLAIN
from ._operations.outside import result_converter
from .abc import Serde
from .exceptions import SerializationError

DEFAULT_THRESHOLD: Final = 64 * 1024
"""Bytes: a value that is larger, encoded, goes to a file."""

_MARK: Final = '{"durable.file":"'
"""How the text of a reference begins. A value whose text happens to begin so goes to a file, whatever its size."""


class JsonSerde(Serde):
    """JSON by annotation, as it is done without a serde; for serdes that add something to it."""

    def check(self, annotation: Any) -> None:
        """Refuse a type that msgspec does not know, and pydantic neither."""
        result_converter(annotation, "a value")

    def encode(self, value: Any) -> str:
        """JSON text of a value.

        Raises:
            SerializationError: It cannot be encoded.
        """
        return PLAIN.encode(value, "it")

    def decode(self, text: str, annotation: Any) -> Any:
        """The value in JSON text.

        Raises:
            SerializationError: The text is not JSON, or does not fit the annotation.
        """
        return result_converter(annotation, "a value").decode(text, "it")

    def __repr__(self) -> str:
        return "JsonSerde()"


class _Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a value in a file.

    Attributes:
        digest: BLAKE2b of its text, 64 hex characters: the file's name.
        size: Bytes of its text.
    """

    digest: str = msgspec.field(name="durable.file")
    size: int


class FileSerde(Serde):
    """Large values in files, and in the record no more than a reference: where to find one, its hash and size.

    A file is written once and never changed: it is called by the hash of what is in it, and complete and on the
    disk before anything refers to it. Decoding checks the hash. Files are not deleted, as one may be referred to by
    many records. When the executions that may refer to a directory are over, it can be removed.

    Whoever replays an execution, or reads its result, needs the same directory, under whatever path.

    Args:
        directory: Where the files are; made when the first one is written.
        threshold: Bytes: a value that is larger, encoded, goes to a file. Smaller ones stay in the record.
        inner: What encodes values; by default JSON by annotation.
    """

    def __init__(
        self, directory: str | Path, *, threshold: int = DEFAULT_THRESHOLD, inner: Serde | None = None
    ) -> None:
        if threshold < 0:
            raise ValueError(f"the threshold of a FileSerde is 0 or more, not {threshold!r}")
        self._directory = Path(directory)
        self._threshold = threshold
        self._inner = inner or JsonSerde()

    def check(self, annotation: Any) -> None:
        """As the inner one has it."""
        self._inner.check(annotation)

    async def encode(self, value: Any) -> str:
        """The value's text, or a reference to it.

        Raises:
            OSError: The file could not be written.
            SerializationError: The value cannot be encoded.
        """
        encoded = self._inner.encode(value)
        text = await encoded if inspect.isawaitable(encoded) else encoded
        data = text.encode()
        if len(data) <= self._threshold and not text.startswith(_MARK):
            return text
        reference = _Reference(digest=digest_of(data), size=len(data))
        await _in_thread(self._write, reference.digest, data)
        return msgspec.json.encode(reference).decode()

    async def decode(self, text: str, annotation: Any) -> Any:
        """The value of a text, or of the file that it refers to.

        Raises:
            OSError: The file could not be read.
            SerializationError: It is missing or was altered; or what is in it does not fit the annotation.
        """
        if text.startswith(_MARK):
            text = await _in_thread(self._read, _reference_in(text))
        decoded = self._inner.decode(text, annotation)
        return await decoded if inspect.isawaitable(decoded) else decoded

    def _write(self, digest: str, data: bytes) -> None:
        """Write a file so that it is there whole, or not at all, whatever happens."""
        self._make_directory()
        path = self._directory / digest
        unfinished = self._directory / f".{digest}.{uuid4().hex}"
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_directory(self._directory)

    def _make_directory(self) -> None:
        missing = [path for path in (self._directory, *self._directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_directory(path.parent)

    def _read(self, reference: _Reference) -> str:
        path = self._directory / reference.digest
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise SerializationError(
                f"{path} is missing, which held the value ({reference.size:,} bytes). It was removed, or this is "
                "another directory than the one it was written to"
            ) from None
        if len(data) != reference.size or digest_of(data) != reference.digest:
            raise SerializationError(
                f"{path} was altered: it has {len(data):,} bytes with another hash than its name says, and it was "
                f"written with {reference.size:,}"
            )
        return data.decode()

    def __repr__(self) -> str:
        return f"FileSerde({str(self._directory)!r})"


def _reference_in(text: str) -> _Reference:
    try:
        reference = msgspec.json.decode(text, type=_Reference)
    except msgspec.DecodeError as error:
        raise SerializationError(f"the reference to a file is damaged: {error}") from error
    # It becomes a path: nothing else than what `encode` gives is followed.
    if len(reference.digest) != 64 or not set(reference.digest) <= set("0123456789abcdef"):  # noqa: PLR2004
        raise SerializationError(f"the reference to a file is damaged: {reference.digest[:100]!r} is not a hash")
    return reference


def _sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_thread(function: Any, *args: Any) -> Any:
    from anyio.to_thread import run_sync  # only here: small values need none

    return await run_sync(function, *args)
