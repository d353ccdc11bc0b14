"""Output is cut into lines and kept within bounds, whatever the agent prints and however it arrives."""

from hypothesis import given
from hypothesis import strategies as st

from agent_runner.capture import Kept, Lines


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=30),
    cuts=st.lists(st.integers(min_value=1, max_value=50)),
)
def test_lines_do_not_depend_on_how_they_arrive(lines: list[bytes], cuts: list[int]):
    raw, reader, found = b"".join(line + b"\n" for line in lines), Lines(), list[bytes]()
    for cut in cuts:
        found += reader.feed(raw[:cut])
        raw = raw[cut:]
    found += reader.feed(raw)

    assert [*found, *reader.rest()] == [line for line in lines if line.strip()]


def test_a_line_without_measure_is_cut_and_the_next_one_is_whole():
    reader = Lines()
    found = [line for _ in range(40) for line in reader.feed(b"x" * 100_000)]
    found += reader.feed(b"the rest of it\nnext\n")

    assert [len(line) for line in found] == [1 << 20, 4]
    assert found[-1] == b"next"


def test_the_last_line_needs_no_end():
    reader = Lines()

    assert reader.feed(b"one\ntwo") == [b"one"]
    assert reader.rest() == [b"two"]


@given(chunks=st.lists(st.binary(max_size=300), max_size=60))
def test_short_output_is_kept_whole_and_long_output_within_bounds(chunks: list[bytes]):
    kept, whole = Kept(1000), b"".join(chunks)
    for chunk in chunks:
        kept.take(chunk)

    if len(whole) <= 1000:
        assert kept.bytes() == whole
    assert len(kept.bytes()) < 1000 + 300 + 60
    assert kept.bytes().startswith(whole[:500])
    assert kept.bytes().endswith(whole[-500:])
