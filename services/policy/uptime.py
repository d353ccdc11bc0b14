"""Since when people could answer without a break. After an outage nothing expires before they had a full chance."""

from datetime import datetime, timedelta


class Uptime:
    """Fed by the sweep with Postgres's clock; a pause much longer than its period was an outage."""

    def __init__(self, period: timedelta) -> None:
        self._longest_pause = period * 3 + timedelta(seconds=5)
        self._since: datetime | None = None
        self._last: datetime | None = None

    def beat(self, now: datetime) -> datetime:
        """Note that everything works now; return since when it has."""
        if self._since is None or self._last is None or now - self._last > self._longest_pause:
            self._since = now
        self._last = now
        return self._since

    def since(self, now: datetime) -> datetime:
        """Return since when everything has worked; ``now`` when that is not known yet."""
        if self._since is None or self._last is None or now - self._last > self._longest_pause:
            return now
        return self._since
