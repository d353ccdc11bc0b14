"""The sandbox as an ordinary user starts it, and the road without a sandbox: both with the real tools."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_runner.note import read_note
from agent_runner.protocol import LaunchSpec, Outcome, SandboxKind, SandboxSpec
from agent_runner.sandbox import leftovers
from agent_runner.sandbox.confinement import PATH_INSIDE, Confinement, Host, Mount, Overlay, argv
from agent_runner.sandbox.host import system_parts
from services.executor.launchers.local import LocalLauncher
from services.executor.launchers.report import Confining, confining, limits_report
from services.executor.launchers.template import Template
from tests.support.attempts import FIX, bench, repository
from tests.support.waiting import eventually

ORDINARY = 61_999


def as_ordinary_user(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    prefix = ["setpriv", "--reuid", str(ORDINARY), "--regid", str(ORDINARY), "--clear-groups", "--"]
    whole = [*(prefix if os.geteuid() == 0 else []), *command]
    return subprocess.run(whole, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the ordinary user, in a place that it can reach."""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    for name in ("lower", "upper", "work", "home", "stage"):
        (folder / name).mkdir()
    (folder / "lower/a").write_text("as it was\n")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{ORDINARY}:{ORDINARY}", str(folder)], check=True)
    return folder


def confined(folder: Path) -> Confinement:
    return Confinement(
        mounts=(Mount(folder / "home", "/home/agent", writable=True),),
        workdir="/repo",
        environment={"PATH": PATH_INSIDE},
        overlay=Overlay(folder / "lower", folder / "upper", folder / "work", "/repo"),
        tmp_mib=16,
        file_mib=8,
        processes=50,
    )


def test_an_ordinary_user_gets_the_same_sandbox(ours: Path):
    folders, links = system_parts()
    host = Host(is_root=False, stage=ours / "stage", system=folders, links=links)

    ended = as_ordinary_user(argv(confined(ours), ["sh", "-c", "id -u; echo new > a; cat a; ls /"], host))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[:2] == ["1000", "new"]
    assert (ours / "lower/a").read_text() == "as it was\n"
    assert (ours / "upper/a").stat().st_uid == (ORDINARY if os.geteuid() == 0 else os.getuid())


@pytest.mark.parametrize(
    "what",
    [
        "echo x > /x",
        "echo x > /usr/x",
        "echo x > /dev/x",
        "mount -t tmpfs none /tmp",
        "unshare -Ur true",
        "head -c 9000000 /dev/zero > /repo/big",
        "head -c 20000000 /dev/zero > /tmp/big",
        "grep -q NoNewPrivs:.0 /proc/self/status",
        "ls /proc/1/root/root",
        "ls /work /root /var/lib",
    ],
)
def test_what_the_sandbox_forbids(ours: Path, what: str):
    folders, links = system_parts()
    host = Host(is_root=False, stage=ours / "stage", system=folders, links=links)

    ended = as_ordinary_user(argv(confined(ours), ["sh", "-c", what], host))

    assert ended.returncode != 0, ended.stdout


def give_away(*folders: Path) -> None:
    for folder in folders:
        subprocess.run(["chown", "-R", f"{ORDINARY}:{ORDINARY}", str(folder)], check=os.geteuid() == 0)


def supervised(spec: LaunchSpec) -> subprocess.CompletedProcess[str]:
    return as_ordinary_user([sys.executable, "-m", "agent_runner.supervisor", str(spec.folder / "spec.json")])


async def test_a_whole_attempt_as_an_ordinary_user(ours: Path, tmp_path: Path, this_host: Confining):
    """What a service user gets: no cgroup, the overlay in a user namespace, and the same result."""
    python = [sys.executable, "-c", "import agent_runner.supervisor"]
    if as_ordinary_user(python).returncode != 0:
        pytest.skip("this interpreter lies where an ordinary user cannot reach it")
    how = Confining(SandboxSpec(), overlay=True, report=())
    ours.chmod(0o755)
    launcher, source = LocalLauncher(ours / "data/attempts"), repository(tmp_path / "source")
    async with bench(ours / "data", launcher, how, source=source) as desk:
        spec = await desk.spec(f"fork-away 2\n{FIX}")
        (spec.folder / "token").write_text(desk.gateway.token)
        (spec.folder / "spec.json").write_text(spec.model_dump_json())
        give_away(ours, desk.gateway.socket.parent)
        ended = await asyncio.to_thread(supervised, spec)

    (result,) = desk.gateway.results
    assert result.outcome is Outcome.SUCCEEDED, ended.stderr
    assert result.files_changed == 1
    assert desk.gateway.started[0].isolation[1].startswith("no cgroup")


async def test_without_a_sandbox_the_same_script_has_the_same_result(tmp_path: Path, template: Template):
    launcher = LocalLauncher(tmp_path / "data/attempts", template)
    bare = confining(tmp_path, SandboxKind.NONE)
    async with bench(tmp_path / "data", launcher, bare, source=repository(tmp_path / "source")) as desk:
        result = await desk.result(FIX)
        away = await desk.result("fork-away 3\nsay gone")

    assert (result.outcome, result.files_changed) == (Outcome.SUCCEEDED, 1)
    assert away.outcome is Outcome.SUCCEEDED
    assert "No sandbox" in desk.gateway.started[0].isolation[0]


async def test_without_a_sandbox_too_nothing_is_left_of_an_attempt_whose_supervisor_was_killed(
    tmp_path: Path, template: Template
):
    launcher = LocalLauncher(tmp_path / "data/attempts", template)
    bare = confining(tmp_path, SandboxKind.NONE)
    async with bench(tmp_path / "data", launcher, bare, source=repository(tmp_path / "source")) as desk:
        spec = await desk.spec("fork-away 3\nhang-hard")
        await desk.start(spec)
        await eventually(lambda: len(leftovers.find(spec, read_note(spec.folder))) >= 4)

        await desk.launcher.kill(spec.attempt_id)

        assert not leftovers.find(spec, read_note(spec.folder))


def test_doctor_is_told_what_is_real(tmp_path: Path):
    report = {limit.name: limit for limit in limits_report(tmp_path)}

    assert report["isolation"].real
    assert {"nested namespaces", "workspaces", "memory", "pids", "cpu", "disk", "time"} <= report.keys()
    assert all(limit.sentence for limit in report.values())
    assert sys.platform == "linux"
