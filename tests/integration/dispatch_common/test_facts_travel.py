"""Facts between two services on a real broker and a real database: once each, whatever is lost or said again."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from uuid import UUID

import pytest

from dispatch_common import ids, service, streams
from dispatch_common.db import Tx, open_db
from dispatch_common.errors import Permanent
from dispatch_common.events import CancelAsked, Fact, ResourceApplied, decode
from dispatch_common.settings import Settings
from dispatch_common.values import Actor
from services.local import Nats
from tests.support.waiting import eventually


def a_cancel(run: UUID) -> CancelAsked:
    return CancelAsked(id=ids.fresh(), time=datetime(2026, 11, 21, tzinfo=UTC), run_id=run, by=Actor(id="alice"))


@pytest.fixture
def settings(database: str, nats: Nats, tmp_path: Path) -> Settings:
    return Settings(database_url=database, nats_url=nats.url, data=tmp_path, ack_wait_seconds=1, sweep_seconds=0.1)


class Ears:
    """A service that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[UUID] = []
        self.refuse: set[UUID] = set()

    async def react(self, tx: Tx, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.id in self.refuse:
                raise Permanent("cannot be taken")
        await tx.conn.fetchval("SELECT 1")
        self.heard += [fact.id for fact in facts]

    @asynccontextmanager
    async def serve(self, settings: Settings):
        async with service.open(settings, "ears", hears=(CancelAsked,), react=self.react) as ctx:
            yield ctx


async def said_by(settings: Settings, *facts: Fact) -> None:
    """Commit facts as the service "mouth" would, without publishing them."""
    async with open_db(settings.database_url, "mouth") as db, db.transaction() as tx:
        tx.say(*facts)


def mouth(settings: Settings):
    return service.open(settings, "mouth")


async def test_a_committed_fact_arrives_once(settings: Settings) -> None:
    ears, facts = Ears(), [a_cancel(ids.fresh()) for _ in range(300)]
    async with ears.serve(settings), mouth(settings) as ctx:
        async with ctx.db.transaction() as tx:
            tx.say(*facts, *facts[:1])
        await eventually(lambda: len(ears.heard) >= 300)
        await eventually(lambda: published(ctx, 301))
    assert sorted(ears.heard) == sorted(fact.id for fact in facts)


async def published(ctx: service.Context, count: int) -> bool:
    return await ctx.db.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL") == count


async def say_and_fail(ctx: service.Context) -> None:
    async with ctx.db.transaction() as tx:
        tx.say(a_cancel(ids.fresh()))
        raise ZeroDivisionError


async def test_a_fact_that_is_rolled_back_is_never_said(settings: Settings) -> None:
    ears, kept = Ears(), a_cancel(ids.fresh())
    async with ears.serve(settings), mouth(settings) as ctx:
        with pytest.raises(ZeroDivisionError):
            await say_and_fail(ctx)
        async with ctx.db.transaction() as tx:
            tx.say(kept)
        await eventually(lambda: ears.heard)
    assert ears.heard == [kept.id]


async def test_one_bad_fact_does_not_hold_the_others_and_becomes_a_dead_letter(settings: Settings) -> None:
    ears, facts = Ears(), [a_cancel(ids.fresh()) for _ in range(5)]
    ears.refuse = {facts[2].id}
    await said_by(settings, *facts)
    async with ears.serve(settings), mouth(settings) as ctx:
        await ctx.db.execute("UPDATE outbox SET at = at - interval '1 minute'")
        await eventually(lambda: len(ears.heard) == 4)
        await eventually(lambda: ctx.db.fetchval("SELECT count(*) = 1 FROM dead_letters WHERE service = 'ears'"))
        letter = await ctx.db.fetchrow("SELECT reason, body FROM dead_letters")
    assert letter is not None
    assert "cannot be taken" in letter["reason"]


async def test_facts_committed_while_the_broker_was_away_are_said_later(settings: Settings, nats: Nats) -> None:
    ears, facts = Ears(), [a_cancel(ids.fresh()) for _ in range(40)]
    async with ears.serve(settings), mouth(settings) as ctx:
        await eventually(lambda: ctx.broker is not None)
        nats.kill()
        async with ctx.db.transaction() as tx:
            tx.say(*facts)
        await nats.restart()
        await eventually(lambda: len(ears.heard) == 40)
    assert sorted(ears.heard) == sorted(fact.id for fact in facts)


async def test_a_broker_that_lost_everything_hears_all_kept_facts_again(settings: Settings, nats: Nats) -> None:
    ears, facts = Ears(), [a_cancel(ids.fresh()) for _ in range(40)]
    async with mouth(settings) as ctx:
        async with ctx.db.transaction() as tx:
            tx.say(*facts)
        await eventually(lambda: published(ctx, 40))
        await eventually(lambda: ctx.db.fetchval("SELECT count(*) = 1 FROM broker_epochs WHERE last_seq >= 40"))
        nats.kill()
        rmtree(nats.data / "jetstream", ignore_errors=True)
        await nats.restart()
        async with ears.serve(settings):
            await eventually(lambda: len(ears.heard) == 40)
    assert sorted(ears.heard) == sorted(fact.id for fact in facts)


async def test_a_message_that_is_no_fact_is_put_aside(settings: Settings) -> None:
    async with Ears().serve(settings) as ctx:
        await eventually(lambda: ctx.broker is not None)
        await streams.ensure(ctx.js, settings)
        await ctx.js.publish(f"{CancelAsked.type}.default", b"{]")
        await eventually(lambda: ctx.db.fetchval("SELECT count(*) = 1 FROM dead_letters"))


def test_a_fact_survives_its_encoding() -> None:
    fact = ResourceApplied(
        id=ids.fresh(), time=datetime(2026, 11, 21, tzinfo=UTC), kind="Agent", name="vega", generation=3, spec={"a": 1}
    )
    assert decode(fact.encode()) == fact
