"""A receiver of the test's own."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.local import Nats
from tests.support.receiver import World
from tests.support.receiver import world as run


@pytest.fixture
async def world(database: str, nats: Nats, tmp_path: Path) -> AsyncGenerator[World]:
    async with run(database, nats.url, tmp_path) as made:
        yield made
