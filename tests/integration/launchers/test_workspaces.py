"""Mirrors, prepared checkouts and views, with real git: right base, right branch, nothing shared is writable."""

import asyncio
import os
from pathlib import Path

import pytest

from agent_runner.launch import WorkspaceKind
from dispatch_common import ids
from dispatch_common.families import ErrorFamily
from dispatch_common.values import RepositorySpec
from services.executor.workspace import Wanted, Workspaces
from services.executor.workspace_git import WorkspaceError
from tests.support.attempts import Bench, git, repository


@pytest.fixture
def source(tmp_path: Path) -> RepositorySpec:
    return repository(tmp_path / "source")


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "data", owner=None, overlay=True)


def wanted(source: RepositorySpec | None, **more: object) -> Wanted:
    return Wanted(ids.fresh(), ids.fresh(), ids.fresh(), "Vega", source, **more)  # pyright: ignore[reportArgumentType]


async def test_the_newest_commit_of_the_default_branch_is_the_base(workspaces: Workspaces, source: RepositorySpec):
    first = await workspaces.prepare(wanted(source))
    folder = Path(source.url)
    (folder / "calc.py").write_text("def add(a, b):\n    return b + a\n")
    git(folder, "commit", "-qam", "Next")

    second = await workspaces.prepare(wanted(source))

    assert first.base_commit == git(folder, "rev-parse", "main~1")
    assert second.base_commit == git(folder, "rev-parse", "main")
    assert first.base != second.base
    assert second.base is not None
    assert "b + a" in (second.base / "calc.py").read_text()


