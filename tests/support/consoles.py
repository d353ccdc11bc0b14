"""Fixtures: a console on a real database and a real broker, reached over HTTP. Conftests import what they need."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from dispatch_common.db import Db, open_db
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.console import app
from services.console.auth import ensure_principal
from services.local import Nats
from tests.support.waiting import eventually

__all__ = ["Api", "admin", "api", "console", "db", "settings"]


class Api:
    """The console over HTTP, as one principal or another."""

    def __init__(self, url: str, db: Db, folder: Path) -> None:
        self.url = url
        self.db = db
        self.folder = folder
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def token(self, role: str = "admin") -> str:
        return await ensure_principal(self.db, role, [role], token_file=self.token_file(role))

    def token_file(self, role: str = "admin") -> Path:
        return self.folder / f"{role}.token"

    async def as_(self, role: str = "admin") -> httpx.AsyncClient:
        """Return a client with the token of a principal that has one role."""
        if role not in self._clients:
            headers = {"Authorization": f"Bearer {await self.token(role)}"}
            self._clients[role] = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=10)
        return self._clients[role]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


@pytest.fixture
async def db(database: str) -> AsyncGenerator[Db]:
    async with open_db(database, "test") as opened:
        yield opened


@pytest.fixture
def settings(database: str, nats: Nats, tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path / "data", kek_file=tmp_path / "kek", database_url=database, nats_url=nats.url, sweep_seconds=0.1
    )


@pytest.fixture
async def console(settings: Settings) -> AsyncGenerator[Context]:
    async with app.serve(settings) as ctx:
        await eventually(lambda: ctx.broker is not None)
        yield ctx


@pytest.fixture
async def api(console: Context, db: Db, tmp_path: Path) -> AsyncGenerator[Api]:
    reached = Api(console.urls["console"], db, tmp_path)
    yield reached
    await reached.close()


@pytest.fixture
async def admin(api: Api) -> httpx.AsyncClient:
    return await api.as_("admin")
