"""The one retry policy: what may help is repeated, with growing and jittered waits, as long as time and budget last."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Transient

_T = TypeVar("_T")

_FIRST: Final = timedelta(seconds=1)
_LARGEST: Final = timedelta(seconds=60)


class Retry:
    """Repeats what failed for a reason that may pass.

    Parameters
    ----------
    clock : Clock
        Waits.
    attempts : int
        Of one call, at most.
    deadline : timedelta
        Of one call with all its waits: none is begun that would end later.
    budget : timedelta
        For the waits of all calls together, so that a bad day makes a run end early instead of late.
    tell : callable
        Is given a line before each wait.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        attempts: int = 6,
        deadline: timedelta = timedelta(minutes=5),
        budget: timedelta = timedelta(minutes=15),
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._clock = clock
        self._attempts = attempts
        self._deadline = deadline
        self._left = budget
        self._tell = tell
        self._lock = threading.Lock()

    def __call__(self, ask: Callable[[], _T]) -> _T:
        """Return what ``ask`` returns; it must be safe to repeat.

        Raises
        ------
        Transient
            The last one, when attempts, deadline or budget are used up.
        """
        begun = self._clock.elapsed()

        def stop(state: RetryCallState) -> bool:
            wait = timedelta(seconds=state.upcoming_sleep)
            spent = self._clock.elapsed() - begun
            return state.attempt_number >= self._attempts or spent + wait > self._deadline or wait > self._left

        retrying = Retrying(
            retry=retry_if_exception_type(Transient),
            wait=_wait,
            stop=stop,
            sleep=self._sleep,
            before_sleep=self._say,
            reraise=True,
        )
        return retrying(ask)

    def _sleep(self, seconds: float) -> None:
        length = timedelta(seconds=seconds)
        with self._lock:
            self._left -= length
        self._clock.sleep(length)

    def _say(self, state: RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        self._tell(f"{error}; asking again in {state.upcoming_sleep:.0f} s")


def _wait(state: RetryCallState) -> float:
    """Return the seconds to wait: what the server asks for, or twice as long each time, up to a minute, with jitter."""
    error = None if state.outcome is None else state.outcome.exception()
    grown = min(_FIRST * 2 ** (state.attempt_number - 1), _LARGEST).total_seconds()
    jittered: float = grown * random.uniform(0.5, 1.0)
    if isinstance(error, Transient) and error.retry_after is not None:
        # Many clients were told the same: they should not all come back at one moment.
        return float(error.retry_after.total_seconds() + 0.1 * jittered)
    return jittered
