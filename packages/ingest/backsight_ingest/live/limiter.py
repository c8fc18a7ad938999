"""One pace per host: requests of all jobs of a process that go to one host keep a distance in time."""

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Transient

_LONGEST: Final = timedelta(minutes=2)
"""A host that wants more rest than this is left to the next run."""


class Limiter:
    """When the next request may go to a host.

    Parameters
    ----------
    clock : Clock
        Waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next: dict[str, timedelta] = {}

    def wait(self, host: str, interval: timedelta) -> None:
        """Wait for the host's next turn, and take it.

        Parameters
        ----------
        host : str
            Which.
        interval : timedelta
            The distance to the request after this one.

        Raises
        ------
        Transient
            If the host asked for a longer rest than a run waits for.
        """
        with self._lock:
            now = self._clock.elapsed()
            turn = max(self._next.get(host, now), now)
            if turn - now > _LONGEST:
                rest = turn - now
                raise Transient(f"{host} allows no request for {rest.total_seconds():.0f} s", retry_after=rest)
            self._next[host] = turn + interval
        if turn > now:
            self._clock.sleep(turn - now)

    def note(self, host: str, headers: Mapping[str, str]) -> None:
        """Heed what an answer says of the budget that is left: ``x-ratelimit-remaining`` and ``-reset``, in seconds.

        What is left is spread over the time until the budget is filled again; with none left the host rests.
        """
        try:
            left = float(headers["x-ratelimit-remaining"])
            reset = timedelta(seconds=float(headers["x-ratelimit-reset"]))
        except (KeyError, ValueError, OverflowError):
            return  # no such header, or none that is a number: the usual pace holds
        self.rest(host, reset if left < 1 else min(reset / left, reset))

    def rest(self, host: str, length: timedelta) -> None:
        """Leave a host alone for some time, counted from now."""
        with self._lock:
            until = self._clock.elapsed() + length
            self._next[host] = max(self._next.get(host, until), until)
