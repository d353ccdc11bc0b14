"""Runs over the API: what they show, why they wait, and what may be said about them."""

from datetime import timedelta
from uuid import UUID

import httpx

from dispatch_common.db import Db
from dispatch_common.events import ApprovalAnswered, CancelAsked, decode
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from tests.support import builders
from tests.support.consoles import Api


async def said(db: Db) -> list[object]:
    return [decode(row["body"]) for row in await db.fetch("SELECT body FROM outbox ORDER BY position")]


async def test_runs_are_listed_newest_first_page_by_page(db: Db, admin: httpx.AsyncClient) -> None:
    made = [await builders.a_run(db, created_at=builders.START + timedelta(minutes=minute)) for minute in range(5)]

    first = (await admin.get("/v1/runs", params={"limit": 2})).json()
    second = (await admin.get("/v1/runs", params={"limit": 2, "cursor": first["next"]})).json()
    third = (await admin.get("/v1/runs", params={"limit": 2, "cursor": second["next"]})).json()

    seen = [UUID(run["id"]) for page in (first, second, third) for run in page["items"]]
    assert seen == list(reversed(made))
    assert third["next"] is None


async def test_runs_are_filtered_by_state_agent_and_repository(db: Db, admin: httpx.AsyncClient) -> None:
    working, _ = await builders.at_work(db, agent="vega")
    waiting = await builders.a_run(db)
    await builders.queued(db, waiting)

    async def found(**params: str) -> list[UUID]:
        answer = await admin.get("/v1/runs", params=params)
        return [UUID(run["id"]) for run in answer.json()["items"]]

    assert await found(state="queued") == [waiting]
    assert await found(agent="vega") == [working]
    assert await found(repository="sample") == [waiting, working] or await found(repository="sample") == [
        working,
        waiting,
    ]
    assert await found(repository="other") == []
    assert await found(live="true", state="running") == [working]


async def test_a_run_tells_its_steps_attempts_and_approvals(db: Db, admin: httpx.AsyncClient) -> None:
    run_id, approval_id = await builders.awaiting_approval(db)
    await builders.an_attempt(db, run_id, state="finished", answer={"outcome": "failed", "family": "timeout"})

    run = (await admin.get(f"/v1/runs/{run_id.hex[:8]}")).json()

    assert [step["to_state"] for step in run["steps"]] == ["requested", "awaiting_approval"]
    assert run["approvals"][0]["id"] == str(approval_id)
    assert run["attempts"][0]["family"] == "timeout"
    assert run["task"]["title"] == "Fix the flaky test"
    assert run["sentence"] == "An outsider wrote a part of it."


async def test_a_short_id_that_several_runs_begin_with_is_refused_with_their_names(
    db: Db, admin: httpx.AsyncClient
) -> None:
    one = await builders.a_run(db, run_id=UUID("abcd1234000000000000000000000001"))
    await builders.a_run(db, run_id=UUID("abcd1234000000000000000000000002"))

    unclear = await admin.get("/v1/runs/abcd1234")
    clear = await admin.get(f"/v1/runs/{one}")

    assert unclear.status_code == 409
    assert unclear.json()["error"]["code"] == "ambiguous_id"
    assert clear.status_code == 200


async def test_an_unknown_or_unreadable_id_says_what_to_do(admin: httpx.AsyncClient) -> None:
    unknown = await admin.get("/v1/runs/deadbeef")
    unreadable = await admin.get("/v1/runs/not-an-id")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    assert (unreadable.status_code, unreadable.json()["error"]["field"]) == (422, "run")
    assert "dispatch get runs" in unreadable.json()["error"]["remedy"]


async def test_a_queued_run_says_who_is_before_it_and_what_every_agent_does(db: Db, admin: httpx.AsyncClient) -> None:
    await builders.an_agent(db, "vega")
    busy, _ = await builders.at_work(db, agent="vega", title="Something long")
    first, second = await builders.a_run(db), await builders.a_run(db)
    await builders.queued(db, first, sort_key=1)
    await builders.queued(db, second, sort_key=2)

    why = (await admin.get(f"/v1/runs/{second.hex[:8]}/why")).json()

    assert why["position"] == 1
    assert why["waiting_before"] == ["DISP-1"]
    assert why["agents"][0]["runs"][0]["run"] == str(busy)
    assert "vega (1/1)" in why["answer"]
    assert why["who"] == "nobody"


async def test_a_run_that_waits_for_approval_says_who_must_act(db: Db, admin: httpx.AsyncClient) -> None:
    run_id, _ = await builders.awaiting_approval(db)

    why = (await admin.get(f"/v1/runs/{run_id}/why")).json()

    assert why["who"] == "approver"
    assert why["because"][0]["code"] == "trust.outsider"
    assert f"dispatch approve {run_id.hex[:8]}" in why["next"]
    assert why["until"] is not None


async def test_cancel_is_said_as_a_fact_with_who_and_why(db: Db, admin: httpx.AsyncClient) -> None:
    run_id, _ = await builders.at_work(db)

    answer = await admin.post(f"/v1/runs/{run_id}/cancel", json={"comment": "not needed"})

    assert answer.status_code == 202
    fact = next(fact for fact in await said(db) if isinstance(fact, CancelAsked))
    assert (fact.run_id, fact.by.id, fact.comment) == (run_id, "principal:admin", "not needed")


async def test_cancel_of_a_run_that_has_ended_is_a_conflict(db: Db, admin: httpx.AsyncClient) -> None:
    run_id = await builders.a_run(db)
    await builders.completed(db, run_id)

    answer = await admin.post(f"/v1/runs/{run_id}/cancel")

    assert answer.status_code == 409
    assert "completed" in answer.json()["error"]["message"]
    assert await said(db) == []


async def test_an_approver_answers_the_open_approval(db: Db, api: Api) -> None:
    run_id, approval_id = await builders.awaiting_approval(db)
    approver = await api.as_("approver")

    answer = await approver.post(f"/v1/runs/{run_id}/approve", json={"comment": "looks fine"})

    assert answer.status_code == 202
    fact = next(fact for fact in await said(db) if isinstance(fact, ApprovalAnswered))
    assert (fact.approval_id, fact.approve, fact.by.name) == (approval_id, True, "approver")


async def test_nobody_approves_what_waits_for_nothing_or_what_they_asked_for(db: Db, api: Api) -> None:
    approver = await api.as_("approver")
    idle = await builders.a_run(db)
    own, _ = await builders.awaiting_approval(db, requested_by="principal:approver")

    nothing = await approver.post(f"/v1/runs/{idle}/approve")
    mine = await approver.post(f"/v1/runs/{own}/approve")

    assert nothing.status_code == 409
    assert mine.json()["error"]["code"] == "own_request"
    assert await said(db) == []


async def test_a_failed_run_says_which_family_and_who_acts(db: Db, admin: httpx.AsyncClient) -> None:
    run_id = await builders.a_run(db)
    await builders.moved(
        db,
        run_id,
        RunState.FAILED,
        "The agent's CLI is not installed.",
        code="attempt.cli_missing",
        family=ErrorFamily.CLI_MISSING,
    )

    why = (await admin.get(f"/v1/runs/{run_id}/why")).json()

    assert (why["who"], why["because"][0]["code"]) == ("operator", "attempt.cli_missing")
