"""Workspaces: what one attempt sees of its repository, as a copy-on-write view of a prepared checkout.

Makes and removes them. Never runs git in one after an agent was there, and never shows anything of the mirror writable.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from agent_runner.launch import WorkspaceKind, WorkspaceSpec
from agent_runner.sandbox.confinement import fits_mount_options
from dispatch_common.errors import InvalidInput
from dispatch_common.families import ErrorFamily
from dispatch_common.ids import short
from dispatch_common.values import RepositorySpec
from services.executor.workspace_base import Bases, checkout, own, remove_tree
from services.executor.workspace_git import GitFailed, WorkspaceError, explained
from services.executor.workspace_mirror import Mirrors
from services.executor.workspace_names import checked_branch, folder_name, placed

_PRIVATE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an attempt needs. ``files`` are put into the workspace, below .dispatch."""

    attempt_id: UUID
    run_id: UUID
    task_id: UUID
    agent: str
    repository: RepositorySpec | None
    base_commit: str | None = None
    files: Mapping[str, bytes] | None = None


class Workspaces:
    """All workspaces of this executor."""

    def __init__(self, data: Path, *, owner: int | None, overlay: bool) -> None:
        self._attempts = data / "attempts"
        self._homes = data / "homes"
        self._owner = owner
        self._overlay = overlay
        self.mirrors = Mirrors(data / "mirrors")
        self._bases = Bases(data / "bases", self.mirrors, owner=owner)

    async def prepare(self, wanted: Wanted) -> WorkspaceSpec:
        """Make the workspace of an attempt; asked again, make it anew. Raises WorkspaceError, which has a family."""
        folder = self._attempts / str(wanted.attempt_id)
        for part in ("upper", "work"):
            await asyncio.to_thread(remove_tree, folder / part)
        try:
            folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            (folder / "upper").mkdir(mode=_PRIVATE)
            home = self._home(wanted)
            spec = await self._view(wanted, folder, home)
            _place(wanted.files or {}, folder / "upper")
            await asyncio.to_thread(own, folder / "upper", self._owner)
        except InvalidInput as error:
            raise WorkspaceError(str(error), ErrorFamily.CONFIG_INVALID) from error
        except OSError as error:
            raise explained("The workspace could not be made", str(error)) from error
        return spec

    async def _view(self, wanted: Wanted, folder: Path, home: Path) -> WorkspaceSpec:
        upper = folder / "upper"
        if wanted.repository is None:
            return WorkspaceSpec(kind=WorkspaceKind.EMPTY, upper=upper, home=home)
        branch = checked_branch(wanted.repository.default_branch)
        commit = await self.mirrors.tip(wanted.repository, commit=wanted.base_commit)
        mirror = self.mirrors.mirror(wanted.repository)
        ours = f"agent/{short(wanted.run_id)}"
        view = WorkspaceSpec(
            kind=WorkspaceKind.CLONE, upper=upper, home=home, objects=mirror.objects, branch=ours, base_commit=commit
        )
        if not self._overlay or not fits_mount_options((self._attempts, self._homes)):
            try:
                await checkout(mirror, commit, branch, upper)
            except GitFailed as error:
                raise explained(f"The checkout of {mirror.name} failed", error.said) from error
            _on_branch(upper, ours, commit)
            return view
        base = await self._bases.take(mirror, commit, branch, attempt=wanted.attempt_id)
        work = folder / "work"
        work.mkdir(mode=_PRIVATE)
        own(work, self._owner)
        _on_branch(upper, ours, commit)
        return view.model_copy(update={"kind": WorkspaceKind.OVERLAY, "base": base, "work": work})

    def _home(self, wanted: Wanted) -> Path:
        home = self._homes / folder_name(wanted.agent, wanted.agent) / str(wanted.task_id)
        if not home.exists():
            home.mkdir(mode=_PRIVATE, parents=True)
            own(home, self._owner)
        return home

    async def remove(self, attempt_id: UUID) -> None:
        """Remove what a dead attempt changed, and let go of its checkout. HOME stays for the task's next attempt."""
        self._bases.let_go(attempt_id)
        folder = self._attempts / str(attempt_id)
        for part in ("upper", "work", "stage"):
            await asyncio.to_thread(remove_tree, folder / part)

    async def sweep(self, repositories: Collection[RepositorySpec], alive: Collection[UUID]) -> int:
        """Remove the prepared checkouts that no living attempt uses; return how many."""
        return sum([await self._bases.sweep(self.mirrors.mirror(each), alive) for each in repositories])

    async def forget_task(self, agent: str, task_id: UUID) -> None:
        """Remove the HOME that an agent kept for a task."""
        await asyncio.to_thread(remove_tree, self._homes / folder_name(agent, agent) / str(task_id))


def _on_branch(upper: Path, branch: str, commit: str) -> None:
    """Check our branch out: the same files, so two small files in the upper layer are all it takes."""
    ref = upper / ".git/refs/heads" / branch
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(f"{commit}\n")
    (upper / ".git/HEAD").write_text(f"ref: refs/heads/{branch}\n")


def _place(files: Mapping[str, bytes], upper: Path) -> None:
    """Write our files. In a clone the repository's own links lie there already: none of them is followed."""
    for path, content in files.items():
        where = upper
        for part in placed(path).parts[:-1]:
            where = where / part
            if where.is_symlink() or (where.exists() and not where.is_dir()):
                where.unlink()
            where.mkdir(exist_ok=True)
        file = where / placed(path).name
        if file.is_symlink() or file.exists():
            file.unlink()
        file.write_bytes(content)
