"""Both formats of Plane's webhooks become one small value; what proves nothing stays out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhook_receiver.normalize import Action, Kind, dedupe_key, normalize
from tests.support.plane_fixtures import ALICE, BOT, Recorded, deliveries, delivery

SIGNED = [each for each in deliveries() if each.body]


@pytest.mark.parametrize("recorded", SIGNED, ids=lambda each: each.name)
def test_every_recorded_delivery_is_understood(recorded: Recorded):
    event = normalize(recorded.data)
    said = recorded.data

    assert event.name == f"{said['event']}.{said['action']}"
    assert event.kind is {"issue": Kind.ITEM, "issue_comment": Kind.COMMENT}.get(said["event"], Kind.OTHER)
    assert event.object_id == said["data"].get("issue", said["data"]["id"])
    assert event.actor_id == said["activity"]["actor"]["id"]
    assert event.field == (said["activity"]["field"] or "")


def test_a_claimed_author_is_not_the_actor():
    recorded = delivery("71a")

    assert recorded.data["data"]["created_by"] == ALICE
    assert normalize(recorded.data).actor_id == BOT


def test_a_label_event_names_its_labels_and_what_it_put_on():
    event = normalize(delivery("05a").data)

    assert event.labels == ("agent:coder", "agent:docs")
    assert event.label_ids_added == ("60bdd882-7768-4730-b2b1-7129cb5708c8",)
    assert normalize(delivery("07a").data).label_ids_added == ()
    assert normalize(delivery("21a").data).label_ids_added == ("43f6976b-2245-4675-a704-73fd9233e9d9",)


def test_a_repetition_has_the_same_key_under_another_delivery_id():
    first, second = delivery("80"), delivery("81")

    assert first.headers["X-Plane-Delivery"] != second.headers["X-Plane-Delivery"]
    assert dedupe_key(normalize(first.data), first.body) == dedupe_key(normalize(second.data), second.body)
    other = delivery("82")
    assert dedupe_key(normalize(other.data), other.body) != dedupe_key(normalize(first.data), first.body)


def second(event: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "v2", "delivery_id": "d", "event_id": "e-1", "entity_id": "i-1", "entity_type": "workitem",
        "event": event, "webhook_id": "w", "workspace_id": "ws", "data": data, "previous_attributes": {}, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["workitem.updated", "WebhookScope.ScopeChoices.WORK_ITEM_UPDATED"], ids=["plain", "as an enum"]
)
def test_the_second_format_gives_ids_only(name: str):
    event = normalize(second(name, {"id": "i-1", "project_id": "p-1", "label_ids": ["l"], "name": "Fix"}))

    assert (event.kind, event.action, event.object_id, event.project_id) == (Kind.ITEM, Action.UPDATED, "i-1", "p-1")
    assert (event.labels, event.actor_id, event.version) == (None, "", 2)
    assert dedupe_key(event, b"one") == dedupe_key(event, b"another")


def test_the_second_formats_none_is_nothing():
    event = normalize(second("workitem.created", {"id": "i-1", "project_id": "None", "name": "None"}))

    assert (event.project_id, event.title) == ("", "")


def test_a_comment_of_the_second_format_is_text_and_belongs_to_its_item():
    comment = {"id": "c-1", "issue_id": "i-1", "actor_id": ALICE, "comment_stripped": "/agent fix <b> & go"}
    event = normalize(second("workitem.comment.created", {"id": "i-1", "project_id": "p", "comment": comment}))

    assert (event.kind, event.object_id, event.comment_id) == (Kind.COMMENT, "i-1", "c-1")
    assert event.comment_html == "/agent fix &lt;b&gt; &amp; go"
    assert event.actor_id == ""


def test_a_deleted_item_of_the_second_format_is_known_by_what_it_was():
    event = normalize(second("workitem.deleted", {}, previous_attributes={"project_id": "p-1", "name": "Fix"}))

    assert (event.action, event.object_id, event.project_id) == (Action.DELETED, "i-1", "p-1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
_KEYS = st.sampled_from(["event", "action", "data", "activity", "version", "event_id", "entity_id", "workspace_id"])
_INNER = st.sampled_from(
    ["id", "actor", "labels", "issue", "comment", "name", "project", "old_value", "new_value", "field"]
)


@given(st.dictionaries(_KEYS, _JSON | st.dictionaries(_INNER, _JSON) | st.just("v2") | st.just("issue")))
def test_no_object_is_an_error(body: dict[str, Any]):
    event = normalize(body)

    assert "\x00" not in event.object_id + event.name + event.title
