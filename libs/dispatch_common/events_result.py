"""The facts about results: what the dispatcher asks of the result-publisher, and what the publisher reports."""

from enum import StrEnum
from uuid import UUID

from dispatch_common.fact import RunFact
from dispatch_common.families import ErrorFamily
from dispatch_common.values import AgentSpec, Grant, Pull, Reason, RepositorySpec, ResultRef, TaskSnapshot


class PublishRequested(RunFact):
    """This result shall be checked and, if accepted, published. ``revision`` counts publications of a run."""

    type = "dispatch.result.publish-requested.v1"
    source = "dispatcher"
    task_id: UUID
    revision: int
    attempt_id: UUID
    fence: int
    snapshot: TaskSnapshot
    agent: AgentSpec
    repository: RepositorySpec | None
    grant: Grant
    result: ResultRef
    approved_digest: str | None = None  #: the result digest a person approved, path rules included


class PublishStopAsked(RunFact):
    """Effects of this revision that have not begun shall not begin. Confirmed with ResultPublished."""

    type = "dispatch.result.stop-asked.v1"
    source = "dispatcher"
    revision: int
    sentence: str


class Verification(StrEnum):
    """What the publisher's checks say of a result."""

    ACCEPTED = "accepted"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"


class ResultVerified(RunFact):
    """The result was imported and checked. After ACCEPTED the publisher goes on by itself."""

    type = "dispatch.result.verified.v1"
    source = "result-publisher"
    revision: int
    verification: Verification
    reasons: tuple[Reason, ...] = ()
    result_digest: str = ""
    paths: tuple[str, ...] = ()  #: those that want a person


class PublishOutcome(StrEnum):
    """How a publication ended."""

    PUBLISHED = "published"
    NOTHING = "nothing"  #: the attempt changed no file; the work item was told
    FAILED = "failed"
    STOPPED = "stopped"


class ResultPublished(RunFact):
    """Every effect of this revision is done, skipped or given up; none is in flight."""

    type = "dispatch.result.published.v1"
    source = "result-publisher"
    revision: int
    outcome: PublishOutcome
    family: ErrorFamily | None = None
    sentence: str
    pull: Pull | None = None
