"""What `durable dev` runs: the server over a store's file, and a process that starts it anew when code changes.

With reloading, the first process only watches files and holds the socket; the server is a child of it. When a file
changes the child is ended and another one is started: executions are durable, so they go on in it with the new code
(or are left as they are, if that does not follow their history), and no connection is refused in between.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import msgspec
import uvicorn
from uvicorn.supervisors import ChangeReload

from .._kernel.signatures import signature_of
from .._wire.limits import MAX_OPERATIONS
from ..exceptions import DurableError
from ..function import DurableFunction
from ..local import Engine, Run, open_engine
from ..local.functions import Functions
from ..local.stores.file import engine_of
from ..local.targets import load_functions
from .app import make_app
from .guard import LOOPBACK
from .processes import RemoteSpec, environment, keep_running
from .remote import RemoteFunction

_log = logging.getLogger("durable.server")

GRACE: Final = 1
"""Seconds that connections have to end when the server does; those that wait for an execution do not."""

KEEP_ALIVE: Final = 75
"""Seconds that a connection without a request is kept."""

_BACKLOG: Final = 2048

_PATIENCE: Final = 10.0
"""Seconds in which the process before must have let go of the store."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and how.

    Attributes:
        targets: Modules or files, or functions in them.
        remotes: Functions that run in processes of their own.
        store: The store's file.
        host: The address to bind.
        port: The port to bind; 0 for a free one.
        token: What each request must have, if anything.
        reload: Whether to start anew when code changes.
        timeout: Seconds that an execution may take that is started here; `None` if there is no limit.
    """

    targets: tuple[str, ...]
    store: str
    remotes: tuple[RemoteSpec, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    reload: bool = True
    timeout: float | None = None

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which the server may be called; all, if it is not for this machine alone."""
        return LOOPBACK if self.host in LOOPBACK else frozenset()


class Remote(NamedTuple):
    """A function that runs elsewhere.

    Attributes:
        function: The function.
        command: What starts its process; empty if others do.
        listening: Where that asks for invocations.
    """

    function: RemoteFunction
    command: str
    listening: socket.socket


def check(serving: Serving) -> None:
    """Find out before anything is served whether all that is to be can be.

    Raises:
        TargetNotFoundError: Something is not there, or cannot be imported.
        DurableError: It cannot be registered; two have the same name, for example.
    """
    functions = Functions()
    for target in serving.targets:
        for function in load_functions(target):
            functions.register(function, _name_of(function))
    for spec in serving.remotes:
        functions.register(RemoteFunction(spec.name), None)


def bind(serving: Serving) -> list[socket.socket]:
    """The sockets to listen at: that of Lambda's API, and one for each function that runs elsewhere.

    Raises:
        OSError: One cannot be had.
    """
    main = _listen(serving.host, serving.port)
    # Runtime APIs are for processes of this machine, whoever may call the other one.
    return [main, *(_listen("127.0.0.1", 0) for _ in serving.remotes)]


def _listen(host: str, port: int) -> socket.socket:
    # That it is TCP is said, unlike by socket.create_server: asyncio sets TCP_NODELAY only where it knows. Without
    # it each answer waits for the acknowledgement of its own headers, 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def address_of(listening: socket.socket) -> str:
    """Where it listens: host and port."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(
    serving: Serving, sockets: list[socket.socket], logging_set_up: Callable[[], AbstractContextManager[object]]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        serving: What, and how.
        sockets: From `bind`.
        logging_set_up: What is to be around all that happens in the process that serves.
    """
    child = partial(_serve, serving, logging_set_up)
    if not serving.reload:
        child(sockets=sockets)
        return
    directories = sorted({str(Path(text.rpartition(":")[0] or text).absolute().parent) for text in serving.targets})
    config = uvicorn.Config("", reload=True, reload_dirs=directories, log_config=None)
    ChangeReload(config, target=child, sockets=sockets).run()


def _serve(
    serving: Serving,
    logging_set_up: Callable[[], AbstractContextManager[object]],
    sockets: list[socket.socket] | None,
) -> None:
    with logging_set_up():
        main, *others = sockets or bind(serving)
        remotes = [
            Remote(RemoteFunction(spec.name), spec.command, listening)
            for spec, listening in zip(serving.remotes, others, strict=True)
        ]
        functions = [function for target in serving.targets for function in load_functions(target)]
        app = make_app(
            partial(_engine, serving, functions, remotes, f"http://{address_of(main)}"),
            hosts=serving.hosts,
            token=serving.token,
            store=serving.store,
            runtimes={remote.listening.getsockname()[1]: remote.function for remote in remotes},
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=KEEP_ALIVE,
            server_header=False,
        )
        uvicorn.Server(config).run([main, *others])


@asynccontextmanager
async def _engine(
    serving: Serving, functions: list[Callable[..., Any]], remotes: list[Remote], url: str
) -> AsyncGenerator[Engine]:
    with anyio.move_on_after(_PATIENCE):  # the process before may be about to let go of the store
        while engine_of(serving.store) is not None:  # noqa: ASYNC110 - another process does not tell
            await anyio.sleep(0.1)
    async with (
        open_engine(serving.store, max_operations=MAX_OPERATIONS, execution_timeout=serving.timeout) as engine,
        anyio.create_task_group() as tasks,
    ):
        for function in functions:
            engine.functions.register(function, _name_of(function))
        for remote in remotes:
            engine.functions.register(remote.function, None)
            if remote.command:
                known = environment(remote.function, address_of(remote.listening), url, serving.token)
                tasks.start_soon(keep_running, remote.function, remote.command, known)
        _log.info("serves %s", ", ".join(engine.functions.names))
        for resumed in await engine.resume():
            tasks.start_soon(_watch, resumed, name=f"durable dev: watches {resumed.name}")
        yield engine
        tasks.cancel_scope.cancel()


def _name_of(function: object) -> str | None:
    """What a plain function is registered as; a durable one has a name of its own."""
    if isinstance(function, DurableFunction) or not callable(function):
        return None
    return signature_of(function).name


async def _watch(run: Run[Any]) -> None:
    """Say so if an execution that nobody waits for does not go on."""
    try:
        await run.wait()
    except DurableError as error:
        _log.error("execution %r does not go on: %s", run.name, error)
