"""Agents that misbehave: each is ended in time, as a whole, and the result says why in words a person can act on."""

from datetime import timedelta
from pathlib import Path

import pytest

from agent_runner.note import read_note
from agent_runner.protocol import LaunchLimits, Outcome, ResultManifest, SandboxViolation, Text, ToolResult
from agent_runner.sandbox import leftovers
from tests.support.attempts import Bench
from tests.support.waiting import eventually


def limits(
    *,
    wall: float = 40,
    idle: float = 20,
    memory: int = 1024,
    pids: int = 200,
    disk: int = 1024,
    output: int = 1,
) -> LaunchLimits:
    return LaunchLimits(
        wall_seconds=wall,
        idle_seconds=idle,
        stop_grace_seconds=0.5,
        memory_mib=memory,
        pids=pids,
        disk_mib=disk,
        output_mib=output,
        tmp_mib=64,
    )


@pytest.mark.parametrize("script", ["hang", "hang-hard"])
async def test_an_agent_that_says_nothing_is_stalled(desk: Bench, script: str):
    result = await desk.result(script, limits=limits(idle=1))

    assert (result.outcome, result.family) == (Outcome.FAILED, "stalled")
    assert "limits.idle_seconds" in result.sentence


async def test_an_agent_that_works_too_long_times_out_and_its_work_is_kept(desk: Bench):
    result = await desk.result("write half.txt <<END\nhalf\nEND\nflood", limits=limits(wall=2))

    assert (result.outcome, result.family) == (Outcome.FAILED, "timeout")
    assert "limits.wall_seconds" in result.sentence
    assert result.bundle is not None


async def test_output_without_end_is_bounded(desk: Bench):
    result = await desk.result("say first\nflood 8\nsay last", limits=limits(output=1))

    assert result.outcome is Outcome.SUCCEEDED
    assert result.stdout is not None
    assert result.stdout.size < 1.2 * 1024 * 1024
    kept = desk.gateway.blobs[result.stdout.digest]
    assert b"first" in kept
    assert b"last" in kept
    assert b"bytes left out" in kept


async def test_garbage_is_counted_and_not_fatal(desk: Bench):
    result = await desk.result("garbage 12\nsay still here")

    assert result.outcome is Outcome.SUCCEEDED
    assert result.manifest is not None
    assert ResultManifest.model_validate_json(desk.gateway.blobs[result.manifest.digest]).garbage_lines == 12
    assert Text(text="still here") in desk.gateway.events


async def test_a_crash_and_an_exit_code_are_told(desk: Bench):
    crashed = await desk.result("crash")
    left = await desk.result("exit 3")

    assert (crashed.outcome, crashed.family, crashed.signal) == (Outcome.FAILED, "unknown", 11)
    assert (left.outcome, left.family, left.exit_code) == (Outcome.FAILED, "unknown", 3)
    assert "exit code 3" in left.sentence


async def test_who_forks_away_dies_with_the_attempt(desk: Bench):
    spec = await desk.spec("fork-away 7\nsay gone")
    await desk.start(spec)
    await eventually(lambda: leftovers.find(spec, read_note(spec.folder)))
    await desk.ended(spec)

    assert desk.gateway.results[0].outcome is Outcome.SUCCEEDED
    assert not leftovers.find(spec, read_note(spec.folder))
    assert not marked(str(spec.attempt_id))


def marked(attempt: str) -> list[str]:
    """Every process of this host that says it belongs to the attempt."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if attempt.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("cgroups", [True, False], ids=["cgroup", "watched"])
async def test_memory_is_limited(desk: Bench, cgroups: bool):
    result = await confined(desk, "eat-memory\nhang", limits(memory=150), cgroups=cgroups)

    assert (result.outcome, result.family) == (Outcome.FAILED, "sandbox_violation")
    assert "limits.memory_mib" in result.sentence


@pytest.mark.parametrize("cgroups", [True, False], ids=["cgroup", "watched"])
async def test_the_number_of_processes_is_limited(desk: Bench, cgroups: bool):
    await confined(desk, "fork-bomb 400", limits(pids=40), cgroups=cgroups)

    said = [event.text for event in desk.gateway.events if isinstance(event, Text | SandboxViolation)]
    assert not any("nothing stopped me" in text for text in said), said


async def test_the_disk_is_limited(desk: Bench):
    result = await desk.result("fill-disk\nhang", limits=limits(disk=100))

    assert (result.outcome, result.family) == (Outcome.FAILED, "sandbox_violation")
    assert "limits.disk_mib" in result.sentence
    assert any(isinstance(event, SandboxViolation) and event.what == "disk" for event in desk.gateway.events)


async def confined(desk: Bench, script: str, allowed: LaunchLimits, *, cgroups: bool):
    spec = await desk.spec(script, limits=allowed)
    spec = spec.model_copy(update={"sandbox": spec.sandbox.model_copy(update={"cgroups": cgroups})})
    await desk.start(spec)
    await desk.ended(spec, within=timedelta(seconds=50))
    return desk.gateway.results[-1]


async def test_nothing_outside_can_be_written_and_no_network_reached(desk: Bench, tmp_path: Path):
    victim = tmp_path / "data" / "victim"
    victim.mkdir(mode=0o777, parents=True)
    await desk.result(
        f"write-outside /usr/agent-was-here\nwrite-outside {victim}/here\nwrite-outside /agent-was-here\n"
        f"write-outside {desk.workspaces.mirrors.mirror(desk_source(desk)).objects}/here\n"
        "write-outside /etc/passwd\nconnect 127.0.0.1:22\nconnect 1.1.1.1:443\nconnect example.com:443"
    )

    answers = [event for event in desk.gateway.events if isinstance(event, ToolResult)]
    assert len(answers) == 8
    assert not [answer for answer in answers if answer.ok]
    assert not Path("/usr/agent-was-here").exists()
    assert not list(victim.iterdir())


def desk_source(desk: Bench):
    assert desk.source is not None
    return desk.source


async def test_the_agent_sees_neither_token_nor_folder_nor_environment_of_ours(desk: Bench):
    spec = await desk.spec("run env; cat /proc/1/environ; ls -R / 2>/dev/null | head -c 200000; cat /proc/*/cmdline")
    await desk.start(spec)
    await desk.ended(spec)

    seen = "".join(event.output for event in desk.gateway.events if isinstance(event, ToolResult))
    assert "DISPATCH_ATTEMPT_ID" in seen
    assert desk.gateway.token not in seen
    assert str(spec.folder) not in seen
    assert "gw.sock" not in seen
