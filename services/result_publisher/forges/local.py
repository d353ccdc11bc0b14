"""The local forge as a target: a push without force, and a pull request that is opened once per key."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatch_common import localforge
from dispatch_common.localforge import ForgeRefused, PullRecord, PullState
from dispatch_common.localgit import GitSaidNo
from services.result_publisher.git import Git, GitFailed, GitTooMuch, GitTooSlow
from services.result_publisher.protocol import Answer, Found, Kind, Seen
from services.result_publisher.targets import Looked, Written

_FOR_GOOD = ("remote rejected", "dubious ownership", "does not appear to be a git repository", "ermission denied")


@dataclass(frozen=True, slots=True)
class Offer:
    """What is published."""

    key: str  #: of the pull request
    branch: str
    commit: str
    base: str  #: the branch it is offered to
    title: str
    body: str
    by: str


@dataclass(frozen=True, slots=True)
class LocalForge:
    """One repository of this machine. ``source``: where the commit is pushed from; None once the branch stands."""

    repository: Path
    offer: Offer
    source: Git | None
    url_of: Callable[[int], str]
    clock: Callable[[], datetime]

    async def look(self, kind: Kind) -> Looked:
        try:
            looked = self._branch if kind is Kind.BRANCH else self._pull
            return await asyncio.to_thread(looked)
        except ForgeRefused as error:
            return Looked(Seen.GONE, why=str(error))
        except (OSError, GitSaidNo) as error:
            return Looked(Seen.UNREADABLE, why=str(error))

    async def write(self, kind: Kind) -> Written:
        try:
            return await (self._push() if kind is Kind.BRANCH else asyncio.to_thread(self._open))
        except ForgeRefused as error:
            return Written(Answer.REFUSED, why=str(error))
        except (OSError, GitSaidNo) as error:
            return Written(Answer.UNKNOWN, why=str(error))

    def _branch(self) -> Looked:
        offer = self.offer
        tip = localforge.branch_tip(self.repository, offer.branch)
        if tip is None:
            if localforge.find_pull(self.repository, offer.key):
                return Looked(Seen.WITHDRAWN, why=f"a person deleted the branch {offer.branch}; that stands")
            return Looked(Seen.ABSENT)
        if tip == offer.commit:
            return Looked(Seen.STANDS, found=Found(ref=offer.commit))
        if localforge.is_ancestor(self.repository, offer.commit, tip):
            return Looked(Seen.STANDS, found=Found(ref=offer.commit), why="somebody has added to it since")
        return Looked(Seen.FOREIGN, why=f"the branch {offer.branch} already holds {tip[:12]}, and nothing is forced")

    def _pull(self) -> Looked:
        offer = self.offer
        known = localforge.list_pulls(self.repository)
        for pull in known:
            if pull.key == offer.key:
                note = "" if pull.state is PullState.OPEN else f"{pull.ended_by} {pull.state.value} it; that stands"
                return Looked(Seen.STANDS, found=self._found(pull), why=note)
        for pull in known:
            if pull.head == offer.branch and pull.state is PullState.OPEN:
                why = f"{pull.created_by} had opened it already"
                return Looked(Seen.STANDS, found=self._found(pull), why=why)
        if localforge.branch_tip(self.repository, offer.branch) is None:
            return Looked(Seen.WITHDRAWN, why=f"a person deleted the branch {offer.branch}; that stands")
        return Looked(Seen.ABSENT)

    def _open(self) -> Written:
        offer = self.offer
        pull = localforge.open_pull(
            self.repository,
            key=offer.key,
            head=offer.branch,
            base=offer.base,
            title=offer.title,
            body=offer.body,
            by=offer.by,
            now=self.clock(),
        )
        return Written(Answer.DONE, found=self._found(pull))

    def _found(self, pull: PullRecord) -> Found:
        return Found(ref=pull.head_commit, url=self.url_of(pull.number), number=pull.number)

    async def _push(self) -> Written:
        if self.source is None:
            return Written(Answer.NOT_SENT, why="the result has to be imported again first")
        ref = f"refs/heads/{self.offer.branch}"
        try:
            await self.source.run(
                "push",
                "--quiet",
                "--no-verify",
                "--atomic",
                "--no-recurse-submodules",
                "--no-follow-tags",
                # An empty lease: the branch must not exist. A second push is refused instead of repeated.
                f"--force-with-lease={ref}:",
                str(self.repository),
                f"{self.offer.commit}:{ref}",
            )
        except GitFailed as error:
            if "stale info" in error.stderr or "already exists" in error.stderr:
                return Written(Answer.EXISTS, why="the branch exists already")
            for_good = any(sign in error.stderr for sign in _FOR_GOOD)
            return Written(Answer.REFUSED if for_good else Answer.UNKNOWN, why=error.stderr)
        except (GitTooSlow, GitTooMuch) as error:
            return Written(Answer.UNKNOWN, why=str(error))
        return Written(Answer.DONE, found=Found(ref=self.offer.commit))
