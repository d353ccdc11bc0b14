"""The executor as a process of its own, so that a test can kill it at any line."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatch_common.settings import Settings

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class ExecutorProcess:
    """One executor; what it started outlives it."""

    settings: Settings
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        told = {
            f"DISPATCH_{name.upper()}": str(getattr(self.settings, name)) for name in self.settings.model_fields_set
        }
        with (self.settings.data / "executor.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("dispatch")), "run-service", "executor"],
                cwd=ROOT,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", **told},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL, at whatever line it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    @property
    def log(self) -> str:
        return (self.settings.data / "executor.log").read_text()


@asynccontextmanager
async def executor_process(settings: Settings) -> AsyncGenerator[ExecutorProcess]:
    """A running executor, dead when the block ends."""
    running = ExecutorProcess(settings)
    running.start()
    try:
        yield running
    finally:
        running.kill()
