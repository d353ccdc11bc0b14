"""The spool on disk: what was appended is read again, in order, whatever happened to its end."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_common import clock, ids
from services.webhook_receiver.arrival import Arrival
from services.webhook_receiver.spool import Spool, SpoolFull


def drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    for segment in spool.segments():
        held = spool.take(segment)
        if held is None:
            continue
        with held:
            found += list(spool.read(segment))
            spool.drop(segment)
    return found


def test_what_was_appended_is_read_in_order_once(tmp_path: Path):
    spool = Spool(tmp_path, most_bytes=10_000)
    spool.append([b"one", b"two"])
    spool.append([b""])
    spool.roll()
    spool.append([b"three"])
    spool.roll()

    assert drained(spool) == [b"one", b"two", b"", b"three"]
    assert (drained(spool), spool.used, list(tmp_path.iterdir())) == ([], 0, [])


def test_another_process_finds_it_after_a_crash(tmp_path: Path):
    first = Spool(tmp_path, most_bytes=10_000)
    first.append([b"one"])
    held = first.segments()[0]
    assert Spool(tmp_path, most_bytes=10_000).take(held) is None, "its writer lives"

    first.roll()

    second = Spool(tmp_path, most_bytes=10_000)
    assert second.used > 0
    assert drained(second) == [b"one"]


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_torn_tail_costs_only_what_was_torn(tmp_path: Path, cut: int):
    spool = Spool(tmp_path, most_bytes=10_000)
    spool.append([b"whole", b"torn!"])
    spool.roll()
    (segment,) = spool.segments()
    os.truncate(segment, segment.stat().st_size - cut)

    assert drained(spool) == ([b"whole"] if cut < 13 else [b"whole"] if cut == 13 else [])
    assert len(spool.damaged()) == (0 if cut == 13 else 1)


def test_a_flipped_bit_is_noticed_and_kept_for_a_person(tmp_path: Path):
    spool = Spool(tmp_path, most_bytes=10_000)
    spool.append([b"whole", b"flipped"])
    spool.roll()
    (segment,) = spool.segments()
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)

    assert drained(spool) == [b"whole"]
    assert [path.suffix for path in spool.damaged()] == [".damaged"]


def test_a_full_spool_says_so_and_takes_nothing(tmp_path: Path):
    spool = Spool(tmp_path, most_bytes=100)
    spool.append([b"x" * 50])

    with pytest.raises(SpoolFull):
        spool.append([b"y" * 20, b"z" * 40])
    spool.roll()

    assert drained(spool) == [b"x" * 50]
    spool.append([b"y" * 20, b"z" * 40])


def test_a_write_that_fails_leaves_no_half_record(tmp_path: Path):
    spool = Spool(tmp_path, most_bytes=10_000)
    spool.append([b"kept"])
    soft, hard = _limit_file_size(tmp_path, 30)
    try:
        with pytest.raises(SpoolFull, match="cannot be written"):
            spool.append([b"x" * 1000])
    finally:
        _restore_file_size(soft, hard)
    spool.append([b"later"])
    spool.roll()

    assert drained(spool) == [b"kept", b"later"]


def _limit_file_size(_: Path, size: int) -> tuple[int, int]:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    return soft, hard


def _restore_file_size(soft: int, hard: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_an_arrival_comes_back_as_it_was(body: bytes, text: str):
    arrival = Arrival(
        id=ids.fresh(), org="default", source=text, provider="plane", event=text, dedupe_key="k", body=body,
        received_at=clock.now(), headers=(("x", text),), traceparent=None,
    )  # fmt: skip

    assert Arrival.decode(arrival.encode()) == arrival
