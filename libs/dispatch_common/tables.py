"""Every table, each with its single writer. Hot statements are SQL elsewhere; this is the schema they stand on.

Tables that churn carry a fillfactor and autovacuum settings (``CHURN``): without them claims slow down within seconds.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Computed, DateTime, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from dispatch_common import lifecycle

#: Storage parameters for tables whose rows are updated or deleted as fast as they come.
CHURN: Final = (
    "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, "
    "autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000"
)
CHURNING: Final = ("runs", "run_queue", "agent_slots", "outbox", "inbox", "attempts", "effects", "deliveries")

#: Derived in the database, and the only part of the state that an index looks at: run updates stay cheap (HOT).
LIVE_RUN: Final = f"state NOT IN ({lifecycle.sql_list(lifecycle.TERMINAL)})"


def _at(*, nullable: bool = True, default: bool = False) -> Any:
    return Column(
        DateTime(timezone=True), nullable=nullable, server_default=text("clock_timestamp()") if default else None
    )


def _big(*, nullable: bool = False, default: str | None = None) -> Any:
    return Column(BigInteger, nullable=nullable, server_default=text(default) if default else None)


def _json(*, nullable: bool = True) -> Any:
    return Column(JSONB, nullable=nullable)


class Delivery(SQLModel, table=True):
    """One inbound request that proved who sent it. Writer: webhook-receiver."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("deliveries_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),
        Index("deliveries_dedupe", "org", "source", "dedupe_key", unique=True),
        Index("deliveries_newest", "received_at"),
    )
    id: UUID = Field(primary_key=True)
    org: str
    source: str
    provider: str
    event: str
    external_id: str = ""
    dedupe_key: str
    object_id: str = ""
    actor_id: str = ""
    headers: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    state: str = "received"  #: received, handed (TaskReceived said), decided
    outcome: str | None = None
    sentence: str = ""
    task_id: UUID | None = None
    run_ids: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    tries: int = Field(default=0, sa_column=_big(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=_at())
    traceparent: str | None = None


class RefusedDelivery(SQLModel, table=True):
    """A request that proved nothing, kept in short (no body) so that a person can see why. Writer: webhook-receiver."""

    __tablename__ = "refused_deliveries"
    id: UUID = Field(primary_key=True)
    org: str
    source: str
    code: str
    sentence: str
    size: int = Field(sa_column=_big())
    digest: str = ""
    remote: str = ""
    received_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class Membership(SQLModel, table=True):
    """Who may start what, cached from the source. Writer: webhook-receiver."""

    __tablename__ = "memberships"
    org: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    actor_id: str = Field(primary_key=True)
    name: str = ""
    role: int = Field(sa_column=_big())
    fetched_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class PollCursor(SQLModel, table=True):
    """How far a source was polled. Writer: webhook-receiver."""

    __tablename__ = "poll_cursors"
    org: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    position: str = ""
    polled_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class TaskRow(SQLModel, table=True):
    """The unit of work, kept in step with its source. Writer: dispatcher."""

    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_object", "org", "source", "object_id", unique=True),)
    id: UUID = Field(primary_key=True)
    org: str
    source: str
    object_id: str
    key: str
    version: int = Field(sa_column=_big())
    digest: str
    snapshot: dict[str, Any] = Field(sa_column=_json(nullable=False))
    wanted: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    asks_seen: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    read_at: datetime = Field(sa_column=_at(nullable=False))
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    updated_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class RunRow(SQLModel, table=True):
    """One dispatch of a task; ``body`` is the dispatcher's Run value. Writer: dispatcher."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"state IN ({lifecycle.sql_list()})", name="runs_state"),
        Index("runs_live", "task_id", "lane", unique=True, postgresql_where=text("live")),
        Index("runs_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),
        Index("runs_newest", "created_at"),
    )
    id: UUID = Field(primary_key=True)
    org: str
    task_id: UUID
    lane: str
    state: str
    live: bool = Field(default=True, sa_column=Column(Boolean, Computed(LIVE_RUN, persisted=True), nullable=False))
    version: int = Field(sa_column=_big())
    body: dict[str, Any] = Field(sa_column=_json(nullable=False))
    next_check: datetime | None = Field(default=None, sa_column=_at())
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    updated_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class RunStep(SQLModel, table=True):
    """One step of a run, with its reason. Append only. Writer: dispatcher."""

    __tablename__ = "run_steps"
    run_id: UUID = Field(primary_key=True)
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    org: str
    from_state: str | None = None
    to_state: str
    code: str
    sentence: str
    next_action: str = ""
    cause: UUID | None = None
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class QueueRow(SQLModel, table=True):
    """A run that waits for a slot. Small and apart, so that run updates touch no index. Writer: dispatcher."""

    __tablename__ = "run_queue"
    __table_args__ = (Index("run_queue_order", "org", "line", "project", "sort_key"),)
    run_id: UUID = Field(primary_key=True)
    org: str
    line: str  #: the role, or role@agent when only that agent will do
    project: str
    skills: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    sort_key: int = Field(sa_column=_big())  #: microseconds: queue time minus the priority's head start


class SlotRow(SQLModel, table=True):
    """One unit of an agent's capacity. Writer: dispatcher."""

    __tablename__ = "agent_slots"
    __table_args__ = (
        Index("agent_slots_attempt", "attempt_id", unique=True),
        Index("agent_slots_free", "org", "role", postgresql_where=text("attempt_id IS NULL AND NOT draining")),
    )
    org: str = Field(primary_key=True)
    agent: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    role: str
    draining: bool = False
    attempt_id: UUID | None = None


class DecisionRow(SQLModel, table=True):
    """Policy's stored answer to one ask. Writer: policy."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index("decisions_ask", "run_id", "ask", unique=True),
        Index("decisions_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    org: str
    run_id: UUID
    ask: int = Field(sa_column=_big())
    stage: str
    verdict: str
    body: dict[str, Any] = Field(sa_column=_json(nullable=False))  #: the PolicyDecided that was said
    judged: dict[str, Any] = Field(sa_column=_json(nullable=False))
    policy_generation: str = ""
    question: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: the PolicyAsked, while it has no answer
    tries: int = Field(default=0, sa_column=_big(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=_at())
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class ApprovalRow(SQLModel, table=True):
    """One request for a person's consent. Writer: policy."""

    __tablename__ = "approvals"
    __table_args__ = (
        Index("approvals_due", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("approvals_run", "run_id"),
        Index("approvals_check", "next_check", postgresql_where=text("next_check IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    org: str
    run_id: UUID
    stage: str
    digest: str
    state: str = "pending"  #: pending, granted, refused, expired, void
    ask: int = Field(default=0, sa_column=_big(default="0"))  #: the question it belongs to
    requested_by: str
    grant: dict[str, Any] = Field(sa_column=_json(nullable=False))
    reasons: list[dict[str, Any]] = Field(sa_column=_json(nullable=False))
    approvers: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    answered_by: str | None = None
    comment: str = ""
    requester_name: str = ""
    base: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))  #: repository, branch and commit
    decided: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: the ApprovalDecided that was said
    emissions: int = Field(default=0, sa_column=_big(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=_at())  #: while what follows from it is not known
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    expires_at: datetime = Field(sa_column=_at(nullable=False))
    answered_at: datetime | None = Field(default=None, sa_column=_at())


class ApprovalAnswerRow(SQLModel, table=True):
    """What a person answered to an approval, counted or not, and why. Append only. Writer: policy."""

    __tablename__ = "approval_answers"
    __table_args__ = (Index("approval_answers_approval", "approval_id"),)
    id: UUID = Field(primary_key=True)  #: the id of the ApprovalAnswered
    org: str
    approval_id: UUID
    run_id: UUID
    by_id: str
    by_name: str = ""
    approve: bool
    comment: str = ""
    counted: bool
    sentence: str
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class AttemptRow(SQLModel, table=True):
    """One execution of a run. Writer: executor."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index("attempts_run", "run_id", "fence", unique=True),
        Index("attempts_open", "state", postgresql_where=text("state <> 'finished'")),
    )
    id: UUID = Field(primary_key=True)
    org: str
    run_id: UUID
    fence: int = Field(sa_column=_big())
    state: str  #: accepted, launching, running, collecting, finished
    executor: str = ""  #: the executor (host) that holds it
    request: dict[str, Any] = Field(sa_column=_json(nullable=False))  #: the AttemptRequested
    answer: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: the AttemptFinished, kept until consumed
    token_digest: str = ""
    launch: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))
    stop_asked: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=_at())
    last_event_at: datetime | None = Field(default=None, sa_column=_at())
    last_seq: int = Field(default=0, sa_column=_big(default="0"))
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    started_at: datetime | None = Field(default=None, sa_column=_at())
    finished_at: datetime | None = Field(default=None, sa_column=_at())
    next_check: datetime | None = Field(default=None, sa_column=_at())


class PublicationRow(SQLModel, table=True):
    """One result to be checked and published. Writer: result-publisher."""

    __tablename__ = "publications"
    __table_args__ = (Index("publications_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),)
    run_id: UUID = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    org: str
    state: str  #: asked, verified, publishing, finished
    request: dict[str, Any] = Field(sa_column=_json(nullable=False))
    verified: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: the ResultVerified that was said
    answer: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: the ResultPublished that was said
    stop_asked: str | None = None
    next_check: datetime | None = Field(default=None, sa_column=_at())
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class EffectRow(SQLModel, table=True):
    """One write to the outside. The intent is stored before the write. Writer: result-publisher."""

    __tablename__ = "effects"
    __table_args__ = (
        Index("effects_run", "run_id"),
        Index("effects_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),
    )
    key: str = Field(primary_key=True)  #: run, revision and kind; never the attempt
    org: str
    run_id: UUID
    revision: int = Field(sa_column=_big())
    kind: str
    state: str  #: intent, unknown, done, skipped, failed
    target: str = ""
    request: dict[str, Any] = Field(sa_column=_json(nullable=False))
    outcome: dict[str, Any] | None = Field(default=None, sa_column=_json())
    sentence: str = ""
    tries: int = Field(default=0, sa_column=_big(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=_at())
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))
    done_at: datetime | None = Field(default=None, sa_column=_at())


class ResourceRow(SQLModel, table=True):
    """A resource as it was applied; the newest generation counts. Writer: console."""

    __tablename__ = "resources"
    org: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    generation: int = Field(sa_column=_big())
    spec: dict[str, Any] | None = Field(default=None, sa_column=_json())  #: None: deleted
    digest: str = ""
    applied_by: str = ""
    applied_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class SecretRow(SQLModel, table=True):
    """A secret as ciphertext. Writer: console."""

    __tablename__ = "secrets"
    org: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    purpose: str
    key_id: str
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: The value before the last rotation, accepted until it is removed (two live webhook secrets).
    previous: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    set_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class PrincipalRow(SQLModel, table=True):
    """Somebody who may use the API; the token is kept as a digest. Writer: console."""

    __tablename__ = "principals"
    __table_args__ = (Index("principals_token", "token_digest", unique=True),)
    org: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    roles: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    token_digest: str
    created_at: datetime = Field(sa_column=_at(nullable=False, default=True))


class InboxRow(SQLModel, table=True):
    """A fact that a service has taken. Writer: each service its own rows."""

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_age", "at", postgresql_using="brin"),)
    service: str = Field(primary_key=True)
    fact_id: UUID = Field(primary_key=True)
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class OutboxRow(SQLModel, table=True):
    """A fact that a service says, kept until its run is terminal. Writer: each service its own rows."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_waiting", "service", "position", postgresql_where=text("published_at IS NULL")),
        Index("outbox_about", "about"),
    )
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    service: str
    fact_id: UUID
    subject: str
    about: str  #: the run (or task) it is kept for
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    at: datetime = Field(sa_column=_at(nullable=False, default=True))
    published_at: datetime | None = Field(default=None, sa_column=_at())
    emissions: int = Field(default=0, sa_column=_big(default="0"))


class DeadLetter(SQLModel, table=True):
    """A message that could not be taken. Writer: each service its own rows."""

    __tablename__ = "dead_letters"
    id: UUID = Field(primary_key=True)
    service: str
    subject: str
    reason: str
    detail: str = ""
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    deliveries: int = Field(sa_column=_big())
    at: datetime = Field(sa_column=_at(nullable=False, default=True))


class BrokerEpoch(SQLModel, table=True):
    """The stream as a service last saw it. Writer: each service its own row."""

    __tablename__ = "broker_epochs"
    service: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    created: str
    last_seq: int = Field(sa_column=_big())
