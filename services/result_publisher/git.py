"""Runs git on what is not trusted: clean environment, no configuration but ours, bounded time, memory and output.

Only ever in repositories this service made itself. Nothing here checks out, and no hook or filter can run.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_common.errors import Permanent, Transient
from services.result_publisher.confine import Bounds, prefix, program

_SAFE: Final = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.packedGitWindowSize=16m",
    "-c", "core.packedGitLimit=256m",
    "-c", "core.bigFileThreshold=32m",
    "-c", "pack.threads=1",
    "-c", "gc.auto=0",
    "-c", "protocol.version=2",
)  # fmt: skip
_BOUNDS: Final = Bounds()


class GitFailed(Permanent):
    """git said no. ``stderr`` is what it said, shortened."""

    def __init__(self, args: Sequence[str], code: int, stderr: str) -> None:
        super().__init__(f"git {args[0]} failed ({code}): {stderr}")
        self.code = code
        self.stderr = stderr


class GitTooSlow(Transient):
    """git did not end in time and was killed."""


class GitTooMuch(Permanent):
    """git's output was longer than it may be."""


def environment(*, protocols: str = "") -> dict[str, str]:
    """Return the whole environment that git sees. ``protocols``: what it may speak, colon-separated."""
    git = program("git") or "/usr/bin/git"
    return {
        "PATH": f"{Path(git).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": protocols or "none",
    }


@dataclass(frozen=True, slots=True)
class Git:
    """git in one bare repository of ours."""

    directory: Path
    protocols: str = ""
    deadline: timedelta = timedelta(seconds=90)
    bounded: bool = True  #: with limits on CPU, memory and file size
    writable: Path | None = None  #: confined: nothing but this folder can be written, and there is no network

    async def run(self, *args: str, stdin: bytes = b"", most: int = 1 << 20) -> bytes:
        """Return git's output; GitFailed, GitTooSlow or GitTooMuch otherwise."""
        async with self.started(*args) as process:
            try:
                async with asyncio.timeout(self.deadline.total_seconds()):
                    _, out, err = await asyncio.gather(
                        _feed(process, stdin), _read(process.stdout, most), _read(process.stderr, 1 << 16)
                    )
                    code = await process.wait()
            except TimeoutError as error:
                raise GitTooSlow(f"git {args[0]} took longer than {self.deadline.total_seconds():g} s") from error
        if code:
            raise GitFailed(args, code, _short(err))
        return out

    @asynccontextmanager
    async def started(self, *args: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Start git and see to it that nothing of it is left at the end."""
        process = await asyncio.create_subprocess_exec(
            *(prefix(_BOUNDS, self.writable) if self.bounded else ()),
            program("git") or "git",
            "--git-dir",
            str(self.directory),
            *_SAFE,
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(protocols=self.protocols),
            cwd="/",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()


async def _feed(process: asyncio.subprocess.Process, content: bytes) -> None:
    assert process.stdin is not None
    # A program that has seen enough closes its end; its exit code tells why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(content)
        await process.stdin.drain()
        process.stdin.close()


async def _read(stream: asyncio.StreamReader | None, most: int) -> bytes:
    assert stream is not None
    parts: list[bytes] = []
    size = 0
    while chunk := await stream.read(1 << 16):
        size += len(chunk)
        if size > most:
            raise GitTooMuch(f"git wrote more than {most} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _short(err: bytes) -> str:
    lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(lines[:5])[:500]
