"""One Plane client per source, with what changes rarely kept for a while: our own user, and who has which role."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from dispatch_common import clock
from dispatch_common.db import Db
from dispatch_common.errors import Transient
from dispatch_common.plane import Pace, Plane, open_plane
from dispatch_common.plane_types import Member
from dispatch_common.resources import Source
from services.webhook_receiver import store
from services.webhook_receiver.known import Known
from services.webhook_receiver.snapshot import People

#: Roles are looked up again after this long; somebody new is looked up at once, but not more often than below.
_FRESH: Final = timedelta(minutes=2)
_STRANGERS_EVERY: Final = timedelta(seconds=5)
#: Calls per minute that reading leaves to the publisher, which uses the same token.
RESERVE: Final = 10


class NoToken(Transient):
    """The source's API token is not stored."""


@dataclass(slots=True)
class Client:
    """The client of one source, as long as its address and token stay the same."""

    plane: Plane
    fingerprint: tuple[str, str, str]
    closing: AsyncExitStack
    own_id: str = ""
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    members_at: float = float("-inf")


class Clients:
    """Opens clients when they are first needed and closes them when their source changed."""

    def __init__(self, db: Db, known: Known, org: str) -> None:
        self._db = db
        self._known = known
        self._org = org
        self._open: dict[str, Client] = {}

    async def of(self, name: str, source: Source) -> Client:
        """Return the client of a source, or raise NoToken."""
        token = self._known.now.api_tokens.get(name)
        if token is None:
            raise NoToken(
                f"The API token of the source '{name}' is not stored. Run: dispatch secret set {source.api_token}",
                delay=timedelta(seconds=10),
            )
        fingerprint = (source.base_url, source.workspace, token)
        client = self._open.get(name)
        if client is not None and client.fingerprint == fingerprint:
            return client
        if client is not None:
            await client.closing.aclose()
        closing = AsyncExitStack()
        pace = Pace(reserve=RESERVE)
        plane = await closing.enter_async_context(open_plane(source.base_url, source.workspace, token, pace=pace))
        self._open[name] = client = Client(plane, fingerprint, closing)
        return client

    async def own_id(self, name: str, source: Source) -> str:
        """Return the id of our own user at the source."""
        if source.bot_actor_id:
            return source.bot_actor_id
        client = await self.of(name, source)
        if not client.own_id:
            client.own_id = (await client.plane.me()).id
        return client.own_id

    async def people(self, name: str, source: Source, needed: Collection[str]) -> People:
        """Return who is who; somebody who is not known yet makes us ask again."""
        client = await self.of(name, source)
        own_id = await self.own_id(name, source)
        age = clock.monotonic() - client.members_at
        stranger = any(each not in client.members for each in needed) and age > _STRANGERS_EVERY.total_seconds()
        if age > _FRESH.total_seconds() or stranger:
            found = await client.plane.members()
            client.members = {each.id: each for each in found}
            client.members_at = clock.monotonic()
            await store.remember(self._db, self._org, name, found)
        return People(client.members, own_id)

    async def close(self) -> None:
        for client in self._open.values():
            await client.closing.aclose()
        self._open.clear()
