"""What well-known functions do that a replay must not depend on, by their full names."""

from __future__ import annotations

import ast
from typing import Final

CLOCKS: Final = frozenset({
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.process_time", "time.process_time_ns", "time.thread_time",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
    "anyio.current_time", "trio.current_time",
    "django.utils.timezone.now", "arrow.now", "arrow.utcnow",
    "pendulum.now", "pendulum.today", "pendulum.tomorrow", "pendulum.yesterday",
    "whenever.Instant.now", "whenever.ZonedDateTime.now",
})  # fmt: skip

CLOCKS_WITHOUT_ARGUMENTS: Final = {
    "time.localtime": 0, "time.gmtime": 0, "time.ctime": 0, "time.asctime": 0, "time.strftime": 1,
}  # fmt: skip
"""Those that ask the clock if they get no more than so many arguments."""

IDENTITIES: Final = frozenset({
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "ulid.new", "ulid.ULID", "nanoid.generate",
    "shortuuid.uuid",
})  # fmt: skip

SEEDED: Final = frozenset({"random.Random", "numpy.random.default_rng", "numpy.random.RandomState"})
"""Chance that is the same each time if it is given a seed."""

SECRETS: Final = frozenset({"os.urandom", "random.SystemRandom", "uuid.SystemRandom"})

NO_CHANCE: Final = frozenset({"random.Random", "secrets.compare_digest", "numpy.random.Generator"})

ENVIRONMENT: Final = frozenset({
    "os.getenv", "os.getenvb", "os.getcwd", "os.getpid", "os.getlogin", "os.cpu_count", "os.uname",
    "socket.gethostname", "socket.getfqdn", "platform.node", "platform.uname", "getpass.getuser",
    "os.path.expanduser", "os.path.expandvars", "pathlib.Path.cwd", "pathlib.Path.home", "os.environ.get",
})  # fmt: skip

ENVIRONMENT_VALUES: Final = frozenset({"os.environ", "os.environb", "sys.argv"})

_FILE_VERBS: Final = (
    "open", "listdir", "scandir", "walk", "mkdir", "makedirs", "remove", "unlink", "rename", "renames", "replace",
    "rmdir", "removedirs", "stat", "lstat", "chmod", "chown", "link", "symlink", "readlink", "truncate", "utime",
    "access", "system", "popen", "kill", "fork", "execv", "path.exists", "path.isfile", "path.isdir",
    "path.getsize", "path.getmtime",
)  # fmt: skip
_HTTP_VERBS: Final = ("get", "post", "put", "patch", "delete", "head", "options", "request")

IO: Final = frozenset({
    "builtins.open", "builtins.input", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open",
    "aiofiles.open",
    *(f"os.{verb}" for verb in _FILE_VERBS),
    *(f"requests.{verb}" for verb in _HTTP_VERBS),
    *(f"httpx.{verb}" for verb in (*_HTTP_VERBS, "stream")),
    *(f"niquests.{verb}" for verb in _HTTP_VERBS),
    "aiohttp.request", "urllib3.request", "urllib.request.urlopen", "urllib.request.urlretrieve",
    "socket.create_connection", "socket.getaddrinfo", "socket.gethostbyname",
    "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.getoutput",
    "subprocess.Popen",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "asyncio.open_connection",
    "anyio.run_process", "anyio.open_process", "anyio.open_file", "anyio.connect_tcp", "anyio.connect_unix",
    "trio.run_process", "trio.open_file", "trio.open_tcp_stream",
    "tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile", "tempfile.TemporaryFile",
    "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.rmtree",
    "shutil.make_archive", "shutil.unpack_archive", "shutil.disk_usage",
})  # fmt: skip

CLIENTS: Final = frozenset({
    "requests.Session", "requests.session", "httpx.Client", "httpx.AsyncClient", "niquests.Session",
    "aiohttp.ClientSession", "urllib3.PoolManager", "http.client.HTTPConnection", "http.client.HTTPSConnection",
    "boto3.client", "boto3.resource", "boto3.Session", "boto3.session.Session", "aioboto3.Session",
    "aiobotocore.session.get_session", "aiobotocore.session.AioSession", "botocore.session.get_session",
    "smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP", "imaplib.IMAP4_SSL", "socket.socket",
    "sqlite3.connect", "aiosqlite.connect", "psycopg.connect", "psycopg.AsyncConnection.connect",
    "psycopg2.connect", "asyncpg.connect", "asyncpg.create_pool", "pymysql.connect",
    "redis.Redis", "redis.StrictRedis", "redis.from_url", "redis.asyncio.Redis", "redis.asyncio.from_url",
    "pymongo.MongoClient", "pymongo.AsyncMongoClient", "motor.motor_asyncio.AsyncIOMotorClient",
    "sqlalchemy.create_engine", "sqlalchemy.ext.asyncio.create_async_engine",
    "openai.OpenAI", "openai.AsyncOpenAI", "anthropic.Anthropic", "anthropic.AsyncAnthropic",
    "stripe.StripeClient",
})  # fmt: skip
"""What is made before it is used: to make one is fine, to call it is I/O."""

CLIENT_TYPES: Final = CLIENTS | {
    "sqlite3.Connection", "psycopg.Connection", "psycopg.AsyncConnection", "asyncpg.Connection", "asyncpg.Pool",
    "aiosqlite.Connection",
}  # fmt: skip

