"""The executor's end of the template process, which forks supervisors. Without it they start all the same."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Supervisors inherit nothing of the executor: its environment may hold addresses and tokens.
CLEAN: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
_ANSWER_SECONDS: Final = 5.0


def python(*arguments: str) -> Sequence[str]:
    """Return the command line of a module of ours under this very interpreter."""
    return (sys.executable, *arguments)


@dataclass(slots=True)
class Template:
    """One template process and the connection to it."""

    running: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls) -> "Template":
        ours, theirs = socket.socketpair()
        try:
            running = await asyncio.create_subprocess_exec(
                *python("-m", "agent_runner.template", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                env=dict(CLEAN),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return cls(running, reader, writer)

    async def start(self, spec_file: Path) -> int | None:
        """Return the pid of a new supervisor; None when the template is gone."""
        try:
            self.writer.write(bytes(spec_file) + b"\n")
            await self.writer.drain()
            async with asyncio.timeout(_ANSWER_SECONDS):
                return int(await self.reader.readline())
        except (OSError, ValueError, TimeoutError):
            return None

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        await self.running.wait()
