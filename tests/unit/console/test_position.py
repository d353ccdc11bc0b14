"""Positions in streams: what is written is read back, and nothing else is taken."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from dispatch_common.errors import InvalidInput
from services.console.reads.ids import span
from services.console.stream.position import FactMark, Mark, RunMark, epoch_of

marks = st.builds(Mark, st.text("0123456789abcdef", min_size=8, max_size=8), st.integers(0, 2**63 - 1))
moments = st.integers(0, 10**16).map(lambda since: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since))
run_marks = st.builds(RunMark, st.integers(0, 10**9), st.none() | marks, st.integers(0, 10**6), st.integers(0, 10**9))


@bounds(deadline=None)
@given(marks)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


@bounds(deadline=None)
@given(marks, st.none() | moments)
def test_a_place_among_facts_is_read_as_it_was_written(mark: Mark, snapshot: datetime | None) -> None:
    assert FactMark.parse(str(FactMark(mark, snapshot))) == FactMark(mark, snapshot)


@bounds(deadline=None)
@given(run_marks)
def test_a_run_mark_is_read_as_it_was_written(mark: RunMark) -> None:
    assert RunMark.parse(str(mark)) == mark


@bounds(deadline=None)
@given(st.text(max_size=60))
def test_other_text_is_refused_with_the_field(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Mark.parse(f"{text}.")
    with pytest.raises(InvalidInput):
        RunMark.parse(f"x{text}")

    assert raised.value.field == "Last-Event-ID"


def test_a_stream_that_was_made_anew_has_another_epoch() -> None:
    assert epoch_of("2026-11-21T08:00:00Z") != epoch_of("2026-11-21T08:00:01Z")


@pytest.mark.parametrize("text", ["", "abc", "xyz12345", "0" * 33, "../etc", "abcd%"])
def test_what_is_no_beginning_of_an_id_has_no_span(text: str) -> None:
    assert span(text) is None


def test_a_beginning_spans_every_id_that_begins_so() -> None:
    assert [str(end) for end in span("ABCD-1234") or ()] == [
        "abcd1234-0000-0000-0000-000000000000",
        "abcd1234-ffff-ffff-ffff-ffffffffffff",
    ]
