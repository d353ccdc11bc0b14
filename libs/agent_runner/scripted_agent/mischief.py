"""Everything an agent must not get away with, on request: the proof that the sandbox and its limits are real."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .speech import Speech

Arguments = dict[str, Any]
_MIB = 1024 * 1024


def hang(speech: Speech, arguments: Arguments) -> None:
    """Say nothing, for ever."""
    while True:
        time.sleep(3600)


def hang_hard(speech: Speech, arguments: Arguments) -> None:
    """Say nothing, and do not listen to SIGTERM either."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(speech, arguments)


def crash(speech: Speech, arguments: Arguments) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(speech: Speech, arguments: Arguments) -> None:
    sys.stdout.flush()
    os._exit(int(arguments.get("code", 1)))


def garbage(speech: Speech, arguments: Arguments) -> None:
    """Lines that are no JSON, JSON that is no event, bytes that are no text."""
    samples = [
        b"not json",
        b'{"scripted": 7}',
        b'{"scripted": "unheard-of"}',
        b"\xff\xfe\x00",
        b"[1, 2",
        b'"\xe2\x80\xa8"',
    ]
    for number in range(int(arguments.get("lines", 6))):
        sys.stdout.buffer.write(samples[number % len(samples)] + b"\n")
    sys.stdout.buffer.flush()


def flood(speech: Speech, arguments: Arguments) -> None:
    """Output that never ends (or ends after ``mib``)."""
    left = int(arguments.get("mib", 1 << 40)) * _MIB
    block = (b"x" * 1023 + b"\n") * 64
    while left > 0:
        left -= sys.stdout.buffer.write(block)


def fork_away(speech: Speech, arguments: Arguments) -> None:
    """Children in sessions of their own that close everything and want to outlive their parent."""
    for _ in range(int(arguments.get("children", 5))):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                for descriptor in (0, 1, 2):
                    os.close(descriptor)
                time.sleep(86_400)
            os._exit(0)


def fork_bomb(speech: Speech, arguments: Arguments) -> None:
    made = 0
    try:
        for _ in range(int(arguments.get("children", 100_000))):
            if os.fork() == 0:
                time.sleep(86_400)
            made += 1
    except OSError as error:
        speech.say(f"after {made} children: {error.strerror}")
    else:
        speech.say(f"{made} children, and nothing stopped me")


def fill_disk(speech: Speech, arguments: Arguments) -> None:
    """Files of 16 MiB, so that a limit on a single file alone does not help."""
    written = 0
    try:
        for number in range(int(arguments.get("mib", 1 << 20)) // 16):
            Path(f"filler-{number}").write_bytes(os.urandom(_MIB) * 16)
            written += 16
    except OSError as error:
        speech.say(f"after {written} MiB: {error.strerror}")
    else:
        speech.say(f"{written} MiB written, and nothing stopped me")


def eat_memory(speech: Speech, arguments: Arguments) -> None:
    eaten: list[bytearray] = []
    try:
        while len(eaten) * 16 < int(arguments.get("mib", 1 << 20)):
            eaten.append(bytearray(os.urandom(4096) * 4096))
    except MemoryError:
        speech.say(f"after {len(eaten) * 16} MiB: out of memory")
    else:
        speech.say(f"{len(eaten) * 16} MiB eaten, and nothing stopped me")


def write_outside(speech: Speech, arguments: Arguments) -> None:
    path = str(arguments.get("path", "/usr/bin/agent-was-here"))
    call = speech.calls("write", path=path)
    try:
        Path(path).write_text("written by the agent\n")
        speech.answers(call, True, "written")
    except OSError as error:
        speech.answers(call, False, f"{error.strerror}: {path}")


def connect(speech: Speech, arguments: Arguments) -> None:
    """Try to reach HOST:PORT."""
    host, _, port = str(arguments.get("address", "")).rpartition(":")
    call = speech.calls("connect", address=f"{host}:{port}")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        speech.answers(call, True, "connected")
    except (OSError, ValueError) as error:
        speech.answers(call, False, str(error))


MISCHIEF: dict[str, Callable[[Speech, Arguments], None]] = {
    "hang": hang, "hang-hard": hang_hard, "crash": crash, "exit": leave, "garbage": garbage, "flood": flood,
    "fork-away": fork_away, "fork-bomb": fork_bomb, "fill-disk": fill_disk, "eat-memory": eat_memory,
    "write-outside": write_outside, "connect": connect,
}  # fmt: skip
