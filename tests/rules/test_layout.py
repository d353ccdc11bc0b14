"""The house rules about files: how long, what they begin with, and what they never say."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 300
LONGEST_FUNCTION = 40
BUCKETS = {"utils", "util", "helpers", "helper", "common", "models", "misc", "manager"}

# A test waits for a condition; a fake of our own code proves nothing about it.
BANNED_IN_TESTS = {
    r"\basyncio\.sleep\(": "await eventually(...) from tests.support.waiting",
    r"\btime\.sleep\(": "await eventually(...) from tests.support.waiting",
    r"\bunittest\.mock\b|\bimport mock\b": "a real local server in tests/support",
    r"monkeypatch\.setattr|mocker\.": "another argument for the function under test",
    r"pytest\.mark\.(skip|xfail)\b": "a test that runs, or none",
}
THE_WAITER = "tests/support/waiting.py"

# What belongs to some machine or some workplace, or promises work not done, and so is not part of the product.
LEAKS = {re.escape(f"{ROOT}/"): "a path of the machine it was written on"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def tracked(*suffixes: str) -> Iterator[Path]:
    """The files of the project, also those not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and (not suffixes or path.suffix in suffixes):
            yield path


def source() -> Iterator[Path]:
    """Our own code; migrations are history and keep the length they had."""
    for path in tracked(".py"):
        parts = path.relative_to(ROOT).parts
        if parts[0] in {"libs", "services"} and "versions" not in parts:
            yield path


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def found(pattern: str | re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    return [
        f"{named(path)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_files_are_short_enough_to_read_in_one_go() -> None:
    lengths = {named(path): path.read_text().count("\n") for path in source()}

    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{named(path)}:{node.lineno} {node.name}: {lines_of(node)}"
        for path in source()
        for node in functions(path)
        if lines_of(node) > LONGEST_FUNCTION
    ]

    assert long == []


def test_every_module_says_what_it_owns() -> None:
    silent = [named(path) for path in source() if ast.get_docstring(ast.parse(path.read_text())) is None]

    assert silent == []


def test_no_module_is_a_bucket() -> None:
    assert [named(path) for path in source() if BUCKETS & {path.stem, path.parent.name}] == []


def test_annotations_are_not_strings() -> None:
    assert found(r"^from __future__ import annotations", source()) == []


def test_nothing_is_left_unfinished() -> None:
    assert found(UNFINISHED, source()) == []


def test_tests_wait_for_conditions_and_fake_nothing_of_ours() -> None:
    def tests() -> Iterator[Path]:
        exempt = {ROOT / THE_WAITER, Path(__file__)}
        return (path for path in tracked(".py") if "tests" in path.relative_to(ROOT).parts[:1] and path not in exempt)

    assert {remedy: hits for pattern, remedy in BANNED_IN_TESTS.items() if (hits := found(pattern, tests()))} == {}


def test_files_speak_of_the_product_alone() -> None:
    def everything() -> Iterator[Path]:
        return (path for path in tracked() if path != Path(__file__))

    assert {what: hits for pattern, what in LEAKS.items() if (hits := found(pattern, everything()))} == {}


def test_the_lock_names_packages_and_hashes_but_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert "--hash=sha256:" in lock
    assert "://" not in lock
