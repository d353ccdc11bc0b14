"""What the receiver must know to answer: sources with their live secrets, principals, repositories, agents and rules.

Read from the database every few seconds and when something was applied; also kept in a sealed file on disk, so that a
receiver that starts without a database can still verify what comes.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from dispatch_common import clock, ids, secret_rows, telemetry
from dispatch_common.db import Db
from dispatch_common.errors import DispatchError
from dispatch_common.resources import Agent, Repository, Source, TriggerRule, as_json, load_all
from dispatch_common.secrets import Kek, SecretUnreadable
from services.webhook_receiver.intent import Catalog
from services.webhook_receiver.store import TROUBLE

_PURPOSE: Final = "receiver-cache"
#: A stranger's request may make us look again, but not more often than this.
_AT_MOST_EVERY: Final = timedelta(seconds=1)
_MOST_LOOKING: Final = 8


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may use the API, known by the digest of a token."""

    name: str
    roles: frozenset[str]
    token_digest: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One consistent reading."""

    sources: Mapping[str, Source] = field(default_factory=dict[str, Source])
    webhook_secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    api_tokens: Mapping[str, str] = field(default_factory=dict[str, str])
    principals: tuple[Principal, ...] = ()
    repositories: Mapping[str, Repository] = field(default_factory=dict[str, Repository])
    catalog: Catalog = field(default_factory=Catalog)

    def encode(self) -> bytes:
        specs = {
            "sources": self.sources,
            "repositories": self.repositories,
            "agents": self.catalog.agents,
            "rules": self.catalog.rules,
        }
        plain: dict[str, Any] = {
            key: {name: as_json(spec) for name, spec in found.items()} for key, found in specs.items()
        }
        plain |= {"webhook_secrets": dict(self.webhook_secrets), "api_tokens": dict(self.api_tokens)}
        plain["principals"] = [[each.name, sorted(each.roles), each.token_digest] for each in self.principals]
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)

    @staticmethod
    def decode(raw: bytes) -> "Knowledge":
        plain = orjson.loads(raw)
        return Knowledge(
            sources={name: Source.model_validate(spec) for name, spec in plain["sources"].items()},
            webhook_secrets={name: tuple(found) for name, found in plain["webhook_secrets"].items()},
            api_tokens=plain["api_tokens"],
            principals=tuple(Principal(name, frozenset(roles), digest) for name, roles, digest in plain["principals"]),
            repositories={name: Repository.model_validate(spec) for name, spec in plain["repositories"].items()},
            catalog=Catalog(
                {name: Agent.model_validate(spec) for name, spec in plain["agents"].items()},
                {name: TriggerRule.model_validate(spec) for name, spec in plain["rules"].items()},
            ),
        )


async def read(db: Db, kek: Kek, org: str) -> Knowledge:
    """Return what the database says now. A secret that cannot be opened is left out and logged, the rest stands."""
    sources = await load_all(db, Source, org=org)
    rows = await db.fetch("SELECT name, roles, token_digest FROM principals WHERE org = $1", org)
    secrets: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, str] = {}
    for name, source in sources.items():
        secrets[name] = await _live(db, kek, org, source.webhook_secret)
        if token := await _live(db, kek, org, source.api_token):
            tokens[name] = token[0]
    return Knowledge(
        sources=sources,
        webhook_secrets=secrets,
        api_tokens=tokens,
        principals=tuple(Principal(row["name"], frozenset(row["roles"]), row["token_digest"]) for row in rows),
        repositories=await load_all(db, Repository, org=org),
        catalog=Catalog(await load_all(db, Agent, org=org), await load_all(db, TriggerRule, org=org)),
    )


async def _live(db: Db, kek: Kek, org: str, name: str | None) -> tuple[str, ...]:
    if name is None:
        return ()
    try:
        return tuple(each.get_secret_value() for each in await secret_rows.live(db, kek, org=org, name=name))
    except SecretUnreadable as error:
        telemetry.log.error("a secret cannot be opened", service="webhook-receiver", secret=name, reason=str(error))
        return ()


class Known:
    """The newest knowledge, and its copy on disk."""

    def __init__(self, db: Db, kek: Kek, *, org: str, file: Path) -> None:
        self._db = db
        self._kek = kek
        self._org = org
        self._file = file
        self._written = b""
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()
        self._again = asyncio.Lock()
        self._looking = 0
        self.now = Knowledge()

    async def start(self) -> None:
        """Take what the database says, or, without one, what was sealed on disk last time."""
        try:
            await self.refresh()
        except TROUBLE as error:
            telemetry.log.warning("starting without a database", service="webhook-receiver", reason=repr(error))
            self.now = self._sealed() or self.now

    async def refresh(self) -> None:
        """Read the database anew and renew the sealed copy."""
        async with self._lock:
            self._looked_at = clock.monotonic()
            self.now = await read(self._db, self._kek, self._org)
            self._seal()

    async def look_again(self) -> bool:
        """Read anew because a request did not fit; False when it failed, or when a flood of such requests waits.

        A request that comes right after a change waits up to a second rather than being refused: senders do not retry.
        """
        asked = clock.monotonic()
        if self._looking >= _MOST_LOOKING:
            return False
        self._looking += 1
        try:
            async with self._again:
                return self._looked_at > asked or await self._look()
        finally:
            self._looking -= 1

    async def _look(self) -> bool:
        await asyncio.sleep(max(0.0, self._looked_at + _AT_MOST_EVERY.total_seconds() - clock.monotonic()))
        with contextlib.suppress(*TROUBLE):
            async with asyncio.timeout(1.0):
                await self.refresh()
                return True
        return False

    def _seal(self) -> None:
        plain = self.now.encode()
        if plain == self._written:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sealed = self._kek.seal(purpose=_PURPOSE, owner=self._org, plaintext=plain)
        aside = self._file.with_name(f".{self._file.name}.{ids.fresh().hex}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, sealed)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(self._file)
        self._written = plain

    def _sealed(self) -> Knowledge | None:
        try:
            sealed = self._file.read_bytes()
            return Knowledge.decode(self._kek.open(purpose=_PURPOSE, owner=self._org, sealed=sealed))
        except FileNotFoundError:
            return None
        except (DispatchError, ValueError, KeyError, TypeError) as error:
            telemetry.log.error("the sealed copy is unusable", service="webhook-receiver", reason=repr(error))
            return None
