"""What a task asks for, who asks, and whether that person may. Pure: the whole judgement of the receiver is here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dispatch_common.resources import Agent, AgentStatus, MinimumRole, Source, TriggerEvent, TriggerRule
from dispatch_common.values import Ask, Wanted
from services.webhook_receiver.normalize import Action, Kind, PlaneEvent
from services.webhook_receiver.snapshot import People, markdown

DEFAULT_COMMAND: Final = "/agent"
DEFAULT_RULE: Final = TriggerRule(labels=("agent:*",))
_WORD: Final = re.compile(r"\S+")
#: The rule that knows a command (None: the default one), and the text behind it.
Command: TypeAlias = tuple[TriggerRule | None, str]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Who can work and what makes them start, as it was applied."""

    agents: Mapping[str, Agent] = field(default_factory=dict[str, Agent])
    rules: Mapping[str, TriggerRule] = field(default_factory=dict[str, TriggerRule])

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(agent.role for agent in self.agents.values() if agent.status is not AgentStatus.INACTIVE)

    def rules_for(self, source: str) -> tuple[TriggerRule, ...]:
        """Return the rules of a source; without any, ``agent:<role>`` labels and ``/agent`` comments start agents."""
        own = tuple(rule for rule in self.rules.values() if not rule.sources or source in rule.sources)
        return own or (() if self.rules else (DEFAULT_RULE,))

    def agent_called(self, name: str) -> tuple[str, Agent] | None:
        """Return the agent that people call so, by its name or display name, in any case."""
        wanted = name.casefold()
        for key, agent in self.agents.items():
            if wanted in (key.casefold(), agent.display_name.casefold()):
                return key, agent
        return None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the labels ask for, and what is said about labels that ask in vain."""

    wanted: tuple[Wanted, ...] = ()
    problem: str = ""


def demand(labels: Iterable[str], source: str, catalog: Catalog) -> Demand:
    """Return what the labels that stand now ask for."""
    wanted: dict[str, Wanted] = {}
    problems: list[str] = []
    rules = catalog.rules_for(source)
    for label in sorted(labels):
        for rule in rules:
            asked = rule.role_for(label)
            if asked is None:
                continue
            found = _from_label(label, asked, rule, catalog)
            if isinstance(found, Wanted):
                wanted.setdefault(found.key, found)
            else:
                problems.append(found)
            break
    return Demand(tuple(wanted.values()), " ".join(problems))


def asks_by_label(labels: Iterable[str], source: str, catalog: Catalog) -> bool:
    """Tell whether any label looks like a demand, fulfillable or not."""
    rules = catalog.rules_for(source)
    return any(rule.role_for(label) is not None for label in labels for rule in rules)


def _from_label(label: str, asked: str, rule: TriggerRule, catalog: Catalog) -> Wanted | str:
    role, _, agent_name = asked.partition("/") if rule.role is None else (asked, "", rule.agent or "")
    agent_name = agent_name or rule.agent or ""
    if role not in catalog.roles:
        return f"The label '{label}' names the role '{role}', which no agent has. {_roles(catalog)}"
    if agent_name:
        named = catalog.agent_called(agent_name)
        if named is None or named[1].role != role:
            return f"The label '{label}' names the agent '{agent_name}', which is no {role}."
        agent_name = named[0]
    return Wanted(key=f"label:{label}", role=role, agent=agent_name or None, wake_reason=rule.wake_reason)


def _roles(catalog: Catalog) -> str:
    return f"Roles: {', '.join(sorted(catalog.roles))}." if catalog.roles else "No agents are defined yet."


def command_in(comment_html: str, source: str, catalog: Catalog) -> Command | None:
    """Return the rule and the rest of a comment that begins with a command such as ``/agent``, or None."""
    text = markdown(comment_html)
    first = _WORD.match(text)
    if first is None:
        return None
    for rule in catalog.rules_for(source):
        if first[0] in rule.commands:
            return rule, text[first.end() :].strip()
    has_own = any(rule.commands for rule in catalog.rules_for(source))
    return (None, text[first.end() :].strip()) if first[0] == DEFAULT_COMMAND and not has_own else None


def ask(comment_id: str, command: Command, standing: tuple[Wanted, ...], catalog: Catalog) -> Ask | str:
    """Return what a command asks for, or a sentence that says what is missing.

    ``/agent @Vega …`` names an agent, ``/agent coder …`` a role; else the rule, the labels or the only role decide.
    """
    rule, text = command
    word = _WORD.match(text)
    first, rest = (word[0], text[word.end() :].strip()) if word else ("", "")
    key = f"comment:{comment_id}"
    if first.startswith("@"):
        named = catalog.agent_called(first[1:].rstrip(",:"))
        if named is None:
            return f"Nobody in the catalog is called '{first[1:60]}'. Agents: {', '.join(sorted(catalog.agents))}."
        return Ask(key=key, role=named[1].role, agent=named[0], instruction=rest)
    if first.rstrip(",:") in catalog.roles:
        return Ask(key=key, role=first.rstrip(",:"), instruction=rest)
    role, agent = _otherwise(rule, standing, catalog)
    if role is None:
        return f"The comment does not say who shall do it. Write '/agent ROLE …' or '/agent @NAME …'. {_roles(catalog)}"
    return Ask(key=key, role=role, agent=agent, instruction=text)


def _otherwise(
    rule: TriggerRule | None, standing: tuple[Wanted, ...], catalog: Catalog
) -> tuple[str | None, str | None]:
    if rule is not None and rule.agent is not None and rule.agent in catalog.agents:
        return catalog.agents[rule.agent].role, rule.agent
    if rule is not None and rule.role is not None:
        return rule.role, None
    if len(standing) == 1:
        return standing[0].role, standing[0].agent
    if len(catalog.roles) == 1:
        return next(iter(catalog.roles)), None
    return ("coder", None) if "coder" in catalog.roles else (None, None)


def refusal(actor_id: str, source: Source, people: People) -> str:
    """Return why this person may not start an agent; empty when they may."""
    if actor_id in source.trusted_bots:
        return ""
    actor = people.actor(actor_id)
    who = actor.name or actor_id or "Somebody"
    if actor.bot:
        return f"{who} is a bot that the source does not trust to start agents (trustedBots)."
    role = people.role(actor_id)
    if role >= source.minimum_role.level:
        return ""
    if role == 0:
        return f"{who} is not a member of the workspace, so this starts no agent."
    return f"{who} is a {_role_name(role)}; starting an agent takes the role {source.minimum_role.value}."


def _role_name(role: int) -> str:
    return next((each.value for each in MinimumRole if each.level == role), f"member with role {role}")


def ignored_at_once(
    event: PlaneEvent, source_name: str, source: Source, catalog: Catalog, *, own_id: str, tracked: bool
) -> str:
    """Return why a delivery can lead to nothing, without any reading; empty when the task must be read."""
    if event.kind is Kind.OTHER:
        return f"'{event.name[:60]}' says nothing about a work item or its comments."
    if not event.object_id or not event.project_id:
        return f"'{event.name[:60]}' names no work item."
    if event.knows_actor and event.actor_id == own_id:
        return "It is the echo of our own edit: the API token's user did it. Give Agent Dispatch a user of its own."
    if source.projects and event.project_id not in source.projects:
        return f"The project {event.project_id} is not among the projects of the source '{source_name}'."
    if tracked:
        return ""
    if event.kind is Kind.COMMENT and command_in(event.comment_html, source_name, catalog) is None:
        return f"The comment does not begin with {DEFAULT_COMMAND}, and no agent works on this item."
    if event.kind is Kind.COMMENT and event.action is Action.DELETED:
        return "A comment on an item that no agent works on was deleted."
    rules = catalog.rules_for(source_name)
    if any(TriggerEvent.ASSIGNED in rule.events or TriggerEvent.CREATED in rule.events for rule in rules):
        return ""
    if event.kind is Kind.ITEM and event.labels is not None and not asks_by_label(event.labels, source_name, catalog):
        return "None of its labels asks for an agent, and no agent works on this item."
    return ""
