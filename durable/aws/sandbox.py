"""What lives as long as a Lambda sandbox: an event loop, and on it one client of the service.

Lambda calls a handler synchronously, one invocation after the other, and freezes the process in between. A new
event loop for each would have new connections, and everything that hangs on them; so there is one, kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from ..abc import ServiceClient
from ..function import Backend

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")

Open = Callable[[], AbstractAsyncContextManager[ServiceClient]]
"""Opens the client."""


class Loop(Protocol):
    """An event loop that is there for synchronous callers."""

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function to its end."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class MainLoop:
    """An asyncio event loop in the calling thread, which is Lambda's main thread: nothing changes threads."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function to its end.

        Raises:
            RuntimeError: Called from inside of an event loop.
        """
        if asyncio._get_running_loop() is not None:  # the public one raises where there is none
            raise RuntimeError(
                "a Lambda handler was called from inside of an event loop: Lambda calls it synchronously. "
                "There await function.invoke(), or start the function on an engine."
            )
        return self._runner.run(function(*args))

    def close(self) -> None:
        """End it, and what still runs on it."""
        self._runner.close()


class ThreadLoop:
    """An event loop of either kind in a thread of its own: trio's cannot be left and entered again."""

    def __init__(self, backend: Backend) -> None:
        self._portal: BlockingPortal
        self._ready = threading.Event()
        # A daemon, as nobody says when a sandbox ends: it must not keep the process from exiting.
        # What kept the event loop from starting.
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, args=[backend], name="durable", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise RuntimeError(
                f"no event loop of {backend}: {self._error}. Is it installed (durable[{backend}])?"
            ) from self._error

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function to its end."""
        result: T = self._portal.call(function, *args)
        return result

    def close(self) -> None:
        """End it, and its thread."""
        self._portal.call(self._portal.stop)
        self._thread.join()

    def _main(self, backend: Backend) -> None:
        try:
            anyio.run(self._serve, backend=backend)
        except BaseException as error:  # noqa: BLE001 - told by whoever waits for the start
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from anyio.from_thread import BlockingPortal  # only here: it is slow to load, and only trio's loop needs it

        async with BlockingPortal() as self._portal:
            self._ready.set()
            await self._portal.sleep_until_stopped()


class Sandbox:
    """The event loop and the client, made when they are first needed, and kept.

    Args:
        backend: Which event loop.
        open_client: Opens the client.
    """

    def __init__(self, backend: Backend, open_client: Open) -> None:
        self._backend: Backend = backend
        self._open = open_client
        self._loop: Loop | None = None
        self._client: ServiceClient | None = None
        # What opened the client, to close it with.
        self._opened: AbstractAsyncContextManager[ServiceClient] | None = None
        # One invocation at a time, whoever calls.
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make everything that an invocation will need.

        Raises:
            Exception: The client could not be opened. The next call tries again.
        """
        with self._lock:
            self._prepared()

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Call a coroutine function on the event loop: with the client first, then the arguments."""
        with self._lock:
            loop, client = self._prepared()
            return loop.run(function, client, *args)

    def close(self) -> None:
        """Close the client and end the event loop. Lambda never asks for it; what is run later makes both anew."""
        with self._lock:
            loop, self._loop = self._loop, None
            opened, self._opened = self._opened, None
            self._client = None
            if loop is not None:
                if opened is not None:
                    loop.run(opened.__aexit__, None, None, None)
                loop.close()

    def _prepared(self) -> tuple[Loop, ServiceClient]:
        if self._loop is None:
            self._loop = MainLoop() if self._backend == "asyncio" else ThreadLoop(self._backend)
        if self._client is None:
            opened = self._open()
            self._client = self._loop.run(opened.__aenter__)
            self._opened = opened
        return self._loop, self._client
