"""The happy road: an agent works in its sandbox, and its work comes home as a bundle with a manifest."""

from pathlib import Path

from agent_runner.protocol import Done, Outcome, ResultManifest, Text, ToolCall, ToolResult
from tests.support.attempts import FIX, Bench, git


async def test_an_agents_commits_come_home_as_a_bundle(desk: Bench, tmp_path: Path):
    result = await desk.result(FIX)

    assert result.outcome is Outcome.SUCCEEDED
    assert result.bundle is not None
    bundle = tmp_path / "result.bundle"
    bundle.write_bytes(desk.gateway.blobs[result.bundle.digest])
    source = tmp_path / "source"
    git(source, "fetch", "-q", str(bundle), f"refs/heads/agent/{desk.run_id.hex[:8]}:refs/heads/result")
    assert git(source, "rev-parse", "result") == result.commit
    assert git(source, "merge-base", "main", "result") == result.base_commit
    assert "return a + b" in git(source, "show", "result:calc.py")
    assert git(source, "log", "-1", "--format=%an", "result") == "Vega (agent)"


async def test_the_manifest_tells_files_commits_commands_and_tests(desk: Bench):
    result = await desk.result(FIX)

    assert result.manifest is not None
    manifest = ResultManifest.model_validate_json(desk.gateway.blobs[result.manifest.digest])
    assert [(file.path, file.added, file.removed) for file in manifest.files] == [("calc.py", 1, 1)]
    assert [commit.subject for commit in manifest.commits] == ["Add instead of subtracting"]
    assert [(test.command, test.ok) for test in manifest.tests][-1] == ("python3 -m unittest -q", True)
    assert manifest.usage.wall_ms > 0
    assert manifest.usage.cpu_ms > 0
    assert manifest.usage.peak_memory_mib > 0


async def test_the_stream_says_plainly_what_the_agent_is_and_pairs_calls_with_results(desk: Bench):
    await desk.result(FIX)

    events = desk.gateway.events
    assert events[0] == Text(text="I am the built-in scripted agent: I follow a script, no model is involved.")
    calls = [event.call for event in events if isinstance(event, ToolCall)]
    assert calls == [event.call for event in events if isinstance(event, ToolResult)]
    assert isinstance(events[-1], Done)
    assert sorted(desk.gateway.lines) == list(range(1, len(events) + 1))


async def test_work_that_was_not_committed_comes_along_and_dispatch_files_stay_out(desk: Bench):
    result = await desk.result("write new.txt <<END\nhello\nEND\nrun git add -f .dispatch/task.md")

    assert result.outcome is Outcome.SUCCEEDED
    assert result.manifest is not None
    manifest = ResultManifest.model_validate_json(desk.gateway.blobs[result.manifest.digest])
    assert [file.path for file in manifest.files] == ["new.txt"]


async def test_an_agent_that_changes_nothing_leaves_no_bundle(desk: Bench):
    result = await desk.result("say There is nothing to do.")

    assert result.outcome is Outcome.SUCCEEDED
    assert result.commit is None
    assert result.bundle is None
    assert result.files_changed == 0


async def test_a_task_without_a_script_gets_a_note(desk: Bench):
    spec = await desk.spec("")
    spec.prompt_file.write_text("Please make it better.")
    await desk.start(spec)
    await desk.ended(spec)

    (result,) = desk.gateway.results
    assert result.family == "verification_failed"  # the sample's test fails, and nobody fixed it
    assert "the tests fail" in result.sentence


async def test_stdout_and_stderr_are_kept(desk: Bench):
    result = await desk.result("say hello\nrun echo to-stderr >&2")

    assert result.stdout is not None
    assert result.stderr is not None
    assert b"hello" in desk.gateway.blobs[result.stdout.digest]
