"""Starts supervisors on this machine, each in a session of its own that outlives us, and finds them again.

The kernel's lock on the attempt's folder says who lives; pids are only ever used together with their start time.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from agent_runner.note import is_locked, read_note, read_result, replace
from agent_runner.protocol import (
    LOG_FILE,
    SPEC_FILE,
    STOP_FILE,
    LaunchSpec,
    Phase,
    ResultReport,
    StopAsk,
    SupervisorNote,
)
from agent_runner.sandbox import leftovers
from agent_runner.sandbox.tree import start_time
from dispatch_common.clock import monotonic
from services.executor.launchers import Launched, LaunchFailed, LaunchState
from services.executor.launchers.template import CLEAN, Template, python
from services.executor.workspace_base import remove_tree

_BORN_SECONDS: Final = 15.0
_GONE_SECONDS: Final = 30.0


@dataclass(slots=True)
class LocalLauncher:
    """The Launcher of this machine. ``attempts`` holds one folder per attempt, named by its id."""

    attempts: Path
    _template: Template | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, spec: LaunchSpec, token: str) -> Launched:
        """Start the attempt's supervisor, unless it was ever started."""
        before = await self.state(spec.attempt_id)
        if before.state is not LaunchState.UNKNOWN:
            return before
        try:
            spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(spec.gateway.token_file, token.encode())
            _write_private(spec.folder / SPEC_FILE, spec.model_dump_json().encode())
            pid = await self._spawn(spec.folder)
        except OSError as error:
            raise LaunchFailed(f"The supervisor could not be started: {error}") from error
        return await self._born(spec, pid)

    async def state(self, attempt_id: UUID) -> Launched:
        """Return what is there; of a dead supervisor nothing is left after this."""
        folder = self.attempts / str(attempt_id)
        spec = _read_spec(folder)
        if spec is None:
            return Launched(attempt_id, LaunchState.UNKNOWN)
        if is_locked(folder):
            return Launched(attempt_id, LaunchState.ALIVE, read_note(folder), spec)
        note = read_note(folder)
        if note is None:
            return Launched(attempt_id, LaunchState.UNKNOWN, None, spec)
        await _end_leftovers(spec, note)
        is_over = note.phase is Phase.DONE or read_result(folder) is not None
        return Launched(attempt_id, LaunchState.ENDED if is_over else LaunchState.LOST, note, spec)

    async def stop(self, attempt_id: UUID, sentence: str) -> Launched:
        """Ask the attempt to end; it reports its result as always."""
        found = await self.state(attempt_id)
        if found.state is LaunchState.ALIVE:
            replace(self.attempts / str(attempt_id) / STOP_FILE, StopAsk(sentence=sentence).model_dump_json().encode())
            _signal(found.note, signal.SIGTERM)
        return found

    async def kill(self, attempt_id: UUID) -> Launched:
        """End the attempt at once, supervisor included."""
        deadline = monotonic() + _GONE_SECONDS
        while (found := await self.state(attempt_id)).state is LaunchState.ALIVE:
            if monotonic() > deadline:
                raise LaunchFailed(f"The supervisor of attempt {attempt_id} does not die.")
            _signal(found.note, signal.SIGKILL)
            await asyncio.sleep(0.01)
        return found

    async def collect(self, attempt_id: UUID) -> ResultReport | None:
        """Return the result the supervisor kept. Its blobs are the files of the attempt's ``out`` folder."""
        return read_result(self.attempts / str(attempt_id))

    async def adopt(self) -> Sequence[Launched]:
        """Return every attempt there is."""
        found: list[Launched] = []
        for folder in self.attempts.iterdir() if self.attempts.is_dir() else ():
            with contextlib.suppress(ValueError):
                found.append(await self.state(UUID(folder.name)))
        return found

    async def remove(self, attempt_id: UUID) -> None:
        """Forget a dead attempt and what it kept."""
        if (await self.state(attempt_id)).state is not LaunchState.ALIVE:
            await asyncio.to_thread(remove_tree, self.attempts / str(attempt_id))

    async def warm(self) -> None:
        """Start the template process."""
        self._template = await Template.open()

    async def close(self) -> None:
        """Let the template go. Every supervisor lives on."""
        if self._template is not None:
            await self._template.close()
            self._template = None

    async def _spawn(self, folder: Path) -> int:
        async with self._starting:
            if self._template is not None:
                pid = await self._template.start(folder / SPEC_FILE)
                if pid is not None:
                    return pid
                await self.close()
        log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            plain = await asyncio.create_subprocess_exec(
                *python("-m", "agent_runner.supervisor", str(folder / SPEC_FILE)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(CLEAN),
                start_new_session=True,
            )
        finally:
            os.close(log)
        return plain.pid

    async def _born(self, spec: LaunchSpec, pid: int) -> Launched:
        """Wait for the supervisor's first sign of life."""
        deadline = monotonic() + _BORN_SECONDS
        while read_note(spec.folder) is None:
            if start_time(pid) is None and read_note(spec.folder) is None:
                raise LaunchFailed(f"The supervisor ended at once: {_tail(spec.folder / LOG_FILE)}")
            if monotonic() > deadline:
                raise LaunchFailed(f"The supervisor gave no sign of life within {_BORN_SECONDS:g} s.")
            await asyncio.sleep(0.002)
        return await self.state(spec.attempt_id)


@asynccontextmanager
async def local_launcher(attempts: Path) -> AsyncGenerator[LocalLauncher]:
    """A launcher with a warm template. What it started outlives it."""
    launcher = LocalLauncher(attempts)
    await launcher.warm()
    try:
        yield launcher
    finally:
        await launcher.close()


async def _end_leftovers(spec: LaunchSpec, note: SupervisorNote) -> None:
    deadline = monotonic() + _GONE_SECONDS
    while leftovers.kill(spec, note):
        if monotonic() > deadline:
            raise LaunchFailed(
                f"Something of attempt {spec.attempt_id} does not die; look for it with 'dispatch doctor'."
            )
        await asyncio.sleep(0.005)


def _signal(note: SupervisorNote | None, number: signal.Signals) -> None:
    if note is not None and start_time(note.pid) == note.pid_started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(note.pid, number)


def _read_spec(folder: Path) -> LaunchSpec | None:
    try:
        return LaunchSpec.model_validate_json((folder / SPEC_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-1000:].decode(errors="replace").strip()
    except OSError:
        return "it left no log"
