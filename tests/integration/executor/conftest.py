"""An executor on real servers, and somebody who asks it."""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.executor import app
from services.local import Nats
from tests.support.executing import Asker, asker


@pytest.fixture
def data() -> Generator[Path]:
    """A short data folder that the sandbox's user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="dx-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def settings(database: str, nats: Nats, data: Path) -> Settings:
    return Settings(
        database_url=database,
        nats_url=nats.url,
        data=data,
        executor_name="host",
        attempt_lease_seconds=12,
        sweep_seconds=0.2,
        ack_wait_seconds=2,
    )


@pytest.fixture
async def ask(settings: Settings) -> AsyncGenerator[Asker]:
    async with asker(settings) as who:
        yield who


@pytest.fixture
async def executor(settings: Settings) -> AsyncGenerator[Context]:
    async with app.serve(settings) as ctx:
        yield ctx
