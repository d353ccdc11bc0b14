"""A cancel ends a run wherever it stands, and what it held comes back."""

import pytest

from tests.support.instance import Instance, Options
from tests.support.waiting import eventually
from tests.system.test_agents import alive

SLOW = "say I take my time.\nsleep 60\n"


async def cancel(here: Instance, run: str) -> None:
    answer = await here.api.post(f"/v1/runs/{run}/cancel", json={"comment": "not needed"})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("options", [Options(slots=1)], indirect=True)
async def test_a_queued_run_is_cancelled_at_once_and_the_next_one_is_not_held_up(here: Instance) -> None:
    first = await here.run_of(here.item("agent:coder", script=SLOW))
    await here.until(first, "running")
    second = await here.run_of(here.item("agent:coder", name="Waiting"))
    await here.until(second, "queued")
    await cancel(here, second)

    assert await here.until(second, "cancelled") == "cancelled"
    await cancel(here, first)
    assert await here.until(first, "cancelled") == "cancelled"


async def test_a_running_agent_is_stopped_and_its_slot_comes_back(here: Instance) -> None:
    item = here.item("agent:coder", script=SLOW)
    run = await here.run_of(item)
    await here.until(run, "running")
    await cancel(here, run)
    await here.until(run, "cancelled")

    assert await here.slots_taken() == 0
    await eventually(lambda: alive("agent_runner.supervisor") == [])
    assert here.branches() == []
    assert here.links(item) == []


async def test_taking_the_label_off_stops_the_agent(here: Instance) -> None:
    item = here.item("agent:coder", script=SLOW)
    run = await here.run_of(item)
    await here.until(run, "running")
    here.change(item, labels=())

    assert await here.until(run, "cancelled", "completed") == "cancelled", await here.story()


async def test_a_cancel_while_publishing_begins_no_further_effect(here: Instance) -> None:
    from services.demo.plane_faults import Fault

    here.plane.faults.add(Fault.DELAY, r".*/comments/.*", times=3, seconds=3.0)
    item = here.item("agent:coder")
    run = await here.run_of(item)
    await here.until(run, "publishing", "completed")
    await eventually(
        lambda: here.db.fetchval("SELECT count(*) > 0 FROM effects WHERE key LIKE '%comment'"), describe=here.story
    )
    await cancel(here, run)
    ended = await here.until(run, "cancelled", "completed")

    assert ended == "cancelled", await here.story()
    assert here.item_state(item) != "Done"
    assert await here.slots_taken() == 0
