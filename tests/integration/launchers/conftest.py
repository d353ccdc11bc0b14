"""A bench per test; the template process and what was found out of this host are shared."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_runner.protocol import SandboxKind
from services.executor.launchers.local import LocalLauncher
from services.executor.launchers.report import Confining, confining
from services.executor.launchers.template import Template
from tests.support.attempts import Bench, bench, repository


@pytest.fixture(scope="session")
async def template() -> AsyncIterator[Template]:
    made = await Template.open()
    yield made
    await made.close()


@pytest.fixture(scope="session")
def this_host(tmp_path_factory: pytest.TempPathFactory) -> Confining:
    found = confining(tmp_path_factory.mktemp("trial"), SandboxKind.BUBBLEWRAP)
    assert found.works, found.report
    return found


@pytest.fixture
async def desk(tmp_path: Path, template: Template, this_host: Confining) -> AsyncIterator[Bench]:
    """A bench with a repository whose test fails until the script fixes it."""
    launcher = LocalLauncher(tmp_path / "data/attempts", template)
    async with bench(tmp_path / "data", launcher, this_host, source=repository(tmp_path / "source")) as made:
        yield made
