"""The console's tables, and those of which every service has rows of its own. Docstrings name the single writer."""
# pyright: reportAssignmentType=false
# SQLModel declares __tablename__ as a descriptor; a plain string is its documented use.

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from dispatch_common.columns import int_column, json_column, time_column


class ResourceRow(SQLModel, table=True):
    """A resource as it was applied; the newest generation counts. Writer: console."""

    __tablename__ = "resources"
    org: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    generation: int = Field(sa_column=int_column())
    spec: dict[str, Any] | None = Field(default=None, sa_column=json_column())  #: None: deleted
    digest: str = ""
    applied_by: str = ""
    applied_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


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
    set_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class PrincipalRow(SQLModel, table=True):
    """Somebody who may use the API; the token is kept as a digest. Writer: console."""

    __tablename__ = "principals"
    __table_args__ = (Index("principals_token", "token_digest", unique=True),)
    org: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    roles: list[str] = Field(default_factory=list, sa_column=json_column(nullable=False))
    token_digest: str
    created_at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class InboxRow(SQLModel, table=True):
    """A fact that a service has taken. Writer: each service its own rows."""

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_age", "at", postgresql_using="brin"),)
    service: str = Field(primary_key=True)
    fact_id: UUID = Field(primary_key=True)
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))


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
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))
    published_at: datetime | None = Field(default=None, sa_column=time_column())
    emissions: int = Field(default=0, sa_column=int_column(default="0"))


class DeadLetter(SQLModel, table=True):
    """A message that could not be taken. Writer: each service its own rows."""

    __tablename__ = "dead_letters"
    id: UUID = Field(primary_key=True)
    service: str
    subject: str
    reason: str
    detail: str = ""
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    deliveries: int = Field(sa_column=int_column())
    at: datetime = Field(sa_column=time_column(nullable=False, default=True))


class BrokerEpoch(SQLModel, table=True):
    """The stream as a service last saw it. Writer: each service its own row."""

    __tablename__ = "broker_epochs"
    service: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    created: str
    last_seq: int = Field(sa_column=int_column())
