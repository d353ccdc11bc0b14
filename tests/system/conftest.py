"""A whole installation per story, quick to notice silence so that stories of loss stay short."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from dispatch_common.settings import Settings
from services.local import Nats
from tests.support.instance import Instance, Options, instance


@pytest.fixture
def settings(database: str, nats: Nats, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database,
        nats_url=nats.url,
        data=tmp_path / "data",
        kek_file=tmp_path / "master.key",
        sweep_seconds=0.3,
        recheck_seconds=2,
        ack_wait_seconds=2,
        attempt_lease_seconds=4,
        trace_ratio=1,
    )


@pytest.fixture
def options(request: pytest.FixtureRequest) -> Options:
    """The catalog; a story changes it with ``@pytest.mark.parametrize("options", [Options(...)])``."""
    return getattr(request, "param", Options())


@pytest.fixture
async def here(settings: Settings, options: Options, tmp_path: Path) -> AsyncGenerator[Instance]:
    async with instance(settings, tmp_path, options) as made:
        yield made
