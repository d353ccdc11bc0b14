"""A result becomes a branch, a pull request, a comment, a link and a state; and what keeps it from that is said."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from dispatch_common import localforge
from dispatch_common.events import PublishOutcome, ResultPublished, ResultVerified, Verification
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Grant, RepositorySpec
from services.result_publisher import plan, store
from services.result_publisher.checks import Checks
from services.result_publisher.mirror import MirrorUnavailable
from services.result_publisher.protocol import Kind, Seen, Write
from tests.integration.result_publisher.conftest import RUN, World

FILES: dict[str, bytes | None] = {"src/app.py": b"print('hello, world')\n"}
BRANCH = "agent/0011aabb"
_LEASE = timedelta(seconds=10)


def _dies_at(moment: str) -> Callable[[str], None]:
    def probe(now: str) -> None:
        if now == moment:
            raise InterruptedError(moment)

    return probe


async def _outcome(world: World) -> ResultPublished:
    said = await world.said(ResultPublished)
    assert len(said) == 1
    return said[0]


async def test_a_result_is_published_and_told(world: World):
    request = await world.request(FILES)

    await world.publishes(request)

    (verified,) = await world.said(ResultVerified)
    assert verified.verification is Verification.ACCEPTED
    published = await _outcome(world)
    assert published.outcome is PublishOutcome.PUBLISHED
    assert published.pull is not None
    assert (published.pull.branch, published.pull.number, published.pull.commit) == (BRANCH, 1, request.result.commit)
    assert world.branches == [BRANCH, "main"]
    (pull,) = world.pulls
    assert (pull.title, pull.created_by) == ("DISP-1: Say hello", "Vega")
    (comment,) = world.comments
    assert "<strong>Vega</strong> finished" in comment
    assert "It says hello now." in comment
    assert world.links == ["https://dispatch.test/pulls/sample/1"]
    assert world.plane.state.states[world.plane.state.items[world.item]["state"]]["group"] == "started"
    assert set((await world.effects()).values()) == {"done"}
    assert list((world.settings.data / "imports").iterdir()) == []


async def test_asking_again_says_the_stored_answer_again_and_does_nothing(world: World):
    request = await world.request(FILES)
    await world.publishes(request)

    again = request.model_copy(update={"id": RUN})
    await world.hears(again, again)
    await world.hears(again)

    answers = await world.said(ResultPublished)
    assert len(answers) == 2
    assert answers[0].id != answers[1].id
    assert answers[1].cause == RUN
    assert answers[0].model_copy(update={"id": RUN, "time": RUN, "cause": RUN}) == answers[1].model_copy(
        update={"id": RUN, "time": RUN, "cause": RUN}
    )
    assert len(world.comments) == 1


async def test_an_attempt_that_changed_nothing_and_came_from_nowhere_ends_in_the_intake(world: World):
    await world.hears(await world.request(provider="api"))

    published = await _outcome(world)
    assert published.outcome is PublishOutcome.NOTHING
    assert (await store.load(world.db, (RUN, 1))).state == "finished"
    assert world.plane.calls == []


async def test_an_attempt_that_changed_nothing_is_told_to_the_work_item(world: World):
    await world.publishes(await world.request())
    assert (await _outcome(world)).outcome is PublishOutcome.NOTHING
    assert "without changing a file" in world.comments[0]
    assert world.pulls == []


async def test_a_task_without_a_work_item_gets_branch_and_pull_request_only(world: World):
    await world.publishes(await world.request(FILES, provider="api"))
    assert (await _outcome(world)).outcome is PublishOutcome.PUBLISHED
    assert await world.effects() == {"branch": "done", "pull": "done"}
    assert world.plane.calls == []


@pytest.mark.parametrize(("ready", "links"), [(b'{"console": "http://127.0.0.1:9"}', 1), (b"{", 0), (None, 0)])
async def test_without_a_public_address_the_link_goes_to_the_console_of_this_machine(
    world: World, ready: bytes | None, links: int
):
    world.settings = world.settings.model_copy(update={"public_url": ""})
    if ready is not None:
        world.settings.data.mkdir(exist_ok=True)
        (world.settings.data / "ready.json").write_bytes(ready)
    await world.publishes(await world.request(FILES))
    assert world.links == ["http://127.0.0.1:9/pulls/sample/1"] * links
    assert (await _outcome(world)).outcome is PublishOutcome.PUBLISHED


async def test_codeowners_wants_a_person_and_exactly_that_result_may_then_pass(world: World):
    files: dict[str, bytes | None] = {"CODEOWNERS": b"* @vega\n", ".github/workflows/ci.yml": b"on: push\n"}
    await world.publishes(await world.request(files))

    (asked,) = await world.said(ResultVerified)
    assert asked.verification is Verification.NEEDS_APPROVAL
    assert asked.paths == (".github/workflows/ci.yml", "CODEOWNERS")
    assert await world.said(ResultPublished) == []
    assert world.branches == ["main"]

    await world.publishes(await world.request(files, revision=2, approved="something else"))
    second = (await world.said(ResultVerified))[1]
    assert (second.verification, second.reasons[0].code) == (Verification.NEEDS_APPROVAL, "result_changed")

    await world.publishes(await world.request(files, revision=3, approved=asked.result_digest))
    assert (await _outcome(world)).outcome is PublishOutcome.PUBLISHED
    assert world.branches == [BRANCH, "main"]


@pytest.mark.parametrize(
    ("files", "grant", "code"),
    [
        ({".dispatch/tasks/x": b"x\n"}, Grant(), "path_kept_out"),
        ({"lib/x.py": b"x\n"}, Grant(paths_allowed=("src/**",)), "path_not_granted"),
        ({"src/app.py": b"x\n"}, Grant(paths_protected=("src/*.py",)), "path_protected"),
        ({"a": b"a\n", "b": b"b\n"}, Grant(max_files=1), "too_many_files"),
        ({"a": b"a" * 2000}, Grant(max_bytes=1000), "too_many_bytes"),
        ({"a": f"{'AKIA' + 'QYLPMN5HFIQR7XYA'}\n".encode()}, Grant(), "secret_found"),
        ({"a": b"a\n"}, Grant(base_commit="1" * 40), "bundle_refused"),
    ],
)
async def test_what_was_not_granted_is_refused_with_a_reason(
    world: World, files: dict[str, bytes | None], grant: Grant, code: str
):
    await world.publishes(await world.request(files, grant=grant))

    (verified,) = await world.said(ResultVerified)
    assert verified.verification is Verification.REFUSED
    assert [reason.code for reason in verified.reasons] == [code]
    assert world.branches == ["main"]
    assert world.comments == []


async def test_a_secret_is_never_shown(world: World):
    token = "AKIA" + "QYLPMN5HFIQR7XYA"
    await world.publishes(await world.request({"a.txt": f"x\n{token}\n".encode()}))
    (verified,) = await world.said(ResultVerified)
    assert verified.reasons[0].sentence == "a.txt, line 2 holds what looks like a secret: AWS Access Key."
    dump = await world.db.fetchval("SELECT string_agg(p::text, '') FROM publications p")
    assert token not in dump


async def test_a_missing_bundle_is_said(world: World):
    request = await world.request(FILES)
    assert request.result.bundle is not None
    (world.settings.blob_root / request.result.bundle.digest[:2] / request.result.bundle.digest).unlink()
    await world.publishes(request)
    (verified,) = await world.said(ResultVerified)
    assert verified.verification is Verification.REFUSED
    assert "is missing" in verified.reasons[0].sentence


async def test_a_repository_that_is_away_is_tried_again_and_in_the_end_said(world: World):
    request = await world.request(FILES)
    away = RepositorySpec(name="far", url="https://127.0.0.1:1/far.git")
    request = request.model_copy(update={"repository": away})
    folder = world.settings.data / "imports" / "far"

    with pytest.raises(MirrorUnavailable, match="far cannot be fetched"):
        await Checks(world.settings, folder).check(request)

    verdict = await Checks(world.settings, folder, failures=8).check(request)
    assert verdict.judgement.verification is Verification.REFUSED
    assert "could not be checked" in verdict.judgement.reasons[0].sentence


async def test_a_repository_that_is_not_there_is_refused_with_the_remedy(world: World):
    request = await world.request(FILES)
    gone = RepositorySpec(name="gone", url="/nonexistent/gone.git")
    await world.publishes(request.model_copy(update={"repository": gone}))
    (verified,) = await world.said(ResultVerified)
    assert verified.reasons[0].code == "repository_unusable"
    assert "is not a git repository" in verified.reasons[0].sentence


async def test_a_run_that_failed_is_told_once_with_reason_and_next_action(world: World):
    await world.hears(world.ended())
    await world.hears(world.ended())
    await world.works(0)

    (comment,) = world.comments
    assert "could not finish this after 3 attempts" in comment
    assert "It ran longer than 30 minutes." in comment
    assert "Next: Split the task." in comment
    assert await world.said(ResultPublished) == []


async def test_a_completed_run_and_one_from_nowhere_are_not_told(world: World):
    await world.hears(world.ended(RunState.COMPLETED), world.ended(provider="api"))
    assert await world.db.fetchval("SELECT count(*) FROM publications") == 0


async def test_a_failed_run_moves_the_item_only_when_the_source_says_so(world: World):
    await world.source(stateOnFailure="Todo")
    await world.hears(world.ended())
    await world.works(0)
    assert world.item_state == "Todo"


async def test_a_source_that_wants_no_comment_gets_none(world: World):
    await world.source(comment=False, stateOnPublish="Done")
    await world.publishes(await world.request(FILES))
    assert world.comments == []
    assert world.item_state == "Done"


# --- a person's change stands ---


async def test_an_item_that_a_person_moved_meanwhile_is_left_there(world: World):
    request = await world.request(FILES)
    done = world.plane.state.state_named(world.project, "Done")
    world.plane.state.patch_item(world.item, {"state": done}, actor=world.alice)

    await world.publishes(request)

    assert world.item_state == "Done"
    assert (await world.effects())["state"] == "skipped"
    assert "a person moved it to 'Done'" in (await world.sentences())["state"]
    assert (await _outcome(world)).outcome is PublishOutcome.PUBLISHED


async def test_a_branch_that_a_person_deleted_is_not_made_again(world: World):
    await world.hears(await world.request(FILES))
    with pytest.raises(InterruptedError):
        await world.session(probe=_dies_at("branch: recorded")).go_on()
    world.forge.git("update-ref", "-d", f"refs/heads/{BRANCH}")

    await world.works()

    assert world.branches == ["main"]
    assert world.pulls == []
    published = await _outcome(world)
    assert published.outcome is PublishOutcome.PUBLISHED
    assert "a person deleted the branch" in published.sentence


async def test_a_pull_request_that_a_person_closed_is_not_opened_again(world: World):
    await world.hears(await world.request(FILES))
    with pytest.raises(InterruptedError):
        await world.session(probe=_dies_at("pull: written")).go_on()
    localforge.close_pull(world.forge.path, 1, by="Ada", now=world.pulls[0].created_at)

    await world.works()

    assert [pull.state for pull in world.pulls] == [localforge.PullState.CLOSED]
    assert "Ada closed it; that stands" in (await world.sentences())["pull"]


async def test_a_branch_with_something_else_on_it_is_never_forced(world: World):
    other = world.forge.grown(world.base, {"other": b"x\n"})
    world.forge.git("update-ref", f"refs/heads/{BRANCH}", other)

    await world.publishes(await world.request(FILES))

    assert localforge.branch_tip(world.forge.path, BRANCH) == other
    published = await _outcome(world)
    assert (published.outcome, published.family) == (PublishOutcome.FAILED, ErrorFamily.PUBLISH_FAILED)
    assert "nothing is forced" in published.sentence
    assert world.comments == []


async def test_a_deleted_work_item_does_not_keep_the_pull_request_back(world: World):
    world.plane.state.delete_item(world.item)
    await world.publishes(await world.request(FILES))
    published = await _outcome(world)
    assert published.outcome is PublishOutcome.PUBLISHED
    assert "the comment on the work item failed: the work item is not there any more" in published.sentence


# --- stopping ---


async def test_a_stop_before_the_check_writes_nothing(world: World):
    await world.hears(await world.request(FILES))
    await world.hears(world.stop())
    await world.works()
    assert (await _outcome(world)).outcome is PublishOutcome.STOPPED
    assert world.branches == ["main"]
    assert world.plane.calls == []


async def test_a_stop_that_overtakes_its_request_keeps_it_from_beginning(world: World):
    await world.hears(world.stop())
    await world.hears(await world.request(FILES))
    assert [fact.outcome for fact in await world.said(ResultPublished)] == [PublishOutcome.STOPPED] * 2
    assert await store.claim(world.db, 10, _LEASE) == []


async def test_a_stop_between_effects_is_reported_as_it_is(world: World):
    await world.hears(await world.request(FILES))
    with pytest.raises(InterruptedError):
        await world.session(probe=_dies_at("pull: recorded")).go_on()
    await world.hears(world.stop())
    await world.works()

    published = await _outcome(world)
    assert published.outcome is PublishOutcome.STOPPED
    assert published.sentence == "Stopped; the branch and the pull request already stood."
    assert published.pull is not None
    assert world.comments == []


async def test_a_stop_while_an_effect_is_in_flight_reads_it_back_first(world: World):
    await world.hears(await world.request(FILES))
    with pytest.raises(InterruptedError):
        await world.session(probe=_dies_at("branch: written")).go_on()
    await world.hears(world.stop())
    await world.works()
    assert await world.effects() == {
        "branch": "done",
        "pull": "skipped",
        "comment": "skipped",
        "link": "skipped",
        "state": "skipped",
    }


async def test_a_stop_after_everything_is_answered_with_what_is_true(world: World):
    await world.publishes(await world.request(FILES))
    await world.hears(world.stop())
    assert [fact.outcome for fact in await world.said(ResultPublished)] == [PublishOutcome.PUBLISHED] * 2


async def test_a_stop_of_a_result_that_waits_for_approval_is_confirmed(world: World):
    await world.publishes(await world.request({"CODEOWNERS": b"*\n"}))
    await world.hears(world.stop())
    assert (await _outcome(world)).outcome is PublishOutcome.STOPPED


async def test_a_stop_that_is_committed_between_look_and_intent_wins(world: World):
    await world.hears(await world.request(FILES))
    loaded = await store.load(world.db, (RUN, 1))
    await world.hears(world.stop())
    move = plan.after_look(loaded.publication, Kind.BRANCH, Seen.ABSENT, loaded.now)
    assert isinstance(move, Write)
    assert not await store.put_effect(world.db, loaded, move.effect, fresh_write=True)
    assert await world.effects() == {}


async def test_two_workers_take_one_publication_once(world: World):
    await world.hears(await world.request(FILES))
    claims = await asyncio.gather(*(store.claim(world.db, 10, _LEASE) for _ in range(5)))
    assert sum(len(claim) for claim in claims) == 1
