"""The command line that confines a command with bubblewrap. PURE: it is told what the host offers and returns argv.

Two stages. A private mount namespace first (real root, or root of a user namespace): it mounts the overlay and, for
real root, brings folders of others where the unprivileged user of the sandbox can reach them. Then bubblewrap, without
privileges.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UID_INSIDE: Final = 1000
HOME_INSIDE: Final = "/home/agent"
PATH_INSIDE: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_IN_MOUNT_OPTIONS: Final = frozenset(",:\\\n")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host, shown inside at ``target``."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Overlay:
    """A copy-on-write view of ``lower``, shown inside at ``target``."""

    lower: Path
    upper: Path
    work: Path
    target: str


@dataclass(frozen=True, slots=True)
class Host:
    """What this host offers. ``system`` and ``links``: the parts of the operating system that are shown read-only."""

    is_root: bool
    stage: Path  #: an empty folder that the sandbox's user can reach; used in the private mount namespace only
    system: tuple[Path, ...] = (Path("/usr"),)
    links: tuple[tuple[str, str], ...] = ()  #: (target, path): ("usr/bin", "/bin")
    can_disable_userns: bool = True
    overlay_by_bubblewrap: bool = False  #: its own --overlay instead of our mount


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one sandbox shows and allows."""

    mounts: tuple[Mount, ...]
    workdir: str
    environment: Mapping[str, str]
    overlay: Overlay | None = None
    uid: int | None = None  #: the user that real root becomes before bubblewrap starts
    gid: int | None = None
    tmp_mib: int = 512
    file_mib: int | None = None  #: the largest single file
    processes: int | None = None  #: RLIMIT_NPROC, where no cgroup counts
    cgroups: tuple[Path, ...] = ()  #: cgroup folders that the sandbox joins
    files: tuple[tuple[int, str], ...] = ()  #: small files: (descriptor to read it from, path inside)
    info_fd: int | None = None
    seccomp_fd: int | None = None


def fits_mount_options(paths: Iterable[Path]) -> bool:
    """Return whether overlayfs can be told these paths at all."""
    return not any(_NOT_IN_MOUNT_OPTIONS & set(str(path)) for path in paths)


def argv(confined: Confinement, command: Sequence[str], host: Host) -> list[str]:
    """Return the whole command line. Its first process becomes bubblewrap, so its pid is bubblewrap's."""
    staged = _staged(confined, host)
    prelude = _prelude(confined, host, staged)
    inner = [*_limits(confined), *_privileges(confined, host), *_bubblewrap(confined, host, staged), "--", *command]
    if not prelude:
        return inner
    return [*_namespace(host, staged), "sh", "-euc", "\n".join([*prelude, 'exec "$@"']), "sh", *inner]


def _staged(confined: Confinement, host: Host) -> dict[str, Path]:
    """Return where each target comes from when it must be mounted in the first stage."""
    targets: list[str] = []
    if confined.overlay is not None and not host.overlay_by_bubblewrap:
        targets.append(confined.overlay.target)
    if host.is_root and confined.uid is not None:
        targets += [mount.target for mount in confined.mounts]
    return {target: host.stage / str(number) for number, target in enumerate(targets)}


def _namespace(host: Host, staged: Mapping[str, Path]) -> list[str]:
    if not staged:
        return []
    whose = [] if host.is_root else ["--user", "--map-root-user"]
    return ["unshare", *whose, "--mount", "--propagation", "private", "--"]


def _prelude(confined: Confinement, host: Host, staged: Mapping[str, Path]) -> list[str]:
    lines = [f"echo 0 > {shlex.quote(str(group / 'cgroup.procs'))}" for group in confined.cgroups]
    if not staged:
        return lines
    stage = shlex.quote(str(host.stage))
    lines.append(f"mount -t tmpfs -o mode=0755,size=1m,nosuid,nodev tmpfs {stage}")
    lines.append("mkdir " + " ".join(shlex.quote(str(path)) for path in staged.values()))
    lines += [
        f"mount --bind {shlex.quote(str(mount.source))} {shlex.quote(str(staged[mount.target]))}"
        for mount in confined.mounts
        if mount.target in staged
    ]
    if confined.overlay is not None and confined.overlay.target in staged:
        lines.append(_mount_overlay(confined.overlay, staged[confined.overlay.target], own=host.is_root))
    return lines


def _mount_overlay(overlay: Overlay, where: Path, *, own: bool) -> str:
    options = f"lowerdir={overlay.lower},upperdir={overlay.upper},workdir={overlay.work}"
    if not own:
        options += ",userxattr"
    return f"mount -t overlay overlay -o {shlex.quote(options)} {shlex.quote(str(where))}"


def _limits(confined: Confinement) -> list[str]:
    options = ["--core=0"]
    if confined.file_mib is not None:
        options.append(f"--fsize={confined.file_mib * 1024 * 1024}")
    if confined.processes is not None:
        options.append(f"--nproc={confined.processes}")
    return ["prlimit", *options, "--"]


def _privileges(confined: Confinement, host: Host) -> list[str]:
    if not host.is_root or confined.uid is None:
        return ["setpriv", "--no-new-privs", "--"]
    group = confined.uid if confined.gid is None else confined.gid
    who = ["--reuid", str(confined.uid), "--regid", str(group), "--clear-groups"]
    return ["setpriv", *who, "--inh-caps=-all", "--no-new-privs", "--"]


def _bubblewrap(confined: Confinement, host: Host, staged: Mapping[str, Path]) -> list[str]:
    return [
        "bwrap",
        *("--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *(["--disable-userns"] if host.can_disable_userns else []),
        *("--uid", str(UID_INSIDE), "--gid", str(UID_INSIDE), "--hostname", "agent"),
        *_system(host, confined.tmp_mib),
        *_mounts(confined, staged),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *_environment(confined.environment),
        *("--chdir", confined.workdir),
        *(["--info-fd", str(confined.info_fd)] if confined.info_fd is not None else []),
        *(["--seccomp", str(confined.seccomp_fd)] if confined.seccomp_fd is not None else []),
    ]


def _system(host: Host, tmp_mib: int) -> Iterator[str]:
    for path in ("/etc", "/home"):
        yield from ("--perms", "0755", "--dir", path)
    for path in host.system:
        yield from ("--ro-bind", str(path), str(path))
    for target, path in host.links:
        yield from ("--symlink", target, path)
    yield from ("--proc", "/proc", "--dev", "/dev")
    for size, path in ((tmp_mib, "/tmp"), (tmp_mib, "/dev/shm"), (16, "/run"), (tmp_mib, "/var/tmp")):
        yield from ("--size", str(size * 1024 * 1024), "--tmpfs", path)


def _mounts(confined: Confinement, staged: Mapping[str, Path]) -> Iterator[str]:
    overlay = confined.overlay
    if overlay is not None and overlay.target in staged:
        yield from ("--bind", str(staged[overlay.target]), overlay.target)
    elif overlay is not None:
        yield from ("--overlay-src", str(overlay.lower))
        yield from ("--overlay", str(overlay.upper), str(overlay.work), overlay.target)
    for mount in confined.mounts:
        source = staged.get(mount.target, mount.source)
        yield from ("--bind" if mount.writable else "--ro-bind", str(source), mount.target)
    for descriptor, path in confined.files:
        yield from ("--perms", "0644", "--ro-bind-data", str(descriptor), path)


def _environment(environment: Mapping[str, str]) -> Iterator[str]:
    yield "--clearenv"
    for name, value in environment.items():
        yield from ("--setenv", name, value)
