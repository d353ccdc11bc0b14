"""Fixtures for all tests: real servers, a clean environment, and no network where none belongs."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.local import Nats, Postgres, nats_server, postgres
from tests.support.servers import Databases

HERE = Path(__file__).parent
LAYERS = ("unit", "integration", "system", "rules", "browser")
NETWORK = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"})


class Network:
    """Says no to the network while a unit test runs. An audit hook sees every socket, and patches nothing."""

    closed = False

    def watch(self, event: str, _: tuple[object, ...]) -> None:
        if self.closed and event in NETWORK:
            raise AssertionError(f"a unit test used the network ({event}); move it to tests/integration")


network = Network()
sys.addaudithook(network.watch)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder is the marker."""
    for item in items:
        if item.path.is_relative_to(HERE):
            layer = item.path.relative_to(HERE).parts[0]
            if layer in LAYERS:
                item.add_marker(layer)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person or machine that runs it."""
    for name in [each for each in os.environ if each.startswith("DISPATCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def network_for_those_who_need_it(request: pytest.FixtureRequest) -> Iterator[None]:
    network.closed = request.node.get_closest_marker("unit") is not None
    yield
    network.closed = False


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[Postgres]:
    """One real PostgreSQL for all tests, not safe from power cuts. A test that kills one starts its own."""
    folder = Path(tempfile.mkdtemp(prefix="dispatch-test-"))
    try:
        async with postgres(folder, durable=False) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def databases(postgres_server: Postgres) -> Databases:
    """Where fresh databases come from."""
    made = Databases(postgres_server)
    await made.prepare()
    return made


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[str]:
    """The address of a fresh, migrated database of this test's own."""
    async with databases.fresh() as url:
        yield url


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[Nats]:
    """A fresh nats-server of this test's own."""
    async with nats_server(tmp_path / "nats", name="test") as server:
        yield server
