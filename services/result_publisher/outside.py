"""Finds the target of each effect: which forge, which work item, and what is written there."""

from contextlib import AsyncExitStack
from typing import Final

import orjson
from pydantic import ValidationError

from agent_runner.protocol import ResultManifest
from dispatch_common import clock
from dispatch_common.blobs import BlobDamaged, BlobMissing, Blobs
from dispatch_common.events import PublishRequested, RunEnded
from dispatch_common.ids import short
from dispatch_common.lifecycle import RunState
from dispatch_common.localforge import ForgeRefused, git_directory
from dispatch_common.plane import PlaneRefused, PlaneUnavailable
from dispatch_common.settings import Settings
from services.result_publisher import mirror, render
from services.result_publisher.checks import Checks
from services.result_publisher.forges.local import LocalForge, Offer
from services.result_publisher.git import Git
from services.result_publisher.handlers import TRACKERS
from services.result_publisher.importer import HostileResult
from services.result_publisher.mirror import MirrorUnavailable
from services.result_publisher.protocol import (
    PRODUCT,
    EffectState,
    Kind,
    branch_name,
    key,
    wanted_kinds,
)
from services.result_publisher.record import Stored
from services.result_publisher.render import Story
from services.result_publisher.sources import Sources, Tracker
from services.result_publisher.targets import Away, Nowhere, Target
from services.result_publisher.trackers.plane import Message, PlaneItem

#: What a machine's own set of services leaves in the data folder while it runs.
_READY_FILE: Final = "ready.json"
#: The largest manifest that is read for the texts.
_MANIFEST: Final = 4 << 20


class Outside:
    """The targets of one publication."""

    def __init__(self, settings: Settings, sources: Sources, checks: Checks) -> None:
        self._settings = settings
        self._sources = sources
        self._checks = checks
        self._blobs = Blobs(settings.blob_root)
        self._imported: Git | None = None
        self._tracker: Tracker | str | None = None

    async def wanted(self, request: PublishRequested | RunEnded) -> tuple[Kind, ...]:
        """Return which effects this one wants, by what it made and by the Source's rules."""
        told = request.snapshot.provider in TRACKERS
        source = await self._sources.source(request.snapshot) if told else None
        if isinstance(request, RunEnded):
            kinds: tuple[Kind, ...] = (Kind.COMMENT,) if told else ()
            if source and source.state_on_failure and request.state is RunState.FAILED:
                kinds = (*kinds, Kind.STATE)
        else:
            kinds = wanted_kinds(product=request.result.commit is not None, tracker=told)
        unwanted = {Kind.COMMENT} if source and not source.comment else set[Kind]()
        if not self._home():
            # Without a console a pull request of the local forge has no address that a work item could link to.
            unwanted.add(Kind.LINK)
        return tuple(kind for kind in kinds if kind not in unwanted)

    async def target(self, work: Stored, kind: Kind, open_things: AsyncExitStack) -> Target:
        """Return the target of one effect. What has to be open for it stays open until ``open_things`` closes."""
        if kind in PRODUCT:
            return await self._forge(work, kind, open_things)
        return await self._work_item(work, open_things)

    # --- the forge ---

    async def _forge(self, work: Stored, kind: Kind, open_things: AsyncExitStack) -> Target:
        request = work.request
        assert isinstance(request, PublishRequested)
        repository = request.repository
        if repository is None or repository.forge != "local" or not mirror.is_local(repository.url):
            named = repository.forge if repository else "no repository"
            return Nowhere(f"nothing can be published on {named} yet; use forge: local with a path")
        try:
            directory = git_directory(repository.url)
            if kind is Kind.BRANCH and self._imported is None:
                self._imported = await open_things.enter_async_context(self._checks.imported(request))
        except MirrorUnavailable as error:
            return Away(str(error), error.delay)
        except (ForgeRefused, HostileResult, BlobMissing, BlobDamaged) as error:
            return Nowhere(str(error))
        story = await self._story(work, Kind.PULL)
        offer = Offer(
            key=story.key,
            branch=story.branch,
            commit=request.result.commit or "",
            base=repository.default_branch,
            title=render.pull_title(story),
            body=render.pull_body(story),
            by=request.agent.name,
        )
        home = self._home()
        return LocalForge(
            repository=directory,
            offer=offer,
            source=self._imported,
            url_of=lambda number: f"{home}/pulls/{repository.name}/{number}" if home else "",
            clock=clock.now,
        )

    def _home(self) -> str:
        """Return the console's address as people reach it, or nothing: what was set, else where it listens here."""
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        try:
            ready = orjson.loads((self._settings.data / _READY_FILE).read_bytes())
        except (OSError, ValueError):
            return ""
        return str(ready.get("console", "")).rstrip("/")

    # --- the work item ---

    async def _work_item(self, work: Stored, open_things: AsyncExitStack) -> Target:
        snapshot = work.request.snapshot
        if self._tracker is None:
            self._tracker = await open_things.enter_async_context(self._sources.tracker(snapshot))
        tracker = self._tracker
        if isinstance(tracker, str):
            return Nowhere(tracker)
        try:
            project_id = await tracker.project_id(snapshot)
        except PlaneRefused as error:
            return Nowhere(str(error))
        except PlaneUnavailable as error:
            return Away(str(error), error.delay)
        return PlaneItem(
            plane=tracker.plane,
            project_id=project_id,
            item_id=snapshot.object_id,
            message=await self._message(work, tracker),
            since=snapshot.read_at,
            own_id=tracker.source.bot_actor_id or "",
        )

    async def _message(self, work: Stored, tracker: Tracker) -> Message:
        request, source = work.request, tracker.source
        mark = key(work.run_id, work.revision, Kind.COMMENT)
        if isinstance(request, RunEnded):
            return Message(key=mark, html=render.ended_comment(mark, request), state=source.state_on_failure)
        story = await self._story(work, Kind.COMMENT)
        told = render.result_comment if request.result.commit else render.nothing_comment
        return Message(
            key=mark,
            html=told(story),
            link_url=story.pull_url,
            link_title=f"Pull request of {request.agent.name} (run {short(work.run_id)})",
            state=source.state_on_publish,
        )

    # --- what is told ---

    async def _story(self, work: Stored, kind: Kind) -> Story:
        request = work.request
        assert isinstance(request, PublishRequested)
        pull = next((e.found for e in work.effects if e.kind is Kind.PULL and e.state is EffectState.DONE), None)
        return Story(
            key=key(work.run_id, work.revision, kind),
            run_id=work.run_id,
            task_key=request.snapshot.key,
            title=request.snapshot.title,
            agent=request.agent.name,
            backend=request.agent.backend,
            branch=branch_name(work.run_id),
            summary=request.result.summary,
            files=work.checked.files if work.checked else (),
            manifest=await self._manifest(request),
            pull_name=f"pull request #{pull.number}" if pull else "",
            pull_url=pull.url if pull else "",
        )

    async def _manifest(self, request: PublishRequested) -> ResultManifest | None:
        """Return the agent's own account, None when there is none that can be read."""
        ref = request.result.manifest
        if ref is None or ref.size > _MANIFEST:
            return None
        try:
            return ResultManifest.model_validate_json(await self._blobs.get(ref))
        except (BlobMissing, BlobDamaged, ValidationError):
            return None
