"""nats-server as our child: it is the one we started, it keeps what it acknowledged, and it never shares a folder."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import nats as client
import psutil
import pytest

from services.local import FolderInUse, LocalServerError, Nats, PortTaken, nats_server
from tests.support.waiting import eventually


async def store(server: Nats, text: str) -> None:
    connection = await client.connect(server.url)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", text.encode())
    await connection.close()


async def stored(server: Nats) -> str:
    connection = await client.connect(server.url)
    message = await connection.jetstream().get_last_msg("KEPT", "kept")
    await connection.close()
    return (message.data or b"").decode()


async def test_what_was_acknowledged_survives_a_kill(nats: Nats) -> None:
    await store(nats, "precious")
    url, pid = nats.url, nats.pid

    nats.kill()
    await nats.start()

    assert (nats.url, await stored(nats)) == (url, "precious")
    assert nats.pid != pid


async def test_an_orderly_restart_keeps_address_and_messages(nats: Nats) -> None:
    await store(nats, "precious")
    url = nats.url

    await nats.restart()

    assert (nats.url, await stored(nats)) == (url, "precious")


async def test_a_second_server_on_the_same_folder_is_refused(nats: Nats) -> None:
    with pytest.raises(FolderInUse, match=rf"in use by process {os.getpid()}.*another data folder"):
        async with nats_server(nats.data, name="second"):
            pass


async def test_a_taken_port_is_named_and_the_remedy_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken, match="another port") as failure:
        async with nats_server(tmp_path / "data", port=taken.getsockname()[1], name="test"):
            pass

    assert "address already in use" in str(failure.value)


async def test_the_folder_is_free_again_after_a_start_that_failed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken):
        async with nats_server(tmp_path, port=taken.getsockname()[1], name="test"):
            pass

    async with nats_server(tmp_path, name="test") as server:
        assert psutil.pid_exists(server.pid)


async def test_nobody_enters_without_the_password(nats: Nats) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nats.port)
    writer.write(b"CONNECT {}\r\nPING\r\n")
    answer = await reader.read()
    writer.close()

    assert b"Authorization Violation" in answer
    assert (nats.data / "password").stat().st_mode & 0o077 == 0
    assert nats.password not in repr(nats)


async def test_its_own_end_is_noticed(nats: Nats) -> None:
    os.kill(nats.pid, signal.SIGKILL)

    with pytest.raises(LocalServerError, match="ended unexpectedly"):
        await asyncio.wait_for(nats.died(), timeout=5)


async def test_it_dies_with_us(tmp_path: Path) -> None:
    owner = owner_process(tmp_path)
    pid = int((await asyncio.to_thread(owner.stdout.readline)) if owner.stdout else 0)

    owner.kill()
    owner.communicate()

    await eventually(lambda: is_gone(pid))


async def test_a_leftover_of_a_dead_owner_is_ended_first(nats: Nats) -> None:
    leftover, nats.child.process = nats.child.process, None

    await nats.start()

    assert leftover is not None
    assert leftover.poll() is not None


async def test_a_stranger_with_the_number_of_the_last_server_is_left_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    (tmp_path / "server.pid").write_text(str(stranger.pid))

    async with nats_server(tmp_path, name="test"):
        survived = stranger.returncode is None

    stranger.kill()
    await stranger.wait()
    assert survived


def owner_process(folder: Path) -> subprocess.Popen[bytes]:
    program = f"""
        import asyncio, pathlib
        from services.local import nats_server
        async def main():
            async with nats_server(pathlib.Path({str(folder)!r}), name="test") as server:
                print(server.pid, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
