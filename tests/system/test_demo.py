"""`dispatch demo` as a stranger runs it: in an empty home, as a process of its own, watched from outside."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from tests.support.waiting import eventually

DISPATCH = Path(sysconfig.get_path("scripts")) / "dispatch"
STATES = ["requested", "queued", "assigned", "preparing", "running", "verifying", "publishing", "completed"]
PATIENT = timedelta(seconds=120)

pytestmark = pytest.mark.timeout(300)


def environment(home: Path, **more: str) -> dict[str, str]:
    (home / "tmp").mkdir(exist_ok=True)
    path = f"{DISPATCH.parent}:{os.environ['PATH']}"  # noqa: TID251
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home / "tmp"), **more}


@pytest.fixture
def home() -> Generator[Path]:
    """An empty home. Its path is short: PostgreSQL's socket stands in it, and the kernel allows 107 letters."""
    folder = Path(tempfile.mkdtemp(prefix="demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run(*arguments: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(DISPATCH), *arguments]
    return subprocess.run(
        command, env=environment(home, **more), capture_output=True, text=True, timeout=200, check=False, cwd=home
    )


def nothing_is_left(home: Path) -> None:
    """No file anywhere in the home or its folder for temporary files, and no process that knows of them."""
    left = [str(path) for path in home.rglob("*") if path != home / "tmp"]
    alive = [" ".join(process.cmdline())[:200] for process in psutil.process_iter() if str(home) in _words(process)]

    assert left == []
    assert alive == []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def lines(output: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_the_demo_tells_the_whole_story_and_leaves_nothing(home: Path) -> None:
    ended = run("demo", "--json", home=home)
    told = lines(ended.stdout)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [line["label"] for line in told if line["kind"] == "step"] == STATES
    assert all(line["text"] and line["seconds"] < 60 for line in told if line["kind"] == "step")
    assert any("scripted" in line["text"] for line in told if line["kind"] == "agent")
    assert "+    return list(dict.fromkeys(" in next(line["text"] for line in told if line["kind"] == "diff")
    results = {line["label"]: line["text"] for line in told if line["kind"] == "result" and "label" in line}
    assert re.fullmatch(r"agent/[0-9a-f]{8} → main", results["branch"])
    assert results["state"] == "In Review"
    assert "agent/" in results["comment"]
    nothing_is_left(home)


def test_people_get_plain_text_without_colours_when_they_want_none(home: Path) -> None:
    ended = run("demo", home=home, NO_COLOR="1", TERM="xterm-256color", FORCE_COLOR="1")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "No model is involved" in ended.stdout
    assert "local stand-in" in ended.stdout
    assert "dispatch inspect " in ended.stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", ended.stdout), "a colour"
    assert ended.stderr == ""


@contextmanager
def kept(home: Path, log: Path) -> Generator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        demo = subprocess.Popen(
            [str(DISPATCH), "demo", "--keep", "--json"], env=environment(home), stdout=file, stderr=file, cwd=home
        )
    try:
        yield demo
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(timeout=60)


async def tells(demo: subprocess.Popen[bytes], log: Path, what: bytes) -> None:
    await eventually(
        lambda: what in log.read_bytes() or demo.poll() is not None,
        within=PATIENT,
        describe=lambda: log.read_text()[-3000:],
    )
    assert what in log.read_bytes(), log.read_text()


async def test_a_kept_demo_answers_the_command_line_until_it_is_stopped(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    with kept(home, log) as demo:
        await tells(demo, log, b"until Ctrl-C")
        told = lines(log.read_text())
        data = next(line["text"] for line in told if "DISPATCH_DATA=" in line["text"]).partition("=")[2]
        why = next(line["text"] for line in told if line["text"].startswith("dispatch why ")).split()[-1]
        answer = run("why", why, "--json", home=home, DISPATCH_DATA=data)
        # Until the fix is merged the sample's test is flaky, and so is whatever runs it.
        merged = run("pulls", "merge", "sample/1", home=home, DISPATCH_DATA=data)
        said = run("run", "Say hello", "--repo", "sample", "--role", "docs", "--follow", home=home, DISPATCH_DATA=data)

    assert orjson.loads(answer.stdout)["state"] == "completed"
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert said.returncode == 0, said.stdout + said.stderr
    assert demo.returncode == 0
    nothing_is_left(home)


async def test_a_stopped_demo_leaves_nothing(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    with kept(home, log) as demo:
        await tells(demo, log, b'"label":"running"')

    assert demo.returncode == 130
    nothing_is_left(home)


def test_a_demo_that_fails_says_why_and_where_to_look(home: Path) -> None:
    ended = run("demo", "--json", home=home, PATH="/nonexistent")
    told = lines(ended.stdout)

    assert ended.returncode == 1
    assert [line["label"] for line in told if line["kind"] == "failure"][:1] == ["failed"]
    assert told[-1]["kind"] == "failure"
