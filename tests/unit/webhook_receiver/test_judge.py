"""A demand belongs to whoever made it: nobody rides on another's, nobody's is lost because a stranger spoke."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import DeliveryOutcome
from dispatch_common.plane_types import Activity, Comment, Label, Member
from dispatch_common.resources import Agent, Source
from services.webhook_receiver.intent import Catalog, demand
from services.webhook_receiver.judge import Heard, Scene, judge
from services.webhook_receiver.normalize import Action, Kind, PlaneEvent
from services.webhook_receiver.snapshot import People

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ALICE, BOB, GUEST = "alice", "bob", "guest"
PEOPLE = People({name: Member(id=name, name=name, role=role) for name, role in ((ALICE, 20), (BOB, 15), (GUEST, 5))})
CATALOG = Catalog(
    {
        "vega": Agent.model_validate({"role": "coder", "permissionSet": "p"}),
        "lyra": Agent.model_validate({"role": "docs", "permissionSet": "p"}),
    }
)
SOURCE = Source.model_validate(
    {"provider": "plane", "baseUrl": "https://p.example", "workspace": "w", "webhookSecret": "w", "apiToken": "t"}
)
CODER = Label(id="l-coder", name="agent:coder")


def scene(labels: Sequence[Label] = (), *, written: Sequence[tuple[str, str]] = (), **more: Any) -> Scene:
    comments = [Comment(id=number, actor=who, created_at=NOW) for number, who in written]
    asked = demand([label.name for label in labels], "plane", CATALOG)
    return Scene("plane", SOURCE, CATALOG, PEOPLE, asked, labels, comments, **more)


def heard(number: int, kind: Kind, action: Action, actor: str, **more: Any) -> Heard:
    return Heard(UUID(int=number), PlaneEvent("x", kind, action, "i-1", "p-1", actor_id=actor, **more))


def created(number: int, actor: str, *labels: str) -> Heard:
    return heard(number, Kind.ITEM, Action.CREATED, actor, labels=labels)


def changed(number: int, actor: str, *added: str, labels: tuple[str, ...] = ("agent:coder",)) -> Heard:
    return heard(number, Kind.ITEM, Action.UPDATED, actor, labels=labels, label_ids_added=added)


def said(number: int, actor: str, html: str) -> Heard:
    return heard(number, Kind.COMMENT, Action.CREATED, actor, comment_id=f"c-{number}", comment_html=html)


def entry(seconds: int, actor: str, field: str = "", new: str = "", verb: str = "updated") -> Activity:
    at = NOW + timedelta(seconds=seconds)
    return Activity(id=str(ids.fresh()), actor=actor, verb=verb, field=field, new_value=new, created_at=at)


def test_a_label_is_the_demand_of_who_put_it_on():
    judgement = judge([changed(1, ALICE, "l-coder"), changed(2, GUEST)], scene([CODER]))

    (handing,) = judgement.handings
    assert (handing.actor.id, handing.may_start, len(handing.delivery_ids)) == (ALICE, True, 2)


def test_a_guest_who_creates_a_labelled_item_starts_nothing_even_if_a_member_edits_it_later():
    judgement = judge([created(1, GUEST, "agent:coder"), changed(2, ALICE)], scene([CODER]))

    (handing,) = judgement.handings
    assert (handing.actor.id, handing.may_start) == (GUEST, False)
    assert "guest" in handing.refusal


def test_a_guests_words_do_not_use_up_the_label_of_a_member():
    plain = said(1, GUEST, "<p>any news?</p>")

    asked = judge([plain], scene([CODER], written=[("c-1", GUEST)]))
    assert asked.needs_history
    assert asked.handings == []

    history = [
        entry(0, GUEST, verb="created"),
        entry(1, ALICE, "labels", "agent:coder"),
        entry(2, GUEST, "priority", "low"),
    ]
    (handing,) = judge([plain], scene([CODER], written=[("c-1", GUEST)], history=history)).handings
    assert (handing.actor.id, handing.may_start) == (ALICE, True)


def test_a_guests_own_label_is_found_in_the_history_too():
    history = [entry(0, GUEST, verb="created")]

    (handing,) = judge([said(1, GUEST, "hi")], scene([CODER], history=history)).handings

    assert (handing.actor.id, handing.may_start) == (GUEST, False)


def test_a_command_of_a_guest_is_refused_and_never_handed_over():
    judgement = judge([said(1, GUEST, "/agent fix")], scene(written=[("c-1", GUEST)]))

    (decision,) = judgement.decisions
    assert judgement.handings == []
    assert decision.outcome is DeliveryOutcome.REFUSED
    assert decision.sentence == "guest is a guest; starting an agent takes the role member."


def test_a_command_of_a_guest_does_not_ride_on_a_members_label():
    judgement = judge(
        [changed(1, ALICE, "l-coder"), said(2, GUEST, "/agent delete everything")],
        scene([CODER], written=[("c-2", GUEST)]),
    )

    (handing,) = judgement.handings
    assert (handing.actor.id, handing.asks, handing.delivery_ids) == (ALICE, (), (UUID(int=1),))
    assert [decision.outcome for decision in judgement.decisions] == [DeliveryOutcome.REFUSED]


def test_two_people_who_ask_are_two_handings():
    judgement = judge(
        [said(1, ALICE, "/agent coder fix"), said(2, BOB, "/agent docs write"), said(3, ALICE, "/agent coder more")],
        scene(written=[("c-1", ALICE), ("c-2", BOB), ("c-3", ALICE)]),
    )

    told = {handing.actor.id: [ask.instruction for ask in handing.asks] for handing in judgement.handings}
    assert told == {ALICE: ["fix", "more"], BOB: ["write"]}
    assert all(handing.may_start for handing in judgement.handings)


def test_a_comment_that_was_deleted_meanwhile_is_not_obeyed():
    (decision,) = judge([said(1, ALICE, "/agent fix")], scene()).decisions

    assert (decision.outcome, decision.sentence) == (DeliveryOutcome.IGNORED, "The comment is gone.")


def test_without_an_actor_the_api_says_who_wrote():
    """The second format of webhooks names nobody."""
    (handing,) = judge([said(1, "", "/agent fix")], scene(written=[("c-1", ALICE)])).handings
    assert handing.actor.id == ALICE

    (decision,) = judge([said(1, "", "/agent fix")], scene(written=[("c-1", GUEST)])).decisions
    assert decision.outcome is DeliveryOutcome.REFUSED


def test_without_an_actor_a_label_is_judged_by_the_history():
    edit = heard(1, Kind.ITEM, Action.UPDATED, "", version=2)

    assert judge([edit], scene([CODER])).needs_history
    (handing,) = judge([edit], scene([CODER], history=[entry(1, BOB, "labels", "agent:coder")])).handings
    assert (handing.actor.id, handing.may_start) == (BOB, True)
    (nobody,) = judge([edit], scene([CODER], history=[])).handings
    assert not nobody.may_start


def test_an_unknown_repository_stops_everybody_with_its_reason():
    problem = "The work item names the repository 'x', which is not a known Repository."

    (handing,) = judge([created(1, ALICE, "agent:coder")], scene([CODER], problem=problem)).handings

    assert (handing.may_start, handing.refusal) == (False, problem)


def test_a_removed_label_is_handed_over_without_anybody_asking():
    (handing,) = judge([changed(1, GUEST, labels=())], scene()).handings

    assert handing.asks == ()
    assert handing.actor.id == GUEST


def test_every_delivery_is_either_handed_over_or_decided_and_never_both():
    all_of_it = [
        created(1, GUEST, "agent:coder"), changed(2, ALICE, "l-coder"), said(3, BOB, "/agent docs go"),
        said(4, GUEST, "/agent go"), said(5, BOB, "fine"), said(6, ALICE, "/agent @nobody go"),
    ]  # fmt: skip
    written = [(f"c-{number}", who) for number, who in ((3, BOB), (4, GUEST), (5, BOB), (6, ALICE))]

    judgement = judge(all_of_it, scene([CODER], written=written))

    handed = [each for handing in judgement.handings for each in handing.delivery_ids]
    decided = [decision.delivery_id for decision in judgement.decisions]
    assert sorted(handed + decided, key=lambda each: each.int) == [each.id for each in all_of_it]
