"""Services are killed in the middle of runs, and the broker loses everything: each task still ends once."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shutil import rmtree

import pytest

from dispatch_common.settings import Settings
from services.local import Nats
from tests.support import processes
from tests.support.instance import Instance, Options, beside_plane
from tests.support.processes import Processes
from tests.support.waiting import eventually

LONG = timedelta(seconds=90)
#: The agent works for some seconds, so that there is a middle to be killed in.
WORK = "sleep 3\nreplace adder.py <<END\na - b\n----\na + b\nEND\ntest\ncommit Mend it\n"
pytestmark = pytest.mark.timeout(240)


@dataclass
class Cluster:
    """An installation whose services are processes."""

    here: Instance
    processes: Processes


@pytest.fixture
async def cluster(settings: Settings, tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with processes.running(settings, tmp_path / "processes") as running:
        token = (settings.data / "admin.token").read_text().strip()
        options = Options(slots=4, attempts=3)
        async with beside_plane(settings, running.urls, token, tmp_path, options) as here:
            yield Cluster(here, running)


async def ended_once(here: Instance, items: list[str]) -> None:
    """Assert that every work item has one completed run, one branch, one comment, one link, and no slot is held."""
    for item in items:
        run = await here.run_of(item, within=LONG)
        assert await here.until(run, "completed", "failed", within=LONG) == "completed", await here.story()
        assert len(here.comments(item)) == 1, await here.story()
        assert len(here.links(item)) == 1
    assert await here.db.fetchval("SELECT count(*) FROM runs") == len(items)
    assert len(here.branches()) == len(items)
    assert await here.slots_taken() == 0


KILLED = ("webhook-receiver", "dispatcher", "policy", "executor", "result-publisher")


async def test_each_service_killed_while_an_agent_is_at_work_loses_nothing(cluster: Cluster) -> None:
    items: list[str] = []
    for name in KILLED:
        items.append(cluster.here.item("agent:coder", script=WORK, name=f"Kill {name}"))
        await cluster.here.until(await cluster.here.run_of(items[-1]), "running", "verifying", "completed")
        await cluster.processes.kill(name)
        await cluster.processes.start(name)

    await ended_once(cluster.here, items)


async def test_each_service_killed_right_after_a_delivery_loses_nothing(cluster: Cluster) -> None:
    items: list[str] = []
    for name in KILLED:
        item = cluster.here.item("agent:coder", name=f"Kill {name}")
        items.append(item)
        sql = "SELECT count(*) > 0 FROM deliveries WHERE object_id = $1"
        await eventually(lambda sql=sql, item=item: cluster.here.db.fetchval(sql, item), describe=cluster.here.story)
        await cluster.processes.kill(name)
        await cluster.processes.start(name)

    await ended_once(cluster.here, items)


async def test_all_services_killed_at_once_lose_nothing(cluster: Cluster) -> None:
    items = [cluster.here.item("agent:coder", script=WORK, name=f"Item {number}") for number in range(3)]
    await cluster.here.until(await cluster.here.run_of(items[0]), "running", "verifying", "completed")
    names = ["dispatcher", "policy", "executor", "result-publisher", "webhook-receiver"]
    await asyncio.gather(*(cluster.processes.kill(name) for name in names))
    for name in names:
        await cluster.processes.start(name)

    await ended_once(cluster.here, items)


async def test_the_brokers_data_deleted_in_the_middle_of_ten_runs_loses_nothing(cluster: Cluster, nats: Nats) -> None:
    items = [cluster.here.item("agent:coder", script=WORK, name=f"Item {number}") for number in range(10)]
    await cluster.here.until(await cluster.here.run_of(items[0]), "running", "verifying", "completed")
    nats.kill()
    rmtree(nats.data / "jetstream")
    await nats.restart()

    await ended_once(cluster.here, items)
