"""Ends what a dead supervisor may have left: its sandbox, the members of its cgroup, and what ran without a sandbox."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_runner.protocol import LaunchSpec, SandboxKind, SupervisorNote
from agent_runner.sandbox import cgroup
from agent_runner.sandbox.tree import start_time

#: In the environment of everything an attempt starts.
MARK: Final = "DISPATCH_ATTEMPT_ID"


def find(spec: LaunchSpec, note: SupervisorNote | None) -> frozenset[int]:
    """Return the processes of an attempt that live. Our own are never among them."""
    found = set(cgroup.find(spec.attempt_id.hex, cgroup.controls()).members())
    if note is not None and note.agent_pid is not None and start_time(note.agent_pid) == note.agent_pid_started:
        found.add(note.agent_pid)
    if spec.sandbox.kind is SandboxKind.NONE:
        found.update(_marked(f"{MARK}={spec.attempt_id}".encode()))
    return frozenset(pid for pid in found if pid != os.getpid() and start_time(pid) is not None)


def kill(spec: LaunchSpec, note: SupervisorNote | None) -> bool:
    """Send SIGKILL to what is left; return whether there was anything. To be asked again until there is not."""
    group = cgroup.find(spec.attempt_id.hex, cgroup.controls())
    left = find(spec, note)
    if left:
        group.lift_cpu()
        group.kill()
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(left) or not group.remove()


def _marked(mark: bytes) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)
