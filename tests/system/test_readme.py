"""The README's shell blocks, run in order, for real, by somebody with an empty home."""

import os
import re
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SERVER = "dispatch up"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


def blocks() -> list[str]:
    return BLOCK.findall((ROOT / "README.md").read_text())


def shell(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def environment(home: Path) -> dict[str, str]:
    """A stranger's environment: nothing of ours, and what the README says that Plane shows."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL")}  # noqa: TID251
    return kept | {"HOME": str(home), "PLANE_WEBHOOK_SECRET": "plane_wh_secret", "PLANE_API_TOKEN": "plane_api_token"}


@contextmanager
def server(script: str, home: Path) -> Generator[subprocess.Popen[bytes]]:
    """What runs in the first terminal, until Ctrl-C."""
    with (home / "up.log").open("wb") as log:
        running = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script.replace(SERVER, f"exec {SERVER}")],
            cwd=ROOT,
            env=environment(home),
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
        running.wait(timeout=60)


@pytest.mark.timeout(600)
async def test_a_stranger_gets_through_the_readme(tmp_path: Path) -> None:
    first, *rest = blocks()
    start, *others = rest

    assert "make demo" in first
    assert start.rstrip().endswith(SERVER)
    demo = shell(first, tmp_path)
    assert demo.returncode == 0, demo.stdout + demo.stderr

    with server(start, tmp_path) as running:
        ready = tmp_path / ".local/share/agent-dispatch/ready.json"
        await eventually(
            lambda: ready.exists() or running.poll() is not None,
            within=timedelta(seconds=120),
            describe=lambda: (tmp_path / "up.log").read_text()[-3000:],
        )
        for block in others:
            ended = shell(block, tmp_path)
            assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}"
        addresses = orjson.loads(ready.read_bytes())

    assert addresses["console"].startswith("http://")
    assert running.returncode == 0
    assert not ready.exists()
    caches = {".cache"}  # of the installers that `make` calls, when there was something to install
    assert {path.name for path in tmp_path.iterdir()} - caches == {".config", ".local", "hello", "plane.yaml", "up.log"}


def test_each_block_of_the_first_run_is_there() -> None:
    text = "\n".join(blocks())

    for command in ("make demo", "dispatch up", "curl ", "dispatch secret set", "dispatch apply", "dispatch run"):
        assert command in text
