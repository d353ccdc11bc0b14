"""Finds objects of a repository's base: the repository itself when it is on this machine, else a mirror of our own.

The executor keeps mirrors too; the publisher does not depend on them, so that each can run where the other does not.
"""

import asyncio
import fcntl
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_common.errors import Transient
from dispatch_common.localforge import git_directory
from dispatch_common.values import RepositorySpec
from services.result_publisher.git import Git, GitFailed

_FETCH: Final = timedelta(minutes=5)
_PROTOCOLS: Final = "https:ssh:git"


class MirrorUnavailable(Transient):
    """The repository cannot be fetched."""


def is_local(url: str) -> bool:
    """Return whether a repository's address is a path on this machine."""
    return url.startswith(("/", "file://"))


async def with_base(mirrors: Path, repository: RepositorySpec, base: str) -> Path:
    """Return a git directory that holds the base commit; MirrorUnavailable or ForgeRefused when there is none."""
    if is_local(repository.url):
        return git_directory(repository.url)
    directory = mirrors / f"publisher-{hashlib.sha256(repository.url.encode()).hexdigest()[:20]}.git"
    git = Git(directory, protocols=_PROTOCOLS, deadline=_FETCH, bounded=False)
    async with _locked(directory.with_suffix(".lock")):
        if not (directory / "HEAD").exists():
            await git.run("init", "--quiet", "--bare", "--template=", str(directory))
        if not await _has(git, base):
            try:
                await git.run("fetch", "--quiet", "--no-tags", "--", repository.url, "+refs/heads/*:refs/heads/*")
            except GitFailed as error:
                raise MirrorUnavailable(f"{repository.name} cannot be fetched: {error.stderr}") from error
    return directory


async def _has(git: Git, commit: str) -> bool:
    try:
        await git.run("cat-file", "-e", f"{commit}^{{commit}}")
    except GitFailed:
        return False
    return True


@asynccontextmanager
async def _locked(file: Path) -> AsyncGenerator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
