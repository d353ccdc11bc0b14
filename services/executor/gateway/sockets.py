"""One unix socket per attempt: its path is the attempt's identity, its folder is for our eyes only.

Bound by ourselves, at the same path again after a restart, so that a supervisor finds us where it left us.
"""

import asyncio
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from starlette.types import ASGIApp, Receive, Scope, Send

from dispatch_common.errors import InvalidInput
from dispatch_common.http import http_server
from dispatch_common.service import Context

_LONGEST: Final = 100  # the kernel takes 107
_PRIVATE: Final = 0o700


def of_attempt(app: ASGIApp, attempt_id: UUID) -> ASGIApp:
    """Return the application as one attempt's socket serves it: whoever speaks there speaks for that attempt."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "attempt_id": attempt_id}, receive, send)

    return serve


def folder(data: Path) -> Path:
    """Return where the sockets lie: in the data folder, or somewhere short when the kernel would refuse the path."""
    beside = data / "gateway"
    if len(str(beside)) + 1 + 16 + len(".sock") <= _LONGEST:
        return beside
    digest = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"dispatch-gateway-{os.getuid()}-{digest}"


def private(path: Path) -> None:
    """Make a folder that only we may enter, or refuse one that others made."""
    path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InvalidInput(f"{path} belongs to somebody else.", field="data", remedy="Choose a shorter data folder.")
    path.chmod(_PRIVATE)


class Sockets:
    """The open sockets of this executor."""

    def __init__(self, ctx: Context, app: ASGIApp) -> None:
        self._ctx = ctx
        self._app = app
        self._open: dict[UUID, tuple[asyncio.Event, asyncio.Task[Any]]] = {}

    async def open(self, attempt_id: UUID, path: Path) -> None:
        """Listen for one attempt. Asked again, does nothing."""
        if attempt_id in self._open:
            return
        private(path.parent)
        bound: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        closing = asyncio.Event()
        task = self._ctx.spawn(self._serve(attempt_id, path, bound, closing), f"socket-{attempt_id.hex[:8]}")
        self._open[attempt_id] = (closing, task)
        try:
            await bound
        except BaseException:
            self._open.pop(attempt_id, None)
            raise

    def close(self, attempt_id: UUID) -> None:
        """Listen no more for an attempt; requests under way are finished."""
        opened = self._open.pop(attempt_id, None)
        if opened is not None:
            opened[0].set()

    @property
    def attempts(self) -> set[UUID]:
        return set(self._open)

    async def _serve(self, attempt_id: UUID, path: Path, bound: "asyncio.Future[None]", closing: asyncio.Event) -> None:
        try:
            async with http_server(of_attempt(self._app, attempt_id), uds=path):
                bound.set_result(None)
                await closing.wait()
        except OSError as error:
            if bound.done():
                raise
            bound.set_exception(error)
