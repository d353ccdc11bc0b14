"""The main road on real parts: a label in Plane becomes a branch, a pull request and an updated work item."""

from tests.support.instance import Instance
from tests.support.waiting import eventually

ROAD = ["requested", "queued", "assigned", "preparing", "running", "verifying", "publishing", "completed"]


async def test_a_label_becomes_a_branch_a_pull_request_and_an_updated_work_item(here: Instance) -> None:
    item = here.item("agent:coder")
    run = await here.run_of(item)
    await here.until(run, "completed", "failed", "denied")

    assert await here.steps(run) == ROAD, await here.story()
    assert here.branches() == [f"agent/{run[:8]}"]
    assert len(here.links(item)) == 1
    assert here.item_state(item) == "Done"
    assert len(here.comments(item)) == 1
    assert await here.slots_taken() == 0


async def test_a_denied_run_tells_the_work_item_why(here: Instance) -> None:
    item = here.item("agent:coder", "hold")
    run = await here.run_of(item)

    assert await here.until(run, "denied", "completed") == "denied"
    await eventually(lambda: here.comments(item), describe=here.story)
    assert "The label hold is on it." in here.comments(item)[0]
    assert here.branches() == []


async def test_an_escalated_run_waits_for_somebody_else_and_then_goes_on(here: Instance) -> None:
    item = here.item("agent:coder", "big")
    run = await here.run_of(item)
    await here.until(run, "awaiting_approval")
    assert await here.slots_taken() == 0

    answer = await here.api.post(f"/v1/runs/{run}/approve", json={"comment": "go on"})
    assert answer.status_code == 202, answer.text
    await here.until(run, "completed", "failed", "denied")
    assert await here.state(run) == "completed", await here.story()


async def test_a_change_voids_an_approval_that_was_asked_for(here: Instance) -> None:
    item = here.item("agent:coder", "big")
    run = await here.run_of(item)
    await here.until(run, "awaiting_approval")
    first = await here.db.fetchval("SELECT id FROM approvals WHERE run_id = $1::uuid AND state = 'pending'", run)
    here.change(item, name="Fix the adder and everything else")

    async def asked_anew() -> bool:
        newest = await here.db.fetchval("SELECT id FROM approvals WHERE run_id = $1::uuid AND state = 'pending'", run)
        return newest not in (None, first)

    await eventually(asked_anew, describe=here.story)
    assert await here.db.fetchval("SELECT state FROM approvals WHERE id = $1", first) == "void"
    assert await here.until(run, "awaiting_approval") == "awaiting_approval"


async def test_a_delivery_that_comes_twice_makes_one_run(here: Instance) -> None:
    item = here.item("agent:coder")
    run = await here.run_of(item)
    here.plane.state.listeners[0](_created(item, here))
    await here.until(run, "completed", "failed")

    assert await here.db.fetchval("SELECT count(*) FROM runs") == 1
    assert len(here.comments(item)) == 1


async def test_a_comment_by_a_guest_starts_nothing(here: Instance) -> None:
    item = here.item()
    here.plane.state.add_comment(item, {"comment_html": "<p>/agent spend money</p>"}, actor=here.guest.id)
    await eventually(
        lambda: here.db.fetchval("SELECT count(*) > 0 FROM deliveries WHERE outcome = 'refused'"), describe=here.story
    )

    assert await here.db.fetchval("SELECT count(*) FROM runs") == 0


async def test_a_comment_by_a_member_starts_a_run(here: Instance) -> None:
    item = here.item()
    here.plane.state.add_comment(item, {"comment_html": "<p>/agent mend it</p>"}, actor=here.alice.id)
    run = await here.run_of(item)

    assert await here.until(run, "completed", "failed", "denied") == "completed", await here.story()


def _created(item: str, here: Instance):
    from services.demo.plane_state import Change

    return Change("issue", "created", item, here.alice.id)
