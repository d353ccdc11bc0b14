"""What the agent changed, as a git bundle. The git commands run *inside* a sandbox, for the repository is hostile by
now; what they leave is read here as data, never as a path to follow.
"""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.protocol import Commit, FileChange

OUT_INSIDE: Final = "/run/out"
_MOST_FILES: Final = 2000
_MOST_COMMITS: Final = 500
_SMALL: Final = 4 << 20

# Nothing of the agent's configuration shall get in the way of taking its work along; harm it cannot do in here.
_GIT: Final = (
    "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c commit.gpgSign=false -c gc.auto=0"
    " -c core.quotePath=false -c safe.directory='*'"
)
SCRIPT: Final = f"""
set -u
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
base=$1 branch=$2 out=$3
rm -f .git/index.lock .git/HEAD.lock
{_GIT} add -A || exit 11
{_GIT} rm -r -q --cached --ignore-unmatch -- .dispatch || exit 11
if ! {_GIT} diff --cached --quiet HEAD; then
    {_GIT} commit -q --no-verify -m "Keep what was not committed" || exit 12
fi
head=$({_GIT} rev-parse --verify HEAD) || exit 13
[ "$head" = "$base" ] && exit 0
{_GIT} update-ref "refs/heads/$branch" "$head" || exit 14
{_GIT} bundle create -q "$out/bundle" "refs/heads/$branch" "^$base" || exit 15
{_GIT} log --format='%H%x00%an%x00%s' -n {_MOST_COMMITS} "$base..$head" > "$out/commits" || exit 16
{_GIT} diff --numstat -z --no-renames --no-ext-diff --no-textconv "$base" "$head" > "$out/numstat" || exit 17
printf '%s\\n' "$head" > "$out/head"
"""

WHAT_FAILED: Final = {
    11: "git add failed", 12: "git commit failed", 13: "the repository has no HEAD any more",
    14: "the branch could not be moved", 15: "git bundle failed", 16: "git log failed", 17: "git diff failed",
}  # fmt: skip


class NotCollected(Exception):
    """The work could not be taken along; says why."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The work as it was found. ``commit`` is None when nothing was changed."""

    commit: str | None = None
    files: tuple[FileChange, ...] = ()
    files_changed: int = 0
    commits: tuple[Commit, ...] = ()


def command(base: str, branch: str, out: str = OUT_INSIDE) -> tuple[str, ...]:
    """Return the command that leaves bundle, head, commits and numstat in ``out``."""
    return ("sh", "-c", SCRIPT, "collect", base, branch, out)


def take(source: Path, to: Path, *, limit: int) -> int:
    """Copy a file that the sandbox made; return its size. Refuses links, pipes and what is too large."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotCollected(f"{source.name}: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        os.close(descriptor)
        what = f"larger than {limit >> 20} MiB" if stat.S_ISREG(found.st_mode) else "not a file"
        raise NotCollected(f"{source.name} is {what}")
    with os.fdopen(descriptor, "rb") as file, to.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
    return found.st_size


def read(out: Path, to: Path, *, bundle_limit: int) -> Collected:
    """Take what the sandbox left in ``out``; the bundle goes to ``to``/bundle."""
    if not os.path.lexists(out / "head"):
        return Collected()
    commit = _text(out, to, "head").strip()
    if not _is_object_name(commit):
        raise NotCollected("the commit has no proper name")
    take(out / "bundle", to / "bundle", limit=bundle_limit)
    changes = numstat(_text(out, to, "numstat"))
    return Collected(commit, changes[:_MOST_FILES], len(changes), commits(_text(out, to, "commits")))


def _text(out: Path, to: Path, name: str) -> str:
    copy = to / f"{name}.txt"
    take(out / name, copy, limit=_SMALL)
    return copy.read_text(errors="replace")


def _is_object_name(text: str) -> bool:
    return len(text) in {40, 64} and all(each in "0123456789abcdef" for each in text)


def numstat(text: str) -> tuple[FileChange, ...]:
    """Return the changed files of ``git diff --numstat -z``; '-' counts are binary files."""
    found: list[FileChange] = []
    for entry in text.split("\0"):
        added, _, rest = entry.partition("\t")
        removed, _, path = rest.partition("\t")
        if path:
            found.append(FileChange(path=path, added=_count(added), removed=_count(removed)))
    return tuple(found)


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def commits(text: str) -> tuple[Commit, ...]:
    """Return the commits of our ``git log``, newest first."""
    found: list[Commit] = []
    for line in text.splitlines():
        parts = line.split("\0", 2)
        if len(parts) == 3:
            found.append(Commit(commit=parts[0], author=parts[1], subject=parts[2][:500]))
    return tuple(found)
