"""Finds out by trying which confinement is real on this host: nothing is believed of version numbers alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent_runner.sandbox import cgroup
from agent_runner.sandbox.confinement import PATH_INSIDE, Confinement, Host, Mount, Overlay, argv, fits_mount_options
from agent_runner.sandbox.host import Trial, attempt, describe, missing_tools


@dataclass(frozen=True, slots=True)
class Findings:
    """What works here."""

    bubblewrap: Trial
    disable_userns: bool
    overlay: Trial
    overlay_by_bubblewrap: bool
    limits: frozenset[str]  #: memory, pids, cpu: those that a cgroup holds
    is_root: bool


def find_out(data: Path, *, uid: int | None) -> Findings:
    """Try everything once, in throw-away folders below ``data``. Takes some tens of milliseconds."""
    controls = cgroup.controls()
    group = cgroup.make("trial", cgroup.Caps(1, 256, 64), controls)
    limits = group.limits
    group.remove()
    missing = missing_tools()
    if missing:
        nothing = Trial(False, " ".join(missing))
        return Findings(nothing, False, nothing, False, limits, os.geteuid() == 0)
    with _folders(data, uid) as folder:
        try:
            host = describe(folder / "stage")
        except OSError as error:
            nothing = Trial(False, f"the folder {error.filename} cannot be made: {error.strerror}")
            return Findings(nothing, False, nothing, False, limits, os.geteuid() == 0)
        plain = _runs(folder, host, uid)
        if not plain.works:
            host = replace(host, can_disable_userns=False)
            plain = _runs(folder, host, uid)
        overlay = _overlays(folder, host, uid)
        by_bubblewrap = False
        if not overlay.works and not host.is_root:
            second = _overlays(folder, replace(host, overlay_by_bubblewrap=True), uid)
            overlay, by_bubblewrap = (second, True) if second.works else (overlay, False)
    return Findings(plain, host.can_disable_userns, overlay, by_bubblewrap, limits, host.is_root)


@contextmanager
def _folders(data: Path, uid: int | None) -> Generator[Path]:
    data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".trial-", dir=data))
    try:
        for name in ("lower", "upper", "work", "home"):
            (folder / name).mkdir()
            if uid is not None and os.geteuid() == 0:
                os.chown(folder / name, uid, uid)
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _confinement(folder: Path, uid: int | None, overlay: Overlay | None) -> Confinement:
    mounts = (Mount(folder / "home", "/home/agent", writable=True),)
    return Confinement(mounts, "/", environment={"PATH": PATH_INSIDE}, overlay=overlay, uid=uid, gid=uid, tmp_mib=16)


def _runs(folder: Path, host: Host, uid: int | None) -> Trial:
    return attempt(argv(_confinement(folder, uid, None), ["true"], host))


def _overlays(folder: Path, host: Host, uid: int | None) -> Trial:
    if not fits_mount_options([folder]):
        return Trial(False, f"overlayfs cannot be told the path {folder}: it has a comma, colon or backslash")
    overlay = Overlay(folder / "lower", folder / "upper", folder / "work", "/repo")
    command: Sequence[str] = ("sh", "-c", "mkdir /repo/made && rmdir /repo/made")
    return attempt(argv(_confinement(folder, uid, overlay), command, host))
