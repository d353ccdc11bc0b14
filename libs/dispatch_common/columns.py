"""The column types that tables share: times in UTC, 64-bit integers, JSON."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB


def time_column(*, nullable: bool = True, default: bool = False) -> Any:
    """Return a time column; with ``default`` it takes Postgres's clock."""
    return Column(
        DateTime(timezone=True), nullable=nullable, server_default=text("clock_timestamp()") if default else None
    )


def int_column(*, nullable: bool = False, default: str | None = None) -> Any:
    """Return a 64-bit integer column."""
    return Column(BigInteger, nullable=nullable, server_default=text(default) if default else None)


def json_column(*, nullable: bool = True) -> Any:
    """Return a jsonb column."""
    return Column(JSONB, nullable=nullable)
