"""NATS and PostgreSQL as child processes, real ones from the wheels: for ``dispatch up`` and for the tests."""

from services.local_child import FolderInUse, LocalServerError, PortTaken
from services.local_nats import Nats, nats_server
from services.local_postgres import Postgres, postgres

__all__ = ["FolderInUse", "LocalServerError", "Nats", "PortTaken", "Postgres", "nats_server", "postgres"]
