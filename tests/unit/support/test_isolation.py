"""A unit test reaches nothing outside itself."""

import socket
import subprocess
import sys

import pytest

from dispatch_common.settings import Settings


def test_the_network_is_closed() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="move it to tests/integration"):
        outside.connect(("127.0.0.1", 9))


def test_settings_of_the_surroundings_are_not_seen() -> None:
    inner = "from os import environ; print(*[name for name in environ if name.startswith('DISPATCH_')])"

    assert (
        subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True, check=True).stdout.strip() == ""
    )
    assert Settings().nats_url == ""
