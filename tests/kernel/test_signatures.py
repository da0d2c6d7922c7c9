"""What is read from users' callables."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Any

import pytest

from durable import SerializationError
from durable._kernel.signatures import signature_of


def test_a_function_is_read_once():
    """However it is handed over; and what was read lives as long as the function does."""

    async def book(what: str) -> list[int]:
        return [len(what)]

    signature = signature_of(book)
    assert signature_of(book) is signature
    assert signature_of(functools.partial(book, "x")) is signature
    assert (signature.name, signature.is_async, signature.annotation) == ("book", True, list[int])
    gone = weakref.ref(book)
    del book
    gc.collect()
    assert gone() is None


def test_what_was_copied_from_another_function_is_not_taken_for_its_own():
    """`functools.wraps` copies all attributes."""

    async def inner() -> int:
        return 1

    assert signature_of(inner).is_async

    @functools.wraps(inner)
    def outer() -> int:
        return 1

    del outer.__wrapped__
    assert not signature_of(outer).is_async
    assert signature_of(inner).is_async


def test_methods_and_callable_objects():
    """The methods of a class share one; a builtin of an object is not kept."""

    class Desk:
        def book(self) -> str:
            return "b"

        async def __call__(self) -> bytes:
            return b""

    assert signature_of(Desk().book) is signature_of(Desk().book)
    assert signature_of(Desk().book).annotation is str
    assert signature_of(Desk()).is_async
    assert signature_of(Desk()).annotation is bytes
    assert signature_of(len) is signature_of(len)
    assert signature_of([].append) is not signature_of([].append)
    assert signature_of(dict).annotation is dict
    assert signature_of(len).annotation is Any


def test_an_annotation_is_read_where_the_function_was_written():
    """In the names around it; one that is not there yet is asked for again."""

    class Local:
        pass

    def known() -> Local:
        return Local()

    def early() -> Later:
        return Later()

    assert signature_of(known).annotation is Local
    with pytest.raises(SerializationError, match=r"return annotation of .*early cannot be resolved"):
        _ = signature_of(early).annotation

    class Later:
        pass

    assert signature_of(early).annotation is Later
