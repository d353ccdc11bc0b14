"""One bare mirror per repository, refreshed under a lock. No agent ever writes to one; nothing is pruned from one."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dispatch_common.clock import monotonic
from dispatch_common.families import ErrorFamily
from dispatch_common.values import RepositorySpec
from services.executor.workspace_git import GitFailed, WorkspaceError, explained, git
from services.executor.workspace_names import checked_branch, checked_commit, checked_url, folder_name

_FETCH_SECONDS: Final = 900.0
_LONGEST_PAUSE: Final = 0.2


@dataclass(slots=True)
class Mirror:
    """One repository's mirror."""

    name: str
    url: str
    path: Path
    config: Path
    in_process: asyncio.Lock = field(default_factory=asyncio.Lock)
    refreshed_at: float = -1.0  #: when the last refresh that succeeded began

    @property
    def objects(self) -> Path:
        return self.path / "objects"


class Mirrors:
    """All mirrors of this machine, below one folder that several executors may share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Mirror] = {}

    def mirror(self, repository: RepositorySpec) -> Mirror:
        """Return the mirror of a repository, existing or not. Raises InvalidInput for an address we refuse."""
        url = checked_url(repository.url)
        name = folder_name(repository.name, url)
        if name not in self._known:
            path = self._root / f"{name}.git"
            self._known[name] = Mirror(repository.name, url, path, self._root / f"{name}.gitconfig")
        return self._known[name]

    async def tip(self, repository: RepositorySpec, *, commit: str | None = None) -> str:
        """Refresh, and return the commit to start from: the pinned one, or the default branch's newest."""
        branch = checked_branch(repository.default_branch)
        pinned = checked_commit(commit) if commit else None
        mirror = self.mirror(repository)
        if pinned is not None and await self._has(mirror, pinned):
            return pinned
        await self._refresh(mirror, asked_at=monotonic())
        if pinned is not None:
            return await self._pinned(mirror, pinned)
        return await self._newest(mirror, branch)

    async def _refresh(self, mirror: Mirror, *, asked_at: float) -> None:
        """Fetch what is new. Those who ask while one refresh runs share the next one."""
        async with self.locked(mirror):
            if mirror.refreshed_at >= asked_at:
                return
            began = monotonic()
            try:
                await self._made(mirror)
                await git(
                    *("-C", str(mirror.path), "fetch", "--quiet", "--force", "--no-tags", "--no-auto-maintenance"),
                    *("--no-write-fetch-head", "--no-recurse-submodules", "--", mirror.url),
                    "+refs/heads/*:refs/heads/*",
                    config=mirror.config,
                    within=_FETCH_SECONDS,
                )
            except GitFailed as error:
                raise explained(f"The repository {mirror.name} ({mirror.url}) could not be read", error.said) from error
            except OSError as error:
                raise explained(f"The mirror of {mirror.name} could not be written", str(error)) from error
            mirror.refreshed_at = began

    async def _made(self, mirror: Mirror) -> None:
        if (mirror.path / "HEAD").exists():
            return
        self._root.mkdir(parents=True, exist_ok=True)
        # A path of this machine was named by whoever runs it; that makes it as trusted as its owner would.
        local = mirror.url.removeprefix("file://")
        trusted = f'[safe]\n\tdirectory = "{_quoted(local)}"\n\tdirectory = "{_quoted(local)}/.git"\n'
        mirror.config.write_text(trusted if local.startswith("/") else "")
        await git("init", "--quiet", "--bare", "--template=", str(mirror.path), config=mirror.config)

    async def _has(self, mirror: Mirror, commit: str) -> bool:
        if not (mirror.path / "HEAD").exists():
            return False
        try:
            await git("-C", str(mirror.path), "cat-file", "-e", f"{commit}^{{commit}}", config=mirror.config)
        except GitFailed:
            return False
        return True

    async def _pinned(self, mirror: Mirror, commit: str) -> str:
        if not await self._has(mirror, commit):
            raise WorkspaceError(
                f"The commit {commit} that was approved is on no branch of {mirror.name} now. Ask for the run again.",
                ErrorFamily.CONFIG_INVALID,
            )
        return commit

    async def _newest(self, mirror: Mirror, branch: str) -> str:
        try:
            found = await git(
                *("-C", str(mirror.path), "rev-parse", "--verify", "--quiet", "--end-of-options"),
                f"refs/heads/{branch}^{{commit}}",
                config=mirror.config,
            )
        except GitFailed as error:
            raise WorkspaceError(
                f"The repository {mirror.name} has no branch {branch}. Set repository.default_branch to one it has.",
                ErrorFamily.CONFIG_INVALID,
            ) from error
        return found.strip()

    @asynccontextmanager
    async def locked(self, mirror: Mirror) -> AsyncGenerator[None]:
        """Hold the mirror and its prepared checkouts, against this process and every other one."""
        self._root.mkdir(parents=True, exist_ok=True)
        async with mirror.in_process:
            descriptor = os.open(mirror.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                await _flocked(descriptor)
                yield
            finally:
                os.close(descriptor)


async def _flocked(descriptor: int) -> None:
    pause = 0.002
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
