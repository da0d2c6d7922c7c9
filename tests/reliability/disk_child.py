"""A process whose writes are watched: forks for each run that it is asked for, so that it starts only once.

Asked by a line `DIRECTORY KILL_AT TORN TRACE BACKEND SYNCHRONOUS`; answers with a line `killed`, or `done COUNT`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import anyio

from tests.reliability.workload import run_all


def main() -> None:
    """Answer until the input ends."""
    shim = ctypes.CDLL(None)
    shim.disk_count.restype = ctypes.c_long
    for line in sys.stdin:
        directory, kill_at, torn, trace, backend, synchronous = line.split()
        child = os.fork()
        if child == 0:
            path = None if trace == "-" else trace.encode()
            shim.disk_arm(directory.encode(), ctypes.c_long(int(kill_at)), int(torn), path)
            try:
                anyio.run(run_all, directory, synchronous, backend=backend)
            except BaseException as error:
                os.write(2, f"{error!r}\n".encode())
                os._exit(3)
            os.write(1, f"done {shim.disk_count()}\n".encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            os.write(1, b"killed\n")
        elif status != 0:
            os.write(1, f"failed {status}\n".encode())


if __name__ == "__main__":
    main()
