"""Agents that do not behave: each ends, frees its slot, leaves nothing alive and publishes nothing."""

import psutil
import pytest

from tests.support.instance import Instance, Options

QUICK = Options(wall=20, idle=2, attempts=1)


def alive(word: str) -> list[str]:
    """Return the command lines of processes that have a word in them."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if word in line:
            found.append(line)
    return found


async def ends(here: Instance, script: str) -> tuple[str, str]:
    """Run a script and return the state and the error family its run ends with."""
    item = here.item("agent:coder", script=script)
    run = await here.run_of(item)
    state = await here.until(run, "completed", "failed")
    assert await here.slots_taken() == 0
    family = await here.db.fetchval("SELECT body->>'family' FROM runs WHERE id = $1::uuid", run)
    return state, family


@pytest.mark.parametrize("options", [QUICK], indirect=True)
async def test_an_agent_that_hangs_is_ended_as_stalled(here: Instance) -> None:
    assert await ends(here, "say Now I hang.\nhang\n") == ("failed", "stalled"), await here.story()
    assert here.branches() == []


@pytest.mark.parametrize("options", [QUICK], indirect=True)
async def test_an_agent_that_fails_fails_its_run(here: Instance) -> None:
    state, _ = await ends(here, "say I give up.\nexit 3\n")
    assert state == "failed", await here.story()
    assert here.branches() == []


@pytest.mark.parametrize("options", [Options(attempts=2)], indirect=True)
async def test_a_failed_agent_is_tried_as_often_as_allowed(here: Instance) -> None:
    await ends(here, "exit 3\n")
    assert await here.db.fetchval("SELECT count(*) FROM attempts") == 2


async def test_garbage_on_its_output_does_not_hide_what_an_agent_did(here: Instance) -> None:
    script = "garbage 12\nreplace adder.py <<END\na - b\n----\na + b\nEND\ntest\ncommit Mend it\n"
    assert (await ends(here, script))[0] == "completed", await here.story()


@pytest.mark.parametrize("options", [QUICK], indirect=True)
async def test_children_that_fork_away_die_with_the_attempt(here: Instance) -> None:
    await ends(here, "fork-away 5\nexit 1\n")
    assert alive("scripted_agent") == []
    assert alive("agent_runner.supervisor") == []
