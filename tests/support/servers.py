"""Fresh databases for tests: cloned from a template that was migrated once."""

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import cast

import asyncpg

from services.local import Postgres

TEMPLATE = "template_dispatch"


@dataclass(slots=True)
class Databases:
    """Hands out databases of one server, each an empty migrated one."""

    server: Postgres
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def prepare(self) -> None:
        """Makes and migrates the template."""
        await self._run(f"create database {TEMPLATE}")
        migrate = _migrate()
        if migrate is not None:
            await migrate(self.server.url_for(TEMPLATE))

    @asynccontextmanager
    async def fresh(self) -> AsyncGenerator[str, None]:
        """The address of a database that nobody else uses, gone when the block ends."""
        name = f"test_{next(self.numbers)}"
        await self._run(f"create database {name} template {TEMPLATE} strategy wal_log")
        try:
            yield self.server.url_for(name)
        finally:
            await self._run(f"drop database {name} with (force)")

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.url_for("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _migrate() -> Callable[[str], Awaitable[None]] | None:
    if importlib.util.find_spec("dispatch_common.migrations") is None:
        return None
    module = importlib.import_module("dispatch_common.db")
    return cast("Callable[[str], Awaitable[None]]", module.migrate)
