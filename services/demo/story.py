"""The demo's story: somebody puts a label on a work item, and everything that follows is told as it happens."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Final

from bs4 import BeautifulSoup

from agent_runner.agent_events import (
    AgentEvent,
    Done,
    ErrorSeen,
    EventLine,
    Question,
    SandboxViolation,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from dispatch_common import clock
from dispatch_common.errors import Permanent
from dispatch_common.lifecycle import RunState
from services.demo.client import Api, Delivery, Pull, Run, Step
from services.demo.plane_hooks import Sent, Webhook
from services.demo.scene import LABEL, Scene
from services.demo.show import Line, Show

_PATIENCE: Final = timedelta(seconds=90)


class StoryBroke(Permanent):
    """The story did not end as it should."""


class Story:
    """Tells one run from the label to the pull request."""

    def __init__(self, api: Api, scene: Scene, hook: Webhook, show: Show) -> None:
        self._api = api
        self._scene = scene
        self._hook = hook
        self._show = show
        self._began = clock.now()
        self._shown = ""

    async def tell(self) -> Run:
        """Return the run once everything about it has been told; StoryBroke when it ended in another way."""
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                delivery = await self._deliver()
                await self._follow(delivery.runs[0])
        except TimeoutError as error:
            raise StoryBroke(f"Nothing ended within {_PATIENCE.total_seconds():g} s. {self._shown}") from error
        run = await self._api.run(delivery.runs[0])
        if run.state is not RunState.COMPLETED:
            raise StoryBroke(f"The run is {run.state}: {run.sentence} {run.next_action}".strip())
        await self._ending(run)
        return run

    async def _deliver(self) -> Delivery:
        scene = self._scene
        self._began = clock.now()
        scene.label()
        self._line("scene", f"alice puts the label {LABEL} on {scene.key}, “{scene.title}”", "Plane")
        sent = await self._sent()
        self._line("scene", "Plane sends its webhook, signed; the receiver has stored it and answers 202", "receiver")
        if sent.status != 202:
            raise StoryBroke(f"The webhook-receiver answered {sent.status} instead of 202.")
        delivery = await self._decided()
        told = {"delivery": str(delivery.id)}  # no time: it was decided before we could see it
        self._show.tell(Line("scene", f"{delivery.outcome}: {delivery.sentence}", "delivery", facts=told))
        if not delivery.runs:
            raise StoryBroke(f"The delivery led to no run. {delivery.sentence}")
        return delivery

    async def _sent(self) -> Sent:
        while not self._hook.sent:  # noqa: ASYNC110 - Plane tells nobody when its webhook was answered
            await asyncio.sleep(0.002)
        return self._hook.sent[0]

    async def _decided(self) -> Delivery:
        while True:
            for delivery in await self._api.deliveries():
                if delivery.outcome is not None:
                    return delivery
            await asyncio.sleep(0.01)

    async def _follow(self, run_id: str) -> None:
        async for name, data in self._api.events(run_id):
            match name:
                case "step":
                    self._step(Step.model_validate_json(data))
                case "agent":
                    line = EventLine.model_validate_json(data)
                    self._agent(line.event, line.at)
                case "reset":
                    self._line("note", json.loads(data)["reason"], "stream")
                case _:
                    pass

    def _step(self, step: Step) -> None:
        self._shown = f"Last: {step.to_state}: {step.sentence}"
        then = "" if step.to_state is RunState.COMPLETED else step.next_action
        self._line("step", step.sentence, step.to_state, at=step.at, then=then, code=step.code)

    def _agent(self, event: AgentEvent, at: datetime) -> None:
        match event:
            case Text():
                self._line("agent", event.text, "says", at=at)
            case Thinking():
                self._line("agent", event.text, "thinks", at=at)
            case ToolCall():
                self._line("agent", _called(event), event.tool, at=at)
            case ToolResult() if event.output.strip() or not event.ok:
                self._line("output", event.output or "it failed", at=at)
            case Question() | ErrorSeen() | SandboxViolation():
                self._line("agent", event.text, event.kind, at=at)
            case Done():
                self._line("agent", event.summary, "done", at=at)
            case _:
                pass

    async def _ending(self, run: Run) -> None:
        pulls = await self._api.pulls()
        if len(pulls) != 1:
            raise StoryBroke(f"There are {len(pulls)} pull requests instead of one.")
        self._pull(pulls[0])
        comments, links = self._scene.comments(), self._scene.links()
        if len(comments) != 1:
            raise StoryBroke(f"The work item has {len(comments)} comments of ours instead of one.")
        self._title(f"{self._scene.key} in the local Plane")
        self._show.tell(Line("result", self._scene.state, "state"))
        for link in links:
            self._show.tell(Line("result", link, "link"))
        for number, paragraph in enumerate(_paragraphs(comments[0])):
            self._show.tell(Line("result", paragraph, "" if number else "comment"))

    def _pull(self, pull: Pull) -> None:
        self._title(f"Pull request {pull.id} in the local forge: {pull.title}")
        self._show.tell(Line("result", f"{pull.head} → {pull.base}", "branch", facts={"pull": pull.id}))
        for commit in pull.commits:
            self._show.tell(Line("result", commit, "commit"))
        self._show.tell(Line("diff", pull.diff))

    def _title(self, text: str) -> None:
        self._show.tell(Line("title", text))

    def _line(
        self, kind: str, text: str, label: str = "", *, at: datetime | None = None, then: str = "", **facts: str
    ) -> None:
        seconds = max(0.0, ((at or clock.now()) - self._began).total_seconds())
        self._show.tell(Line(kind, text, label, seconds, then, dict(facts)))


def _called(event: ToolCall) -> str:
    """Return a tool call on one line: the command, the path, or whatever it was called with."""
    known = [str(event.input[name]) for name in ("command", "path", "message") if name in event.input]
    return " ".join((known or [json.dumps(event.input)])[0].split())


def _paragraphs(html: str) -> list[str]:
    """Return the text of each paragraph and list entry."""
    found = BeautifulSoup(html, "html.parser").find_all(("p", "li"))
    return [text for each in found if (text := " ".join(each.get_text().split()))]
