"""Every service as a process of its own, as in a cluster: to be killed at any moment and started again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from dispatch_common.settings import Settings
from services.cli import stack
from tests.support.waiting import eventually

_START = "from services.cli import main; main()"


class Processes:
    """The services of one installation."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._ports: dict[str, int] = {}
        self.urls: dict[str, str] = {}

    async def start(self, name: str) -> None:
        """Start one service and wait until it is ready; the second time it listens where it did the first time."""
        ready = self._folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        log = (self._folder / f"{name}.log").open("ab")
        self._running[name] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _START,
            "run-service",
            name,
            "--ready-file",
            str(ready),
            env=self._environment(),
            stdout=log,
            stderr=log,
        )
        log.close()
        await eventually(ready.exists, within=timedelta(seconds=60), describe=lambda: self.log(name))
        document: dict[str, Any] = orjson.loads(ready.read_bytes())
        for each in ("receiver", "console"):
            if each in document:
                self.urls[each] = document[each]
                self._ports[each] = int(document[each].rpartition(":")[2])

    async def kill(self, name: str) -> None:
        """SIGKILL: no clean-up, no goodbye."""
        process = self._running.pop(name)
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """End all, in order."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._running.items():
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                raise AssertionError(f"{name} did not stop: {self.log(name)}") from None
        self._running.clear()

    def log(self, name: str) -> str:
        """Return the end of a service's log."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def _environment(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")},  # noqa: TID251
            "DISPATCH_DATA": str(settings.data),
            "DISPATCH_KEK_FILE": str(settings.kek_file),
            "DISPATCH_NATS_URL": settings.nats_url,
            "DISPATCH_DATABASE_URL": settings.database_url,
            "DISPATCH_SWEEP_SECONDS": str(settings.sweep_seconds),
            "DISPATCH_RECHECK_SECONDS": str(settings.recheck_seconds),
            "DISPATCH_ACK_WAIT_SECONDS": str(settings.ack_wait_seconds),
            "DISPATCH_ATTEMPT_LEASE_SECONDS": str(settings.attempt_lease_seconds),
            "DISPATCH_RECEIVER_PORT": str(self._ports.get("receiver", 0)),
            "DISPATCH_CONSOLE_PORT": str(self._ports.get("console", 0)),
            "DISPATCH_RECEIVER_URL": self.urls.get("receiver", ""),
            "DISPATCH_PUBLIC_URL": self.urls.get("console", ""),
        }


@asynccontextmanager
async def running(settings: Settings, folder: Path, names: Sequence[str] = stack.SERVICES) -> AsyncGenerator[Processes]:
    """Run every service as a process for as long as the block lasts."""
    folder.mkdir(exist_ok=True)
    made = Processes(settings, folder)
    try:
        first = [name for name in ("webhook-receiver", "console") if name in names]
        for name in first:  # their addresses are told to the others
            await made.start(name)
        await asyncio.gather(*(made.start(name) for name in names if name not in first))
        yield made
    finally:
        await made.stop()
