"""Pull requests of the local forge, across all repositories. Git runs in a thread."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dispatch_common import clock, localforge
from dispatch_common.db import Db
from dispatch_common.localforge import ForgeRefused, PullRecord, PullView
from dispatch_common.resources import Repository, load_all
from services.console.problems import Problem, conflict, not_found
from services.console.schemas_admin import FileOut, PullDetail, PullOut

#: The publisher names a run's branch after it.
_RUN: Final = re.compile(r"agent/([0-9a-f]{8,32})\b")


async def list_pulls(db: Db, *, org: str, repository: str | None, state: str | None) -> list[PullOut]:
    """Return pulls, newest first."""
    repositories = await _local(db, org)
    if repository is not None and repository not in repositories:
        raise not_found("repository", repository, f"There are: {', '.join(sorted(repositories)) or 'none'}.")
    chosen = {name: spec for name, spec in repositories.items() if repository in (None, name)}
    pulls = await asyncio.to_thread(lambda: list(_all(chosen)))
    return sorted(
        (pull for pull in pulls if state in (None, pull.state)), key=lambda pull: pull.created_at, reverse=True
    )


async def view(db: Db, *, org: str, repository: str, number: int) -> PullDetail:
    """Return one pull with its diff."""
    path = await _path(db, org, repository)
    found = await _ask(lambda: localforge.view_pull(path, number), f"{repository}/{number}")
    return _detail(repository, found)


async def merge(db: Db, *, org: str, repository: str, number: int, by: str) -> PullOut:
    """Merge one pull; a conflict or a branch that is checked out is a 409."""
    path = await _path(db, org, repository)
    merged = await _ask(lambda: localforge.merge_pull(path, number, by=by, now=clock.now()), f"{repository}/{number}")
    return PullOut(**_fields(repository, merged))


async def _local(db: Db, org: str) -> dict[str, Repository]:
    specs = await load_all(db.pool, Repository, org=org)
    return {name: spec for name, spec in specs.items() if spec.forge == "local"}


def _all(repositories: dict[str, Repository]) -> Iterator[PullOut]:
    for name, spec in repositories.items():
        try:
            records = localforge.list_pulls(localforge.git_directory(spec.url))
        except ForgeRefused:
            # A repository that is away hides its own pulls, not everybody else's; doctor tells about it.
            continue
        for record in records:
            yield PullOut(**_fields(name, record))


async def _path(db: Db, org: str, repository: str) -> Path:
    spec = (await _local(db, org)).get(repository)
    if spec is None:
        raise not_found("repository", repository, "'dispatch pulls list' shows where there are pulls.")
    return await asyncio.to_thread(_directory, spec.url)


def _directory(url: str) -> Path:
    try:
        return localforge.git_directory(url)
    except ForgeRefused as error:
        raise conflict(error.message, error.remedy, code="forge_refused") from error


async def _ask(call: Any, name: str) -> Any:
    try:
        return await asyncio.to_thread(call)
    except ForgeRefused as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise not_found("pull", name, "'dispatch pulls list' lists them.") from error
        raise Problem(409, "forge_refused", error.message, remedy=error.remedy) from error


def _fields(repository: str, record: PullRecord) -> dict[str, Any]:
    found = _RUN.search(record.head)
    names = ("number", "title", "head", "base", "head_commit", "created_at", "created_by", "ended_at", "ended_by")
    return {
        **{name: getattr(record, name) for name in names},
        "id": f"{repository}/{record.number}",
        "repository": repository,
        "state": record.state.value,
        "run": found[1] if found else None,
        "merge_commit": record.merge_commit,
    }


def _detail(repository: str, found: PullView) -> PullDetail:
    return PullDetail(
        **_fields(repository, found.pull),
        body=found.pull.body,
        commits=list(found.commits),
        files=[FileOut(path=file.path, added=file.added, removed=file.removed) for file in found.files],
        diff=found.diff,
        truncated=found.truncated,
    )
