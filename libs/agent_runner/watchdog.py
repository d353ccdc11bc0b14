"""Looks at a running sandbox every moment: what no cgroup enforces here is measured, what one enforces is reported."""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.agent_events import SandboxViolation
from agent_runner.clock import elapsed
from agent_runner.protocol import LaunchLimits
from agent_runner.sandbox.cgroup import Group
from agent_runner.sandbox.tree import Tree, children_of

_SHORTEST: Final = 0.5
_LONGEST: Final = 10.0
_MIB: Final = 1024 * 1024
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a sandbox uses at one moment."""

    processes: int
    memory_mib: int


def footprint(top: int) -> Footprint:
    """Measure everything below a process. Shared pages count in each, so this is never too little."""
    count = pages = 0
    for pid in _family(top):
        count += 1
        pages += _resident(pid)
    return Footprint(count, pages * _PAGE // _MIB)


def _family(pid: int) -> Iterator[int]:
    waiting = list(children_of(pid))
    while waiting:
        each = waiting.pop()
        yield each
        waiting += children_of(each)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def disk_mib(*folders: Path) -> int:
    """Return what the folders really take, without following links. Files that vanish meanwhile are passed over."""
    return sum(_blocks(folder) for folder in folders) * 512 // _MIB


def _blocks(folder: Path) -> int:
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks
        except OSError:
            continue
    return total


class Watchdog:
    """Tells of violations; ``breaks`` is called for those after which the agent must end."""

    def __init__(
        self,
        limits: LaunchLimits,
        group: Group,
        *,
        tells: Callable[[SandboxViolation], None],
        breaks: Callable[[SandboxViolation], None],
    ) -> None:
        self._limits = limits
        self._group = group
        self._tells = tells
        self._breaks = breaks
        self._oom_kills = 0
        self._pids_refused = 0
        self.peak_memory_mib = 0

    async def watch(self, confined: Tree, *folders: Path) -> None:
        """Look until the sandbox is gone; never more than a small share of a core."""
        while not confined.is_gone:
            began = elapsed()
            self._look(confined)
            used = await asyncio.to_thread(disk_mib, *folders)
            if used > self._limits.disk_mib:
                self._breaks(_too_much("disk", f"wrote {used} MiB", f"{self._limits.disk_mib} MiB", "disk_mib"))
            await asyncio.sleep(min(max(_SHORTEST, 20 * (elapsed() - began)), _LONGEST))

    def _look(self, confined: Tree) -> None:
        self.look_at_group()
        counted, limits = self._group.limits, self._limits
        if {"memory", "pids"} <= counted:
            return
        seen = footprint(confined.top)
        self.peak_memory_mib = max(self.peak_memory_mib, seen.memory_mib)
        if "pids" not in counted and seen.processes > limits.pids:
            self._breaks(_too_much("pids", f"ran {seen.processes} processes", str(limits.pids), "pids"))
        if "memory" not in counted and seen.memory_mib > limits.memory_mib:
            self._breaks(
                _too_much("memory", f"used {seen.memory_mib} MiB of memory", f"{limits.memory_mib} MiB", "memory_mib")
            )

    def look_at_group(self) -> None:
        """Read the cgroup's own counters; they tell more than any exit code. Called once more after the end."""
        oom, refused = self._group.oom_kills(), self._group.pids_refused()
        if oom > self._oom_kills:
            self._tells(_too_much("memory", "ran out of memory", f"{self._limits.memory_mib} MiB", "memory_mib"))
        if refused > self._pids_refused:
            self._tells(_too_much("pids", "wanted more processes than allowed", str(self._limits.pids), "pids"))
        self._oom_kills, self._pids_refused = max(oom, self._oom_kills), max(refused, self._pids_refused)
        self.peak_memory_mib = max(self.peak_memory_mib, self._group.peak_memory_mib())


def _too_much(what: str, did: str, allowed: str, limit: str) -> SandboxViolation:
    return SandboxViolation(
        what=what,
        text=f"The agent {did}; {allowed} are allowed. Allow more with limits.{limit}, or make the task smaller.",
    )
