"""Pulls, deliveries, agents and doctor over the API; and what a bad request or an outage is answered with."""

import subprocess
from pathlib import Path

import httpx
import pytest

from dispatch_common import clock, localforge
from dispatch_common.db import Db
from dispatch_common.service import Context
from services.console import openapi
from tests.support import builders
from tests.support.consoles import Api


@pytest.fixture
async def forge(db: Db, tmp_path: Path) -> Path:
    """A local repository with an open pull request, known as the resource 'sample'."""
    work, bare = tmp_path / "work", tmp_path / "sample.git"

    def git(*words: str, within: Path = work) -> None:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *identity, *words], cwd=within, check=True, capture_output=True)

    work.mkdir()
    git("init")
    (work / "README.md").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "Begin")
    git("clone", "--bare", str(work), str(bare), within=tmp_path)
    git("checkout", "-b", "agent/0a1b2c3d")
    (work / "README.md").write_text("one\ntwo <b>three</b>\n")
    git("commit", "-am", "Say more")
    git("push", str(bare), "agent/0a1b2c3d")
    localforge.open_pull(
        bare,
        key="k",
        head="agent/0a1b2c3d",
        base="main",
        title="Say <i>more</i>",
        body="Why",
        by="vega",
        now=clock.now(),
    )
    await builders.a_resource(db, "Repository", "sample", url=str(bare))
    return bare


async def test_pulls_are_listed_shown_and_merged(admin: httpx.AsyncClient, forge: Path) -> None:
    listed = (await admin.get("/v1/pulls")).json()["items"]
    shown = (await admin.get("/v1/pulls/sample/1")).json()
    merged = await admin.post("/v1/pulls/sample/1/merge")
    again = await admin.post("/v1/pulls/sample/1/merge")

    assert [(pull["id"], pull["state"], pull["run"]) for pull in listed] == [("sample/1", "open", "0a1b2c3d")]
    assert "+two <b>three</b>" in shown["diff"]
    assert shown["files"] == [{"path": "README.md", "added": 1, "removed": 0}]
    assert (merged.status_code, merged.json()["state"], merged.json()["ended_by"]) == (200, "merged", "admin")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "forge_refused")
    assert localforge.branch_tip(forge, "main") == merged.json()["merge_commit"]


async def test_a_pull_that_is_not_there_is_not_found(admin: httpx.AsyncClient, forge: Path) -> None:
    assert (await admin.get("/v1/pulls/sample/9")).status_code == 404
    assert (await admin.get("/v1/pulls/other/1")).status_code == 404
    assert forge.exists()


async def test_the_page_of_a_pull_shows_its_diff_as_text(api: Api, forge: Path) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        await client.post("/login", data={"token": await api.token()})
        page = await client.get("/pulls/sample/1")

    assert page.status_code == 200
    assert "&lt;b&gt;three" in page.text
    assert "<b>three" not in page.text
    assert forge.exists()


async def test_deliveries_tell_what_became_of_them_refused_ones_too(db: Db, admin: httpx.AsyncClient) -> None:
    made = await builders.a_delivery(db)
    await db.execute(
        "INSERT INTO refused_deliveries (id, org, source, code, sentence, size, digest, remote) "
        "VALUES (gen_random_uuid(), 'default', 'plane', 'bad_signature', 'The signature is wrong.', 10, '', '10.0.0.1')"
    )

    every = (await admin.get("/v1/deliveries")).json()["items"]
    refused = (await admin.get("/v1/deliveries", params={"outcome": "refused"})).json()["items"]
    one = (await admin.get(f"/v1/deliveries/{made.hex[:8]}")).json()

    assert sorted(each["outcome"] for each in every) == ["created", "refused"]
    assert [each["sentence"] for each in refused] == ["The signature is wrong."]
    assert (one["sentence"], one["size"]) == ("DISP-1 is new.", 2)


async def test_agents_show_their_slots_and_what_they_do(db: Db, admin: httpx.AsyncClient) -> None:
    await builders.an_agent(db, "vega", slots=2)
    run_id, _ = await builders.at_work(db, agent="vega")
    await builders.a_slot(db, "vega", 2)

    agent = (await admin.get("/v1/agents")).json()["items"][0]

    assert (agent["name"], agent["in_use"], agent["slots"]) == ("vega", 1, 2)
    assert agent["runs"][0]["run"] == str(run_id)


