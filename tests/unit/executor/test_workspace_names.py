"""What may be handed to git: addresses and branches, never options, helpers or expressions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_common.errors import InvalidInput
from services.executor.workspace_names import checked_branch, checked_commit, checked_url, folder_name, placed


@pytest.mark.parametrize(
    "url",
    [
        "/srv/git/sample.git",
        "https://git.example.com/team/sample.git",
        "ssh://git@git.example.com:2222/team/sample.git",
        "git@git.example.com:team/sample.git",
        "file:///srv/git/sample",
        "https://bot@git.example.com/x",
    ],
)
def test_addresses_that_git_may_have(url: str):
    assert checked_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "-x",
        "ext::sh -c id",
        "fd::17",
        "relative/path",
        "./sample",
        "~/sample",
        "ftp://example.com/x",
        "https://user:secret@example.com/x",
        "ssh://-oProxyCommand=id/x",
        "-oProxyCommand=id:x",
        "git@-oProxyCommand=id:x",
        "https://exa mple.com/x",
        "/srv/git\n/x",
        "https://[::1/x",
    ],
)
def test_addresses_that_are_refused(url: str):
    with pytest.raises(InvalidInput, match=r"repository\.url"):
        checked_url(url)


@pytest.mark.parametrize("name", ["main", "release/1.2", "feature/über", "a-b_c"])
def test_branches(name: str):
    assert checked_branch(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "-x", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a/", "/a", "a//b"),
        *(".a", "a/.b", "a.lock", "a.lock/b", "@", "a@{1}", "a.", "a\x00b", "a\nb", "x" * 300),
    ],
)
def test_names_that_are_no_branches(name: str):
    with pytest.raises(InvalidInput):
        checked_branch(name)


@given(st.text(max_size=60))
def test_no_text_becomes_an_option(text: str):
    for check in (checked_branch, checked_commit, checked_url):
        try:
            assert not check(text).startswith("-")
        except InvalidInput:
            continue


@given(st.text(max_size=80), st.text(max_size=80))
def test_folder_names_are_safe(name: str, url: str):
    folder = folder_name(name, url)

    assert folder.replace("-", "").replace("_", "").isalnum()
    assert folder.isascii()
    assert not folder.startswith("-")


def test_folders_differ_by_address():
    assert folder_name("sample", "/a") != folder_name("sample", "/b")


def test_files_stay_below_dispatch():
    assert str(placed(".dispatch/tasks/a.md")) == ".dispatch/tasks/a.md"
    for path in ("/etc/passwd", ".dispatch/../x", "CLAUDE.md", ".git/config", "..", ".dispatch2/x"):
        with pytest.raises(InvalidInput):
            placed(path)
