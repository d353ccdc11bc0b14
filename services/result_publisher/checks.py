"""Imports and judges one result: from the blob to a Judgement. What the attempt made is never believed, only read."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dispatch_common.blobs import BlobDamaged, BlobMissing, Blobs
from dispatch_common.events import PublishRequested, Verification
from dispatch_common.ids import short
from dispatch_common.localforge import ForgeRefused
from dispatch_common.settings import Settings
from dispatch_common.values import Reason
from services.result_publisher import importer, judge, mirror
from services.result_publisher.git import Git
from services.result_publisher.importer import LIMITS, Given, HostileResult, Limits
from services.result_publisher.judge import Judgement
from services.result_publisher.protocol import branch_name
from services.result_publisher.record import MOST_FILES
from services.result_publisher.treewalk import Bounds, HostileTree

#: How often a repository that is away is tried before the result is refused.
_MOST_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say, and the files for people."""

    judgement: Judgement
    files: tuple[tuple[str, str], ...] = ()


class Checks:
    """Checks results in throw-away repositories below ``folder``."""

    def __init__(self, settings: Settings, folder: Path, *, failures: int = 0) -> None:
        self._out_of_patience = failures >= _MOST_TRIES
        self._blobs = Blobs(settings.blob_root)
        self._mirrors = settings.mirrors
        self._folder = folder
        self._confined = settings.sandbox == "bubblewrap"

    async def check(self, request: PublishRequested) -> Verdict:
        """Return what is said of a result. A full disk or a mirror that is away is raised, and in the end refused."""
        try:
            return await self._check(request)
        except Exception as error:
            if not self._out_of_patience:
                raise
            sentence = f"The result could not be checked, {_MOST_TRIES} times over: {error}"
            return _refused("not_checked", sentence, "Mend the cause that is named here, and retry.")

    async def _check(self, request: PublishRequested) -> Verdict:
        try:
            async with self._repository(request) as (git, content):
                findings = await importer.take_in(git, content, _given(request), _limits(request))
        except ForgeRefused as error:
            return _refused("repository_unusable", error.message, error.remedy)
        except (HostileResult, HostileTree, BlobMissing, BlobDamaged) as error:
            run = short(request.run_id)
            return _refused("bundle_refused", str(error), f"Look at what the agent did: dispatch logs {run}")
        files = tuple((change.path, change.word) for change in findings.changes)
        return Verdict(judge.judge(findings, request.grant, approved=request.approved_digest), files[:MOST_FILES])

    @asynccontextmanager
    async def imported(self, request: PublishRequested) -> AsyncGenerator[Git]:
        """Open a repository that holds a result which was checked before, to push it from."""
        async with self._repository(request) as (git, content):
            await importer.index(git, content, _given(request))
            # The push writes to the forge, so it is not confined to our folder.
            yield replace(git, protocols="file", writable=None)

    @asynccontextmanager
    async def _repository(self, request: PublishRequested) -> AsyncGenerator[tuple[Git, bytes]]:
        if request.repository is None:
            raise HostileResult("The result has a commit, but the run has no repository.")
        if request.result.bundle is None:
            raise HostileResult("The result names a commit, but holds no bundle.")
        if request.result.bundle.size > LIMITS.bundle_bytes:
            sentence = f"The bundle has {request.result.bundle.size} bytes; {LIMITS.bundle_bytes} are taken."
            raise HostileResult(sentence)
        base = request.result.base_commit
        pinned = request.grant.base_commit
        if pinned is not None and pinned != base:
            raise HostileResult(f"The attempt started from {base}, but {pinned} was granted.")
        source = await mirror.with_base(self._mirrors, request.repository, base)
        content = await self._blobs.get(request.result.bundle)
        async with importer.repository(self._folder, source, confined=self._confined) as git:
            yield git, content


def _refused(code: str, sentence: str, next_action: str) -> Verdict:
    reason = Reason(code=code, sentence=sentence, next_action=next_action)
    return Verdict(Judgement(Verification.REFUSED, (reason,), digest=""))


def _given(request: PublishRequested) -> Given:
    ref = f"refs/heads/{branch_name(request.run_id)}"
    return Given(ref=ref, base=request.result.base_commit, commit=request.result.commit or "")


def _limits(request: PublishRequested) -> Limits:
    # A little above what is granted, so that the judge can say by how much it is too much.
    return replace(LIMITS, walk=Bounds(changes=request.grant.max_files * 2 + 1000))