async def test_tasks_show_their_runs(db: Db, admin: httpx.AsyncClient) -> None:
    task = await builders.a_task(db)
    run_id = await builders.a_run(db, task)

    listed = (await admin.get("/v1/tasks")).json()["items"][0]
    one = (await admin.get(f"/v1/tasks/{task.hex[:8]}")).json()

    assert (listed["runs"], listed["live_run"]) == (1, str(run_id))
    assert one["snapshot"]["labels"] == ["agent:coder"]


async def test_a_task_for_what_does_not_exist_names_what_does(db: Db, admin: httpx.AsyncClient) -> None:
    await builders.an_agent(db, "vega")
    await builders.a_resource(db, "Repository", "sample", url="/srv/sample.git")
    task = {"title": "Do it", "repository": "sample", "role": "coder"}

    async def error(**changes: str) -> tuple[int, str]:
        answer = await admin.post("/v1/tasks", json={**task, **changes})
        return answer.status_code, answer.json()["error"]["field"]

    assert await error(repository="other") == (422, "repository")
    assert await error(role="cook") == (422, "role")
    assert await error(agent="rigel") == (422, "agent")
    assert await error(titel="x") == (422, "titel")
    assert await error(title="") == (422, "title")


async def test_doctor_finds_what_is_put_aside_stuck_and_lost(
    db: Db, admin: httpx.AsyncClient, console: Context
) -> None:
    healthy = (await admin.get("/v1/doctor")).json()
    run_id, _ = await builders.at_work(db)
    await builders.completed(db, run_id)  # its slot was not given back
    await db.execute("UPDATE runs SET next_check = NULL")
    silent = await builders.a_run(db)
    await db.execute("UPDATE runs SET next_check = NULL WHERE id = $1", silent)
    late = await builders.a_run(db)
    await db.execute("UPDATE runs SET next_check = clock_timestamp() - interval '1 hour' WHERE id = $1", late)
    await db.execute(
        "INSERT INTO dead_letters (id, service, subject, reason, detail, body, deliveries) "
        "VALUES (gen_random_uuid(), 'policy', 's', 'ValueError: no', '', '', 8)"
    )

    sick = (await admin.get("/v1/doctor")).json()

    assert healthy["healthy"], healthy["findings"]
    assert {stream["name"] for stream in healthy["streams"]} == {"FACTS", "AGENT"}
    codes = {finding["code"] for finding in sick["findings"]}
    assert codes == {"lost_slot", "unwatched_run", "overdue_run", "dead_letters"}
    assert sick["healthy"] is False
    assert all(finding["remedy"] for finding in sick["findings"])
    assert console.name == "console"


async def test_bad_input_is_told_in_the_shape_of_every_error(admin: httpx.AsyncClient) -> None:
    answers = [
        await admin.post("/v1/resources", content=b"{", headers={"content-type": "application/json"}),
        await admin.post("/v1/resources", json={"files": []}),
        await admin.get("/v1/runs", params={"limit": 0}),
        await admin.get("/v1/runs", params={"state": "asleep"}),
        await admin.get("/v1/runs", params={"cursor": "x_y"}),
        await admin.get("/v1/nothing"),
        await admin.put("/v1/runs"),
        await admin.post("/v1/runs/deadbeef/cancel", content=b"\xff\xfe", headers={"content-type": "application/json"}),
        await admin.get("/v1/runs", params={"agent": "\x00"}),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 422, 404, 405, 422, 422]
    for answer in answers:
        assert set(answer.json()["error"]) == {"code", "message", "field", "remedy", "problems"}
        assert "Traceback" not in answer.text


async def test_an_outage_of_the_database_is_a_clear_503_and_not_a_trace(
    admin: httpx.AsyncClient, console: Context
) -> None:
    await console.db.pool.close()

    answer = await admin.get("/v1/runs")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert int(answer.headers["retry-after"]) > 0


def test_the_openapi_document_is_fresh() -> None:
    kept = Path(__file__).parents[3] / "docs" / "api" / "openapi.json"

    assert kept.read_text() == openapi.document(), "Run: dispatch docs"
