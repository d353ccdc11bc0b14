"""Opens the tracker a task came from: its Source resource, its API token, one client and one pace per token."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from dispatch_common import resources, secret_rows
from dispatch_common.db import Db
from dispatch_common.plane import Pace, Plane, open_plane
from dispatch_common.resources import Provider, Source
from dispatch_common.secrets import SecretUnreadable, load_kek
from dispatch_common.settings import Settings
from dispatch_common.values import TaskSnapshot

#: Shorter than the time an intent waits before it is read back.
TIMEOUT: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Tracker:
    """A source that can be told, ready to be used."""

    source: Source
    plane: Plane

    async def project_id(self, snapshot: TaskSnapshot) -> str:
        """Return the source's own id of the task's project."""
        if snapshot.project in self.source.projects:
            return snapshot.project
        for project_id, project in self.source.projects.items():
            if project.identifier == snapshot.project:
                return project_id
        return (await self.plane.item_by_key(snapshot.key)).project.id


class Sources:
    """The sources of one org."""

    def __init__(self, db: Db, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self._paces: dict[str, Pace] = {}

    async def source(self, snapshot: TaskSnapshot) -> Source | None:
        """Return the Source resource of a task, None when it was deleted."""
        found = await resources.load_all(self._db, Source, org=self._settings.org)
        return found.get(snapshot.source)

    @asynccontextmanager
    async def tracker(self, snapshot: TaskSnapshot) -> AsyncGenerator[Tracker | str]:
        """Open the tracker of a task, or return the sentence that says why there is none."""
        source = await self.source(snapshot)
        if source is None:
            yield f"the Source '{snapshot.source}' is not there any more; apply it again"
            return
        if source.provider is not Provider.PLANE:
            yield f"work items of {source.provider} cannot be told yet"
            return
        token = await self._token(source)
        if token is None:
            name = source.api_token
            yield f"the secret '{name}' is missing or unreadable; run: dispatch secret set {name}"
            return
        pace = self._paces.setdefault(source.api_token or "", Pace())
        async with open_plane(source.base_url, source.workspace, token, pace=pace, timeout=TIMEOUT) as plane:
            yield Tracker(source, plane)

    async def _token(self, source: Source) -> str | None:
        if source.api_token is None:
            return None
        kek = load_kek(self._settings.kek_file)
        try:
            values = await secret_rows.live(self._db, kek, org=self._settings.org, name=source.api_token)
        except SecretUnreadable:
            return None
        return values[0].get_secret_value() if values else None
