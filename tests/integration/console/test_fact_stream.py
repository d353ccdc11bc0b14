"""The stream of facts: live, resumable, each fact once; a lost history is said."""

import shutil
from pathlib import Path
from uuid import UUID

import httpx

from dispatch_common import clock, ids, streams
from dispatch_common.db import Db
from dispatch_common.events import CancelAsked
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.console import app
from services.local import Nats
from tests.support import builders
from tests.support.consoles import Api
from tests.support.sse import Got, watching
from tests.support.waiting import eventually


async def say(console: Context, comment: str) -> UUID:
    """Say a fact through the outbox, and wait until the broker has it."""
    fact = CancelAsked(id=ids.fresh(), time=clock.now(), run_id=ids.fresh(), by=builders.ALICE, comment=comment)
    async with console.db.transaction() as tx:
        tx.say(fact)

    async def published() -> bool:
        return bool(await console.db.fetchval("SELECT published_at FROM outbox WHERE fact_id = $1", fact.id))

    await eventually(published)
    return fact.id


async def say_again(console: Context, fact_id: UUID) -> None:
    """Publish a fact a second time, under the id of a re-emission, as a relay does after a doubt."""
    row = await console.db.fetchrow("SELECT subject, body FROM outbox WHERE fact_id = $1", fact_id)
    assert row is not None
    await console.js.publish(row["subject"], row["body"], headers={"Nats-Msg-Id": f"{fact_id}/1"})


def comments(events: list[Got]) -> list[str]:
    return [event.data["data"]["comment"] for event in events]


async def forget_everything(console: Context) -> None:
    """The broker loses its streams; the services make them anew."""
    await console.js.delete_stream(streams.FACTS)
    await streams.ensure(console.js, console.settings)


async def test_facts_arrive_as_they_are_said(console: Context, admin: httpx.AsyncClient) -> None:
    await say(console, "before")

    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        await say(console, "two")
        got = await stream.take(2)

    assert comments(got) == ["one", "two"]
    assert got[0].data["type"] == "dispatch.run.cancel-asked.v1"


async def test_a_viewer_that_comes_back_misses_nothing_and_sees_nothing_twice(
    console: Context, admin: httpx.AsyncClient
) -> None:
    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        await say(console, "two")
        last = (await stream.take(1))[0].id
    await say(console, "three")

    async with watching(admin, "/v1/events", last_id=last) as stream:
        await say(console, "four")
        got = await stream.take(3)

    assert comments(got) == ["two", "three", "four"]


async def test_a_fact_that_the_broker_holds_twice_is_sent_once(console: Context, admin: httpx.AsyncClient) -> None:
    async with watching(admin, "/v1/events") as stream:
        first = await say(console, "one")
        second = await say(console, "two")
        await say_again(console, first)
        await say(console, "three")
        got = await stream.take(3)
    await say_again(console, second)
    await say(console, "four")

    async with watching(admin, "/v1/events", last_id=got[-1].id) as stream:
        got += await stream.take(1)

    assert comments(got) == ["one", "two", "three", "four"]


async def test_a_fact_that_was_only_said_again_is_not_lost(console: Context, admin: httpx.AsyncClient) -> None:
    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        last = (await stream.next()).id
    fact = CancelAsked(id=ids.fresh(), time=clock.now(), run_id=ids.fresh(), by=builders.ALICE, comment="orphan")
    await console.js.publish(fact.nats_subject, fact.encode(), headers={"Nats-Msg-Id": f"{fact.id}/1"})

    async with watching(admin, "/v1/events", last_id=last) as stream:
        assert comments([await stream.next()]) == ["orphan"]


async def test_when_the_broker_forgets_the_stream_says_reset_and_goes_on(
    console: Context, admin: httpx.AsyncClient, db: Db
) -> None:
    run_id, _ = await builders.at_work(db)
    async with watching(admin, "/v1/events") as stream:
        old = await say(console, "one")
        assert comments([await stream.next()]) == ["one"]
        await forget_everything(console)
        reset = await stream.next()
        await say_again(console, old)
        await say(console, "two")
        after = await stream.next()

    assert reset.name == "reset"
    assert "anew" in reset.data["reason"]
    assert [run["id"] for run in reset.data["runs"]] == [str(run_id)]
    assert comments([after]) == ["two"]


async def test_a_position_in_a_forgotten_history_is_answered_with_a_reset(
    console: Context, admin: httpx.AsyncClient
) -> None:
    async with watching(admin, "/v1/events") as stream:
        old = await say(console, "one")
        last = (await stream.next()).id
    await forget_everything(console)
    for comment in ("while away", "and longer"):
        await say(console, comment)

    async with watching(admin, "/v1/events", last_id=last) as stream:
        reset = await stream.next()
        await say_again(console, old)  # the relay says everything again; the snapshot tells what came of it
        await say(console, "two")
        after = await stream.next()
    async with watching(admin, "/v1/events", last_id=reset.id) as stream:
        again = await stream.next()

    assert reset.name == "reset"
    assert comments([after, again]) == ["two", "two"]


async def test_a_position_before_what_the_broker_kept_is_answered_with_a_reset(
    console: Context, admin: httpx.AsyncClient
) -> None:
    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        last = (await stream.next()).id
    await say(console, "two")
    await say(console, "three")
    await console.js.purge_stream(streams.FACTS)

    async with watching(admin, "/v1/events", last_id=last) as stream:
        assert (await stream.next()).name == "reset"


async def test_without_following_the_stream_ends_when_it_has_caught_up(
    console: Context, admin: httpx.AsyncClient
) -> None:
    await say(console, "one")
    await say(console, "two")

    query = {"from": "start", "follow": "false"}
    async with watching(admin, "/v1/events", **query) as stream:
        got = await stream.rest()

    assert comments(got[:-1]) == ["one", "two"]
    assert got[-1].name == "end"


async def test_a_bad_position_is_refused(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/v1/events", headers={"Last-Event-ID": "yesterday"})

    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "Last-Event-ID")


async def test_one_viewer_too_many_is_told_to_come_back(settings: Settings, db: Db, tmp_path: Path) -> None:
    run_id = await builders.a_run(db)
    few = settings.model_copy(update={"console_viewers": 1})
    async with app.serve(few) as console:
        await eventually(lambda: console.broker is not None)
        api = Api(console.urls["console"], db, tmp_path)
        client = await api.as_("viewer")
        async with watching(client, f"/v1/runs/{run_id}/events") as stream:
            await stream.take(1)
            refused = await client.get("/v1/events")

        async def free() -> bool:
            return (await client.get("/v1/events", params={"follow": "false"})).status_code == 200

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_viewers")
        assert int(refused.headers["retry-after"]) > 0
        await eventually(free)
        await api.close()


async def test_while_the_broker_is_away_viewers_wait_and_afterwards_see_what_came(
    console: Context, admin: httpx.AsyncClient, nats: Nats
) -> None:
    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        await stream.take(1)
        await nats.restart()
        await say(console, "two")

        assert comments(await stream.take(1)) == ["two"]


async def test_after_the_brokers_folder_was_deleted_viewers_are_told_and_go_on(
    console: Context, admin: httpx.AsyncClient, nats: Nats
) -> None:
    async with watching(admin, "/v1/events") as stream:
        await say(console, "one")
        await stream.take(1)
        await nats.stop()
        shutil.rmtree(nats.data / "jetstream")
        await nats.start()
        reset = await stream.next()
        await say(console, "two")
        after = await stream.next()

    assert reset.name == "reset"
    assert comments([after]) == ["two"]
