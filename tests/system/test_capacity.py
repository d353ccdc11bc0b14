"""A busy agent gets its next item when it is free, and never more than it may have."""

import pytest

from tests.support.instance import Instance, Options


@pytest.mark.parametrize("options", [Options(slots=1)], indirect=True)
async def test_three_items_for_one_agent_are_done_one_after_another(here: Instance) -> None:
    runs = [await here.run_of(here.item("agent:coder", name=f"Item {number}")) for number in range(3)]
    for run in runs:
        assert await here.until(run, "completed", "failed") == "completed", await here.story()

    overlapping = await here.db.fetchval(
        """SELECT count(*) FROM attempts a JOIN attempts b
           ON a.id < b.id AND a.started_at < b.finished_at AND b.started_at < a.finished_at"""
    )
    assert overlapping == 0
    assert len(here.branches()) == 3
