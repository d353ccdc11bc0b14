"""Takes an attempt's bundle in, by the procedure of docs/adr/0010-safe-import.md. Never checks out, never runs a hook.

Everything happens in a fresh bare repository of our own that borrows the base's objects. What a result may not be is
raised as HostileResult or HostileTree; what it is comes back as Findings.
"""

import contextlib
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatch_common.errors import Permanent, Transient
from services.result_publisher import bundle as bundles
from services.result_publisher import scanning
from services.result_publisher.git import Git, GitFailed, GitTooMuch, GitTooSlow
from services.result_publisher.judge import Finding, Findings
from services.result_publisher.objects import Objects, ObjectUnusable, opened
from services.result_publisher.scanning import Text
from services.result_publisher.trees import LINK, Change, Entry
from services.result_publisher.treewalk import BOUNDS, Bounds, changes

_HASH: Final = 40


class HostileResult(Permanent):
    """The bundle is not what an honest attempt leaves. The message says what, for people."""


class DiskFull(Transient):
    """Our own disk is full; the bundle is not to blame."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a bundle must agree with."""

    ref: str  #: refs/heads/agent/<run8>
    base: str
    commit: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken in."""

    bundle_bytes: int = 256 << 20
    commits: int = 200
    objects: int = 50_000
    blob_bytes: int = 20 << 20  #: of one file
    scanned_bytes: int = 40 << 20  #: of all texts together
    commit_bytes: int = 64 << 10
    walk: Bounds = BOUNDS


LIMITS: Final = Limits()


@asynccontextmanager
async def repository(folder: Path, mirror: Path, *, confined: bool = False) -> AsyncGenerator[Git]:
    """Make a fresh bare repository in ``folder`` that borrows the mirror's objects; it is gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    git = Git(folder / "import.git", writable=folder if confined else None)
    try:
        await git.run("init", "--quiet", "--bare", "--template=", str(git.directory))
        info = git.directory / "objects" / "info"
        info.mkdir(exist_ok=True)
        (info / "alternates").write_text(f"{mirror / 'objects'}\n")
        (folder / "scratch").mkdir(mode=0o700)
        yield git
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


async def take_in(git: Git, content: bytes, given: Given, limits: Limits = LIMITS) -> Findings:
    """Index a bundle and return what it holds; HostileResult or HostileTree when it must not be published."""
    await index(git, content, given, limits)
    try:
        return await _look_through(git, given, limits)
    except (GitFailed, GitTooSlow, GitTooMuch, ObjectUnusable) as error:
        raise HostileResult(f"The bundle's objects cannot be used: {error}.") from error
    except (TimeoutError, EOFError, ConnectionError) as error:
        # git was stopped by a limit while it read for us.
        raise HostileResult("The bundle's objects take too long to read.") from error


async def index(git: Git, content: bytes, given: Given, limits: Limits = LIMITS) -> None:
    """Index a bundle whose header agrees with what was given; HostileResult otherwise."""
    if len(content) > limits.bundle_bytes:
        raise HostileResult(f"The bundle has {len(content)} bytes; {limits.bundle_bytes} are taken.")
    header = bundles.parse(content)
    if isinstance(header, str):
        raise HostileResult(f"The bundle was not taken: {header}.")
    if reason := bundles.mismatch(header, ref=given.ref, base=given.base, commit=given.commit):
        raise HostileResult(f"The bundle was not taken: {reason}.")
    await _index(git, content[header.pack_at :], limits)


async def _index(git: Git, pack: bytes, limits: Limits) -> None:
    try:
        await git.run(
            "index-pack",
            "--stdin",
            "--fix-thin",
            "--strict",
            "--fsck-objects",
            f"--max-input-size={limits.bundle_bytes}",
            stdin=pack,
        )
    except (GitFailed, GitTooSlow, GitTooMuch) as error:
        said = error.stderr if isinstance(error, GitFailed) else str(error)
        if "No space left" in said:
            raise DiskFull(f"The bundle could not be unpacked: {said}.") from error
        raise HostileResult(f"git refused the bundle's objects: {said}.") from error


