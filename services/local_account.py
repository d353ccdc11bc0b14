"""The account PostgreSQL runs as, since it refuses root: ours, or an unprivileged one."""

import hashlib
import os
import pwd
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.local_child import LocalServerError

# In this order: an account made for the purpose, and the one that every system has.
CANDIDATES = ("postgres", "nobody")
READ_SEARCH, OVERRIDE = 2, 1


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server's files belong to, and the setpriv options that make the server run so."""

    user: int
    group: int
    setpriv: Sequence[str]

    def private(self, folder: Path) -> None:
        """Makes the folder, for this account alone; refuses one that somebody else has put there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner not in (os.geteuid(), self.user):
            raise LocalServerError(f"{folder} belongs to another user (id {owner}). Remove it and start again.")
        os.chown(folder, self.user, self.group)
        folder.chmod(0o700)


def server_account(data: Path, binary: Path) -> Account:
    """Our own account; for root the owner of existing files, so that they stay readable, or else a candidate."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), ())
    entry = _owner_of(data / "files") or _first_candidate()
    options = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--inh-caps=-all"]
    if not (_open_to_all(data) and _open_to_all(binary)):
        capability = _capability_to_pass()
        options[-1] += f",+{capability}"
        options.append(f"--ambient-caps=+{capability}")
    return Account(entry.pw_uid, entry.pw_gid, tuple(options))


def short_folder(data: Path) -> Path:
    """A place with a short path, the same for the same folder."""
    return Path(tempfile.gettempdir()) / f"dispatch-pg-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"


def _owner_of(folder: Path) -> pwd.struct_passwd | None:
    if not folder.exists() or folder.stat().st_uid == 0:
        return None
    try:
        return pwd.getpwuid(folder.stat().st_uid)
    except KeyError as error:
        raise LocalServerError(
            f"{folder} belongs to user id {folder.stat().st_uid}, which this system does not know."
            " Give it to an account of this system: chown -R postgres (or nobody), then start again."
        ) from error


def _first_candidate() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in CANDIDATES:
        if name in known:
            return known[name]
    raise LocalServerError(
        "PostgreSQL refuses to run as root. Run this as an ordinary user, or add a user named postgres."
    )


def _open_to_all(path: Path) -> bool:
    """Whether any account can walk into the folder or to the file."""
    resolved = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (resolved, *resolved.parents))


def _capability_to_pass() -> str:
    """Folders on the way are closed to others (root's home, say): the server gets the right to walk through them.

    The alternative, opening those folders, would open them to everybody and for ever.
    """
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    held = int(bounding.split()[1], 16)
    if held >> READ_SEARCH & 1:
        return "dac_read_search"
    if held >> OVERRIDE & 1:
        return "dac_override"
    raise LocalServerError(
        "The data folder or the installation lies below a closed folder. Move it, or run as an ordinary user."
    )
