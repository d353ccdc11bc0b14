"""Connections and transactions: the only place that commits. Hot statements are SQL on asyncpg."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from dispatch_common import telemetry
from dispatch_common.events import Fact

Connection = asyncpg.Connection | PoolConnectionProxy
#: What is raised when the database is away; the caller tries again later.
AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

_SAY: Final = """
INSERT INTO outbox (service, fact_id, subject, about, body)
SELECT $1, u.id, u.subject, u.about, u.body
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[]) AS u(id, subject, about, body)
RETURNING position
"""


@dataclass(frozen=True, slots=True)
class Said:
    """One committed outbox row, as the relay publishes it."""

    position: int
    fact_id: UUID
    subject: str
    body: bytes
    emissions: int = 0


class Tx:
    """One open transaction. Facts said in it are stored with it and published after it."""

    def __init__(self, conn: Connection, service: str) -> None:
        self.conn: Any = conn
        self._service = service
        self._facts: list[Fact] = []
        self.clock: datetime | None = None
        self._afterwards: list[Callable[[], None]] = []

    async def now(self) -> datetime:
        """Return Postgres's clock as this transaction first read it."""
        clock = self.clock or await self.conn.fetchval("SELECT clock_timestamp()")
        self.clock = clock
        return clock

    def say(self, *facts: Fact) -> None:
        """Emit facts with this transaction."""
        self._facts.extend(facts)

    def afterwards(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` right after the commit, never after a roll-back. A hint to whoever works on the rows."""
        self._afterwards.append(wake)

    def wake(self) -> None:
        """Give the hints. Called after the commit."""
        for hint in self._afterwards:
            hint()

    async def flush(self) -> list[Said]:
        """Write the outbox rows of all facts said so far and return them."""
        facts, self._facts = self._facts, []
        if not facts:
            return []
        mark = telemetry.traceparent()
        stamped = [f if f.traceparent or mark is None else f.model_copy(update={"traceparent": mark}) for f in facts]
        bodies = [fact.encode() for fact in stamped]
        rows = await self.conn.fetch(
            _SAY,
            self._service,
            [fact.id for fact in stamped],
            [fact.nats_subject for fact in stamped],
            [fact.about for fact in stamped],
            bodies,
        )
        return [
            Said(row["position"], fact.id, fact.nats_subject, body)
            for row, fact, body in zip(rows, stamped, bodies, strict=True)
        ]


class Db:
    """One pool of one service."""

    def __init__(self, pool: "asyncpg.Pool", service: str) -> None:
        self.pool: Any = pool
        self.service = service
        #: Called with the facts of each committed transaction; the relay sets it.
        self.after_commit: Callable[[Sequence[Said]], None] = _forget

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Tx]:
        """Open a transaction; it commits on a clean exit and wakes the relay afterwards."""
        async with self.pool.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            tx = Tx(conn, self.service)
            try:
                yield tx
                said = await tx.flush()
            except BaseException:
                await _roll_back(conn, transaction)
                raise
            await transaction.commit()
        if said:
            self.after_commit(said)
        tx.wake()

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        return await self.pool.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        return await self.pool.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self.pool.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        return await self.pool.execute(sql, *args)


def _forget(_said: Sequence[Said]) -> None:
    """Leave the facts to the relay's poll."""


async def _roll_back(conn: Any, transaction: Any) -> None:
    try:
        await transaction.rollback()
    except AWAY:
        # The connection is gone, and with it the transaction; the first error is the one to tell.
        conn.terminate()


def _to_jsonb(value: object) -> bytes:
    return b"\x01" + orjson.dumps(value, default=str)


def _from_jsonb(raw: bytes) -> Any:
    return orjson.loads(raw[1:])


async def prepare(conn: Any) -> None:
    """Teach a connection our types: jsonb is Python objects."""
    await conn.set_type_codec("jsonb", encoder=_to_jsonb, decoder=_from_jsonb, schema="pg_catalog", format="binary")


async def _no_reset(_conn: Any) -> None:
    """Skip the pool's reset: a round trip and a commit per use, and none of our statements leave session state."""


@asynccontextmanager
async def open_db(database_url: str, service: str, *, size: int = 6) -> AsyncGenerator[Db]:
    """Open a pool. A database that is away at the start is an error of the first statement, not of this call."""
    pool = asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=size,
        init=prepare,
        reset=_no_reset,
        command_timeout=30,
        timeout=5,
        max_inactive_connection_lifetime=0,
        server_settings={"application_name": f"dispatch-{service}", "jit": "off"},
    )
    async with pool:
        yield Db(pool, service)


async def migrate(database_url: str) -> None:
    """Bring the schema to the newest version. Safe to call from several processes at once."""
    from dispatch_common.migrations import runner

    await runner.upgrade(database_url)
