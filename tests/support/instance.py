"""A whole running installation beside a local Plane, for system stories: what people do in it, and what can be seen."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

import httpx

from dispatch_common.db import Db, open_db
from dispatch_common.settings import Settings
from services.cli import stack
from services.demo.plane import LocalPlane, local_plane
from services.demo.plane_state import ADMIN, GUEST, MEMBER, Person
from tests.support import repositories
from tests.support.waiting import eventually

SECRET = "plane_wh_0123456789abcdef0123456789abcdef"
_PATIENT = timedelta(seconds=30)

_STORY = """
SELECT line FROM (
    SELECT at, left(run_id::text, 8) || ' ' || to_state || ' (' || code || ') ' || sentence AS line FROM run_steps
    UNION ALL
    SELECT received_at, 'delivery ' || state || ' ' || coalesce(outcome, '-') || ' ' || sentence FROM deliveries
    UNION ALL SELECT at, 'dead letter ' || service || ' ' || subject || ' ' || reason FROM dead_letters
    UNION ALL SELECT created_at, 'effect ' || key || ' ' || state || ' ' || sentence FROM effects) told
ORDER BY at
"""

CATALOG = """
apiVersion: dispatch.dev/v1alpha1
kind: AgentPermissionSet
metadata: {{name: build}}
spec:
  pathsNeedingApproval: [".github/**"]
  limits: {{wall: {wall}s, idle: {idle}s}}
  maxAttempts: {attempts}
---
apiVersion: dispatch.dev/v1alpha1
kind: Agent
metadata: {{name: vega}}
spec: {{role: coder, backend: scripted, permissionSet: build, maxConcurrentTasks: {slots}}}
---
apiVersion: dispatch.dev/v1alpha1
kind: Agent
metadata: {{name: lyra}}
spec: {{role: docs, backend: scripted, permissionSet: build}}
---
apiVersion: dispatch.dev/v1alpha1
kind: PolicyProfile
metadata: {{name: everyone}}
spec:
  appliesTo: {{}}
  default: allow
  rules:
    - {{name: hold, when: "'hold' in labels", verdict: deny, reason: The label hold is on it.}}
    - {{name: big, when: "'big' in labels", verdict: escalate, reason: Big things want a person.}}
---
apiVersion: dispatch.dev/v1alpha1
kind: Repository
metadata: {{name: sample}}
spec: {{url: {repository}, testCommand: python3 -m unittest discover}}
---
apiVersion: dispatch.dev/v1alpha1
kind: TriggerRule
metadata: {{name: labels}}
spec: {{labels: ["agent:*"]}}
---
apiVersion: dispatch.dev/v1alpha1
kind: TriggerRule
metadata: {{name: command}}
spec: {{commands: [/agent], role: coder, wakeReason: user_message}}
---
apiVersion: dispatch.dev/v1alpha1
kind: Source
metadata: {{name: plane}}
spec:
  provider: plane
  baseUrl: {plane}
  workspace: {workspace}
  projects: {{"{project}": {{identifier: DISP, repository: sample}}}}
  webhookSecret: plane-webhook
  apiToken: plane-token
  stateOnPublish: Done
