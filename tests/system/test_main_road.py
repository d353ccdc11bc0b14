"""The main road on real parts: a label in Plane becomes a branch, a pull request and an updated work item."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from dispatch_common.settings import Settings
from services.local import Nats
from tests.support.instance import Instance, instance


@pytest.fixture
async def here(database: str, nats: Nats, tmp_path: Path) -> AsyncGenerator[Instance]:
    settings = Settings(
        database_url=database,
        nats_url=nats.url,
        data=tmp_path / "data",
        kek_file=tmp_path / "master.key",
        sweep_seconds=0.3,
        recheck_seconds=2,
        ack_wait_seconds=2,
        attempt_lease_seconds=4,
    )
    async with instance(settings, tmp_path) as made:
        yield made


async def test_a_label_becomes_a_branch_a_pull_request_and_an_updated_work_item(here: Instance) -> None:
    item = here.item("agent:coder")
    run = await here.run_of(item)
    await here.until(run, "completed", "failed", "denied")

    assert await here.state(run) == "completed", await here.story()
    assert await here.steps(run) == [
        "requested",
        "queued",
        "assigned",
        "preparing",
        "running",
        "verifying",
        "publishing",
        "completed",
    ]
    assert here.branches() == [f"agent/{run[:8]}"]
    assert len(here.links(item)) == 1, await here.story()
    assert here.item_state(item) == "Done"
    assert len(here.comments(item)) == 1
    assert await here.slots_taken() == 0


async def test_a_denied_run_tells_the_work_item_why(here: Instance) -> None:
    item = here.item("agent:coder", "hold")
    run = await here.run_of(item)

    assert await here.until(run, "denied", "completed") == "denied"
