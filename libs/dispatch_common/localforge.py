"""The local forge: a git repository on this machine, and its pull requests as one JSON file each. Knows no service.

Pull requests live in ``<git directory>/dispatch/pulls/NNNN.json``, written whole and durably under a lock. Nothing here
checks out, forces, or rewrites what a person did; a merge is a merge commit, made without a work tree.
"""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dispatch_common.errors import Permanent
from dispatch_common.localgit import GitSaidNo, git

_RECORD: Final = re.compile(r"(\d{4,})\.json")
_LONGEST_DIFF: Final = 512 << 10


class ForgeRefused(Permanent):
    """The local forge will not do that. The message says why; ``remedy`` says what to do."""

    status_code: ClassVar[int] = 409

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class PullState(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class PullRecord(BaseModel):
    """One pull request, as it is stored. ``key`` says which publication made it; there is at most one per key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    key: str
    state: PullState = PullState.OPEN
    head: str  #: branch
    head_commit: str
    base: str  #: branch
    base_commit: str
    title: str
    body: str
    created_at: AwareDatetime
    created_by: str
    ended_at: AwareDatetime | None = None  #: merged or closed
    ended_by: str | None = None
    merge_commit: str | None = None


class FileStat(BaseModel):
    """One changed file; None counts: binary."""

    model_config = ConfigDict(frozen=True)

    path: str
    added: int | None
    removed: int | None


class PullView(BaseModel):
    """A pull request and what it changes. ``diff`` is always text, shortened; attributes hide no file from it."""

    model_config = ConfigDict(frozen=True)

    pull: PullRecord
    branch_exists: bool
    commits: tuple[str, ...]  #: "abbreviated-id subject", oldest first
    files: tuple[FileStat, ...]
    diff: str
    truncated: bool


def git_directory(url: str) -> Path:
    """Return the git directory that a Repository's path or file URL means; ForgeRefused when there is none."""
    path = Path(unquote(urlsplit(url).path) if url.startswith("file://") else url)
    for candidate in (path, path / ".git"):
        if (candidate / "objects").is_dir() and (candidate / "HEAD").is_file():
            return candidate
    remedy = "Give the Repository's url as the path of a git repository on this machine, or name another forge."
    raise ForgeRefused(f"{path} is not a git repository.", remedy=remedy)


def list_pulls(repository: Path) -> list[PullRecord]:
    """Return every pull request, newest first."""
    folder = _folder(repository)
    if not folder.is_dir():
        return []
    numbers = [int(found[1]) for file in folder.iterdir() if (found := _RECORD.fullmatch(file.name))]
    return [read_pull(repository, number) for number in sorted(numbers, reverse=True)]


def read_pull(repository: Path, number: int) -> PullRecord:
    """Return one pull request."""
    file = _file(repository, number)
    try:
        return PullRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        remedy = "List them to see which there are."
        raise ForgeRefused(f"{repository} has no pull request {number}.", remedy=remedy) from error
    except ValidationError as error:
        raise ForgeRefused(f"{file} is damaged.", remedy="Restore it from a back-up, or delete it.") from error


def find_pull(repository: Path, key: str) -> PullRecord | None:
    """Return the pull request of a publication."""
    return next((pull for pull in list_pulls(repository) if pull.key == key), None)


def open_pull(
    repository: Path, *, key: str, head: str, base: str, title: str, body: str, by: str, now: datetime
) -> PullRecord:
    """Open a pull request, at most once per key; the one that is there is returned as it is, closed or not."""
    with _locked(repository):
        known = list_pulls(repository)
        for pull in known:
            if pull.key == key:
                return pull
        head_commit, base_commit = _tip(repository, head), _tip(repository, base)
        record = PullRecord(
            number=max((pull.number for pull in known), default=0) + 1,
            key=key,
            head=head,
            head_commit=head_commit,
            base=base,
            base_commit=git(repository, "merge-base", base_commit, head_commit).strip(),
            title=title,
            body=body,
            created_at=now,
            created_by=by,
        )
        _write(repository, record)
        return record


def close_pull(repository: Path, number: int, *, by: str, now: datetime) -> PullRecord:
    """Close an open pull request without merging it."""
    with _locked(repository):
        pull = _still_open(repository, number)
        return _write(repository, _ended(pull, PullState.CLOSED, by, now))


def merge_pull(repository: Path, number: int, *, by: str, now: datetime) -> PullRecord:
    """Merge an open pull request with a merge commit; ForgeRefused for conflicts, never a force."""
    with _locked(repository):
        pull = _still_open(repository, number)
        target, source = _tip(repository, pull.base), _tip(repository, pull.head)
        _not_checked_out(repository, pull.base)
        tree = _merged_tree(repository, pull, target, source)
        message = f"Merge pull request #{pull.number}: {pull.title}"
        commit = git(
            repository, "commit-tree", tree, "-p", target, "-p", source, "-F", "-", stdin=message, author=by, at=now
        ).strip()
        try:
            git(repository, "update-ref", "-m", f"merge #{pull.number}", f"refs/heads/{pull.base}", commit, target)
        except GitSaidNo as error:
            raise ForgeRefused(f"{pull.base} moved while it was being merged.", remedy="Merge again.") from error
        return _write(repository, _ended(pull, PullState.MERGED, by, now, merge_commit=commit))


def view_pull(repository: Path, number: int) -> PullView:
    """Return a pull request with its commits, files and diff."""
    pull = read_pull(repository, number)
    exists = branch_tip(repository, pull.head) is not None
    between = (pull.base_commit, pull.head_commit)
    stat = git(repository, "diff-tree", "-r", "-z", "--numstat", "--no-renames", *between)
    log = git(repository, "log", "--reverse", "--format=%h %s", "--max-count=200", f"{between[0]}..{between[1]}")
    diff = git(repository, "diff-tree", "-r", "-p", "--text", "--no-ext-diff", "--no-textconv", "--no-color", *between)
    return PullView(
        pull=pull,
        branch_exists=exists,
        commits=tuple(log.splitlines()),
        files=tuple(_stat(line) for line in stat.split("\0") if line),
        diff=diff[:_LONGEST_DIFF],
        truncated=len(diff) > _LONGEST_DIFF,
    )


def branch_tip(repository: Path, branch: str) -> str | None:
    """Return the commit a branch points at, or None when there is no such branch."""
    found = git(repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").split()
    return found[0] if found else None


def is_ancestor(repository: Path, older: str, newer: str) -> bool:
    """Return whether a commit is part of another's history; also false when the repository does not have it."""
    try:
        git(repository, "merge-base", "--is-ancestor", older, newer)
    except GitSaidNo:
        return False
    return True


def _tip(repository: Path, branch: str) -> str:
    tip = branch_tip(repository, branch)
    if tip is None:
        remedy = "It may have been deleted, or the Repository's defaultBranch is wrong."
        raise ForgeRefused(f"{repository} has no branch {branch}.", remedy=remedy)
    return tip


def _merged_tree(repository: Path, pull: PullRecord, target: str, source: str) -> str:
    try:
        out = git(repository, "merge-tree", "--write-tree", "--name-only", "--no-messages", target, source)
    except GitSaidNo as error:
        if error.code != 1:
            raise
        files = ", ".join(error.out.splitlines()[1:][:10])
        remedy = f"Merge {pull.base} into {pull.head} in a clone, solve it, push, and merge again."
        raise ForgeRefused(
            f"Pull request {pull.number} conflicts with {pull.base} in {files}.", remedy=remedy
        ) from error
    return out.splitlines()[0]


def _not_checked_out(repository: Path, branch: str) -> None:
    bare = git(repository, "rev-parse", "--is-bare-repository").strip() == "true"
    if not bare and git(repository, "symbolic-ref", "-q", "HEAD").strip() == f"refs/heads/{branch}":
        remedy = "Merge there with git, or point the Repository at a bare clone."
        raise ForgeRefused(f"{branch} is checked out in the work tree of {repository}.", remedy=remedy)


def _still_open(repository: Path, number: int) -> PullRecord:
    pull = read_pull(repository, number)
    if pull.state is not PullState.OPEN:
        raise ForgeRefused(f"Pull request {number} is already {pull.state} by {pull.ended_by}.")
    return pull


def _ended(
    pull: PullRecord, state: PullState, by: str, now: datetime, *, merge_commit: str | None = None
) -> PullRecord:
    return pull.model_copy(update={"state": state, "ended_at": now, "ended_by": by, "merge_commit": merge_commit})


def _stat(line: str) -> FileStat:
    added, removed, path = line.split("\t", 2)
    return FileStat(path=path, added=_count(added), removed=_count(removed))


def _count(text: str) -> int | None:
    return None if text == "-" else int(text)


def _folder(repository: Path) -> Path:
    return repository / "dispatch" / "pulls"


def _file(repository: Path, number: int) -> Path:
    return _folder(repository) / f"{number:04d}.json"


@contextmanager
def _locked(repository: Path) -> Generator[None]:
    folder = _folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(repository: Path, record: PullRecord) -> PullRecord:
    target = _file(repository, record.number)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as new:
        try:
            new.write(record.model_dump_json(indent=2).encode())
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(new.name).unlink()
            raise
    return record
