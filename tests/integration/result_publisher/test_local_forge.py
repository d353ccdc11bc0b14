"""The local forge: a pull request is opened once, shown, merged or refused, with real git."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dispatch_common import localforge
from dispatch_common.localforge import ForgeRefused, PullRecord, PullState
from tests.integration.result_publisher.hostile import Repo, mirror

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def forge(tmp_path: Path) -> tuple[Repo, str]:
    return mirror(tmp_path / "forge.git")


def _branch(repo: Repo, base: str, name: str, files: dict[str, bytes | None]) -> str:
    commit = repo.grown(base, files, message="Say hi")
    repo.git("update-ref", f"refs/heads/{name}", commit)
    return commit


def _open(repo: Repo, head: str, key: str = "run/1/pull") -> PullRecord:
    return localforge.open_pull(
        repo.path, key=key, head=head, base="main", title="Say hi", body="Because.", by="Vega", now=NOW
    )


def test_a_key_opens_one_pull_request_however_often_and_however_many_ask(forge: tuple[Repo, str]):
    repo, base = forge
    _branch(repo, base, "agent/a", {"a": b"a\n"})

    with ThreadPoolExecutor(8) as pool:
        pulls = list(pool.map(_open, [repo] * 16, ["agent/a"] * 16))

    assert {pull.number for pull in pulls} == {1}
    assert localforge.list_pulls(repo.path) == [pulls[0]]
    assert localforge.find_pull(repo.path, "run/1/pull") == pulls[0]
    assert _open(repo, "agent/a", "run/2/pull").number == 2


def test_a_pull_request_is_shown_with_files_commits_and_a_diff_that_hides_nothing(forge: tuple[Repo, str]):
    repo, base = forge
    files: dict[str, bytes | None] = {".gitattributes": b"secret* binary\n", "secret.txt": b"x\n", "README.md": None}
    _branch(repo, base, "agent/a", files)
    _open(repo, "agent/a")

    view = localforge.view_pull(repo.path, 1)

    assert [(file.path, file.removed) for file in view.files if file.path == "README.md"] == [("README.md", 1)]
    assert {file.path for file in view.files} == set(files)
    assert view.commits[0].endswith("Say hi")
    assert "+x" in view.diff
    assert view.branch_exists


def test_a_merge_is_a_merge_commit_by_the_one_who_asked(forge: tuple[Repo, str]):
    repo, base = forge
    head = _branch(repo, base, "agent/a", {"a": b"a\n"})
    other = repo.grown(base, {"b": b"b\n"})
    repo.git("update-ref", "refs/heads/main", other)
    _open(repo, "agent/a")

    merged = localforge.merge_pull(repo.path, 1, by="Ada <x>", now=NOW)

    assert merged.state is PullState.MERGED
    assert (merged.ended_by, merged.ended_at) == ("Ada <x>", NOW)
    line = repo.git("log", "-1", "--format=%H|%P|%an|%s", "main").decode().strip()
    assert line == f"{merged.merge_commit}|{other} {head}|Ada x|Merge pull request #1: Say hi"
    assert repo.git("ls-tree", "--name-only", "main").decode().split() == ["CODEOWNERS", "README.md", "a", "b", "src"]
    with pytest.raises(ForgeRefused, match="already merged by Ada"):
        localforge.merge_pull(repo.path, 1, by="Bob", now=NOW)


def test_a_conflict_is_refused_with_the_file_and_the_remedy(forge: tuple[Repo, str]):
    repo, base = forge
    _branch(repo, base, "agent/a", {"README.md": b"one\n"})
    other = repo.grown(base, {"README.md": b"two\n"})
    repo.git("update-ref", "refs/heads/main", other)
    _open(repo, "agent/a")

    with pytest.raises(ForgeRefused, match=r"conflicts with main in README\.md\. Merge main into agent/a"):
        localforge.merge_pull(repo.path, 1, by="Ada", now=NOW)

    assert localforge.branch_tip(repo.path, "main") == other
    assert localforge.read_pull(repo.path, 1).state is PullState.OPEN


def test_a_closed_pull_request_is_not_opened_again(forge: tuple[Repo, str]):
    repo, base = forge
    _branch(repo, base, "agent/a", {"a": b"a\n"})
    _open(repo, "agent/a")
    localforge.close_pull(repo.path, 1, by="Ada", now=NOW)
    assert _open(repo, "agent/a").state is PullState.CLOSED


def test_a_branch_that_is_checked_out_is_not_moved_under_its_work_tree(tmp_path: Path, forge: tuple[Repo, str]):
    repo, base = forge
    _branch(repo, base, "agent/a", {"a": b"a\n"})
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repo.path), str(clone)], check=True)
    git = localforge.git_directory(str(clone))
    subprocess.run(["git", "branch", "-q", "agent/a", "origin/agent/a"], cwd=clone, check=True)
    _open(Repo(git), "agent/a")
    with pytest.raises(ForgeRefused, match="checked out"):
        localforge.merge_pull(git, 1, by="Ada", now=NOW)


def test_what_is_not_there_is_said(tmp_path: Path, forge: tuple[Repo, str]):
    repo, _ = forge
    with pytest.raises(ForgeRefused, match="no pull request 7"):
        localforge.read_pull(repo.path, 7)
    with pytest.raises(ForgeRefused, match="no branch agent/none"):
        _open(repo, "agent/none")
    with pytest.raises(ForgeRefused, match="not a git repository"):
        localforge.git_directory(str(tmp_path))
    assert localforge.list_pulls(repo.path) == []
    assert localforge.git_directory(f"file://{repo.path}") == repo.path
