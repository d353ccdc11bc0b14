"""The bounds around programs that read what an agent made: CPU, memory, file size, and no network where possible.

bubblewrap shows them the system read-only and one folder to write; where it cannot run (or is not asked for), the other
bounds stay.
"""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one process may use."""

    cpu_seconds: int = 60
    address_space: int = 4 << 30
    file_size: int = 1 << 30


@cache
def program(name: str) -> str | None:
    """Return where a program is."""
    return shutil.which(name)


def prefix(bounds: Bounds, writable: Path | None) -> tuple[str, ...]:
    """Return what a command is started with. ``writable``: the only folder it may write to, None to leave that open."""
    confined = _sandbox(writable) if writable is not None and can_confine() else ()
    prlimit = program("prlimit")
    if prlimit is None:
        return confined
    limits = (f"--cpu={bounds.cpu_seconds}", f"--as={bounds.address_space}", f"--fsize={bounds.file_size}", "--core=0")
    return (*confined, prlimit, *limits, "--")


@cache
def can_confine() -> bool:
    """Return whether bubblewrap works for us on this host."""
    if program("bwrap") is None:
        return False
    probe = subprocess.run([*_sandbox(Path("/tmp")), "/bin/true"], capture_output=True, check=False, timeout=10)
    return probe.returncode == 0


def _sandbox(writable: Path) -> tuple[str, ...]:
    return (
        program("bwrap") or "bwrap",
        "--ro-bind", "/", "/",
        "--dev", "/dev",
        "--proc", "/proc",
        "--bind", str(writable), str(writable),
        "--unshare-net", "--unshare-pid", "--unshare-ipc",
        "--die-with-parent",
        "--cap-drop", "ALL",
        "--",
    )  # fmt: skip
