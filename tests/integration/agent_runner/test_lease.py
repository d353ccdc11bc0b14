"""Leases, fences, stops and a gateway that goes away: the agent lives as long as it may, and nothing is lost."""

import asyncio
import os
import signal
import sys
from time import monotonic

import pytest

from agent_runner.lease import margin
from agent_runner.note import read_note, read_result
from agent_runner.protocol import LaunchSpec, LeaseTerms, Outcome, Phase, StopAsk, Text, ToolCall
from agent_runner.sandbox import leftovers
from agent_runner.sandbox.tree import children_of, start_time
from services.executor.launchers import LaunchState
from tests.support.attempts import Bench
from tests.support.waiting import eventually

SHORT = LeaseTerms(lease_seconds=3, renew_seconds=0.5)


async def alive(desk: Bench, spec: LaunchSpec) -> int:
    """Start it and return the pid of the first process inside."""
    await desk.start(spec)
    await eventually(lambda: desk.gateway.started, describe=lambda: desk.story(spec))
    return desk.gateway.started[-1].agent_pid


def is_dead(pid: int) -> bool:
    return start_time(pid) is None


async def test_no_agent_starts_without_a_lease(desk: Bench):
    await desk.gateway.close()
    spec = await desk.spec("say hello", lease=LeaseTerms(lease_seconds=1, renew_seconds=0.25))

    await desk.start(spec)
    await desk.ended(spec)

    note = read_note(spec.folder)
    assert note is not None
    assert (note.phase, note.agent_pid) == (Phase.DONE, None)
    assert "did not answer" in note.sentence


async def test_the_agent_is_dead_before_its_lease_has_run_out(desk: Bench):
    desk.gateway.lease_seconds = SHORT.lease_seconds
    spec = await desk.spec("hang-hard", lease=SHORT)
    agent = await alive(desk, spec)

    desk.gateway.answering.clear()
    await eventually(lambda: is_dead(agent))

    expiry = desk.gateway.leases[-1] + SHORT.lease_seconds
    assert monotonic() < expiry
    assert monotonic() > expiry - margin(SHORT.lease_seconds) - 1
    desk.gateway.answering.set()
    assert (await desk.ended(spec)).state is LaunchState.ENDED
    assert not desk.gateway.results


async def test_an_agent_outlives_a_gateway_that_is_away_for_a_while(desk: Bench):
    spec = await desk.spec("say before\nsleep 1\nwrite a.txt <<END\na\nEND\nsay after")
    await alive(desk, spec)

    await desk.gateway.close()
    await eventually(lambda: read_result(spec.folder), describe=lambda: desk.story(spec))
    assert not desk.gateway.results
    await desk.gateway.open()
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert result.outcome is Outcome.SUCCEEDED
    assert desk.gateway.events[-2:-1] == [Text(text="after")]
    assert sorted(desk.gateway.lines) == list(range(1, result.last_seq + 1))
    assert result.bundle is not None
    assert result.bundle.digest in desk.gateway.blobs


@pytest.mark.parametrize("status", [409, 401, 410])
async def test_an_attempt_that_is_not_wanted_any_more_ends_at_once(desk: Bench, status: int):
    spec = await desk.spec("hang-hard", lease=SHORT)
    agent = await alive(desk, spec)

    desk.gateway.answer_with = status
    await eventually(lambda: is_dead(agent))
    found = await desk.ended(spec)

    assert found.state is LaunchState.ENDED
    assert not desk.gateway.results
    assert read_result(spec.folder) is None


async def test_a_newer_fence_ends_the_older_attempt(desk: Bench):
    spec = await desk.spec("hang-hard", lease=SHORT)
    agent = await alive(desk, spec)

    desk.gateway.fence = 2
    await eventually(lambda: is_dead(agent))

    await eventually(lambda: not leftovers.find(spec, read_note(spec.folder)))


async def test_a_stop_in_the_lease_ends_the_agent_with_grace(desk: Bench):
    spec = await desk.spec("run sleep 30", lease=SHORT)
    await alive(desk, spec)
    await eventually(lambda: any(isinstance(event, ToolCall) for event in desk.gateway.events))

    desk.gateway.stop_ask = StopAsk(sentence="Somebody cancelled it.")
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert (result.outcome, result.sentence) == (Outcome.STOPPED, "Somebody cancelled it.")
    assert desk.gateway.events[-1] == Text(text="I was asked to stop, so I stop.")
    assert result.exit_code == 143


async def test_a_stop_through_the_launcher_needs_no_renewal(desk: Bench):
    spec = await desk.spec("hang-hard", lease=LeaseTerms(lease_seconds=60, renew_seconds=30))
    agent = await alive(desk, spec)

    began = monotonic()
    await desk.launcher.stop(spec.attempt_id, "Not needed any more.")
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert (result.outcome, result.sentence) == (Outcome.STOPPED, "Not needed any more.")
    assert is_dead(agent)
    assert monotonic() - began < 10


async def test_an_attempt_that_is_stopped_before_it_begins_never_begins(desk: Bench):
    desk.gateway.stop_ask = StopAsk(sentence="Too late.")
    spec = await desk.spec("say hello")
    await desk.start(spec)
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert (result.outcome, result.sentence) == (Outcome.STOPPED, "Too late.")
    assert not desk.gateway.started
    assert not desk.gateway.events


async def test_the_agent_dies_with_its_supervisor_in_a_moment(desk: Bench):
    """By the kernel alone: nobody of ours looks after it here."""
    spec = await desk.spec("fork-away 5\nhang-hard")
    agent = await alive(desk, spec)
    await eventually(lambda: len(children_of(agent)) >= 6)  # from here on it says nothing, so no broken pipe ends it

    began = monotonic()
    os.kill(desk.gateway.started[0].supervisor_pid, signal.SIGKILL)
    await eventually(lambda: is_dead(agent))
    took = monotonic() - began
    await eventually(lambda: not leftovers.find(spec, read_note(spec.folder)))

    assert took < 2  # milliseconds on a machine that is not busy
    assert (await desk.launcher.state(spec.attempt_id)).state is LaunchState.LOST


async def test_an_attempt_that_was_started_before_never_starts_again(desk: Bench):
    spec = await desk.spec("say once")
    await desk.start(spec)
    await desk.ended(spec)

    command = (sys.executable, "-m", "agent_runner.supervisor", str(spec.folder / "spec.json"))
    again = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await again.communicate()

    assert b"never starts twice" in said
    assert len(desk.gateway.started) == 1
