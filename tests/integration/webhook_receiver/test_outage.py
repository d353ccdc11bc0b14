"""Without a database nothing that was answered 202 is lost, and nothing that was stored comes twice."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dispatch_common.db import migrate
from services.local import Nats, Postgres, postgres
from services.webhook_receiver import app
from tests.support.receiver import TOKEN, World
from tests.support.receiver import world as run
from tests.support.waiting import eventually

#: A killed PostgreSQL recovers before it answers.
RECOVERY = timedelta(seconds=40)


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncGenerator[Postgres]:
    async with postgres(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
async def frail(own_postgres: Postgres, nats: Nats, tmp_path: Path) -> AsyncGenerator[World]:
    """A receiver whose database can be killed."""
    await migrate(own_postgres.url)
    async with run(own_postgres.url, nats.url, tmp_path, spool_mib=1) as made:
        yield made


def body(number: int) -> bytes:
    data: dict[str, Any] = {"id": f"i-{number}", "name": "x", "labels": [], "project": "p"}
    return json.dumps(
        {"event": "issue", "action": "updated", "data": data, "activity": {"actor": {"id": "a"}}}
    ).encode()


async def test_deliveries_are_kept_while_the_database_is_away_and_stored_once_when_it_is_back(
    frail: World, own_postgres: Postgres
):
    before = await frail.post(body(0))
    own_postgres.kill()

    answers = await asyncio.gather(*(frail.post(body(number)) for number in range(1, 41)))
    repeated = await frail.post(body(7))
    assert {answer.status_code for answer in (*answers, repeated)} == {202}
    assert list(frail.settings.spool.glob("*.spool"))

    await own_postgres.restart()

    async def stored() -> bool:
        return await frail.db.fetchval("SELECT count(*) FROM deliveries") == 41

    await eventually(stored, within=RECOVERY)
    await eventually(lambda: not list(frail.settings.spool.glob("*.spool")))
    ids = {str(row["id"]) for row in await frail.db.fetch("SELECT id FROM deliveries")}
    assert {answer.json()["delivery"] for answer in (before, *answers)} == ids
    for answer in answers:
        row = await frail.settled(answer.json()["delivery"])
        assert row["outcome"] == "ignored"


async def test_a_task_is_kept_while_the_database_is_away(frail: World, own_postgres: Postgres):
    own_postgres.kill()
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "k"}

    answer = await frail.http.post("/v1/tasks", json={"title": "Fix", "role": "coder"}, headers=headers)
    assert answer.status_code == 202

    await own_postgres.restart()
    (fact,) = await frail.told()
    assert str(fact.delivery_ids[0]) == answer.json()["delivery"]


async def test_a_receiver_that_starts_without_a_database_verifies_and_keeps(frail: World, own_postgres: Postgres):
    own_postgres.kill()

    async with app.serve(frail.settings) as ctx, httpx.AsyncClient(base_url=ctx.urls["receiver"]) as http:
        second = replace(frail, http=http)
        taken = await second.post(body(1))
        unsigned = await second.post(body(2), secret=None)
        wrong = await second.post(body(2), secret="plane_wh_wrong")
        assert (taken.status_code, unsigned.status_code, wrong.status_code) == (202, 401, 401)

    # That receiver is gone again; the one that lives brings what it left on disk.
    await own_postgres.restart()
    row = await frail.settled(await _stored(frail, taken.json()["delivery"]))
    assert row["outcome"] == "ignored"


async def _stored(world: World, delivery: str) -> str:
    await eventually(
        lambda: world.db.fetchval("SELECT count(*) FROM deliveries WHERE id = $1", delivery), within=RECOVERY
    )
    return delivery


async def test_a_full_spool_asks_to_come_again(frail: World, own_postgres: Postgres):
    own_postgres.kill()

    async def send(number: int) -> httpx.Response:
        return await frail.post(json.dumps({"event": "x", "number": number, "text": "x" * 400_000}).encode())

    answers = [await send(number) for number in range(3)]

    refused = answers[-1]
    assert [answer.status_code for answer in answers] == [202, 202, 503]
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["code"] == "spool_full"


async def test_the_sealed_copy_holds_no_secret_in_the_clear(frail: World):
    (sealed,) = (frail.settings.data / "receiver").glob("known.sealed")

    raw = sealed.read_bytes()

    assert sealed.stat().st_mode & 0o077 == 0
    assert b"plane_wh_" not in raw
    assert b"plane_api_" not in raw
