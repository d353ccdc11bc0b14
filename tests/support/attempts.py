"""Real attempts for tests: a repository, its workspace, a gateway, and a launcher that starts the scripted agent."""

import shutil
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent_runner.protocol import (
    AgentLaunch,
    GatewayAddress,
    LaunchLimits,
    LaunchSpec,
    LeaseTerms,
    ResultReport,
    SandboxKind,
)
from dispatch_common import ids
from dispatch_common.values import RepositorySpec
from services.executor.launchers import Launched, LaunchState
from services.executor.launchers.local import LocalLauncher
from services.executor.launchers.report import Confining
from services.executor.workspace import Wanted, Workspaces
from tests.support.gateway import GatewayStandIn, gateway_stand_in
from tests.support.waiting import eventually

CALCULATOR = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "test_calc.py": (
        "import unittest\n\nfrom calc import add\n\n\nclass Adds(unittest.TestCase):\n"
        "    def test_adds(self):\n        self.assertEqual(add(2, 3), 5)\n"
    ),
}
FIX = """
say I look at the tests first.
run python3 -m unittest -q || true
replace calc.py <<END
    return a - b
----
    return a + b
END
test
commit Add instead of subtracting
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder that only the test writes to."""
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    ended = subprocess.run(["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def repository(folder: Path, files: Mapping[str, str] = CALCULATOR) -> RepositorySpec:
    """Make a repository with one commit on main."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")
    return RepositorySpec(name="sample", url=str(folder), test_command="python3 -m unittest -q")


@dataclass(slots=True)
class Bench:
    """Everything one attempt needs. ``spec`` makes a new attempt, ``ends`` follows it to its result."""

    data: Path
    launcher: LocalLauncher
    workspaces: Workspaces
    confining: Confining
    gateway: GatewayStandIn
    source: RepositorySpec | None
    run_id: ids.UUID = field(default_factory=ids.fresh)
    task_id: ids.UUID = field(default_factory=ids.fresh)

    async def spec(
        self,
        script: str,
        *,
        limits: LaunchLimits | None = None,
        lease: LeaseTerms | None = None,
        fence: int = 1,
        gateway: GatewayStandIn | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> LaunchSpec:
        """Prepare the workspace of a new attempt whose task holds this script."""
        attempt_id = ids.fresh()
        folder = self.data / "attempts" / str(attempt_id)
        wanted = Wanted(
            attempt_id, self.run_id, self.task_id, "Vega", self.source, files={".dispatch/task.md": b"task"}
        )
        workspace = await self.workspaces.prepare(wanted)
        (folder / "prompt.md").write_text(f"# The task\n\n```dispatch-script\n{script}\n```\n")
        return LaunchSpec(
            run_id=self.run_id,
            attempt_id=attempt_id,
            fence=fence,
            task_id=self.task_id,
            task_key="DISP-1",
            folder=folder,
            agent=AgentLaunch(name="Vega", backend="scripted"),
            gateway=GatewayAddress(token_file=folder / "token", socket=(gateway or self.gateway).socket),
            lease=lease or LeaseTerms(),
            prompt_file=folder / "prompt.md",
            workspace=workspace,
            limits=limits or LaunchLimits(wall_seconds=40, idle_seconds=20, stop_grace_seconds=1),
            sandbox=self.confining.sandbox,
            environment=dict(environment or {}),
            test_command=self.source.test_command if self.source else "",
        )

    async def start(self, spec: LaunchSpec) -> Launched:
        return await self.launcher.start(spec, self.gateway.token)

    async def ended(self, spec: LaunchSpec, *, within: timedelta = timedelta(seconds=40)) -> Launched:
        """Wait until the supervisor has left."""

        async def over() -> Launched | None:
            found = await self.launcher.state(spec.attempt_id)
            return found if found.state in (LaunchState.ENDED, LaunchState.LOST) else None

        found = await eventually(over, within=within, describe=lambda: self.story(spec))
        assert isinstance(found, Launched)
        return found

    async def result(self, script: str, *, limits: LaunchLimits | None = None) -> ResultReport:
        """Run a script to its end and return what was reported."""
        spec = await self.spec(script, limits=limits)
        await self.start(spec)
        await self.ended(spec)
        assert self.gateway.results, self.story(spec)
        return self.gateway.results[-1]

    def story(self, spec: LaunchSpec) -> str:
        """Tell what is known, for a test that fails."""
        log = spec.folder / "supervisor.log"
        said = log.read_text(errors="replace")[-3000:] if log.exists() else "(no log)"
        return f"events: {self.gateway.events}\nresults: {self.gateway.results}\nlog:\n{said}"


@asynccontextmanager
async def bench(
    data: Path, launcher: LocalLauncher, confining: Confining, *, source: RepositorySpec | None
) -> AsyncGenerator[Bench]:
    """A bench whose attempts are all dead when the block ends."""
    overlay = confining.overlay and confining.sandbox.kind is SandboxKind.BUBBLEWRAP
    workspaces = Workspaces(data, owner=confining.sandbox.uid, overlay=overlay)
    async with gateway_stand_in() as gateway:
        try:
            yield Bench(data, launcher, workspaces, confining, gateway, source)
        finally:
            for found in await launcher.adopt():
                await launcher.kill(found.attempt_id)
    shutil.rmtree(data, ignore_errors=True)
