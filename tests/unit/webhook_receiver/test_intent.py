"""What labels and comments ask for, and who may ask."""

from typing import Any

import pytest

from dispatch_common.plane_types import Member
from dispatch_common.resources import Agent, Source, TriggerRule
from dispatch_common.values import Ask
from services.webhook_receiver.intent import Catalog, ask, command_in, demand, ignored_at_once, refusal
from services.webhook_receiver.normalize import normalize
from services.webhook_receiver.snapshot import People
from tests.support.plane_fixtures import ALICE, BOT, delivery


def agent(role: str, **more: Any) -> Agent:
    return Agent.model_validate({"role": role, "permissionSet": "default", **more})


def source(**more: Any) -> Source:
    base = {
        "provider": "plane",
        "baseUrl": "https://p.example",
        "workspace": "w",
        "webhookSecret": "w",
        "apiToken": "t",
    }
    return Source.model_validate(base | more)


def rule(**spec: Any) -> TriggerRule:
    return TriggerRule.model_validate(spec)


CATALOG = Catalog({"vega": agent("coder", displayName="Vega"), "lyra": agent("docs", displayName="Lyra")})
PEOPLE = People(
    {
        ALICE: Member(id=ALICE, name="alice", role=20),
        BOT: Member(id=BOT, name="guest", role=5),
        "robot": Member(id="robot", name="Plane", role=20, email="bot_user_1@plane.so"),
    },
    own_id="own",
)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["agent:coder"], [("label:agent:coder", "coder", None)]),
        (
            ["bug", "agent:docs", "agent:coder"],
            [("label:agent:coder", "coder", None), ("label:agent:docs", "docs", None)],
        ),
        (["agent:coder/vega"], [("label:agent:coder/vega", "coder", "vega")]),
        (["agent:coder/Vega"], [("label:agent:coder/Vega", "coder", "vega")]),
        (["agent:", "agents:coder", "Agent:coder", "coder"], []),
    ],
)
def test_labels_ask_by_the_default_rule(labels: list[str], wanted: list[tuple[str, str, str | None]]):
    found = demand(labels, "plane", CATALOG)

    assert [(each.key, each.role, each.agent) for each in found.wanted] == wanted
    assert found.problem == ""


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("agent:wizard", "names the role 'wizard', which no agent has. Roles: coder, docs."),
        ("agent:coder/lyra", "names the agent 'lyra', which is no coder."),
        ("agent:coder/nobody", "names the agent 'nobody', which is no coder."),
        ("agent:--upload-pack=x", "names the role '--upload-pack=x', which no agent has."),
    ],
)
def test_a_label_that_asks_in_vain_says_so(label: str, sentence: str):
    found = demand([label], "plane", CATALOG)

    assert found.wanted == ()
    assert sentence in found.problem


def test_own_rules_replace_the_default_one():
    rules = {
        "triage": rule(labels=["needs-fix"], role="coder", agent="vega"),
        "other": rule(sources=["x"], labels=["a:*"]),
    }
    catalog = Catalog(CATALOG.agents, rules)

    assert demand(["agent:coder"], "plane", catalog).wanted == ()
    (wanted,) = demand(["needs-fix"], "plane", catalog).wanted
    assert (wanted.role, wanted.agent) == ("coder", "vega")


@pytest.mark.parametrize(
    ("html", "rest"),
    [
        ("<p>/agent fix the flaky test</p>", "fix the flaky test"),
        ('<p class="editor-paragraph-block">/agent fix &lt;T&gt;</p><p></p>', "fix <T>"),
        ("/agent", ""),
        ("<p>/agent</p><p>do it</p>", "do it"),
        ("<p>/agents fix</p>", None),
        ("<p>please /agent fix</p>", None),
        ("<p>guest comment</p>", None),
        ("<script>/agent</script>", None),
        ("<p>‮/agent</p>", None),
    ],
)
def test_a_comment_that_begins_with_the_command_is_one(html: str, rest: str | None):
    found = command_in(html, "plane", CATALOG)

    assert (found[1] if found else None) == rest


