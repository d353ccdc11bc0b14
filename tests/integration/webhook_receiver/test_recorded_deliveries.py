"""Every delivery that a real Plane sent gets a sensible decision, against a Plane that holds the same objects."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.local import Nats
from tests.support.plane_fixtures import ALICE, BOT, Recorded, deliveries, delivery
from tests.support.receiver import World, apply, set_secret
from tests.support.receiver import world as run
from tests.support.waiting import eventually

BY_SECRET = sorted({each.secret for each in deliveries() if each.body})
#: delivery -> (what became of it, a word of the sentence); handed: the dispatcher is asked
DECIDED = {
    "01a": ("ignored", "says nothing about a work item"),
    "04a": ("handed", ""),
    "05a": ("handed", ""),
    "07a": ("handed", ""),
    "08a": ("ignored", "echo of our own edit"),
    "09a": ("ignored", "echo of our own edit"),
    "10a": ("handed", ""),
    "11a": ("handed", ""),
    "13a": ("handed", ""),
    "13b": ("handed", ""),
    "14a": ("handed", ""),
    "17a": ("ignored", "echo of our own edit"),
    "21a": ("handed", ""),
    "22a": ("handed", ""),
    "24a": ("handed", ""),
    "25a": ("handed", ""),
    "28a": ("ignored", "says nothing about a work item"),
    "34a": ("ignored", "says nothing about a work item"),
    "50a": ("ignored", "says nothing about a work item"),
    "51a": ("handed", ""),
    "54a": ("handed", ""),
    "54b": ("handed", ""),
    "55a": ("handed", ""),
    "56a": ("handed", ""),
    "57a": ("handed", ""),
    "59a": ("handed", ""),
    "61a": ("handed", ""),
    "65a": ("handed", ""),
    "68a": ("ignored", "None of its labels asks for an agent"),
    "71a": ("refused", "is a guest"),
    "72a": ("handed", ""),
    "80": ("ignored", "None of its labels asks for an agent"),
    "82": ("ignored", "None of its labels asks for an agent"),
}


@pytest.fixture
async def mirror(database: str, nats: Nats, tmp_path: Path) -> AsyncGenerator[World]:
    """A receiver with one source per recorded secret, and a Plane that becomes what the recorded one was."""
    async with run(database, nats.url, tmp_path) as world:
        world.plane.state.add_person("alice", 20, person_id=ALICE)
        world.plane.state.add_person("agent", 5, person_id=BOT)
        for number, secret in enumerate(BY_SECRET):
            source = {
                "provider": "plane", "baseUrl": world.plane.url, "workspace": "lab", "webhookSecret": f"hook-{number}",
                "apiToken": "plane-token", "defaultRepository": "app",
            }  # fmt: skip
            if number == BY_SECRET.index(delivery("04a").secret):
                source["botActorId"] = BOT
            await set_secret(world.db, world.settings, f"hook-{number}", secret)
            await apply(world.db, "Source", f"source-{number}", source)
        yield world


def happens(world: World, recorded: Recorded) -> None:
    """Bring the local Plane to where the real one was when it sent this."""
    event, data, state = recorded.data["event"], recorded.data["data"], world.plane.state
    if event not in ("issue", "issue_comment"):
        return
    if data["project"] not in state.projects:
        named = {"name": "Recorded", "identifier": f"P{len(state.projects)}"}
        state.add_project(named, actor=ALICE, project_id=data["project"])
    for label in data.get("labels", ()):
        if label["id"] not in state.labels:
            state.add_label(data["project"], {"name": label["name"]}, actor=ALICE, label_id=label["id"])
    if event == "issue_comment":
        written = state.add_comment(data["issue"], {"comment_html": data["comment_html"]}, actor=data["actor"])
        state.comments[data["id"]] = state.comments.pop(written["id"]) | {"id": data["id"]}
        return
    labels = [label["id"] for label in data["labels"]]
    if data["id"] in state.items:
        state.patch_item(data["id"], {"labels": labels}, actor=ALICE)
    else:
        state.create_item(data["project"], {"name": data["name"], "labels": labels}, actor=ALICE, item_id=data["id"])


async def send(world: World, recorded: Recorded) -> dict[str, object]:
    """Send it again, byte by byte; the receiver may need a moment to know the new sources."""
    headers = {name: value for name, value in recorded.headers.items() if name.startswith("X-")}
    source = f"source-{BY_SECRET.index(recorded.secret)}"

    async def taken() -> dict[str, object] | None:
        answer = await world.post(recorded.body, source=source, headers=headers)
        return answer.json() if answer.status_code == 202 else None

    answer = await eventually(taken)
    assert isinstance(answer, dict)
    return answer  # pyright: ignore[reportUnknownVariableType]


async def test_each_gets_its_decision(mirror: World):
    found: dict[str, tuple[str, str]] = {}
    for prefix in DECIDED:
        recorded = delivery(prefix)
        happens(mirror, recorded)
        row = await mirror.settled(str((await send(mirror, recorded))["delivery"]))
        found[prefix] = (row["outcome"] or row["state"], row["sentence"])

    wrong = {prefix: said for prefix, said in found.items() if said[0] != DECIDED[prefix][0]}
    assert wrong == {}
    assert [prefix for prefix, said in found.items() if DECIDED[prefix][1] not in said[1]] == []


async def test_what_is_handed_over_is_what_plane_held_then(mirror: World):
    for prefix in ("04a", "05a", "10a"):
        happens(mirror, delivery(prefix))
        await mirror.settled(str((await send(mirror, delivery(prefix)))["delivery"]))

    created, labelled, commented = await mirror.told(3)
    assert [want.key for want in created.wanted] == ["label:agent:docs"]
    assert [want.key for want in labelled.wanted] == ["label:agent:coder", "label:agent:docs"]
    (ask,) = commented.asks
    assert (ask.key, ask.role) == (f"comment:{delivery('10a').data['data']['id']}", "coder")
    assert ask.instruction == "fix the flaky test"
    assert {fact.actor.id for fact in (created, labelled, commented)} == {ALICE}


async def test_the_spoofed_author_starts_nothing(mirror: World):
    """A guest's token wrote a comment with ``created_by`` set to an administrator."""
    for prefix in ("68a", "71a"):
        happens(mirror, delivery(prefix))

    row = await mirror.settled(str((await send(mirror, delivery("71a")))["delivery"]))

    assert (row["state"], row["outcome"], row["actor_id"]) == ("decided", "refused", BOT)
    assert row["sentence"] == "agent is a guest; starting an agent takes the role member."
    assert await mirror.facts() == []


async def test_planes_retry_of_the_same_event_is_one_delivery(mirror: World):
    first, again = delivery("80"), delivery("81")
    assert first.headers["X-Plane-Delivery"] != again.headers["X-Plane-Delivery"]

    kept = await send(mirror, first)
    repeated = await send(mirror, again)

    assert (kept["duplicate"], repeated) == (False, {"delivery": kept["delivery"], "duplicate": True})
    assert await mirror.db.fetchval("SELECT count(*) FROM deliveries") == 1
