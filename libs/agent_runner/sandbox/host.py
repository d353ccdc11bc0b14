"""What this host offers for confining an agent, found out once by trying. Changes nothing that stays."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from agent_runner.sandbox.confinement import Host

#: Where real root brings folders that the sandbox's user could not reach; empty outside the private mount namespace.
ROOT_STAGE: Final = Path("/run/agent-dispatch-stage")
_TOP: Final = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
#: The parts of /etc that programs need and that say nothing about this host's people or secrets.
_ETC: Final = (
    *("ssl/certs", "ssl/openssl.cnf", "ca-certificates", "pki/tls/certs", "alternatives", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "localtime", "mime.types", "python3", "python3.11", "java-11-openjdk", "java-17-openjdk", "perl"),
)
FILES: Final = {
    "/etc/passwd": b"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n",
    "/etc/group": b"root:x:0:\nagent:x:1000:\n",
    "/etc/hosts": b"127.0.0.1 localhost agent\n::1 localhost\n",
    "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
}
#: What the two stages are made of, with the Debian package that brings it.
TOOLS: Final = {"bwrap": "bubblewrap", "unshare": "util-linux", "setpriv": "util-linux", "prlimit": "util-linux"}


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether something really worked, and if not, what the host said."""

    works: bool
    says: str = ""


@cache
def system_parts() -> tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]:
    """Return the read-only folders and the symbolic links that make up the visible operating system."""
    folders, links = [Path("/usr")], list[tuple[str, str]]()
    for name in _TOP:
        path = Path("/") / name
        if path.is_symlink():
            links.append((str(path.readlink()), str(path)))
        elif path.is_dir():
            folders.append(path)
    etc = [Path("/etc") / name for name in _ETC]
    return (*folders, *(path for path in etc if path.exists())), tuple(links)


def describe(stage: Path, *, can_disable_userns: bool = True, overlay_by_bubblewrap: bool = False) -> Host:
    """Return the host as the command line builder needs it; makes the stage folder."""
    is_root = os.geteuid() == 0
    where = ROOT_STAGE if is_root else stage
    where.mkdir(mode=0o755, parents=True, exist_ok=True)
    folders, links = system_parts()
    return Host(
        is_root=is_root,
        stage=where,
        system=folders,
        links=links,
        can_disable_userns=can_disable_userns,
        overlay_by_bubblewrap=overlay_by_bubblewrap and not is_root,
    )


def missing_tools() -> tuple[str, ...]:
    """Return what has to be installed first, one sentence each."""
    return tuple(
        f"'{tool}' is missing; install {package} (on Debian: apt-get install {package})."
        for tool, package in TOOLS.items()
        if shutil.which(tool) is None
    )


def attempt(command: list[str]) -> Trial:
    """Run a command that should succeed, and keep what it said when it did not."""
    try:
        ended = subprocess.run(command, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Trial(False, str(error))
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    return Trial(ended.returncode == 0, said[-1] if said else f"exit code {ended.returncode}")
