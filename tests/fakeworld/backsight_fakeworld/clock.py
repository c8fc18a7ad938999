"""The world's clock: an instant that stands still until it is moved, or the real one."""

from datetime import UTC, datetime, timedelta


class Clock:
    """What time it is in the world.

    Parameters
    ----------
    now : datetime or None
        Where the clock stands; ``None`` follows the real time.
    """

    def __init__(self, now: datetime | None) -> None:
        self._now = None if now is None else now.astimezone(UTC)

    @property
    def now(self) -> datetime:
        """The current instant, in UTC."""
        return datetime.now(UTC) if self._now is None else self._now

    @now.setter
    def now(self, now: datetime) -> None:
        self._now = now.astimezone(UTC)

    def advance(self, by: timedelta) -> None:
        """Move a clock that stands still; one that follows the real time stops there."""
        self._now = self.now + by
