"""A process that has everything imported and forks one supervisor per request: a start then costs milliseconds.

``python -m agent_runner.template FD``: a connected unix socket on which each line is the path of a spec, answered by
the pid of its supervisor. It ends when the other side closes; the supervisors live on.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from agent_runner import supervisor
from agent_runner.gateway_client import Gateway, GatewayAway
from agent_runner.protocol import LOG_FILE, GatewayAddress
from agent_runner.sandbox import cgroup
from agent_runner.sandbox.host import system_parts


def warm_up() -> None:
    """Do once what every supervisor does first, so that its imports are done: much is imported at the first request."""

    async def speak() -> None:
        with tempfile.NamedTemporaryFile() as token:
            address = GatewayAddress(token_file=Path(token.name), socket=Path("/nonexistent/gw.sock"))
            gateway = Gateway(address, 0)
            with contextlib.suppress(GatewayAway):
                await gateway.lease(0, within=1)
            await gateway.close()
        await asyncio.to_thread(lambda: None)

    asyncio.run(speak())
    cgroup.controls()
    system_parts()


def serve(connection: socket.socket) -> None:
    """Fork for every line, until there are no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    gc.freeze()
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            pid = os.fork()
            if pid == 0:
                _become_supervisor(Path(os.fsdecode(line.rstrip(b"\n"))), connection.fileno())
            connection.sendall(f"{pid}\n".encode())


def _become_supervisor(spec_file: Path, connection: int) -> None:
    code = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _redirect(spec_file.parent / LOG_FILE)
        os.close(connection)
        code = supervisor.run(spec_file)
    finally:
        # Nothing of the template's own end may run here; what went wrong is in the log.
        if (error := sys.exception()) is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    writing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(nothing)
    os.close(writing)


if __name__ == "__main__":
    warm_up()
    serve(socket.socket(fileno=int(sys.argv[1])))
