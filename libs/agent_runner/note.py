"""What a supervisor leaves on disk for whoever comes later: its note, its lock, its result. All writes are atomic."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from agent_runner.clock import elapsed
from agent_runner.protocol import (
    LOCK_FILE,
    RESULT_FILE,
    STOP_FILE,
    SUPERVISOR_FILE,
    Phase,
    ResultReport,
    StopAsk,
    SupervisorNote,
)
from agent_runner.sandbox.tree import start_time
from agent_runner.wire import Wire

Kind = TypeVar("Kind", bound=Wire)


class AlreadyRuns(Exception):
    """Another supervisor has this attempt."""


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there, also after a power cut."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def locked(folder: Path, *, within: float = 0.0) -> Generator[None]:
    """Hold the attempt for this process; the kernel lets go of it when we die, however we die."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _flock(descriptor, within=within)
        yield
    except BlockingIOError as error:
        raise AlreadyRuns(f"{folder}: another supervisor has this attempt") from error
    finally:
        os.close(descriptor)


def _flock(descriptor: int, *, within: float) -> None:
    deadline = elapsed() + within
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if elapsed() >= deadline:
                raise
            time.sleep(0.002)


def is_locked(folder: Path) -> bool:
    """Return whether a supervisor of this folder lives."""
    try:
        with locked(folder):
            return False
    except AlreadyRuns:
        return True
    except OSError:
        return False


class Notebook:
    """Keeps supervisor.json up to date."""

    def __init__(self, folder: Path, first: SupervisorNote) -> None:
        self._path = folder / SUPERVISOR_FILE
        self._note = first
        replace(self._path, first.model_dump_json().encode())

    def write(self, **changes: object) -> None:
        self._note = self._note.model_copy(update=changes)
        replace(self._path, self._note.model_dump_json().encode())

    def agent(self, pid: int) -> None:
        self.write(phase=Phase.RUNNING, agent_pid=pid, agent_pid_started=start_time(pid))


def read_note(folder: Path) -> SupervisorNote | None:
    return _read(folder / SUPERVISOR_FILE, SupervisorNote)


def read_result(folder: Path) -> ResultReport | None:
    return _read(folder / RESULT_FILE, ResultReport)


def read_stop(folder: Path) -> StopAsk | None:
    return _read(folder / STOP_FILE, StopAsk)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
