"""The client and the local Plane: what is read comes back whole, what is written happens once, what fails is named."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from dispatch_common.plane import (
    NotFound,
    Pace,
    Plane,
    PlaneRefused,
    PlaneUnavailable,
    RateLimited,
    Unauthorized,
    open_plane,
)
from services.demo.plane import LocalPlane, local_plane
from services.demo.plane_faults import Fault
from services.demo.plane_state import ADMIN, GUEST


@dataclass(frozen=True, slots=True)
class World:
    """A local Plane with one work item, and a client of it."""

    plane: LocalPlane
    client: Plane
    project: str
    item: str
    label: str
    alice: str


@pytest.fixture
async def world() -> AsyncGenerator[World]:
    async with local_plane() as plane:
        state = plane.state
        alice = state.add_person("alice", ADMIN)
        bot = state.add_person("dispatch")
        project = state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)["id"]
        label = state.add_label(project, {"name": "agent:coder"}, actor=alice.id)["id"]
        asked = {"name": "Fix it", "description_html": "<p>Please</p>", "labels": [label], "priority": "high"}
        item = state.create_item(project, asked, actor=alice.id)["id"]
        async with open_plane(plane.url, state.slug, bot.token) as client:
            yield World(plane, client, project, item, label, alice.id)


async def test_a_work_item_comes_with_names(world: World):
    item = await world.client.item(world.project, world.item)

    assert (item.name, item.project.identifier, item.sequence_id) == ("Fix it", "DISP", 1)
    assert [label.name for label in item.labels] == ["agent:coder"]
    assert item.state is not None
    assert item.state.group == "backlog"
    assert (await world.client.item_by_key("DISP-1")).id == world.item


async def test_members_come_with_roles(world: World):
    world.plane.state.add_person("guest", GUEST)

    assert {each.name: each.role for each in await world.client.members()} == {"alice": 20, "dispatch": 15, "guest": 5}


async def test_a_comment_is_written_once_per_external_id(world: World):
    first = await world.client.create_comment(
        world.project, world.item, "<p>a</p>", source="dispatch", external_id="r1"
    )
    again = await world.client.create_comment(
        world.project, world.item, "<p>b</p>", source="dispatch", external_id="r1"
    )

    assert (again.id, first.existed, again.existed) == (first.id, False, True)
    found = await world.client.comment_by_external_id(world.project, world.item, "dispatch", "r1")
    assert found is not None
    assert found.comment_html == "<p>a</p>"


async def test_a_link_is_added_once(world: World):
    first = await world.client.create_link(world.project, world.item, "https://forge.example/1", "PR 1")
    again = await world.client.create_link(world.project, world.item, "https://forge.example/1", "PR 1")

    assert (again.id, first.existed, again.existed) == (first.id, False, True)


async def test_a_state_is_set(world: World):
    done = next(state for state in await world.client.states(world.project) if state.group == "completed")

    await world.client.set_state(world.project, world.item, done.id)

    item = await world.client.item(world.project, world.item)
    assert item.state == done


async def test_comments_of_several_pages_come_in_order(world: World):
    for number in range(130):
        world.plane.state.add_comment(world.item, {"comment_html": f"<p>{number}</p>"}, actor=world.alice)

    texts = [each.comment_html for each in await world.client.comments(world.project, world.item)]

    assert texts == [f"<p>{number}</p>" for number in range(130)]


async def test_what_is_gone_is_not_found(world: World):
    world.plane.state.delete_item(world.item)

    with pytest.raises(NotFound):
        await world.client.item(world.project, world.item)


async def test_a_wrong_token_is_unauthorized_and_not_repeated_in_the_error(world: World):
    async with open_plane(world.plane.url, "demo", "plane_api_secret") as client:
        with pytest.raises(Unauthorized) as caught:
            await client.me()

    assert "plane_api_secret" not in f"{caught.value!r} {caught.value}"


async def test_a_write_without_an_answer_is_in_doubt(world: World):
    world.plane.faults.add(Fault.DROP_AFTER, "^POST .*/comments/")

    with pytest.raises(PlaneUnavailable) as caught:
        await world.client.create_comment(world.project, world.item, "<p>a</p>", source="dispatch", external_id="r1")

    assert caught.value.in_doubt
    assert await world.client.comment_by_external_id(world.project, world.item, "dispatch", "r1") is not None


async def test_a_failure_after_the_write_is_in_doubt_and_a_read_is_not(world: World):
    world.plane.faults.add(Fault.FAIL_AFTER, "^PATCH")
    world.plane.faults.add(Fault.REFUSE, "^GET")

    with pytest.raises(PlaneUnavailable) as write:
        await world.client.update_item(world.project, world.item, {"priority": "low"})
    with pytest.raises(PlaneUnavailable) as read:
        await world.client.item(world.project, world.item)

    assert (write.value.in_doubt, read.value.in_doubt) == (True, False)


async def test_nobody_there_is_unavailable_and_not_in_doubt():
    async with open_plane("http://127.0.0.1:9", "demo", "token") as client:
        with pytest.raises(PlaneUnavailable) as caught:
            await client.update_item("p", "i", {})

    assert not caught.value.in_doubt


async def test_a_refusal_carries_planes_own_words(world: World):
    with pytest.raises(PlaneRefused, match="is not a valid UUID") as caught:
        await world.client.update_item(world.project, world.item, {"state": "Done"})

    assert caught.value.status == 400


async def test_retry_after_closes_the_client_without_another_call(world: World):
    world.plane.faults.add(Fault.RATE_LIMIT, seconds=30)

    with pytest.raises(RateLimited) as first:
        await world.client.me()
    calls = len(world.plane.calls)
    with pytest.raises(RateLimited) as second:
        await world.client.me()

    assert first.value.delay.total_seconds() == 30
    assert 29 < second.value.delay.total_seconds() <= 30
    assert len(world.plane.calls) == calls


async def test_the_reserve_is_left_to_others(world: World):
    token = next(token for token, person in world.plane.state.tokens.items() if person != world.alice)
    async with open_plane(world.plane.url, "demo", token, pace=Pace(reserve=50)) as careful:
        for _ in range(10):
            await careful.me()
        with pytest.raises(RateLimited):
            await careful.me()

    await world.client.me()


async def test_a_redirect_is_refused_instead_of_followed(world: World):
    async with open_plane(world.plane.url, "demo", "any") as client:
        with pytest.raises(PlaneRefused) as caught:
            await client._wire.call("PATCH", "/api/v1/users/me", body={"a": 1})  # pyright: ignore[reportPrivateUsage]

    assert caught.value.status == 301
