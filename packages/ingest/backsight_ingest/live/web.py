"""The way to the sources, shared by all jobs of a process: one clock, one pace per host, one retry policy."""

from dataclasses import dataclass, field
from datetime import timedelta

from backsight_ingest.live.clock import Clock
from backsight_ingest.live.http import Check, Limits, Session
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.retry import Retry


@dataclass(frozen=True, kw_only=True)
class Web:
    """What a job needs to ask.

    Parameters
    ----------
    clock : Clock
        Tells the time and waits.
    retry : Retry
        Repeats a call: ``web.retry(lambda: client.fetch(...))``.
    limiter : Limiter
        The pace per host.
    limits : Limits
        Of each request.
    interval : timedelta, optional
        Between requests to one host, instead of what each source is known to allow.
    endpoint : str, optional
        Ask this address instead of the sources' own: a proxy, or a world made up for trials. Each source keeps its path
        below it.
    """

    clock: Clock
    retry: Retry
    limiter: Limiter
    limits: Limits = field(default_factory=Limits)
    interval: timedelta | None = None
    endpoint: str | None = None

    def session(self, *, interval: timedelta, check: Check) -> Session:
        """Return a session for one client.

        Parameters
        ----------
        interval : timedelta
            Between requests to one host, as the source allows.
        check : callable
            What a body has to be.
        """
        return Session(self.clock, self.limiter, interval=self.interval or interval, check=check, limits=self.limits)