NO_IO_OF_CLIENTS: Final = frozenset({
    "close", "aclose", "client", "resource", "create_client", "cursor", "build_request", "setdefault", "mount",
    "session", "headers", "messages", "with_options", "get_paginator", "get_waiter", "pipeline",
})  # fmt: skip
"""Methods of clients that call nobody."""

PATH_IO: Final = frozenset({
    "read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "is_file", "is_dir", "iterdir",
    "glob",
    "rglob", "mkdir", "unlink", "rename", "replace", "rmdir", "stat", "touch", "resolve", "symlink_to", "walk",
})  # fmt: skip

PATHS: Final = frozenset({"pathlib.Path", "pathlib.PosixPath", "anyio.Path", "trio.Path"})

SLEEPS: Final = frozenset({
    "time.sleep", "asyncio.sleep", "anyio.sleep", "anyio.sleep_until", "anyio.sleep_forever",
    "trio.sleep", "trio.sleep_until", "trio.sleep_forever",
})  # fmt: skip

LOGGERS: Final = frozenset({"logging.getLogger", "structlog.get_logger", "structlog.getLogger"})
LOG_VERBS: Final = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log", "fatal"})
SAID: Final = frozenset({
    "builtins.print", "sys.stdout.write", "sys.stderr.write", *(f"logging.{verb}" for verb in LOG_VERBS),
    *(f"loguru.logger.{verb}" for verb in LOG_VERBS),
})  # fmt: skip

NATIVE_LIMITS: Final = frozenset({
    "anyio.move_on_after", "anyio.fail_after", "trio.move_on_after", "trio.fail_after", "trio.move_on_at",
    "trio.fail_at", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "async_timeout.timeout",
})  # fmt: skip

TASK_MAKERS: Final = frozenset({
    "asyncio.gather", "asyncio.create_task", "asyncio.ensure_future", "asyncio.wait", "asyncio.as_completed",
    "asyncio.shield", "asyncio.run_coroutine_threadsafe", "asyncio.Task", "trio.lowlevel.spawn_system_task",
})  # fmt: skip
PLAIN_GROUPS: Final = frozenset({
    "anyio.create_task_group", "asyncio.TaskGroup", "trio.open_nursery", "anyio.abc.TaskGroup", "trio.Nursery",
})  # fmt: skip
THREADS: Final = {"asyncio.to_thread": 0, "anyio.to_thread.run_sync": 0, "trio.to_thread.run_sync": 0}
"""Functions that call the one that they are given at this position."""

SHIELDS: Final = frozenset({"anyio.CancelScope", "anyio.move_on_after", "anyio.fail_after", "trio.CancelScope"})

CANCELLATIONS: Final = frozenset({
    "builtins.BaseException", "asyncio.CancelledError", "trio.Cancelled", "asyncio.exceptions.CancelledError",
    "builtins.BaseExceptionGroup",
})  # fmt: skip

UNORDERED: Final = frozenset({"builtins.set", "builtins.frozenset"})
UNORDERED_TYPES: Final = UNORDERED | {
    "typing.Set", "typing.FrozenSet", "typing.AbstractSet", "collections.abc.Set", "collections.abc.MutableSet",
}  # fmt: skip
KEEPS_ORDER: Final = frozenset({
    "builtins.list", "builtins.tuple", "builtins.enumerate", "builtins.iter", "builtins.reversed", "builtins.dict",
    "builtins.dict.fromkeys", "builtins.map", "builtins.filter", "itertools.batched", "itertools.islice",
})  # fmt: skip
SAME_AGAIN: Final = NO_IO_OF_CLIENTS | {
    "union", "intersection", "difference", "symmetric_difference", "copy", "joinpath", "with_suffix", "with_name",
}  # fmt: skip
"""Methods of sets, paths and clients that give another one."""


CONTAINERS: Final = frozenset({
    "builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray", "collections.deque",
    "collections.defaultdict", "collections.Counter", "collections.OrderedDict",
    "typing.List", "typing.Dict", "typing.Set", "typing.DefaultDict", "collections.abc.MutableMapping",
    "collections.abc.MutableSequence", "collections.abc.MutableSet",
})  # fmt: skip
MUTATORS: Final = frozenset({
    "append", "appendleft", "extend", "extendleft", "insert", "add", "update", "pop", "popleft", "popitem",
    "remove",
    "discard", "clear", "setdefault", "sort", "reverse", "subtract", "rotate", "intersection_update",
    "difference_update",
})  # fmt: skip

INLINE: Final = frozenset({
    "builtins.sorted", "builtins.min", "builtins.max", "builtins.map", "builtins.filter", "builtins.sum",
    "builtins.any", "builtins.all", "functools.reduce", "itertools.groupby", "itertools.takewhile",
    "itertools.dropwhile",
})  # fmt: skip
"""Builtins that call a lambda where they are called themselves."""


def is_chance(dotted: str, call: ast.Call) -> bool:
    """Whether a call gives something by chance, other than an identity."""
    if dotted in SEEDED:
        return not call.args and not call.keywords
    if dotted in NO_CHANCE:
        return False
    return dotted in SECRETS or dotted.startswith(("random.", "secrets.", "numpy.random."))


def is_clock(dotted: str, call: ast.Call) -> bool:
    """Whether a call asks the clock."""
    return dotted in CLOCKS or len(call.args) <= CLOCKS_WITHOUT_ARGUMENTS.get(dotted, -1)
