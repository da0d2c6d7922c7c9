"""What a rule for stores has at hand: the store that is looked at, fresh, and opened again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from ...abc import Store
from .log import Log
from .rules import RuleBook, RuleSkippedError

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]
Reopen: TypeAlias = Callable[[Store], AbstractAsyncContextManager[Store]]
Post: TypeAlias = Callable[[Store, str], Awaitable[object]]


class StoreBench:
    """One fresh store, for one rule. The arguments are those of `check_store`."""

    def __init__(self, open_store: OpenStore, reopen: Reopen | None, post: Post | None) -> None:
        self._open = open_store
        self._reopen = reopen
        self._post = post
        self._store: Store | None = None

    @property
    def can_reopen(self) -> bool:
        """Whether the store can be had again after it was closed."""
        return self._reopen is not None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Store]:
        """The store, fresh and empty; it is not there any more after the block, or closed."""
        async with self._open() as store:
            self._store = store
            yield store

    @asynccontextmanager
    async def reopened(self) -> AsyncGenerator[Store]:
        """The same store again.

        Raises:
            RuleSkippedError: It cannot be had again.
        """
        if self._reopen is None or self._store is None:
            raise RuleSkippedError("`reopen` was not given")
        async with self._reopen(self._store) as store:
            self._store = store
            yield store

    async def check_again(self, *logs: Log) -> None:
        """That everything is there when the store is opened again, if it can be."""
        if self._reopen is None:
            return
        async with self.reopened() as store:
            for log in logs:
                await log.check(store)

    async def post(self, text: str) -> None:
        """Leave a request for the engine that has the store.

        Raises:
            RuleSkippedError: Nobody has said how.
        """
        if self._post is None or self._store is None:
            raise RuleSkippedError("`post` was not given")
        await self._post(self._store, text)


StoreRules: TypeAlias = RuleBook[StoreBench]
