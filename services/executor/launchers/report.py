"""Which isolation and which limits are real on this host, in sentences for people. Found out by trying."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.protocol import SandboxKind, SandboxSpec
from agent_runner.sandbox.trial import Findings, find_out

#: The user of every sandbox that root starts. Nobody logs in as it; files of workspaces belong to it.
SANDBOX_UID: Final = 62_000


@dataclass(frozen=True, slots=True)
class Limit:
    """One promise, and whether this host lets us keep it. ``remedy`` is empty when there is nothing to do."""

    name: str
    real: bool
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Confining:
    """How agents are confined on this host: what a launch needs to know, and what doctor prints."""

    sandbox: SandboxSpec
    overlay: bool
    report: tuple[Limit, ...]

    @property
    def works(self) -> bool:
        """Whether an agent can be started at all."""
        return self.sandbox.kind is SandboxKind.NONE or self.report[0].real


def confining(data: Path, kind: SandboxKind) -> Confining:
    """Find out how agents are confined here. Blocks for some tens of milliseconds; call it once, at start."""
    if kind is SandboxKind.NONE:
        return Confining(SandboxSpec(kind=kind), overlay=False, report=_bare())
    found = find_out(data, uid=_uid())
    how = SandboxSpec(
        kind=kind,
        uid=_uid(),
        gid=_uid(),
        overlay_by="bubblewrap" if found.overlay_by_bubblewrap else "mount",
        disable_userns=found.disable_userns,
    )
    return Confining(how, overlay=found.overlay.works, report=_report(found))


def limits_report(data: Path, kind: SandboxKind = SandboxKind.BUBBLEWRAP) -> tuple[Limit, ...]:
    """Return every promise with its truth."""
    return confining(data, kind).report


def _uid() -> int | None:
    return SANDBOX_UID if os.geteuid() == 0 else None


def _bare() -> tuple[Limit, ...]:
    return (
        Limit("isolation", False, "None: agents run with this user's own rights.", "Unset DISPATCH_SANDBOX=none."),
        Limit("time", True, "Wall-clock and idle time are held by the supervisor."),
        Limit("memory, processes", False, "Looked at every moment, not held."),
    )


def _report(found: Findings) -> tuple[Limit, ...]:
    remedy = "Allow unprivileged user namespaces for this user, or run as root."
    return (
        Limit(
            "isolation",
            found.bubblewrap.works,
            "bubblewrap: own namespaces, no network, read-only system"
            + (f", as user {SANDBOX_UID}." if found.is_root else ", as this user.")
            if found.bubblewrap.works
            else f"bubblewrap does not work here: {found.bubblewrap.says}",
            "" if found.bubblewrap.works else remedy,
        ),
        Limit(
            "nested namespaces",
            found.disable_userns,
            "Agents can make no user namespaces."
            if found.disable_userns
            else "Agents can make user namespaces of their own: this bubblewrap cannot forbid it.",
            "" if found.disable_userns else "Install bubblewrap 0.8 or newer.",
        ),
        _workspaces(found),
        *(_counted(name, found) for name in ("memory", "pids", "cpu")),
        Limit("disk", False, "Each file is bounded by the kernel; the sum is measured every moment and then stopped."),
        Limit("time", True, "Wall-clock and idle time are held by the supervisor."),
    )


def _workspaces(found: Findings) -> Limit:
    if found.overlay.works:
        by = "bubblewrap" if found.overlay_by_bubblewrap else "a private mount"
        return Limit("workspaces", True, f"Copy-on-write by overlayfs ({by}): milliseconds, whatever the size.")
    return Limit("workspaces", False, f"Each attempt gets a whole checkout: overlayfs failed ({found.overlay.says}).")


def _counted(name: str, found: Findings) -> Limit:
    if name in found.limits:
        return Limit(name, True, f"Held by a cgroup ({name}).")
    if name == "cpu":
        return Limit(name, False, "Not limited.", "Delegate a cgroup to this user (systemd: Delegate=yes).")
    how = "by the kernel per user, and looked at every moment" if name == "pids" else "looked at every moment"
    return Limit(
        name, False, f"Not held by a cgroup: {how}.", "Delegate a cgroup to this user (systemd: Delegate=yes)."
    )
