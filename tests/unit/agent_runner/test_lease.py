"""The supervisor's lease always ends before the executor's."""

from hypothesis import given
from hypothesis import strategies as st

from agent_runner.lease import Lease, margin

seconds = st.floats(min_value=0.5, max_value=3600)
moments = st.floats(min_value=0, max_value=1e6)


@given(asked_at=moments, answered_after=st.floats(min_value=0, max_value=60), lease=seconds)
def test_the_kill_comes_before_the_executor_may_give_the_slot_away(
    asked_at: float, answered_after: float, lease: float
):
    granted_at_the_executor = asked_at + answered_after

    assert Lease(asked_at, lease).kill_at < granted_at_the_executor + lease


@given(lease=seconds)
def test_the_margin_leaves_time_to_work(lease: float):
    assert 0 < margin(lease) <= lease / 2


def test_a_late_answer_shortens_nothing():
    newer = Lease(100, 20)

    assert newer.renewed(90, 20) == newer
    assert newer.renewed(105, 20) == Lease(105, 20)


def test_what_is_left_is_never_negative():
    assert Lease(0, 10).left(now=1000) == 0
