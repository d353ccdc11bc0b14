"""A running webhook-receiver beside a local Plane, for tests: what a person sets up, and what can be looked at."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from dispatch_common import secret_rows
from dispatch_common.db import Db, open_db
from dispatch_common.events import TaskReceived, decode
from dispatch_common.secrets import digest_of, load_kek
from dispatch_common.settings import Settings
from services.demo.plane import LocalPlane, local_plane
from services.demo.plane_hooks import sign
from services.demo.plane_state import ADMIN, GUEST, Person
from services.webhook_receiver import app
from tests.support.waiting import eventually

SECRET = "plane_wh_0123456789abcdef0123456789abcdef"
TOKEN = "dsp_a-token-of-a-test"
SOURCE = "plane"


@dataclass
class World:
    """Everything a test touches."""

    plane: LocalPlane
    settings: Settings
    db: Db
    http: httpx.AsyncClient
    alice: Person
    guest: Person
    bot: Person
    project: str
    label: str

    def item(self, name: str = "Fix the flaky test", *, labels: tuple[str, ...] = (), **asked: Any) -> str:
        made = {"name": name, "description_html": "<p>Please.</p>", "labels": list(labels), **asked}
        return self.plane.state.create_item(self.project, made, actor=self.alice.id)["id"]

    async def post(
        self,
        body: bytes,
        *,
        source: str = SOURCE,
        secret: str | None = SECRET,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a delivery as Plane does."""
        said = {"Content-Type": "application/json", "X-Plane-Event": "issue", "X-Plane-Delivery": "d-1"}
        if secret is not None:
            said["X-Plane-Signature"] = sign(secret, body)
        return await self.http.post(f"/webhooks/plane/{source}", content=body, headers=said | dict(headers or {}))

    async def delivery(self, delivery_id: str) -> asyncpg.Record:
        row = await self.db.fetchrow("SELECT * FROM deliveries WHERE id = $1", delivery_id)
        assert row is not None
        return row

    async def settled(self, delivery_id: str) -> asyncpg.Record:
        """Wait until a delivery was handed over or decided."""

        async def found() -> asyncpg.Record | None:
            row = await self.delivery(delivery_id)
            return row if row["state"] != "received" else None

        row = await eventually(found, describe=lambda: self.delivery(delivery_id))
        assert isinstance(row, asyncpg.Record)
        return row

    async def told(self, count: int = 1) -> list[TaskReceived]:
        """Wait until the receiver has said so many facts, and return them all."""

        async def found() -> list[TaskReceived]:
            facts = await self.facts()
            assert len(facts) >= count, facts
            return facts

        facts = await eventually(found)
        assert isinstance(facts, list)
        return facts  # pyright: ignore[reportUnknownVariableType]

    async def facts(self) -> list[TaskReceived]:
        """What the receiver said so far, in order."""
        rows = await self.db.fetch("SELECT body FROM outbox WHERE service = 'webhook-receiver' ORDER BY position")
        found = [decode(row["body"]) for row in rows]
        return [fact for fact in found if isinstance(fact, TaskReceived)]

    async def refusals(self, *, least: int = 1) -> list[asyncpg.Record]:
        async def found() -> list[asyncpg.Record]:
            rows = await self.db.fetch("SELECT * FROM refused_deliveries ORDER BY received_at")
            assert len(rows) >= least
            return rows

        rows = await eventually(found)
        assert isinstance(rows, list)
        return rows  # pyright: ignore[reportUnknownVariableType]


async def apply(db: Db, kind: str, name: str, spec: Mapping[str, Any]) -> None:
    """Store a resource as the console does."""
    await db.execute(
        "INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by) "
        "VALUES ('default', $1, $2, 1, $3, '', 'test') ON CONFLICT (org, kind, name) DO UPDATE "
        "SET spec = excluded.spec, generation = resources.generation + 1",
        kind,
        name,
        dict(spec),
    )


async def set_secret(db: Db, settings: Settings, name: str, value: str) -> None:
    await secret_rows.put(db, load_kek(settings.kek_file), org="default", name=name, value=SecretStr(value))


async def set_up(db: Db, settings: Settings, plane: LocalPlane, bot: Person, **source: Any) -> None:
    """Apply what a person applies: a source, agents, a repository; store the secrets and an API token."""
    spec = {
        "provider": "plane",
        "baseUrl": plane.url,
        "workspace": plane.state.slug,
        "webhookSecret": "plane-webhook",
        "apiToken": "plane-token",
        "defaultRepository": "app",
    }
    await apply(db, "Source", SOURCE, spec | source)
    for name, role in (("vega", "coder"), ("rigel", "coder"), ("lyra", "docs")):
        await apply(db, "Agent", name, {"role": role, "permissionSet": "default", "displayName": name.title()})
    await apply(db, "Repository", "app", {"url": "https://forge.example/acme/app.git"})
    await set_secret(db, settings, "plane-webhook", SECRET)
    await set_secret(db, settings, "plane-token", bot.token)
    await db.execute(
        "INSERT INTO principals (org, name, roles, token_digest) VALUES ('default', 'anna', $1, $2)",
        ["operator"],
        digest_of(TOKEN),
    )


Prepare = Callable[[LocalPlane], Awaitable[None] | None]


@asynccontextmanager
async def world(
    database: str, nats_url: str, folder: Path, *, per_minute: int = 1000, source: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncGenerator[World]:  # fmt: skip
    """Run a receiver with a local Plane that does not send webhooks by itself."""
    made = Settings(
        data=folder / "data",
        kek_file=folder / "kek",
        nats_url=nats_url,
        database_url=database,
        sweep_seconds=0.2,
        **settings,
    )
    async with local_plane(slug="lab", per_minute=per_minute) as plane, open_db(database, "test") as db:
        alice = plane.state.add_person("alice", ADMIN)
        guest = plane.state.add_person("guest", GUEST)
        bot = plane.state.add_person("dispatch")
        project = plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)["id"]
        label = plane.state.add_label(project, {"name": "agent:coder"}, actor=alice.id)["id"]
        await set_up(db, made, plane, bot, **(source or {}))
        async with app.serve(made) as ctx, httpx.AsyncClient(base_url=ctx.urls["receiver"]) as http:
            yield World(plane, made, db, http, alice, guest, bot, project, label)


def changed(body: bytes, **changes: Any) -> bytes:
    """A recorded body with other ids, as Plane would have written it. ``a__b`` reaches into objects."""
    data = json.loads(body)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = data
        for parent in parents:
            target = target[parent]
        target[last] = value
    return json.dumps(data).encode()
