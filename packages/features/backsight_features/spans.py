"""Spans of time: the instants that facts affect, as few half-open intervals."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from backsight_features.clocks import from_us
from backsight_features.rolling import IntArray

FOREVER: Final = 1 << 62
"""Stands for no bound: beyond every instant, and far enough from overflow to add a duration."""

_MOST: Final = 16


class Span(NamedTuple):
    """The instants from ``start`` on, before ``stop``.

    Parameters
    ----------
    start, stop : int
        Microseconds from 1970-01-01 UTC; ``-FOREVER`` and ``FOREVER`` for no bound.
    """

    start: int
    stop: int

    def holds(self, column: str) -> pl.Expr:
        """Return the condition that an instant lies in it, in a form that lets whole files be skipped."""
        since = pl.col(column) >= from_us(self.start) if self.start > -FOREVER else pl.lit(True)
        until = pl.col(column) < from_us(self.stop) if self.stop < FOREVER else pl.lit(True)
        return since & until


ALWAYS: Final = Span(-FOREVER, FOREVER)


def between(starts: IntArray, stops: IntArray) -> list[Span]:
    """Return the span from each start to its stop."""
    return [Span(start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def united(spans: Iterable[Span], gap: int = 0) -> list[Span]:
    """Return ascending spans that are apart, at most 16, and hold every instant of the given ones.

    Parameters
    ----------
    spans : iterable of Span
        In any order; empty ones hold nothing.
    gap : int
        Microseconds: spans no further apart become one.

    Examples
    --------
    >>> united([Span(7, 9), Span(0, 3), Span(2, 5), Span(8, 8)], gap=1)
    [Span(start=0, stop=5), Span(start=7, stop=9)]
    """
    ordered = np.array(sorted(span for span in spans if span.stop > span.start), dtype=np.int64).reshape(-1, 2)
    if not len(ordered):
        return []
    reached = np.maximum.accumulate(ordered[:, 1])
    apart = ordered[1:, 0] - reached[:-1]
    widest = np.sort(apart)[-(_MOST - 1) :].min(initial=FOREVER)
    cuts = np.flatnonzero((apart > gap) & (apart >= widest))[-(_MOST - 1) :] + 1
    return between(ordered[np.append(0, cuts), 0], reached[np.append(cuts - 1, len(ordered) - 1)])
