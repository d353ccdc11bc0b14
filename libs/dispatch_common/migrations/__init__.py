"""Schema migrations (alembic), shipped with the package and run by ``migrate``."""
