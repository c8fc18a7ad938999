"""The clock of a process that pulls: it tells the time, and waits until a signal or the time comes."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType

from backsight_features.clocks import utc_now

from backsight_ingest.live.faults import Interrupted


class Clock:
    """The system's clock. Tests pass one of their own, whose waits take no time."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._signal = int(signal.SIGTERM)

    def now(self) -> datetime:
        """Return the current instant, UTC."""
        return utc_now()

    def elapsed(self) -> timedelta:
        """Return the time since some fixed moment; it never goes back."""
        return timedelta(seconds=time.monotonic())

    def sleep(self, length: timedelta) -> None:
        """Wait.

        Raises
        ------
        Interrupted
            If a signal came meanwhile, or before.
        """
        if self._stopped.wait(max(length.total_seconds(), 0.0)):
            raise Interrupted(self._signal)

    def stop(self, signal: int) -> None:
        """End every wait, also of other threads."""
        self._signal = signal
        self._stopped.set()


@contextmanager
def signals(clock: Clock) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` in the main thread, and end the waits of the others.

    A pull can be cut off anywhere, even by ``kill -9``; so it need not wait for a safe moment.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        clock.stop(number)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