@pytest.mark.parametrize(
    ("text", "role", "agent_name", "instruction"),
    [
        ("coder fix it", "coder", None, "fix it"),
        ("docs: write it", "docs", None, "write it"),
        ("@Vega fix it", "coder", "vega", "fix it"),
        ("@lyra, write", "docs", "lyra", "write"),
        ("fix it", "coder", None, "fix it"),
        ("", "coder", None, ""),
    ],
)
def test_a_command_names_who_shall_do_it(text: str, role: str, agent_name: str | None, instruction: str):
    found = ask("c-1", (None, text), (), CATALOG)

    assert isinstance(found, Ask)
    assert (found.key, found.role, found.agent, found.instruction) == ("comment:c-1", role, agent_name, instruction)


def test_a_standing_label_decides_for_a_bare_command():
    standing = demand(["agent:docs"], "plane", CATALOG).wanted

    found = ask("c-1", (None, "write it"), standing, CATALOG)

    assert isinstance(found, Ask)
    assert found.role == "docs"


def test_a_command_to_nobody_says_who_there_is():
    assert "Agents: lyra, vega." in str(ask("c", (None, "@Merlin fix"), (), CATALOG))
    nobody = Catalog({"a": agent("ops"), "b": agent("docs")})
    assert "Roles: docs, ops." in str(ask("c", (None, "fix"), (), nobody))


@pytest.mark.parametrize(
    ("actor", "more", "sentence"),
    [
        (ALICE, {}, ""),
        (BOT, {}, "guest is a guest; starting an agent takes the role member."),
        (BOT, {"minimumRole": "guest"}, ""),
        (ALICE, {"minimumRole": "admin"}, ""),
        ("stranger", {}, "stranger is not a member of the workspace, so this starts no agent."),
        ("", {}, "Somebody is not a member of the workspace, so this starts no agent."),
        ("robot", {}, "Plane is a bot that the source does not trust to start agents (trustedBots)."),
        ("robot", {"trustedBots": ["robot"]}, ""),
    ],
)
def test_who_may_start_an_agent(actor: str, more: dict[str, Any], sentence: str):
    assert refusal(actor, source(**more), PEOPLE) == sentence


#: prefix of the recorded delivery -> what is said at once when no agent works on the item; "" means: read it
AT_ONCE = {
    "01a": "says nothing about a work item",
    "04a": "",
    "05a": "",
    "07a": "",
    "08a": "echo of our own edit",
    "09a": "echo of our own edit",
    "10a": "",
    "11a": "",
    "13a": "",
    "13b": "",
    "14a": "",
    "17a": "echo of our own edit",
    "21a": "",
    "22a": "",
    "24a": "",
    "25a": "",
    "28a": "says nothing about a work item",
    "34a": "says nothing about a work item",
    "50a": "says nothing about a work item",
    "51a": "",
    "54a": "",
    "54b": "",
    "55a": "None of its labels asks",
    "56a": "None of its labels asks",
    "57a": "None of its labels asks",
    "59a": "does not begin with /agent",
    "61a": "does not begin with /agent",
    "65a": "None of its labels asks",
    "68a": "None of its labels asks",
    "71a": "",
    "72a": "",
    "80": "None of its labels asks",
    "81": "None of its labels asks",
    "82": "None of its labels asks",
}


@pytest.mark.parametrize(("prefix", "sentence"), AT_ONCE.items())
def test_recorded_deliveries_that_lead_to_nothing_are_known_at_once(prefix: str, sentence: str):
    own = BOT if sentence.startswith("echo") else "own"
    said = ignored_at_once(normalize(delivery(prefix).data), "plane", source(), CATALOG, own_id=own, tracked=False)

    assert sentence in said
    assert bool(sentence) is bool(said)


@pytest.mark.parametrize("prefix", [prefix for prefix, sentence in AT_ONCE.items() if "work item" not in sentence])
def test_a_task_that_an_agent_works_on_is_always_read(prefix: str):
    event = normalize(delivery(prefix).data)

    assert ignored_at_once(event, "plane", source(), CATALOG, own_id="own", tracked=True) == ""


def test_a_project_that_the_source_does_not_name_is_left_alone():
    only = source(projects={"other": {"identifier": "OTH"}})

    said = ignored_at_once(normalize(delivery("04a").data), "plane", only, CATALOG, own_id="own", tracked=False)

    assert "is not among the projects of the source 'plane'" in said
