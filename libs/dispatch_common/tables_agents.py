"""The tables of policy, the executor and the result-publisher. Each docstring names the single writer."""
# pyright: reportAssignmentType=false
# SQLModel declares __tablename__ as a descriptor; a plain string is its documented use.

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from dispatch_common.columns import int_column, json_column, time_column


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
    ask: int = Field(sa_column=int_column())
    stage: str
    verdict: str
    body: dict[str, Any] = Field(sa_column=json_column(nullable=False))  #: the PolicyDecided that was said
    judged: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    policy_generation: str = ""
    question: dict[str, Any] | None = Field(
        default=None, sa_column=json_column()
    )  #: the PolicyAsked, while it has no answer
    tries: int = Field(default=0, sa_column=int_column(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=time_column())
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class ApprovalRow(SQLModel, table=True):
    """One request for a person's consent. Writer: policy."""

    __tablename__ = "approvals"
    __table_args__ = (
        Index("approvals_due", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("approvals_run", "run_id"),
        #: At most one of them can ever count, whatever the services do.
        Index(
            "approvals_alive", "run_id", "stage", unique=True, postgresql_where=text("state IN ('pending', 'granted')")
        ),
        Index("approvals_check", "next_check", postgresql_where=text("next_check IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    org: str
    run_id: UUID
    stage: str
    digest: str
    state: str = "pending"  #: pending, granted, refused, expired, void
    ask: int = Field(default=0, sa_column=int_column(default="0"))  #: the question it belongs to
    requested_by: str
    grant: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    reasons: list[dict[str, Any]] = Field(sa_column=json_column(nullable=False))
    approvers: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    answered_by: str | None = None
    comment: str = ""
    requester_name: str = ""
    base: dict[str, Any] = Field(
        default_factory=dict, sa_column=json_column(nullable=False)
    )  #: repository, branch and commit
    decided: dict[str, Any] | None = Field(default=None, sa_column=json_column())  #: the ApprovalDecided that was said
    emissions: int = Field(default=0, sa_column=int_column(default="0"))
    next_check: datetime | None = Field(
        default=None, sa_column=time_column()
    )  #: while what follows from it is not known
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    expires_at: datetime = Field(sa_column=time_column(nullable=False))
    answered_at: datetime | None = Field(default=None, sa_column=time_column())


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
    fence: int = Field(sa_column=int_column())
    state: str  #: accepted, launching, running, collecting, finished
    executor: str = ""  #: the executor (host) that holds it
    request: dict[str, Any] = Field(sa_column=json_column(nullable=False))  #: the AttemptRequested
    answer: dict[str, Any] | None = Field(
        default=None, sa_column=json_column()
    )  #: the AttemptFinished, kept until consumed
    token_digest: str = ""
    launch: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(nullable=False))
    stop_asked: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=time_column())
    last_event_at: datetime | None = Field(default=None, sa_column=time_column())
    last_seq: int = Field(default=0, sa_column=int_column(default="0"))
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    started_at: datetime | None = Field(default=None, sa_column=time_column())
    finished_at: datetime | None = Field(default=None, sa_column=time_column())
    next_check: datetime | None = Field(default=None, sa_column=time_column())


class PublicationRow(SQLModel, table=True):
    """One result to be checked and published. Writer: result-publisher."""

    __tablename__ = "publications"
    __table_args__ = (Index("publications_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),)
    run_id: UUID = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    org: str
    state: str  #: asked, verified, publishing, finished
    request: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    verified: dict[str, Any] | None = Field(default=None, sa_column=json_column())  #: the ResultVerified that was said
    answer: dict[str, Any] | None = Field(default=None, sa_column=json_column())  #: the ResultPublished that was said
    stop_asked: str | None = None
    next_check: datetime | None = Field(default=None, sa_column=time_column())
    leased_until: datetime | None = Field(default=None, sa_column=time_column())  #: a worker is at it and renews this
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))


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
    revision: int = Field(sa_column=int_column())
    kind: str
    state: str  #: intent, unknown, done, skipped, failed
    target: str = ""
    request: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    outcome: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    sentence: str = ""
    tries: int = Field(default=0, sa_column=int_column(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=time_column())
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    done_at: datetime | None = Field(default=None, sa_column=time_column())


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
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))
