"""Every table, each with its single writer. Hot statements are SQL elsewhere; this is the schema they stand on.

Tables that churn carry a fillfactor and autovacuum settings (``CHURN``): without them claims slow down within seconds.
"""
# pyright: reportAssignmentType=false
# SQLModel declares __tablename__ as a descriptor; a plain string is its documented use.

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Computed, DefaultClause, Index, LargeBinary, text
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlmodel import Field, SQLModel

from dispatch_common import lifecycle
from dispatch_common.columns import int_column, json_column, time_column
from dispatch_common.tables_agents import (
    ApprovalAnswerRow,
    ApprovalRow,
    AttemptRow,
    DecisionRow,
    EffectRow,
    PublicationRow,
)
from dispatch_common.tables_shared import (
    BrokerEpoch,
    DeadLetter,
    InboxRow,
    OutboxRow,
    PrincipalRow,
    ResourceRow,
    SecretRow,
)

#: Storage parameters for tables whose rows are updated or deleted as fast as they come.
CHURN: Final = (
    "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, "
    "autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000"
)
CHURNING: Final = ("runs", "run_queue", "agent_slots", "outbox", "inbox", "attempts", "effects", "deliveries")

#: Derived in the database, and the only part of the state that an index looks at: run updates stay cheap (HOT).
LIVE_RUN: Final = f"state NOT IN ({lifecycle.sql_list(lifecycle.TERMINAL)})"

__all__ = [
    "CHURN",
    "CHURNING",
    "LIVE_RUN",
    "ApprovalAnswerRow",
    "ApprovalRow",
    "AttemptRow",
    "BrokerEpoch",
    "DeadLetter",
    "DecisionRow",
    "Delivery",
    "EffectRow",
    "InboxRow",
    "Membership",
    "OutboxRow",
    "PollCursor",
    "PrincipalRow",
    "PublicationRow",
    "QueueRow",
    "RefusedDelivery",
    "ResourceRow",
    "RunRow",
    "RunStep",
    "SecretRow",
    "SlotRow",
    "TaskRow",
]


class Delivery(SQLModel, table=True):
    """One inbound request that proved who sent it. Writer: webhook-receiver."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("deliveries_due", "next_check", postgresql_where=text("next_check IS NOT NULL")),
        Index("deliveries_dedupe", "org", "source", "dedupe_key", unique=True),
        Index("deliveries_newest", "received_at"),
        Index("deliveries_object", "org", "source", "object_id"),
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
    headers: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    state: str = "received"  #: received, handed (TaskReceived said), decided
    outcome: str | None = None
    sentence: str = ""
    task_id: UUID | None = None
    run_ids: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    tries: int = Field(default=0, sa_column=int_column(default="0"))
    next_check: datetime | None = Field(default=None, sa_column=time_column())
    traceparent: str | None = None


class RefusedDelivery(SQLModel, table=True):
    """A request that proved nothing, kept in short (no body) so that a person can see why. Writer: webhook-receiver."""

    __tablename__ = "refused_deliveries"
    id: UUID = Field(primary_key=True)
    org: str
    source: str
    code: str
    sentence: str
    size: int = Field(sa_column=int_column())
    digest: str = ""
    remote: str = ""
    received_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class Membership(SQLModel, table=True):
    """Who may start what, cached from the source. Writer: webhook-receiver."""

    __tablename__ = "memberships"
    org: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    actor_id: str = Field(primary_key=True)
    name: str = ""
    role: int = Field(sa_column=int_column())
    fetched_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class PollCursor(SQLModel, table=True):
    """How far a source was polled. Writer: webhook-receiver."""

    __tablename__ = "poll_cursors"
    org: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    position: str = ""
    polled_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class TaskRow(SQLModel, table=True):
    """The unit of work, kept in step with its source. Writer: dispatcher."""

    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_object", "org", "source", "object_id", unique=True),)
    id: UUID = Field(primary_key=True)
    org: str
    source: str
    object_id: str
    key: str
    version: int = Field(sa_column=int_column())
    digest: str
    snapshot: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    wanted: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    asks_seen: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    read_at: datetime = Field(sa_column=time_column(nullable=False))
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    updated_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


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
    version: int = Field(sa_column=int_column())
    body: dict[str, Any] = Field(sa_column=json_column(nullable=False))
    next_check: datetime | None = Field(default=None, sa_column=time_column())
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    updated_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


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
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class QueueRow(SQLModel, table=True):
    """A run that waits for a slot. Small and apart, so that run updates touch no index. Writer: dispatcher."""

    __tablename__ = "run_queue"
    __table_args__ = (Index("run_queue_order", "org", "line", "project", "sort_key"),)
    run_id: UUID = Field(primary_key=True)
    org: str
    line: str  #: the role, or role@agent when only that agent will do
    project: str
    skills: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    sort_key: int = Field(sa_column=int_column())  #: microseconds: queue time minus the priority's head start


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


def _give_defaults_to_the_database() -> None:
    """Let plain SQL leave out what the classes leave out: a scalar default of a field is its column's default too."""
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            value = column.default.arg if isinstance(column.default, ScalarElementColumnDefault) else None
            if isinstance(value, bool | str) and column.server_default is None:
                literal = str(value).lower() if isinstance(value, bool) else f"'{value}'"
                column.server_default = DefaultClause(text(literal))


_give_defaults_to_the_database()
