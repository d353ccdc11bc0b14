"""Commands that act: tasks, answers, resources, secrets. Everything through the console, nothing in the arguments."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dispatch_common import secret_rows
from dispatch_common.db import Db
from dispatch_common.events import ApprovalAnswered, CancelAsked, decode
from dispatch_common.lifecycle import RunState
from dispatch_common.secrets import load_kek
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.console import app as console_app
from services.dispatcher import app as dispatcher_app
from services.webhook_receiver import app as receiver_app
from tests.integration.cli.conftest import Dispatch
from tests.support import builders
from tests.support.waiting import eventually

CATALOG = Path(__file__).parents[3] / "services" / "demo" / "catalog"


async def said(db: Db) -> list[object]:
    return [decode(row["body"]) for row in await db.fetch("SELECT body FROM outbox WHERE service = 'console'")]


async def test_cancel_waits_for_the_end_when_asked_to(db: Db, dispatch: Dispatch) -> None:
    run_id, _ = await builders.at_work(db)
    asked = await dispatch("cancel", str(run_id), "--comment", "enough")
    await builders.moved(db, run_id, RunState.CANCELLED, "admin cancelled it: enough")

    waited = await dispatch("cancel", str(run_id), "--wait")

    assert (asked.code, asked.out) == (0, "It is being stopped.\n")
    assert waited.code == 4
    fact = next(fact for fact in await said(db) if isinstance(fact, CancelAsked))
    assert fact.comment == "enough"


async def test_an_answer_that_policy_does_not_count_is_a_refusal(db: Db, dispatch: Dispatch) -> None:
    run_id, approval_id = await builders.awaiting_approval(db)
    command = asyncio.ensure_future(dispatch("approve", str(run_id), "--comment", "fine"))

    async def answered() -> ApprovalAnswered | None:
        return next((fact for fact in await said(db) if isinstance(fact, ApprovalAnswered)), None)

    fact = await eventually(answered)
    assert isinstance(fact, ApprovalAnswered)
    await db.execute(
        "INSERT INTO approval_answers (id, org, approval_id, run_id, by_id, by_name, approve, comment, counted, "
        "sentence) VALUES ($1, 'default', $2, $3, 'principal:admin', 'admin', true, 'fine', false, $4)",
        fact.id,
        approval_id,
        run_id,
        "It does not count: too late.",
    )

    ended = await command
    assert (ended.code, ended.out) == (4, "It does not count: too late.\n")


async def test_apply_takes_folders_files_and_standard_input(dispatch: Dispatch, tmp_path: Path) -> None:
    dry = await dispatch("apply", "-f", str(CATALOG), "--dry-run")
    folder = await dispatch("apply", "-f", str(CATALOG))
    text = "apiVersion: dispatch.dev/v1alpha1\nkind: Repository\nmetadata: {name: spare}\nspec: {url: /srv/spare.git}\n"
    piped = await dispatch("apply", "-f", "-", stdin=text)
    same = await dispatch("apply", "-f", "-", "--json", stdin=text)
    deleted = await dispatch("delete", "repository", "spare")

    assert (dry.code, folder.code, deleted.code) == (0, 0, 0), dry.err
    assert "agent/vega created" in folder.out
    assert piped.out == "repository/spare created\n"
    assert same.data["items"][0]["outcome"] == "unchanged"
    assert tmp_path.exists()


async def test_apply_tells_file_line_field_and_remedy_of_every_mistake(dispatch: Dispatch, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "apiVersion: dispatch.dev/v1alpha1\nkind: Repository\nmetadata:\n  name: x\nspec:\n  url: nowhere\n  ulr: x\n"
    )

    wrong = await dispatch("apply", "-f", "wrong.yaml")
    missing = await dispatch("apply", "-f", "missing.yaml")
    empty = await dispatch("apply", "-f", str(tmp_path / "none"))

    assert (wrong.code, missing.code, empty.code) == (2, 2, 2)
    assert "wrong.yaml:6:" in wrong.err
    assert "spec.url" in wrong.err
    assert "spec.ulr" in wrong.err
    assert "https://" in wrong.err
    assert "missing.yaml" in missing.err


async def test_a_secret_comes_from_standard_input_and_never_from_the_arguments(
    db: Db, dispatch: Dispatch, settings: Settings
) -> None:
    put = await dispatch("secret", "set", "plane-token", stdin="the value\n")
    listed = await dispatch("secret", "list")
    in_arguments = await dispatch("secret", "set", "plane-token", "the value")

    live = await secret_rows.live(db.pool, load_kek(settings.kek_file), org="default", name="plane-token")
    removed = await dispatch("secret", "remove", "plane-token")

    assert [value.get_secret_value() for value in live] == ["the value"]
    assert "the value" not in put.out + put.err + listed.out
    assert "plane-token" in listed.out
    assert in_arguments.code == 2
    assert removed.code == 0


@pytest.fixture
async def intake(settings: Settings, db: Db) -> AsyncGenerator[Settings]:
    """A receiver and a dispatcher that take tasks, and a console that knows them."""
    async with AsyncExitStack() as stack:
        receiver: Context = await stack.enter_async_context(receiver_app.serve(settings))
        await stack.enter_async_context(dispatcher_app.serve(settings))
        yield settings.model_copy(update={"receiver_url": receiver.urls["receiver"]})


@pytest.fixture
async def console(intake: Settings) -> AsyncGenerator[Context]:
    async with console_app.serve(intake) as ctx:
        await eventually(lambda: ctx.broker is not None)
        yield ctx


async def test_a_task_for_a_path_becomes_a_run_and_its_repository_is_applied(
    db: Db, dispatch: Dispatch, tmp_path: Path
) -> None:
    clone = tmp_path / "My Project"
    for folder in ("objects", "refs"):
        (clone / ".git" / folder).mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/trunk\n")
    clone = clone.rename(tmp_path / "my-project")
    await dispatch("apply", "-f", str(CATALOG))

    first = await dispatch("run", "Fix the clock", "--repo", str(clone), "--role", "coder", "--agent", "Vega", "--json")
    again = await dispatch(
        "run", "Fix the hand", "--repo", str(clone), "--role", "coder", "-F", "-", stdin="The long one."
    )
    unknown = await dispatch("run", "Cook", "--repo", "my-project", "--role", "cook")
    nowhere = await dispatch("run", "Fix", "--repo", "./nowhere", "--role", "coder")

    assert first.code == 0, first.err
    assert "Applying the Repository 'my-project'" in first.err
    assert "trunk" in first.err
    assert "Applying" not in again.err
    assert again.out.startswith("Run ")
    runs = await db.fetch(
        "SELECT r.body, t.snapshot FROM runs r JOIN tasks t ON t.id = r.task_id ORDER BY r.created_at"
    )
    assert [row["snapshot"]["title"] for row in runs] == ["Fix the clock", "Fix the hand"]
    assert runs[0]["body"]["wanted_agent"] == "vega"
    assert runs[1]["snapshot"]["body"] == "The long one."
    assert (unknown.code, "There is no role 'cook'" in unknown.err) == (2, True)
    assert nowhere.code == 2


async def test_the_same_key_never_makes_a_second_task(db: Db, dispatch: Dispatch) -> None:
    await dispatch("apply", "-f", str(CATALOG))
    await builders.a_resource(db, "Repository", "spare", url="/srv/spare.git")
    words = ("run", "Fix the clock", "--repo", "spare", "--role", "coder", "--idempotency-key", "k1", "--json")

    first, second = await dispatch(*words), await dispatch(*words)

    assert first.data["id"] == second.data["id"]
    assert await db.fetchval("SELECT count(*) FROM runs") == 1
