"""Prepared checkouts: one immutable folder per repository and commit, made once, shared by all attempts, counted.

An attempt mounts one as the lower layer of its own view. Nothing may change in it while anybody does.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final
from uuid import UUID

from services.executor.workspace_git import GitFailed, explained, git
from services.executor.workspace_mirror import Mirror, Mirrors

_CHECKOUT_SECONDS: Final = 900.0
_KEEP: Final = 3  # unused checkouts that stay, the newest of each repository

# checkStat and trustctime: inside, owner and inode look different from outside, and git would read every file again.
_SETTINGS: Final = {
    "gc.auto": "0",
    "core.checkStat": "minimal",
    "core.trustctime": "false",
    "checkout.workers": "2",
    "advice.detachedHead": "false",
}


class Bases:
    """The prepared checkouts of all mirrors."""

    def __init__(self, root: Path, mirrors: Mirrors, *, owner: int | None) -> None:
        self._root = root
        self._mirrors = mirrors
        self._owner = owner  # the sandbox's user, when we are root: overlayfs copies up with the owner's rights

    async def take(self, mirror: Mirror, commit: str, branch: str, *, attempt: UUID) -> Path:
        """Return the checkout of a commit, held for an attempt until it is let go."""
        base = self._root / mirror.path.stem / commit
        async with self._mirrors.locked(mirror):
            self._users(base).mkdir(parents=True, exist_ok=True)
            if not base.exists():
                await self._make(mirror, commit, branch, base)
            (self._users(base) / attempt.hex).touch()
        return base

    def let_go(self, attempt: UUID) -> None:
        """Say that an attempt does not need its checkout any more."""
        for mark in self._root.glob(f"*/*.users/{attempt.hex}"):
            mark.unlink(missing_ok=True)

    async def sweep(self, mirror: Mirror, alive: Collection[UUID]) -> int:
        """Remove what nobody uses any more, and what an interrupted preparation left; return how many."""
        folder = self._root / mirror.path.stem
        names = {attempt.hex for attempt in alive}
        removed = 0
        async with self._mirrors.locked(mirror):
            for left in folder.glob(".new-*"):
                remove_tree(left)
            unused = [base for base in folder.glob("*") if _is_base(base) and not self._used(base, names)]
            unused.sort(key=lambda base: base.stat().st_ctime, reverse=True)
            for base in unused[_KEEP:]:
                remove_tree(base)
                remove_tree(self._users(base))
                removed += 1
        return removed

    def _used(self, base: Path, alive: Collection[str]) -> bool:
        users = self._users(base)
        for mark in users.iterdir() if users.is_dir() else ():
            if mark.name not in alive:
                mark.unlink(missing_ok=True)
        return users.is_dir() and any(users.iterdir())

    def _users(self, base: Path) -> Path:
        return base.with_name(f"{base.name}.users")

    async def _make(self, mirror: Mirror, commit: str, branch: str, base: Path) -> None:
        fresh = base.with_name(f".new-{commit}")
        remove_tree(fresh)
        try:
            await checkout(mirror, commit, branch, fresh)
            own(fresh, self._owner)
        except (GitFailed, OSError) as error:
            remove_tree(fresh)
            said = error.said if isinstance(error, GitFailed) else str(error)
            raise explained(f"The checkout of {mirror.name} at {commit[:12]} could not be prepared", said) from error
        fresh.rename(base)


def _is_base(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.suffix != ".users"


async def checkout(mirror: Mirror, commit: str, branch: str, to: Path) -> None:
    """Make a repository at ``to`` that borrows the mirror's objects, with ``commit`` checked out and no remote."""
    await git("init", "--quiet", "--template=", str(to), config=mirror.config)
    inside = to / ".git"
    (inside / "objects/info").mkdir(parents=True, exist_ok=True)
    (inside / "objects/info/alternates").write_text(f"{mirror.objects}\n")
    (inside / "info").mkdir(exist_ok=True)
    (inside / "info/exclude").write_text(".dispatch/\n")
    with (inside / "config").open("a") as config:
        for name, value in _SETTINGS.items():
            section, _, key = name.rpartition(".")
            config.write(f"[{section}]\n\t{key} = {value}\n")
    head = inside / "refs/heads" / branch
    head.parent.mkdir(parents=True, exist_ok=True)
    head.write_text(f"{commit}\n")
    (inside / "HEAD").write_text(f"{commit}\n")
    arguments = ("-C", str(to), "reset", "--quiet", "--hard", commit)
    await git(*arguments, config=mirror.config, within=_CHECKOUT_SECONDS)


def own(path: Path, owner: int | None) -> None:
    """Give a folder to the sandbox's user, when we are root; a symbolic link in it is given, never followed."""
    if owner is None or os.geteuid() != 0:
        return
    subprocess.run(["chown", "-hR", f"{owner}:{owner}", "--", str(path)], check=True, capture_output=True)


def remove_tree(path: Path) -> None:
    """Remove a folder, whatever rights an agent gave to what is in it."""

    def again(function: object, name: str, _: object) -> None:
        parent = Path(name).parent
        try:
            for each in (parent, Path(name)):
                if each.is_dir() and not each.is_symlink():
                    each.chmod(stat.S_IRWXU)
            if Path(name).is_dir() and not Path(name).is_symlink():
                shutil.rmtree(name, ignore_errors=True)
            else:
                Path(name).unlink(missing_ok=True)
        except OSError:
            return

    shutil.rmtree(path, onerror=again)
