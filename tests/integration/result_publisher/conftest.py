"""A publisher on a real database, a real local forge and the local Plane; facts are fed by hand, the worker is ours."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from pydantic import SecretStr

from dispatch_common import ids, inbox, localforge, resources, secret_rows
from dispatch_common.blobs import Blobs
from dispatch_common.db import Db, open_db
from dispatch_common.events import Fact, PublishRequested, PublishStopAsked, RunEnded, decode
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.localforge import PullRecord
from dispatch_common.secrets import load_kek
from dispatch_common.settings import Settings
from dispatch_common.values import AgentSpec, Grant, RepositorySpec, ResultRef, TaskSnapshot
from services.demo.plane import LocalPlane, local_plane
from services.demo.plane_state import ADMIN
from services.result_publisher import store
from services.result_publisher.checks import Checks
from services.result_publisher.effects import Session
from services.result_publisher.handlers import Handlers
from services.result_publisher.outside import Outside
from services.result_publisher.protocol import Rules, branch_name
from services.result_publisher.sources import Sources
from tests.integration.result_publisher.hostile import Repo, mirror, work

F = TypeVar("F", bound=Fact)

#: Doubts that are over at once, so that no test waits.
QUICK = Rules(in_flight=timedelta(), doubt=timedelta(), again=timedelta(), max_tries=4)
RUN = UUID("0011aabb-0000-4000-8000-000000000001")


@dataclass
class World:
    """All that a publication touches."""

    db: Db
    settings: Settings
    plane: LocalPlane
    forge: Repo
    agent: Repo
    base: str
    project: str
    item: str
    alice: str
    bot: str
    handlers: Handlers = field(default_factory=Handlers)

    async def hears(self, *facts: Fact) -> None:
        """Let the publisher take facts as its intake would, in one transaction."""
        async with self.db.transaction() as tx:
            new = await inbox.first_time(tx, "result-publisher", [fact.id for fact in facts])
            await self.handlers.react(tx, [fact for fact in facts if fact.id in new])

    async def said(self, kind: type[F]) -> list[F]:
        """Return all facts of a kind that it said, oldest first."""
        rows = await self.db.fetch("SELECT body FROM outbox ORDER BY position")
        return [fact for fact in (decode(row["body"]) for row in rows) if isinstance(fact, kind)]

    def session(
        self, revision: int = 1, *, probe: Callable[[str], None] | None = None, rules: Rules = QUICK
    ) -> Session:
        """Return a worker at a publication, as after a restart: it remembers nothing."""
        checks = Checks(self.settings, self.settings.data / "imports" / ids.fresh().hex)
        outside = Outside(self.settings, Sources(self.db, self.settings), checks)
        session = Session(self.db, (RUN, revision), checks, outside, rules)
        if probe is not None:
            session.probe = probe
        return session

    async def publishes(self, request: PublishRequested) -> None:
        """Let it take a request and work until nothing is left to do."""
        await self.hears(request)
        await self.works(request.revision)

    async def works(self, revision: int = 1) -> None:
        """Work until the publication is finished."""
        for _ in range(50):
            await self.session(revision).go_on()
            if (await store.load(self.db, (RUN, revision))).state == "finished":
                return
        raise AssertionError("the publication does not end")

    async def effects(self, revision: int = 1) -> dict[str, str]:
        """Return the state of each effect."""
        rows = await self.db.fetch("SELECT kind, state FROM effects WHERE run_id = $1 AND revision = $2", RUN, revision)
        return {row["kind"]: row["state"] for row in rows}

    async def sentences(self, revision: int = 1) -> dict[str, str]:
        rows = await self.db.fetch(
            "SELECT kind, sentence FROM effects WHERE run_id = $1 AND revision = $2", RUN, revision
        )
        return {row["kind"]: row["sentence"] for row in rows}

    # --- the outside ---

    @property
    def pulls(self) -> list[PullRecord]:
        return localforge.list_pulls(self.forge.path)

    @property
    def branches(self) -> list[str]:
        return self.forge.git("for-each-ref", "--format=%(refname:short)", "refs/heads/").decode().split()

    @property
    def comments(self) -> list[str]:
        rows = self.plane.state.of_item(self.plane.state.comments, self.item)
        return [row["comment_html"] for row in rows]

    @property
    def links(self) -> list[str]:
        return [row["url"] for row in self.plane.state.of_item(self.plane.state.links, self.item)]

    @property
    def item_state(self) -> str:
        row = self.plane.state.items[self.item]
        return self.plane.state.states[row["state"]]["name"]

    # --- what others say ---

    def snapshot(self, provider: str = "plane") -> TaskSnapshot:
        return TaskSnapshot(
            source="plane-local",
            provider=provider,
            object_id=self.item,
            key="DISP-1",
            title="Say hello",
            project="DISP",
            read_at=datetime.now(UTC),  # noqa: TID251 - the local Plane's clock is the machine's
            digest="d",
        )

    async def request(
        self,
        files: dict[str, bytes | None] | None = None,
        *,
        revision: int = 1,
        provider: str = "plane",
        grant: Grant | None = None,
        approved: str | None = None,
        message: str = "Say hello",
        run_id: UUID = RUN,
    ) -> PublishRequested:
        """Return the request to publish a result that changes these files."""
        result = ResultRef(base_commit=self.base, summary="It says hello now.")
        if files:
            commit = self.agent.grown(self.base, files, message=message)
            bundle = await Blobs(self.settings.blob_root).put(
                self.agent.honest(commit, self.base, f"refs/heads/{branch_name(run_id)}")
            )
            result = result.model_copy(update={"commit": commit, "bundle": bundle, "files_changed": len(files)})
        return PublishRequested(
            id=ids.fresh(),
            time=datetime(2026, 11, 21, tzinfo=UTC),
            run_id=run_id,
            task_id=ids.fresh(),
            revision=revision,
            attempt_id=ids.fresh(),
            fence=1,
            snapshot=self.snapshot(provider),
            agent=AgentSpec(name="Vega", role="coder", backend="scripted"),
            repository=RepositorySpec(name="sample", url=str(self.forge.path)),
            grant=grant or Grant(),
            result=result,
            approved_digest=approved,
        )

    def stop(self, revision: int = 1) -> PublishStopAsked:
        return PublishStopAsked(
            id=ids.fresh(),
            time=datetime(2026, 11, 21, tzinfo=UTC),
            run_id=RUN,
            revision=revision,
            sentence="Ada cancelled it.",
        )

    def ended(self, state: RunState = RunState.FAILED, provider: str = "plane") -> RunEnded:
        return RunEnded(
            id=ids.fresh(),
            time=datetime(2026, 11, 21, tzinfo=UTC),
            run_id=RUN,
            task_id=ids.fresh(),
            state=state,
            family=ErrorFamily.TIMEOUT,
            sentence="It ran longer than 30 minutes.",
            next_action="Split the task.",
            snapshot=self.snapshot(provider),
            agent="Vega",
            attempts=3,
        )

    async def source(self, **fields: Any) -> None:
        """Apply the Source as the console would."""
        spec = {
            "provider": "plane",
            "baseUrl": self.plane.url,
            "workspace": self.plane.state.slug,
            "projects": {self.project: {"identifier": "DISP"}},
            "webhookSecret": "plane-webhook",
            "apiToken": "plane-token",
            **fields,
        }
        parsed = resources.parse_spec("Source", "plane-local", spec).spec
        await self.db.execute(
            "INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by) VALUES "
            "('default', 'Source', 'plane-local', 1, $1, '', 'test') ON CONFLICT (org, kind, name) "
            "DO UPDATE SET spec = excluded.spec, generation = resources.generation + 1",
            resources.as_json(parsed),
        )


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncGenerator[World]:
    settings = Settings(
        database_url=database, data=tmp_path / "data", kek_file=tmp_path / "kek", public_url="https://dispatch.test"
    )
    forge, base = mirror(tmp_path / "forge.git")
    async with local_plane(per_minute=1000) as plane, open_db(database, "result-publisher") as db:
        alice = plane.state.add_person("alice", ADMIN).id
        bot = plane.state.add_person("dispatch")
        project = plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice)["id"]
        item = plane.state.create_item(project, {"name": "Say hello"}, actor=alice)["id"]
        agent = work(tmp_path / "agent.git", forge)
        made = World(db, settings, plane, forge, agent, base, project, item, alice, bot.id)
        token = SecretStr(bot.token)
        await secret_rows.put(db, load_kek(settings.kek_file), org="default", name="plane-token", value=token)
        await made.source()
        yield made
