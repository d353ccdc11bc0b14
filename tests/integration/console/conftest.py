"""The console's fixtures."""

from tests.support.consoles import admin, api, console, db, settings

__all__ = ["admin", "api", "console", "db", "settings"]
