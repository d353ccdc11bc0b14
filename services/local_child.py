"""A server as a child process: it ends when we end, and no folder ever has two. Knows no particular server."""

import asyncio
import fcntl
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import psutil

from dispatch_common.errors import DispatchError

LOG_LIMIT = 10 * 1024 * 1024
LONGEST_PAUSE = 0.05


class LocalServerError(DispatchError):
    """A server of this machine did not start or did not stay up."""


class FolderInUse(LocalServerError):
    """Another process already runs on this data folder."""


class PortTaken(LocalServerError):
    """The port that was asked for belongs to another process."""


@contextmanager
def sole_owner(data: Path) -> Generator[None]:
    """Holds the folder for this process; the kernel lets go of it when we die, however we die."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FolderInUse(
                f"{data} is in use by process {holder}. Stop that Agent Dispatch first, or choose another data folder."
            ) from error
        file.truncate(0)
        file.write(str(psutil.Process().pid))
        file.flush()
        yield


async def pauses(within: timedelta) -> AsyncIterator[None]:
    """Ever longer short pauses, until the time is used up."""
    deadline, pause = monotonic() + within.total_seconds(), 0.001
    while monotonic() < deadline:
        yield
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Advice:
    """What a line of a server's log means to the person who reads it."""

    pattern: str
    says: str
    error: type[LocalServerError] = LocalServerError


@dataclass(slots=True)
class Child:
    """One server process, with its log and its ends."""

    name: str
    data: Path
    stop_signal: signal.Signals
    advice: Sequence[Advice] = ()
    privileges: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    expected: bool = field(default=True, init=False)
    _began: int = field(default=0, init=False)

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise LocalServerError(f"{self.name} is not running.")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process else None

    def spawn(self, argv: Sequence[str]) -> None:
        """Starts the server in a session of its own, so that a Ctrl-C reaches us alone and we stop it in order.

        The kernel signals it when the thread that called this ends: call it from the main thread.
        """
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._began = log.tell()
            self.process = subprocess.Popen(
                [*dying_with_us(self.stop_signal), *self.privileges, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self.expected = False
        self._pid_file.write_text(str(self.process.pid))

    async def end_leftover(self, *, patience: timedelta = timedelta(seconds=20)) -> None:
        """Ends a server of this folder whose owner died without taking it along."""
        leftover = self._leftover()
        if leftover is None:
            return
        leftover.send_signal(self.stop_signal)
        async for _ in pauses(patience):
            if is_dead(leftover):
                return
        kill_tree(leftover)

    async def stop(self, *, patience: timedelta = timedelta(seconds=15)) -> None:
        """Asks it to end in order, and ends it by force when it does not."""
        self.expected = True
        if self.process is None or not self.is_running:
            return
        self.process.send_signal(self.stop_signal)
        async for _ in pauses(patience):
            if not self.is_running:
                return
        self.kill()

    def kill(self) -> None:
        """Ends it and all its children at once, as a power cut would; what it wrote stays."""
        self.expected = True
        if self.process is not None and self.is_running:
            kill_tree(psutil.Process(self.process.pid))
            self.process.wait()

    async def died(self) -> None:
        """Waits until the server ends without having been asked to, and raises; never returns otherwise."""
        while self.expected or self.is_running:  # noqa: ASYNC110 - a child's end sets no event
            await asyncio.sleep(0.25)
        raise self.failure(f"{self.name} ended unexpectedly")

    def failure(self, what: str) -> LocalServerError:
        """The error that tells what happened, what the server itself said, and what to do."""
        said = self.tail()
        fits = next((each for each in self.advice if re.search(each.pattern, said)), None)
        remedy = fits.says if fits else "Read the log; when it does not help, start again with an empty data folder."
        ended = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        kind = fits.error if fits else LocalServerError
        return kind(f"{what}{ended}. {remedy}\nThe end of {self.log}:\n{said or '  (empty)'}")

    def tail(self, lines: int = 15) -> str:
        """What the server said since it was last started."""
        if not self.log.exists():
            return ""
        text = self.log.read_bytes()[self._began :][-16_384:].decode(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    @property
    def _pid_file(self) -> Path:
        return self.data / "server.pid"

    def _leftover(self) -> psutil.Process | None:
        """The process that the pid file names, unless it is a stranger that got the same number."""
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            return process if any(str(self.data) in word for word in process.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None


def kill_tree(process: psutil.Process, *, patience: timedelta = timedelta(seconds=5)) -> None:
    """SIGKILL for the process and everything below it; returns when all of it is dead (a zombie is dead)."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    deadline = monotonic() + patience.total_seconds()
    while monotonic() < deadline and not all(map(is_dead, family)):
        sleep(0.002)


def is_dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def dying_with_us(with_signal: signal.Signals) -> Sequence[str]:
    """The command prefix that has the kernel send ``with_signal`` when we die. Only Linux has it; elsewhere the next
    start ends the leftover."""
    if sys.platform != "linux":
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalServerError("'setpriv' is missing; install util-linux (on Debian: apt-get install util-linux).")
    return (setpriv, "--pdeathsig", with_signal.name.removeprefix("SIG"))


@asynccontextmanager
async def in_time(child: Child, within: timedelta) -> AsyncGenerator[None]:
    """Turns lateness into the child's own story."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            yield
    except TimeoutError as error:
        failure = child.failure(f"{child.name} did not answer within {within.total_seconds():g} s")
        child.kill()
        raise failure from error
