"""One confined process tree: started from the main thread, signalled inside, killed as a whole, and seen to be gone.

Bubblewrap ties the sandbox to the *thread* that started it (``--die-with-parent``), so a sandbox is started on the
event loop's own thread, never in a worker thread.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ANSWER_LIMIT: Final = 65_536


class SandboxBroken(Exception):
    """The sandbox itself could not be set up; ``says`` is what the host had to say."""

    def __init__(self, says: str) -> None:
        super().__init__(f"The sandbox could not be set up: {says}")
        self.says = says


@dataclass(slots=True)
class Tree:
    """A running sandbox. ``top`` is the first process of its pid namespace: when that is gone, everything is."""

    process: asyncio.subprocess.Process
    top: int
    _top_fd: int = field(repr=False)
    _gone: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def watch(self) -> None:
        """Begin to notice the end of the pid namespace."""
        asyncio.get_running_loop().add_reader(self._top_fd, self._ended)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._top_fd)
        os.close(self._top_fd)
        self._gone.set()

    def over(self) -> None:
        """Take note that the pid namespace had ended already."""
        self._gone.set()

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    def ask_to_end(self) -> None:
        """SIGTERM for the command itself. Sent to bubblewrap it would kill at once, without grace."""
        for pid in children_of(self.top):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL for everything inside, through the death of its pid namespace."""
        for pid in (self.process.pid, self.top):
            if not self.is_gone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until nothing inside lives and bubblewrap itself was reaped."""
        await self._gone.wait()
        await self.process.wait()


def children_of(pid: int) -> tuple[int, ...]:
    """Return the direct children of a process; none when it is gone."""
    try:
        return tuple(int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except (OSError, ValueError):
        return ()


def start_time(pid: int) -> int | None:
    """Return the start time that makes a pid unmistakable; None when the process is gone or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def content_pipe(content: bytes) -> int:
    """Return a descriptor that yields these few bytes and then ends."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(content)
    return reading


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the command line builder is told: which descriptor brings which file, and where bubblewrap reports."""

    files: tuple[tuple[int, str], ...]
    info: int


BuildArgv = Callable[[Descriptors], Sequence[str]]


async def start(build: BuildArgv, *, files: Mapping[str, bytes], stdin: int, workdir: Path) -> Tree:
    """Start a sandbox; return once its first process exists. Raises SandboxBroken when that does not happen."""
    reading, info = os.pipe()
    pipes = tuple((content_pipe(content), path) for path, content in files.items())
    inherited = [info, *(descriptor for descriptor, _ in pipes)]
    try:
        process = await asyncio.create_subprocess_exec(
            *build(Descriptors(pipes, info)),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=True,
            cwd=workdir,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            limit=_ANSWER_LIMIT,
        )
    except OSError as error:
        os.close(reading)
        raise SandboxBroken(str(error)) from error
    finally:
        for descriptor in inherited:
            os.close(descriptor)
    return await _born(process, reading)


async def _born(process: asyncio.subprocess.Process, reading: int) -> Tree:
    answer = await _read_all(reading)
    try:
        top = int(json.loads(answer)["child-pid"])
    except (ValueError, KeyError) as error:
        # Bubblewrap's own child may be left, half set up; it still belongs to the session that was made for both.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, said = await process.communicate()
        says = said.decode(errors="replace").strip() or f"it ended with exit code {process.returncode}"
        raise SandboxBroken(says[-1000:]) from error
    try:
        tree = Tree(process, top, os.pidfd_open(top))
        tree.watch()
    except ProcessLookupError:  # it ended before we could look
        tree = Tree(process, top, -1)
        tree.over()
    return tree


async def _read_all(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        return await reader.read()  # bubblewrap writes its answer in several pieces
    finally:
        transport.close()