async def _look_through(git: Git, given: Given, limits: Limits) -> Findings:
    commits = await _commits(git, given, limits)
    await _connected(git, given, limits)
    async with opened(git) as objects:
        gathered = _Gathered(objects, limits)
        for commit, parent in commits:
            await gathered.add(commit, parent)
        net = await changes(objects, await gathered.tree(given.base), await gathered.tree(given.commit), limits.walk)
        new = {change.new.oid for change in net if change.new is not None}
        size = sum(info.size for info in (await objects.infos(new)).values())
    return Findings(
        base=given.base,
        tip=given.commit,
        tree=await gathered.tree(given.commit),
        changes=tuple(net),
        touched=tuple(sorted(gathered.touched)),
        new_bytes=size,
        secrets=await gathered.secrets(git.directory.parent / "scratch", confined=git.writable is not None),
    )


class _Gathered:
    """What all commits together touch. Every commit counts, not only the last: all of them are pushed."""

    def __init__(self, objects: Objects, limits: Limits) -> None:
        self.touched: set[str] = set()
        self._objects = objects
        self._limits = limits
        self._texts: dict[tuple[str, str], Text] = {}
        self._bytes = 0
        self._trees: dict[str, str] = {}

    async def add(self, commit: str, parent: str) -> None:
        """Look through one commit."""
        walked = await changes(self._objects, await self.tree(parent), await self.tree(commit), self._limits.walk)
        self.touched.update(change.path for change in walked)
        await self._read(walked)
        message = await self._objects.content(commit, "commit", self._limits.commit_bytes)
        self._texts[commit, ""] = Text(f"(message of commit {commit[:12]})", message)

    async def tree(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        if commit not in self._trees:
            content = await self._objects.content(commit, "commit", self._limits.commit_bytes)
            self._trees[commit] = content[len("tree ") :][:_HASH].decode()
        return self._trees[commit]

    async def secrets(self, scratch: Path, *, confined: bool) -> tuple[Finding, ...] | None:
        """Return what looks like a secret in any of it; None when it was too much to look through."""
        if self._bytes > self._limits.scanned_bytes:
            return None
        return await scanning.scan(list(self._texts.values()), scratch, confined=confined)

    async def _read(self, walked: Sequence[Change]) -> None:
        wanted = [change for change in walked if change.new is not None and change.new.mode != LINK]
        sizes = await self._objects.infos([change.new.oid for change in wanted if change.new])
        for change in wanted:
            assert change.new is not None
            size = sizes[change.new.oid].size
            if size > self._limits.blob_bytes:
                raise HostileResult(f"{change.path!r} has {size} bytes; {self._limits.blob_bytes} are taken per file.")
            self._bytes += size
            if self._bytes <= self._limits.scanned_bytes:
                await self._text(change.path, change.new.oid, change.old)

    async def _text(self, path: str, oid: str, old: Entry | None) -> None:
        if (path, oid) in self._texts:
            return
        content = await self._objects.content(oid, "blob", self._limits.blob_bytes)
        before = None
        if old is not None and old.mode.startswith("100"):
            with contextlib.suppress(ObjectUnusable):
                before = await self._objects.content(old.oid, "blob", self._limits.blob_bytes)
        self._texts[path, oid] = Text(path, content, before)


async def _commits(git: Git, given: Given, limits: Limits) -> list[tuple[str, str]]:
    """Return the new commits, each with its first parent; every one of them must descend from the base."""
    most = limits.commits + 1
    out = await git.run(
        "rev-list", "--parents", f"--max-count={most}", given.commit, f"^{given.base}", most=most * 2000
    )
    lines = [line.split() for line in out.decode().splitlines()]
    if len(lines) > limits.commits:
        raise HostileResult(f"The result has more than {limits.commits} commits.")
    if not lines:
        raise HostileResult("The result has no commit that the base does not have.")
    rooted, grew = {given.base}, True
    while grew:
        fresh = {line[0] for line in lines if rooted.intersection(line[1:])} - rooted
        rooted |= fresh
        grew = bool(fresh)
    if strays := [line[0] for line in lines if line[0] not in rooted]:
        raise HostileResult(f"The commit {strays[0]} does not build on the base {given.base}.")
    return [(line[0], line[1]) for line in lines]


async def _connected(git: Git, given: Given, limits: Limits) -> None:
    """See to it that no object is missing, and that there are not too many."""
    arguments = ("rev-list", "--objects", "--no-object-names", given.commit, f"^{given.base}")
    try:
        await git.run(*arguments, most=limits.objects * (_HASH + 1))
    except GitTooMuch as error:
        raise HostileResult(f"The result has more than {limits.objects} objects.") from error
