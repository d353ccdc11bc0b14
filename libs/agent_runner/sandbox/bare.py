"""No sandbox at all, only when asked for by name: a session of its own, and everything below it killed at the end."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.sandbox.tree import SandboxBroken, Tree, children_of

_PR_SET_CHILD_SUBREAPER: Final = 36


def place(files: Mapping[str, bytes], folder: Path) -> Mapping[str, Path]:
    """Write the small files of a command below a folder; return where each went."""
    places = {path: folder / path.lstrip("/") for path in files}
    for path, content in files.items():
        places[path].parent.mkdir(parents=True, exist_ok=True)
        places[path].write_bytes(content)
    return places


def moved(argument: str, places: Mapping[str, Path]) -> str:
    """Return the argument with paths of the inside replaced by where the files really are."""
    for path, real in places.items():
        top = "/".join(path.split("/")[:3])
        argument = argument.replace(top, str(real)[: -len(path)] + top)
        break
    return argument


def descendants(pid: int) -> Iterator[int]:
    for child in children_of(pid):
        yield child
        yield from descendants(child)


@dataclass(slots=True)
class BareTree(Tree):
    """What runs without a sandbox. Those who forked away became our children, so they are found and killed."""

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.top, signal.SIGTERM)

    def kill(self) -> None:
        for pid in (self.top, *descendants(os.getpid())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def gone(self) -> None:
        await Tree.gone(self)
        while list(descendants(os.getpid())):
            self.kill()
            _reap()
            await asyncio.sleep(0.005)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


async def start(command: Sequence[str], *, environment: Mapping[str, str], stdin: int, workdir: Path) -> BareTree:
    """Start a command that dies with us."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SandboxBroken("this kernel has no child subreaper")
    try:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--", *command),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=workdir,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxBroken(str(error)) from error
    confined = BareTree(process, process.pid, os.pidfd_open(process.pid))
    confined.watch()
    return confined
