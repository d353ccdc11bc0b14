"""The pages in a real Chromium: signing in, what is live, what a person can do, and text that wants to be a script."""

from pathlib import Path
from uuid import UUID

from playwright.async_api import expect

from dispatch_common import clock, ids
from dispatch_common.db import Db
from dispatch_common.events import CancelAsked, decode
from dispatch_common.lifecycle import RunState
from dispatch_common.service import Context
from tests.browser.conftest import Visit
from tests.support import builders
from tests.support.consoles import Api
from tests.support.waiting import eventually

EVIL = '"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>{{7*7}}'


async def a_fact(console: Context, run_id: UUID) -> None:
    """Something happened to a run: the page is told to look."""
    async with console.db.transaction() as tx:
        tx.say(CancelAsked(id=ids.fresh(), time=clock.now(), run_id=run_id, by=builders.ALICE))


async def test_a_visitor_signs_in_with_a_token_and_comes_back_to_where_they_wanted_to_go(
    visit: Visit, api: Api, db: Db
) -> None:
    run_id = await builders.a_run(db)

    await visit.open(f"/runs/{run_id}")
    await visit.page.fill("#token", "wrong")
    await visit.page.click("button[type=submit]")
    assert "not known" in await visit.text("[role=alert]")
    await visit.page.fill("#token", await api.token("viewer"))
    await visit.page.click("button[type=submit]")

    await visit.page.wait_for_url(f"**/runs/{run_id}")
    assert "Fix the flaky test" in await visit.text("h1")


async def test_the_list_shows_runs_and_follows_them_live(signed_in: Visit, console: Context, db: Db) -> None:
    await builders.an_agent(db, "vega")
    first = await builders.a_run(db, title="The first task")
    await signed_in.open("/")
    page = signed_in.page
    await expect(page.locator("#live")).to_have_attribute("data-live", "on")
    await expect(page.locator(f'[data-run="{first}"] .state')).to_have_text("requested")

    await builders.queued(db, first)
    second, _ = await builders.at_work(db, title="The second task")
    await a_fact(console, second)

    await expect(page.locator(f'[data-run="{first}"] .state')).to_have_text("queued")
    await expect(page.locator(f'[data-run="{second}"]')).to_contain_text("The second task")
    await expect(page.locator('[data-agent="vega"]')).to_contain_text("1/1")
    assert signed_in.complaints == []


async def test_a_run_page_shows_steps_and_the_agent_as_they_happen(signed_in: Visit, console: Context, db: Db) -> None:
    run = await builders.at_work(db)
    await signed_in.open(f"/runs/{run[0]}")
    page = signed_in.page
    await expect(page.locator("#steps li")).to_have_count(2)

    await builders.agent_says(console.nc, *run, 1, {"kind": "text", "text": "I will look at the test."})
    await builders.agent_says(
        console.nc, *run, 2, {"kind": "toolCall", "call": "c", "tool": "shell", "input": {"command": "pytest -q"}}
    )
    await builders.agent_says(
        console.nc, *run, 3, {"kind": "toolResult", "call": "c", "ok": False, "output": "1 failed"}
    )
    await expect(page.locator("#log li")).to_have_count(3)
    await expect(page.locator("#log")).to_contain_text("pytest -q")
    await builders.moved(db, run[0], RunState.VERIFYING, "The result is checked.")
    await expect(page.locator("#steps li")).to_have_count(3)
    await builders.completed(db, run[0])

    await expect(page.locator("#state")).to_have_text("completed")
    await expect(page.locator("#pull")).to_contain_text("Pull request #1")
    await expect(page.locator("#cancel")).to_be_hidden()
    await expect(page.locator("#live")).to_have_text("ended")
    assert signed_in.complaints == []


async def test_text_from_outside_is_text_and_nothing_else(signed_in: Visit, console: Context, db: Db) -> None:
    run = await builders.at_work(db, title=EVIL)
    await builders.moved(db, run[0], RunState.RUNNING, EVIL, next_action=EVIL)
    page = signed_in.page

    await signed_in.open("/")
    await a_fact(console, run[0])
    await expect(page.locator(f'[data-run="{run[0]}"]')).to_contain_text(EVIL)
    await signed_in.open(f"/runs/{run[0]}")
    await builders.agent_says(console.nc, *run, 1, {"kind": "text", "text": EVIL})
    await builders.agent_says(console.nc, *run, 2, {"kind": EVIL, "text": EVIL})
    await builders.agent_says(
        console.nc, *run, 3, {"kind": "toolCall", "call": "c", "tool": EVIL, "input": {"x": EVIL}}
    )
    await expect(page.locator("#log li")).to_have_count(3)
    await builders.moved(db, run[0], RunState.VERIFYING, EVIL)
    await expect(page.locator("#steps li")).to_have_count(4)

    assert await page.inner_text("h1") == f"DISP-1 {EVIL}"
    assert await page.evaluate("window.pwned") is None
    assert await page.locator("main img, main script").count() == 0
    assert signed_in.complaints == []


async def test_a_link_that_a_source_wrote_leads_to_the_web_or_nowhere(signed_in: Visit, db: Db) -> None:
    task = await builders.a_task(db, url="javascript:window.pwned=1")
    run_id = await builders.a_run(db, task)

    await signed_in.open(f"/runs/{run_id}")

    assert await signed_in.page.locator('a[href^="javascript"]').count() == 0


async def test_a_person_cancels_and_approves_with_the_buttons(signed_in: Visit, db: Db) -> None:
    working, _ = await builders.at_work(db)
    waiting, approval = await builders.awaiting_approval(db)

    await signed_in.open(f"/runs/{working}")
    await signed_in.page.click("#cancel button")
    await signed_in.page.wait_for_load_state()
    await signed_in.open(f"/runs/{waiting}")
    await signed_in.page.click("#approve button")
    await signed_in.page.wait_for_load_state()

    async def said() -> list[str]:
        rows = await db.fetch("SELECT body FROM outbox ORDER BY position")
        return [decode(row["body"]).type for row in rows]

    await eventually(lambda: True)
    assert await said() == ["dispatch.run.cancel-asked.v1", "dispatch.run.approval-answered.v1"]
    assert approval


async def test_a_viewer_sees_no_buttons(visit: Visit, api: Api, db: Db) -> None:
    run_id, _ = await builders.awaiting_approval(db)
    await visit.open(f"/runs/{run_id}")
    await visit.page.fill("#token", await api.token("viewer"))
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("#run")

    assert await visit.page.locator("#actions button").count() == 0


async def test_the_page_reconnects_and_goes_on(signed_in: Visit, console: Context, db: Db, tmp_path: Path) -> None:
    run = await builders.at_work(db)
    await signed_in.open(f"/runs/{run[0]}")
    page = signed_in.page
    await builders.agent_says(console.nc, *run, 1)
    await expect(page.locator("#log li")).to_have_count(1)

    await page.context.set_offline(True)
    await builders.agent_says(console.nc, *run, 2)
    await page.context.set_offline(False)
    await builders.agent_says(console.nc, *run, 3)

    await expect(page.locator("#log li")).to_have_count(3)
    assert await page.locator("#log .body").all_inner_texts() == ["line 1", "line 2", "line 3"]
    await page.screenshot(path=tmp_path / "run.png")