"""


@dataclass
class Instance:
    """A running installation. ``api`` speaks to the console as its administrator."""

    settings: Settings
    plane: LocalPlane
    db: Db
    api: httpx.AsyncClient
    alice: Person
    bot: Person
    guest: Person
    project: str
    labels: dict[str, str]
    repository: Path

    def item(
        self, *labels: str, script: str = repositories.FIX, name: str = "Fix the adder", by: Person | None = None
    ) -> str:
        """Create a work item as a person would; its script tells the scripted agent what to do."""
        text = f"<p>The adder is wrong.</p><pre><code>#!dispatch-script\n{escape(script)}</code></pre>"
        asked = {"name": name, "description_html": text, "labels": [self._label(each) for each in labels]}
        return self.plane.state.create_item(self.project, asked, actor=(by or self.alice).id)["id"]

    def change(
        self, item: str, *, labels: tuple[str, ...] | None = None, by: Person | None = None, **asked: Any
    ) -> None:
        """Change a work item as a person would."""
        if labels is not None:
            asked["labels"] = [self._label(each) for each in labels]
        self.plane.state.patch_item(item, asked, actor=(by or self.alice).id)

    async def run_of(self, item: str, *, within: timedelta = _PATIENT) -> str:
        """Return the id of the newest run of a work item, as soon as there is one."""
        sql = """SELECT r.id FROM runs r JOIN tasks t ON t.id = r.task_id WHERE t.object_id = $1
                 ORDER BY r.created_at DESC LIMIT 1"""
        await eventually(lambda: self.db.fetchval(sql, item), within=within, describe=self.story)
        return str(await self.db.fetchval(sql, item))

    async def state(self, run: str) -> str:
        return await self.db.fetchval("SELECT state FROM runs WHERE id = $1::uuid", run)

    async def until(self, run: str, *states: str, within: timedelta = _PATIENT) -> str:
        """Wait until a run is in one of these states and return which."""

        async def there() -> bool:
            return await self.state(run) in states

        await eventually(there, within=within, describe=self.story)
        return await self.state(run)

    async def steps(self, run: str) -> list[str]:
        """Return the states a run went through."""
        rows = await self.db.fetch("SELECT to_state FROM run_steps WHERE run_id = $1::uuid ORDER BY number", run)
        return [row["to_state"] for row in rows]

    def comments(self, item: str) -> list[str]:
        """Return what stands under a work item, oldest first."""
        return [row["comment_html"] for row in self.plane.state.of_item(self.plane.state.comments, item)]

    def links(self, item: str) -> list[str]:
        return [row["url"] for row in self.plane.state.of_item(self.plane.state.links, item)]

    def item_state(self, item: str) -> str:
        return self.plane.state.states[self.plane.state.items[item]["state"]]["name"]

    def branches(self) -> list[str]:
        """Return the agent branches in the repository."""
        listed = repositories.git("for-each-ref", "--format=%(refname:short)", "refs/heads/agent", cwd=self.repository)
        return listed.split()

    async def slots_taken(self) -> int:
        return await self.db.fetchval("SELECT count(*) FROM agent_slots WHERE attempt_id IS NOT NULL")

    async def story(self) -> str:
        """Tell what happened so far, for a test that failed."""
        rows = await self.db.fetch(_STORY)
        return "\n".join(row["line"] for row in rows)

    def _label(self, name: str) -> str:
        if name not in self.labels:
            made = self.plane.state.add_label(self.project, {"name": name, "color": "#0000ff"}, actor=self.alice.id)
            self.labels[name] = made["id"]
        return self.labels[name]


@dataclass(frozen=True)
class Options:
    """How the catalog of an instance differs from the usual one."""

    wall: int = 60
    idle: int = 30
    attempts: int = 2
    slots: int = 2


@asynccontextmanager
async def beside_plane(
    settings: Settings, urls: dict[str, str], token: str, folder: Path, options: Options | None = None
) -> AsyncGenerator[Instance]:
    """Set up a local Plane, a repository and the catalog for services that already run."""
    repository = repositories.sample(folder)
    async with (
        local_plane(slug="lab", per_minute=6000) as plane,
        open_db(settings.database_url, "test") as db,
        httpx.AsyncClient(base_url=urls["console"], headers={"Authorization": f"Bearer {token}"}, timeout=30) as api,
    ):
        alice = plane.state.add_person("alice", ADMIN)
        bot = plane.state.add_person("agent-bot", MEMBER)
        guest = plane.state.add_person("guest", GUEST)
        project = plane.state.add_project({"name": "Dispatch", "identifier": "DISP"}, actor=alice.id)["id"]
        known = options or Options()
        text = CATALOG.format(
            plane=plane.url,
            workspace="lab",
            project=project,
            repository=repository,
            wall=known.wall,
            idle=known.idle,
            attempts=known.attempts,
            slots=known.slots,
        )
        for name, value in (("plane-webhook", SECRET), ("plane-token", bot.token)):
            (await api.put(f"/v1/secrets/{name}", json={"value": value})).raise_for_status()
        applied = await api.post("/v1/resources", json={"files": [{"name": "catalog.yaml", "text": text}]})
        assert applied.status_code == 200, applied.text
        hook = plane.add_webhook(f"{urls['receiver']}/webhooks/plane/plane", secret=SECRET)
        hook.tries, hook.pause = 100, timedelta(seconds=0.2)  # stories kill the receiver; Plane tries for an hour
        instance = Instance(settings, plane, db, api, alice, bot, guest, project, {}, repository)
        await eventually(lambda: db.fetchval("SELECT count(*) > 0 FROM agent_slots"), describe=instance.story)
        yield instance


@asynccontextmanager
async def instance(settings: Settings, folder: Path, options: Options | None = None) -> AsyncGenerator[Instance]:
    """Run everything in this process, beside a local Plane."""
    async with stack.running(settings) as running:
        assert running.token_file is not None
        token = running.token_file.read_text().strip()
        async with beside_plane(running.settings, running.urls, token, folder, options) as made:
            yield made
