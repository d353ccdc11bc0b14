"""Commands that look: tables for people, JSON for programs, exit codes for scripts."""

import asyncio
import signal
from pathlib import Path

from dispatch_common.db import Db
from dispatch_common.lifecycle import RunState
from dispatch_common.service import Context
from tests.integration.cli.conftest import Dispatch, start
from tests.support import builders


async def test_lists_are_tables_for_people_and_json_for_programs(db: Db, dispatch: Dispatch) -> None:
    await builders.an_agent(db, "vega")
    run_id, _ = await builders.at_work(db, title="Fix \x1b[31mthe\x1b[0m clock")
    await builders.a_delivery(db, runs=(run_id,))
    await builders.awaiting_approval(db)

    table = await dispatch("get", "runs", "--live")
    data = await dispatch("get", "runs", "--state", "running", "--json")
    others = [
        await dispatch("get", what) for what in ("tasks", "agents", "deliveries", "approvals", "resources", "pulls")
    ]

    assert table.code == 0
    assert run_id.hex[:8] in table.out
    assert "\x1b" not in table.out
    assert [run["id"] for run in data.data["items"]] == [str(run_id)]
    assert [each.code for each in others] == [0] * 6
    assert "1/1" in others[1].out
    assert "No pull requests." in others[5].err


async def test_inspect_and_why_tell_everything_of_a_run(db: Db, dispatch: Dispatch) -> None:
    run_id, _ = await builders.awaiting_approval(db)

    inspected = await dispatch("inspect", run_id.hex[:8])
    asked = await dispatch("why", run_id.hex[:6])
    data = await dispatch("why", str(run_id), "--json")

    assert "awaiting approval" in inspected.out
    assert "An outsider wrote a part of it." in inspected.out
    assert "It waits for a person's approval." in asked.out
    assert f"dispatch approve {run_id.hex[:8]}" in asked.out
    assert data.data["who"] == "approver"


async def test_exit_codes_tell_scripts_what_went_wrong(db: Db, dispatch: Dispatch, tmp_path: Path) -> None:
    run_id = await builders.a_run(db)
    await builders.completed(db, run_id)

    ended = await asyncio.gather(
        dispatch("get", "runs", "--limit", "many"),
        dispatch("gte"),
        dispatch("inspect", "zzz"),
        dispatch("inspect", "deadbeef"),
        dispatch("cancel", str(run_id)),
        dispatch("get", "runs", DISPATCH_TOKEN="wrong"),
        dispatch("get", "runs", "--url", "http://127.0.0.1:9"),
        dispatch("get", "runs", DISPATCH_URL="", DISPATCH_DATA=str(tmp_path / "none")),
    )

    assert [each.code for each in ended] == [2, 2, 2, 3, 4, 4, 5, 5]


async def test_an_error_says_what_to_do_and_is_json_when_asked(dispatch: Dispatch) -> None:
    told = await dispatch("inspect", "deadbeef")
    data = await dispatch("inspect", "deadbeef", "--json")

    assert told.err == "Error: There is no run 'deadbeef'.\n  'dispatch get runs' lists them.\n"
    assert data.out == ""
    assert '"code": "not_found"' in data.err


async def test_logs_follow_a_run_to_its_end_and_carry_its_outcome(
    db: Db, dispatch: Dispatch, console: Context, environment: dict[str, str], tmp_path: Path
) -> None:
    run = await builders.at_work(db)
    await builders.agent_says(console.nc, *run, 1, {"kind": "text", "text": "I begin. \x1b[2J"})

    process = await start("logs", "-f", "--steps", str(run[0]), environment=environment, within=tmp_path)
    assert process.stdout is not None
    first = [(await process.stdout.readline()).decode() for _ in range(3)]
    await builders.agent_says(
        console.nc, *run, 2, {"kind": "toolCall", "call": "c", "tool": "shell", "input": {"x": "y"}}
    )
    await builders.moved(db, run[0], RunState.FAILED, "It did not work.")
    rest, _ = await process.communicate()

    assert "I begin. �[2J" in "".join(first)
    assert "shell" in rest.decode()
    assert "It did not work." in rest.decode()
    assert process.returncode == 1


async def test_ctrl_c_ends_following_without_a_trace(
    db: Db, console: Context, environment: dict[str, str], tmp_path: Path
) -> None:
    run = await builders.at_work(db)
    process = await start("logs", "-f", "--steps", str(run[0]), environment=environment, within=tmp_path)
    assert process.stdout is not None
    await process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 130
    assert err == b""
    assert console.name == "console"


async def test_events_and_logs_are_json_lines_for_programs(
    db: Db, dispatch: Dispatch, console: Context, environment: dict[str, str], tmp_path: Path
) -> None:
    run_id, _ = await builders.at_work(db)
    await dispatch("cancel", str(run_id), "--comment", "enough")

    logs = await dispatch("logs", str(run_id), "--json")

    async def facts() -> list[str]:
        told = (await dispatch("events", "--json")).lines
        assert told[-1]["event"] == "end"
        return [line["data"]["type"] for line in told[:-1]]

    assert [line["event"] for line in logs.lines] == ["step", "step", "end"]
    async with asyncio.timeout(20):
        while "dispatch.run.cancel-asked.v1" not in await facts():
            pass
    assert console.name == "console"


async def test_doctor_says_whether_all_is_well(db: Db, dispatch: Dispatch) -> None:
    well = await dispatch("doctor")
    await db.execute(
        "INSERT INTO dead_letters (id, service, subject, reason, detail, body, deliveries) "
        "VALUES (gen_random_uuid(), 'policy', 's', 'ValueError: no', '', '', 8)"
    )
    sick = await dispatch("doctor", "--json")

    assert (well.code, "All is well." in well.out) == (0, True), well.out
    assert "✓" in well.out or "✗" in well.out
    assert (sick.code, sick.data["findings"][0]["code"]) == (1, "dead_letters")


async def test_help_and_completion_work_without_a_console(dispatch: Dispatch) -> None:
    helped = await dispatch("--help", DISPATCH_URL="")
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # what starts the tests need not be a shell
    completion = await dispatch("--show-completion", "bash", DISPATCH_URL="", **told)

    assert "Exit codes: 0 done" in helped.out
    assert "run-service" in helped.out
    assert completion.code == 0
