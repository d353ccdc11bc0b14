"""One cgroup per sandbox, version 1 or 2, where the host lets us make one: limits that hold, and truthful counts."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TOP: Final = "agent-dispatch"
_V1: Final = ("memory", "pids", "cpu", "cpuacct")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caps:
    """What a cgroup shall hold back."""

    cpus: float
    memory_mib: int
    pids: int


@dataclass(frozen=True, slots=True)
class Control:
    """A controller and the folder in which this process may make groups of it. Version 2 has one for all."""

    name: str  #: memory, pids, cpu, cpuacct; "v2" for the unified hierarchy
    base: Path


def _own_groups(text: str) -> dict[str, str]:
    """Return this process's group path per controller, from /proc/self/cgroup; "" is version 2."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found[name] = path
    return found


def _writable(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK) and os.access(path / "cgroup.procs", os.W_OK)


def controls(root: Path = Path("/sys/fs/cgroup")) -> tuple[Control, ...]:
    """Return every controller in which groups can be made."""
    try:
        own = _own_groups(Path("/proc/self/cgroup").read_text())
    except OSError:
        return ()
    if (root / "cgroup.controllers").exists():
        return _version_2(root, own.get("", "/"))
    found: list[Control] = []
    for name in _V1:
        for base in (root / name / own.get(name, "/").lstrip("/"), root / name):
            if _writable(base):
                found.append(Control(name, base))
                break
    return tuple(found)


def _version_2(root: Path, own: str) -> tuple[Control, ...]:
    """The group that was delegated to us, when its children already get the controllers or we may switch that on."""
    for base in (root / own.lstrip("/"), (root / own.lstrip("/")).parent):
        if not _writable(base) or not base.is_relative_to(root):
            continue
        with contextlib.suppress(OSError):
            (base / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        with contextlib.suppress(OSError):
            if {"memory", "pids", "cpu"} <= set((base / "cgroup.subtree_control").read_text().split()):
                return (Control("v2", base),)
    return ()


def _settings(name: str, caps: Caps) -> Sequence[tuple[str, str]]:
    memory, period = str(caps.memory_mib * _MIB), 100_000
    quota = max(1000, int(caps.cpus * period))
    match name:
        case "memory":
            return (("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory))
        case "pids":
            return (("pids.max", str(caps.pids)),)
        case "cpu":
            return (("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(quota)))
        case "v2":
            return (
                ("memory.max", memory), ("memory.swap.max", "0"), ("pids.max", str(caps.pids)),
                ("cpu.max", f"{quota} {period}"),
            )  # fmt: skip
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class Group:
    """The folders of one sandbox's group."""

    folders: tuple[tuple[str, Path], ...]

    @property
    def joins(self) -> tuple[Path, ...]:
        return tuple(path for _, path in self.folders)

    @property
    def limits(self) -> frozenset[str]:
        names = {name for name, _ in self.folders}
        return frozenset({"memory", "pids", "cpu"} if "v2" in names else names & {"memory", "pids", "cpu"})

    def _read(self, **by_controller: str) -> str:
        for name, path in self.folders:
            if name in by_controller:
                with contextlib.suppress(OSError):
                    return (path / by_controller[name]).read_text()
        return ""

    def lift_cpu(self) -> None:
        """A fork bomb under a small CPU quota takes seconds to die; without one it does not."""
        for name, path in self.folders:
            with contextlib.suppress(OSError):
                if name == "cpu":
                    (path / "cpu.cfs_quota_us").write_text("-1")
                elif name == "v2":
                    (path / "cpu.max").write_text("max")

    def kill(self) -> None:
        for name, path in self.folders:
            if name == "v2":
                with contextlib.suppress(OSError):
                    (path / "cgroup.kill").write_text("1")

    def oom_kills(self) -> int:
        return _field(self._read(memory="memory.oom_control", v2="memory.events"), "oom_kill")

    def pids_refused(self) -> int:
        return _field(self._read(pids="pids.events", v2="pids.events"), "max")

    def peak_memory_mib(self) -> int:
        return _number(self._read(memory="memory.max_usage_in_bytes", v2="memory.peak")) // _MIB

    def cpu_ms(self) -> int | None:
        nanoseconds = _number(self._read(cpuacct="cpuacct.usage"))
        microseconds = _field(self._read(v2="cpu.stat"), "usage_usec")
        return (nanoseconds // 1_000_000) or (microseconds // 1000) or None

    def members(self) -> frozenset[int]:
        return frozenset(int(each) for _, path in self.folders for each in _members(path).split())

    def remove(self) -> bool:
        """Remove what is there; False while the kernel still buries somebody in it."""
        for _, path in self.folders:
            with contextlib.suppress(OSError):
                path.rmdir()
        return not any(path.exists() for _, path in self.folders)


def _members(path: Path) -> str:
    with contextlib.suppress(OSError):
        return (path / "cgroup.procs").read_text().strip()
    return ""


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value)
    return 0


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def find(name: str, available: Sequence[Control]) -> Group:
    """Return the group of a sandbox as far as it exists."""
    folders = [(control.name, control.base / f"{_TOP}-{name}") for control in available]
    return Group(tuple((name, path) for name, path in folders if path.is_dir()))


def make(name: str, caps: Caps, available: Sequence[Control]) -> Group:
    """Make the group of one sandbox; a controller that refuses is left out, and ``limits`` says so."""
    folders: list[tuple[str, Path]] = []
    for control in available:
        path = control.base / f"{_TOP}-{name}"
        try:
            path.mkdir(exist_ok=True)
            _set(path, _settings(control.name, caps))
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()
            continue
        folders.append((control.name, path))
    return Group(tuple(folders))


def _set(path: Path, settings: Sequence[tuple[str, str]]) -> None:
    for file, value in settings:
        try:
            (path / file).write_text(value)
        except FileNotFoundError:
            if "sw" not in file:  # swap accounting may be switched off in the kernel
                raise
