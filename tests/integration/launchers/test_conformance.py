"""What every launcher promises, in the same words for each. A new launcher is added to LAUNCHERS and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_runner.protocol import Outcome, Phase
from dispatch_common import ids
from services.executor.launchers import Launcher, LaunchFailed, LaunchState
from services.executor.launchers.local import LocalLauncher
from services.executor.launchers.report import Confining
from services.executor.launchers.template import Template
from tests.support.attempts import FIX, Bench, bench, repository
from tests.support.waiting import eventually

LAUNCHERS = ("local", "local without a template")


@pytest.fixture(params=LAUNCHERS)
async def desk(
    request: pytest.FixtureRequest, tmp_path: Path, template: Template, this_host: Confining
) -> AsyncIterator[Bench]:
    launcher = LocalLauncher(tmp_path / "data/attempts", template if request.param == "local" else None)
    async with bench(tmp_path / "data", launcher, this_host, source=repository(tmp_path / "source")) as made:
        yield made


async def test_an_attempt_that_was_never_started_is_unknown(desk: Bench):
    launcher: Launcher = desk.launcher

    assert (await launcher.state(ids.fresh())).state is LaunchState.UNKNOWN
    assert await launcher.collect(ids.fresh()) is None
    assert not await launcher.adopt()


async def test_an_attempt_lives_ends_and_leaves_its_result(desk: Bench):
    spec = await desk.spec(FIX)

    started = await desk.launcher.start(spec, desk.gateway.token)
    ended = await desk.ended(spec)

    assert started.state in (LaunchState.ALIVE, LaunchState.ENDED)
    assert ended.state is LaunchState.ENDED
    assert ended.note is not None
    assert ended.note.phase is Phase.DONE
    kept = await desk.launcher.collect(spec.attempt_id)
    assert kept is not None
    assert kept == desk.gateway.results[0]
    assert kept.outcome is Outcome.SUCCEEDED


async def test_an_attempt_starts_once_however_often_it_is_asked_for(desk: Bench):
    spec = await desk.spec("say once")

    await asyncio.gather(*(desk.launcher.start(spec, desk.gateway.token) for _ in range(3)))
    await desk.ended(spec)
    again = await desk.launcher.start(spec, desk.gateway.token)

    assert again.state is LaunchState.ENDED
    assert len(desk.gateway.results) == 1
    assert len(desk.gateway.started) == 1


async def test_a_stop_is_heard_and_reported(desk: Bench):
    spec = await desk.spec("hang")
    await desk.start(spec)
    await eventually(lambda: desk.gateway.started)

    await desk.launcher.stop(spec.attempt_id, "No longer wanted.")
    await desk.ended(spec)

    assert [(result.outcome, result.sentence) for result in desk.gateway.results] == [
        (Outcome.STOPPED, "No longer wanted.")
    ]


async def test_who_is_killed_is_lost_and_leaves_nothing_alive(desk: Bench):
    spec = await desk.spec("fork-away 3\nhang-hard")
    await desk.start(spec)
    await eventually(lambda: desk.gateway.started)

    killed = await desk.launcher.kill(spec.attempt_id)

    assert killed.state is LaunchState.LOST
    assert await desk.launcher.collect(spec.attempt_id) is None
    assert (await desk.launcher.start(spec, desk.gateway.token)).state is LaunchState.LOST


async def test_another_launcher_finds_what_the_first_one_started(desk: Bench):
    living, over = await desk.spec("hang"), await desk.spec("say done")
    await desk.start(living)
    await desk.start(over)
    await desk.ended(over)

    adopted = {found.attempt_id: found for found in await LocalLauncher(desk.launcher.attempts).adopt()}

    assert {key: found.state for key, found in adopted.items()} == {
        living.attempt_id: LaunchState.ALIVE,
        over.attempt_id: LaunchState.ENDED,
    }
    assert adopted[living.attempt_id].spec == living
    await LocalLauncher(desk.launcher.attempts).stop(living.attempt_id, "Found again.")
    await desk.ended(living)


async def test_only_the_dead_are_removed(desk: Bench):
    spec = await desk.spec("hang")
    await desk.start(spec)

    await desk.launcher.remove(spec.attempt_id)
    assert (await desk.launcher.state(spec.attempt_id)).state is LaunchState.ALIVE

    await desk.launcher.kill(spec.attempt_id)
    await desk.launcher.remove(spec.attempt_id)
    assert (await desk.launcher.state(spec.attempt_id)).state is LaunchState.UNKNOWN


async def test_two_attempts_run_beside_each_other(desk: Bench):
    one = await desk.spec("write one.txt <<END\n1\nEND\nhang")
    two = await desk.spec("write two.txt <<END\n2\nEND\nhang")
    await asyncio.gather(desk.start(one), desk.start(two))
    await eventually(lambda: len(desk.gateway.started) == 2)

    for spec in (one, two):
        await desk.launcher.stop(spec.attempt_id, "Enough.")
        await desk.ended(spec)

    assert not (two.workspace.upper / "one.txt").exists()
    assert not (one.workspace.upper / "two.txt").exists()


async def test_a_backend_that_nobody_knows_is_told(desk: Bench):
    spec = await desk.spec("say hello")
    spec = spec.model_copy(update={"agent": spec.agent.model_copy(update={"backend": "unheard-of"})})
    await desk.start(spec)
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert (result.outcome, result.family) == (Outcome.FAILED, "config_invalid")
    assert "agent.backend" in result.sentence
    assert "scripted" in result.sentence


async def test_a_supervisor_that_cannot_live_says_why(desk: Bench):
    spec = await desk.spec("say hello")
    spec = spec.model_copy(update={"folder": spec.folder.parent / "elsewhere"})
    spec.folder.touch()

    with pytest.raises(LaunchFailed, match="could not be started"):
        await desk.launcher.start(spec, desk.gateway.token)


async def test_the_token_is_in_one_private_file_only(desk: Bench):
    spec = await desk.spec("hang")
    await desk.start(spec)

    assert spec.gateway.token_file.stat().st_mode & 0o777 == 0o600
    assert (spec.folder / "spec.json").stat().st_mode & 0o777 == 0o600
    assert desk.gateway.token not in (spec.folder / "spec.json").read_text()
