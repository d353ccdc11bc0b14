"""Resources and secrets over the API: all or nothing, every mistake told, values never readable again."""

from pathlib import Path
from typing import Any

import httpx

from dispatch_common import secret_rows
from dispatch_common.db import Db
from dispatch_common.events import ResourceApplied, decode
from dispatch_common.resources import Agent, load_all
from dispatch_common.secrets import load_kek
from dispatch_common.settings import Settings

CATALOG = Path(__file__).parents[3] / "services" / "demo" / "catalog"
AGENT = """
apiVersion: dispatch.dev/v1alpha1
kind: Agent
metadata: {name: nova}
spec: {role: coder, backend: scripted, permissionSet: build, maxConcurrentTasks: %d}
"""
REPOSITORY = """
apiVersion: dispatch.dev/v1alpha1
kind: Repository
metadata: {name: spare}
spec: {url: /srv/spare.git}
"""


def files(*texts: str, dry_run: bool = False) -> dict[str, Any]:
    return {"files": [{"name": f"{n}.yaml", "text": text} for n, text in enumerate(texts, 1)], "dry_run": dry_run}


def outcomes(answer: httpx.Response) -> list[tuple[str, str, int]]:
    return [(item["name"], item["outcome"], item["generation"]) for item in answer.json()["items"]]


async def apply_catalog(admin: httpx.AsyncClient) -> httpx.Response:
    return await admin.post("/v1/resources", json=files(*(path.read_text() for path in sorted(CATALOG.glob("*.yaml")))))


async def applied(db: Db) -> list[ResourceApplied]:
    rows = await db.fetch("SELECT body FROM outbox ORDER BY position")
    return [fact for fact in (decode(row["body"]) for row in rows) if isinstance(fact, ResourceApplied)]


async def test_applying_says_what_was_created_changed_and_left_alone(db: Db, admin: httpx.AsyncClient) -> None:
    first = await apply_catalog(admin)
    created = await admin.post("/v1/resources", json=files(AGENT % 1))
    same = await admin.post("/v1/resources", json=files(AGENT % 1))
    changed = await admin.post("/v1/resources", json=files(AGENT % 3))

    assert first.status_code == 200, first.text
    assert {item["outcome"] for item in first.json()["items"]} == {"created"}
    assert outcomes(created) == [("nova", "created", 1)]
    assert outcomes(same) == [("nova", "unchanged", 1)]
    assert outcomes(changed) == [("nova", "changed", 2)]
    assert changed.json()["items"][0]["fields"] == ["maxConcurrentTasks"]
    assert [fact.generation for fact in await applied(db) if fact.name == "nova"] == [1, 2]
    assert (await load_all(db.pool, Agent))["nova"].max_concurrent_tasks == 3


async def test_a_dry_run_tells_the_same_and_stores_nothing(db: Db, admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/v1/resources", json=files(REPOSITORY, dry_run=True))

    assert answer.json()["dry_run"] is True
    assert outcomes(answer) == [("spare", "created", 1)]
    assert await db.fetchval("SELECT count(*) FROM resources") == 0
    assert await applied(db) == []


async def test_one_mistake_keeps_everything_out_and_every_mistake_is_told(db: Db, admin: httpx.AsyncClient) -> None:
    wrong = REPOSITORY.replace("url:", "ulr:")

    answer = await admin.post("/v1/resources", json=files(REPOSITORY, wrong, AGENT % 1))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid_resources")
    places = {(problem["file"], problem["line"]) for problem in error["problems"]}
    assert {"2.yaml", "3.yaml"} <= {file for file, _ in places}
    assert all(line for _, line in places)
    assert any("Known fields: url" in problem["remedy"] for problem in error["problems"])
    assert any("permissionSet" in problem["field"] for problem in error["problems"])
    assert await db.fetchval("SELECT count(*) FROM resources") == 0


async def test_the_same_resource_in_two_files_is_a_mistake(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/v1/resources", json=files(REPOSITORY, REPOSITORY))

    assert answer.status_code == 422
    assert "also in 1.yaml" in answer.json()["error"]["message"]


async def test_a_resource_in_use_cannot_be_deleted(db: Db, admin: httpx.AsyncClient) -> None:
    await apply_catalog(admin)
    await admin.post("/v1/resources", json=files(REPOSITORY))

    used = await admin.delete("/v1/resources/AgentPermissionSet/build")
    free = await admin.delete("/v1/resources/repositories/spare")
    gone = await admin.get("/v1/resources/Repository/spare")
    again = await admin.post("/v1/resources", json=files(REPOSITORY))

    assert (used.status_code, "in use" in used.json()["error"]["message"]) == (409, True)
    assert (free.status_code, free.json()["outcome"]) == (200, "deleted")
    assert gone.status_code == 404
    assert outcomes(again) == [("spare", "created", 3)]
    assert [fact.spec is None for fact in await applied(db) if fact.name == "spare"] == [False, True, False]


async def test_two_who_apply_at_once_do_not_mix(db: Db, admin: httpx.AsyncClient) -> None:
    import asyncio

    await apply_catalog(admin)
    answers = await asyncio.gather(*(admin.post("/v1/resources", json=files(AGENT % count)) for count in range(1, 9)))

    assert {answer.status_code for answer in answers} == {200}
    generations = sorted(fact.generation for fact in await applied(db) if fact.name == "nova")
    assert generations == list(range(1, len(generations) + 1))


async def test_a_secret_is_kept_sealed_and_its_value_is_never_told(
    db: Db, admin: httpx.AsyncClient, settings: Settings
) -> None:
    put = await admin.put("/v1/secrets/plane-webhook", json={"value": "first-value"})
    rotated = await admin.put("/v1/secrets/plane-webhook", json={"value": "second-value"})
    listed = await admin.get("/v1/secrets")

    kek = load_kek(settings.kek_file)
    live = await secret_rows.live(db.pool, kek, org="default", name="plane-webhook")
    assert [value.get_secret_value() for value in live] == ["second-value", "first-value"]
    assert (put.json()["has_previous"], rotated.json()["has_previous"]) == (False, True)
    row = await db.fetchrow("SELECT * FROM secrets")
    for text in (put.text, rotated.text, listed.text, str(dict(row or {}))):
        assert "first-value" not in text
        assert "second-value" not in text


async def test_a_rotation_ends_and_a_secret_goes(db: Db, admin: httpx.AsyncClient, settings: Settings) -> None:
    await admin.put("/v1/secrets/token", json={"value": "a"})
    await admin.put("/v1/secrets/token", json={"value": "b"})
    await admin.delete("/v1/secrets/token/previous")

    live = await secret_rows.live(db.pool, load_kek(settings.kek_file), org="default", name="token")
    assert [value.get_secret_value() for value in live] == ["b"]
    assert (await admin.delete("/v1/secrets/token")).status_code == 204
    assert (await admin.delete("/v1/secrets/token")).status_code == 404
    assert (await admin.put("/v1/secrets/Not%20A%20Name", json={"value": "x"})).status_code == 422
    assert (await admin.put("/v1/secrets/token", json={"value": ""})).status_code == 422
