"""Names, links and patterns: what is hostile is named, what is ordinary passes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.result_publisher import paths


@pytest.mark.parametrize(
    "name", ["a", "README.md", ".gitignore", ".github", "git", "café", "日本語.txt", "a b", "git~", "x~1"]
)
def test_ordinary_names_pass(name: str):
    assert paths.bad_name(name.encode()) == ""


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"..", b"a/b", b"a\\b", b"-rf", b"\xff", b"a\nb", b"a\x7f", b"x" * 256,
        b".git", b".GIT", b".Git ", b".git.", b".git...", b"git~1", b"GIT~2", b".git::$INDEX_ALLOCATION",
        ".g\u200cit".encode(), "\ufeff.git".encode(), "a\u202eb".encode(), "\u2028".encode(), b"\x01",
    ],
)  # fmt: skip
def test_hostile_names_are_named(name: bytes):
    assert paths.bad_name(name)


@pytest.mark.parametrize(
    ("path", "target", "good"),
    [
        ("link", b"README.md", True),
        ("docs/link", b"../README.md", True),
        ("a/b/link", b"../../c/d", True),
        ("link", b"./src/./app.py", True),
        ("link", b"../x", False),
        ("a/link", b"../../x", False),
        ("link", b"/etc/passwd", False),
        ("link", b"a/../../x", False),
        ("a/b/link", b"s/..", False),
        ("link", b"~/x", False),
        ("link", b"C:\\x", False),
        ("link", b"", False),
        ("link", b".git/config", False),
        ("link", b"a/.GIT/x", False),
        ("link", b"a\nb", False),
        ("link", b"\xff", False),
        ("link", b"x" * 2000, False),
    ],
)
def test_links_stay_inside(path: str, target: bytes, good: bool):
    assert (paths.bad_link(target) == "" and not paths.leaves_tree(path, target)) is good


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a/b/c", True),
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", False),
        ("src/", "src/a", True),
        ("**/CODEOWNERS", "CODEOWNERS", True),
        ("**/CODEOWNERS", "docs/CODEOWNERS", True),
        ("**/*.lock", "a/b/uv.lock", True),
        ("*.lock", "a/uv.lock", False),
        ("src/*.py", "src/app.py", True),
        ("src/*.py", "src/a/app.py", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a.c", "abc", False),
        (".github/**", ".github/workflows/x.yml", True),
        ("**", "a\nb", True),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool):
    assert (paths.matching(path, [pattern]) == pattern) is matches


def test_what_wants_a_person_cannot_be_dodged_by_spelling():
    assert paths.matching(".GitHub/Workflows/x.yml", [".github/**"], folded=True)
    assert paths.matching("caf\u0065\u0301/x", ["café/**"], folded=True)
    assert not paths.matching(".GitHub/x", [".github/**"])


@given(st.text(), st.text(alphabet="ab*?/.[]()", max_size=12))
def test_no_path_and_no_pattern_is_too_strange(path: str, pattern: str):
    paths.matching(path, [pattern], folded=True)


@given(st.binary(max_size=40))
def test_every_name_is_judged(name: bytes):
    invisible = any(unicodedata.category(char).startswith("C") for char in name.decode(errors="ignore"))
    assert paths.bad_name(name) or not invisible
