"""A uvicorn server inside our process: the process owns the signals, the caller owns the socket's address."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn

from dispatch_common.errors import InvalidInput

_GRACE: Final = 5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


@asynccontextmanager
async def http_server(
    app: Any, *, host: str = "127.0.0.1", port: int = 0, uds: Path | None = None
) -> AsyncGenerator[str]:
    """Serve ``app`` and yield its URL (or socket path). Leaving waits a little for open requests."""
    listening = _unix(uds) if uds is not None else _tcp(host, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE, lifespan="off", server_header=False
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name=f"http {uds or port}")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
        yield str(uds) if uds is not None else f"http://{_shown(host)}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=_GRACE + 2)
        task.cancel()
        for each in getattr(server, "servers", ()):
            # Off the event loop before it is closed: else whoever gets its number next is never heard.
            each.close()
        listening.close()
        if uds is not None:
            uds.unlink(missing_ok=True)


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio would not set TCP_NODELAY on what is accepted: 40 ms more per answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"cannot listen on {host}:{port} ({error.strerror}).",
            field="port",
            remedy="Choose another port, or 0 to let the system choose.",
        ) from error
    listening.listen(2048)
    listening.setblocking(False)
    return listening


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(128)
    listening.setblocking(False)
    return listening
