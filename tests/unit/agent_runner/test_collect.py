"""What the collecting sandbox leaves is read as data: no link, no pipe, no surprise in a name is followed."""

import os
from pathlib import Path

import pytest

from agent_runner.collect import NotCollected, commits, numstat, read, take
from agent_runner.protocol import FileChange

COMMIT = "a" * 40


def test_numstat_is_read_with_all_its_oddities():
    text = "1\t2\ta b.txt\0-\t-\timage.png\x000\t3\tnew\nline\0"

    assert numstat(text) == (
        FileChange(path="a b.txt", added=1, removed=2),
        FileChange(path="image.png", added=None, removed=None),
        FileChange(path="new\nline", added=0, removed=3),
    )


def test_commits_are_read():
    found = commits(f"{COMMIT}\0Vega (agent)\0Fix: a\tb\nnonsense\n")

    assert [(each.commit, each.author, each.subject) for each in found] == [(COMMIT, "Vega (agent)", "Fix: a\tb")]


def test_links_pipes_and_giants_are_refused(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 11)

    for name in ("link", "pipe", "folder", "large", "missing"):
        with pytest.raises(NotCollected):
            take(tmp_path / name, tmp_path / "copy", limit=10)
    assert not (tmp_path / "copy").exists()


def test_nothing_changed_means_nothing_collected(tmp_path: Path):
    assert read(tmp_path, tmp_path, bundle_limit=10).commit is None


def test_a_commit_name_is_not_an_option(tmp_path: Path):
    out, to = tmp_path / "out", tmp_path / "to"
    out.mkdir()
    to.mkdir()
    (out / "head").write_text("--upload-pack=x")

    with pytest.raises(NotCollected):
        read(out, to, bundle_limit=10)
