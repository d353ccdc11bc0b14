"""All settings, read once from the environment (prefix ``DISPATCH_``). Nothing else reads the environment."""

import socket
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data() -> Path:
    return _xdg("XDG_DATA_HOME", ".local/share") / "agent-dispatch"


def _default_kek() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config") / "agent-dispatch" / "master.key"


def _xdg(variable: str, fallback: str) -> Path:
    class _Home(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="", extra="ignore")
        folder: str = Field(default="", validation_alias=variable)

    return Path(_Home().folder or Path.home() / fallback)


class Settings(BaseSettings):
    """One frozen set of settings. An unset NATS or database URL means: embedded servers of our own."""

    model_config = SettingsConfigDict(env_prefix="DISPATCH_", frozen=True, extra="ignore")

    org: str = Field(default="default", description="Tenant; scopes every row, subject and key.")
    data: Path = Field(default_factory=_default_data, description="Folder for all state of this machine.")
    kek_file: Path = Field(
        default_factory=_default_kek, description="Key file that secrets are sealed with; back it up."
    )
    nats_url: str = Field(default="", description="NATS server or cluster; empty starts an embedded one.")
    nats_replicas: int = Field(default=1, ge=1, le=5, description="Copies of each stream in a NATS cluster.")
    database_url: str = Field(default="", description="PostgreSQL 15 or newer; empty starts an embedded one.")
    database_pool: int = Field(default=6, ge=2, le=64, description="Connections per service.")

    receiver_host: str = Field(default="127.0.0.1", description="Address the webhook-receiver listens on.")
    receiver_port: int = Field(default=0, description="Its port; 0 lets the system choose.")
    receiver_url: str = Field(default="", description="Where the console reaches the webhook-receiver.")
    console_host: str = Field(default="127.0.0.1", description="Address the console listens on.")
    console_port: int = Field(default=0, description="Its port; 0 lets the system choose.")
    console_viewers: int = Field(default=200, ge=1, description="Event streams that the console keeps open at once.")
    ops_host: str = Field(default="127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    ops_port: int = Field(default=0, description="Its port; 0 lets the system choose.")
    public_url: str = Field(default="", description="The console's address as people reach it, used in links.")

    max_body_mib: int = Field(default=25, ge=1, description="Largest request the receiver takes.")
    spool_mib: int = Field(default=256, ge=1, description="Largest local spool while PostgreSQL is away.")
    receiver_quiet_ms: int = Field(
        default=0, ge=0, description="Pause before a work item is read, so that a burst about it is read once."
    )

    executor_name: str = Field(default_factory=socket.gethostname, description="Name of this executor's host.")
    sandbox: Literal["bubblewrap", "none"] = Field(
        default="bubblewrap", description="Isolation of agents; none only when asked for by name."
    )
    attempt_lease_seconds: int = Field(default=20, ge=2, description="How long a supervisor may be silent.")
    max_local_attempts: int = Field(default=16, ge=1, description="Agents that one executor runs at once.")
    question_grace_seconds: float = Field(
        default=0.0, ge=0, description="How long an agent may wait for an answer before it gives its slot back."
    )

    sweep_seconds: float = Field(default=5.0, gt=0, description="How often each service looks for what is overdue.")
    recheck_seconds: float = Field(default=30.0, gt=0, description="Silence after which a question is asked again.")
    ack_wait_seconds: float = Field(default=10.0, gt=0, description="Silence after which the broker delivers again.")

    otlp_endpoint: str = Field(default="", description="OpenTelemetry collector (OTLP over HTTP); empty sends nothing.")
    trace_ratio: float = Field(default=0.1, ge=0, le=1, description="Share of traces that are recorded.")
    log_level: str = Field(default="INFO", description="Least severe log line that is written.")
    token: SecretStr | None = Field(default=None, description="API token of the command line; else the data folder's.")
    url: str = Field(default="", description="Console address for the command line; else the data folder's.")

    @cached_property
    def blob_root(self) -> Path:
        return self.data / "blobs"

    @cached_property
    def forge_root(self) -> Path:
        return self.data / "forge"

    @cached_property
    def mirrors(self) -> Path:
        return self.data / "mirrors"

    @cached_property
    def attempts(self) -> Path:
        return self.data / "attempts"

    @cached_property
    def spool(self) -> Path:
        return self.data / "spool"