async def test_a_pinned_commit_is_the_base_although_the_branch_went_on(workspaces: Workspaces, source: RepositorySpec):
    folder = Path(source.url)
    pinned = git(folder, "rev-parse", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Next")

    spec = await workspaces.prepare(wanted(source, base_commit=pinned))

    assert spec.base_commit == pinned


async def test_our_branch_is_checked_out_and_the_mirror_is_only_borrowed(desk: Bench):
    spec = await desk.spec(
        "run git status --short --branch; git log --oneline | wc -l; cat .git/objects/info/alternates"
    )
    await desk.start(spec)
    await desk.ended(spec)

    answers = [event.output for event in desk.gateway.events if event.kind == "toolResult"]
    assert answers[0].splitlines()[:2] == [f"## agent/{desk.run_id.hex[:8]}", "1"]
    assert str(spec.workspace.objects) in answers[0]


async def test_attempts_of_one_commit_share_one_checkout(workspaces: Workspaces, source: RepositorySpec):
    specs = await asyncio.gather(*(workspaces.prepare(wanted(source)) for _ in range(5)))

    assert len({spec.base for spec in specs}) == 1
    assert len({spec.upper for spec in specs}) == 5
    assert all(spec.kind is WorkspaceKind.OVERLAY for spec in specs)


async def test_unused_checkouts_are_swept_and_used_ones_stay(workspaces: Workspaces, source: RepositorySpec):
    folder, asked = Path(source.url), wanted(source)
    kept = await workspaces.prepare(asked)
    others: list[Wanted] = []
    for number in range(5):
        git(folder, "commit", "-q", "--allow-empty", "-m", str(number))
        others.append(wanted(source))
        await workspaces.prepare(others[-1])
    for other in others:
        await workspaces.remove(other.attempt_id)

    removed = await workspaces.sweep([source], alive={asked.attempt_id})

    assert removed == 2
    assert kept.base is not None
    assert kept.base.is_dir()


async def test_without_overlay_an_attempt_gets_a_checkout_of_its_own(tmp_path: Path, source: RepositorySpec):
    workspaces = Workspaces(tmp_path / "data", owner=None, overlay=False)

    spec = await workspaces.prepare(wanted(source, files={".dispatch/tasks/a.md": b"task"}))

    assert spec.kind is WorkspaceKind.CLONE
    assert (spec.upper / "calc.py").exists()
    assert (spec.upper / ".dispatch/tasks/a.md").read_bytes() == b"task"
    assert git(spec.upper, "status", "--short") == ""
    assert git(spec.upper, "branch", "--show-current") == spec.branch


async def test_files_are_never_written_through_links_of_the_repository(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "hostile"
    source = repository(folder)
    (folder / ".dispatch").symlink_to(outside)
    git(folder, "add", "-f", "-A")
    git(folder, "commit", "-qm", "A trap")

    for overlay in (True, False):
        workspaces = Workspaces(tmp_path / f"data-{overlay}", owner=None, overlay=overlay)
        await workspaces.prepare(wanted(source, files={".dispatch/task.md": b"task"}))

    assert not list(outside.iterdir())


async def test_no_repository_means_an_empty_folder(workspaces: Workspaces):
    spec = await workspaces.prepare(wanted(None))

    assert spec.kind is WorkspaceKind.EMPTY
    assert not list(spec.upper.iterdir())
    assert spec.base_commit is None


async def test_an_agent_keeps_its_home_per_task(workspaces: Workspaces, source: RepositorySpec):
    asked = wanted(source)
    first = await workspaces.prepare(asked)
    (first.home / "session").write_text("remembered")
    again = await workspaces.prepare(Wanted(ids.fresh(), asked.run_id, asked.task_id, "Vega", source))
    other = await workspaces.prepare(wanted(source))

    assert (again.home / "session").read_text() == "remembered"
    assert other.home != first.home


@pytest.mark.parametrize(
    ("change", "family", "says"),
    [
        ({"url": "/nowhere/at/all"}, ErrorFamily.CONFIG_INVALID, "repository.url"),
        ({"url": "--upload-pack=touch /tmp/x"}, ErrorFamily.CONFIG_INVALID, "repository.url"),
        ({"url": "ext::sh -c id"}, ErrorFamily.CONFIG_INVALID, "repository.url"),
        ({"default_branch": "--upload-pack=x"}, ErrorFamily.CONFIG_INVALID, "default_branch"),
        ({"default_branch": "missing"}, ErrorFamily.CONFIG_INVALID, "no branch missing"),
        ({"url": "https://127.0.0.1:1/x.git"}, ErrorFamily.WORKSPACE_FAILED, "tried again"),
    ],
)
async def test_what_cannot_be_read_is_told_with_a_remedy(
    workspaces: Workspaces, source: RepositorySpec, change: dict[str, str], family: ErrorFamily, says: str
):
    with pytest.raises(WorkspaceError, match=says) as caught:
        await workspaces.prepare(wanted(source.model_copy(update=change)))

    assert caught.value.family is family


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_repository_of_somebody_else_is_read_because_an_operator_named_it(
    workspaces: Workspaces, source: RepositorySpec
):
    give_away(Path(source.url))

    assert (await workspaces.prepare(wanted(source))).base_commit is not None


def give_away(folder: Path) -> None:
    for each in (folder, *folder.rglob("*")):
        os.chown(each, 61_999, 61_999, follow_symlinks=False)


async def test_a_commit_that_is_gone_is_told(workspaces: Workspaces, source: RepositorySpec):
    with pytest.raises(WorkspaceError, match="on no branch") as caught:
        await workspaces.prepare(wanted(source, base_commit="a" * 40))

    assert caught.value.family is ErrorFamily.CONFIG_INVALID


async def test_removing_copes_with_whatever_rights_the_agent_left(desk: Bench):
    spec = await desk.spec("run mkdir -p a/b && echo x > a/b/c && chmod 000 a/b a && rm calc.py")
    await desk.start(spec)
    await desk.ended(spec)

    await desk.workspaces.remove(spec.attempt_id)

    assert not spec.workspace.upper.exists()
    assert spec.workspace.work is not None
    assert not spec.workspace.work.exists()
