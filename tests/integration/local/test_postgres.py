"""PostgreSQL as our child: durable, private, repaired after a crash, and alone on its folder."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from services.local import FolderInUse, LocalServerError, PortTaken, Postgres, postgres


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """Creating the files takes longer than all else, so these tests share them."""
    async with postgres(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest.fixture
async def server(shared: Postgres) -> Postgres:
    """One that a test may kill."""
    if not shared.child.is_running:
        await shared.start()
    await run(shared.url, "drop table if exists kept")
    return shared


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Postgres]:
    """One that a test may spoil."""
    async with postgres(tmp_path / "postgres") as started:
        yield started


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_what_was_committed_survives_a_kill(server: Postgres) -> None:
    await run(server.url, "create table kept as select 42 as answer")
    url = server.url

    server.kill()
    await server.start()

    assert server.url == url
    assert await run(server.url, "select answer from kept") == 42


async def test_an_orderly_restart_keeps_address_and_rows(server: Postgres) -> None:
    await run(server.url, "create table kept as select 42 as answer")

    await server.restart()

    assert await run(server.url, "select answer from kept") == 42


async def test_a_kill_leaves_no_process_behind(server: Postgres) -> None:
    family = psutil.Process(server.pid).children(recursive=True)

    server.kill()

    assert family
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def test_a_stale_pid_file_that_names_a_living_stranger_does_not_stop_it(
    server: Postgres, postgres_server: Postgres
) -> None:
    pid_file = server.data / "files" / "postmaster.pid"
    text = pid_file.read_text()
    server.kill()
    pid_file.write_text(text.replace(text.split()[0], str(postgres_server.pid), 1))

    await server.start()

    assert await run(server.url, "select 1") == 1


async def test_a_server_whose_owner_died_is_ended_first(server: Postgres) -> None:
    leftover, server.child.process = server.child.process, None

    await server.start()

    assert leftover is not None
    assert leftover.poll() is not None
    assert await run(server.url, "select 1") == 1


async def test_a_second_server_on_the_same_folder_is_refused(server: Postgres) -> None:
    with pytest.raises(FolderInUse, match="choose another data folder"):
        async with postgres(server.data):
            pass

    assert await run(server.url, "select 1") == 1


async def test_a_taken_port_is_named_and_the_remedy_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken, match="ask for another port"):
        async with postgres(tmp_path, port=taken.getsockname()[1]):
            pass


async def test_over_tcp_it_wants_the_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async with postgres(tmp_path, port=port) as server:
        assert await run(server.url, "select 1") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await run(f"postgresql://dispatch:guess@127.0.0.1:{port}/dispatch", "select 1")


async def test_without_a_port_nothing_listens_on_tcp(server: Postgres) -> None:
    assert await run(server.url, "show listen_addresses") == ""
    assert server.socket_folder.stat().st_mode & 0o077 == 0


async def test_a_long_data_path_gets_a_short_socket(tmp_path: Path) -> None:
    async with postgres(tmp_path / ("long" * 30)) as server:
        assert len(str(server.socket_folder)) < 60
        assert await run(server.url, "select 1") == 1

    assert not server.socket_folder.exists()


async def test_a_commit_means_on_disk(server: Postgres) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await run(server.url, f"show {setting}") == "on"


async def test_a_forgotten_transaction_is_ended(postgres_server: Postgres) -> None:
    assert await run(postgres_server.url, "show idle_in_transaction_session_timeout") == "1min"


async def test_files_of_another_version_are_left_alone(own: Postgres) -> None:
    await own.stop()
    (own.data / "files" / "PG_VERSION").write_text("16\n")

    with pytest.raises(LocalServerError, match=r"made by PostgreSQL 16.*load a dump"):
        await own.start()


async def test_an_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    half_made = tmp_path / "files.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")

    async with postgres(tmp_path) as server:
        assert await run(server.url, "select 1") == 1


async def test_a_fault_at_start_tells_what_the_server_said_this_time(own: Postgres) -> None:
    await own.stop()
    with (own.data / "files" / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = 1\n")

    with (own.data / "server.log").open("a") as log:
        log.write("last week: could not bind IPv4 address: Address already in use\n")

    with pytest.raises(LocalServerError, match="no_such_setting") as failure:
        await own.start()

    assert "last week" not in str(failure.value)


async def test_each_test_has_a_database_of_its_own(database: str, postgres_server: Postgres) -> None:
    name = await run(database, "select current_database()")

    assert str(name).startswith("test_")
    assert await run(postgres_server.url, "select count(*) from pg_database where datname = 'template_dispatch'") == 1
