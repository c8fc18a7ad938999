"""Sums over past events whose weight halves with time, evaluated at given instants.

Events are gathered in buckets at fixed instants (counted from 1970). A sum is that over whole buckets, joined by the
fixed tree of `rolling.total`, plus what has happened in the bucket that is still open. So it depends on the events
within its horizon only, to the last bit, and costs the same for a million events as for a few.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from backsight_features.rolling import FloatArray, IntArray, total

HORIZON: Final = timedelta(days=7)
"""Events that became known longer ago count nothing: 7 half-lives of a day."""

_MICROSECOND: Final = timedelta(microseconds=1)
_LONGEST_BUCKET: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Impulses:
    """Events with values.

    Parameters
    ----------
    at : IntArray of shape (n,)
        When each begins to count, microseconds from 1970-01-01 UTC, ascending.
    since : IntArray of shape (n,)
        From when each ages; not after ``at``.
    values : FloatArray of shape (k, n)
        What is summed.
    """

    at: IntArray
    since: IntArray
    values: FloatArray


def bucket_length(step: timedelta) -> timedelta:
    """Return the length of a bucket for instants that are about ``step`` apart; it divides `HORIZON`."""
    return step if step <= _LONGEST_BUCKET and HORIZON % step == timedelta(0) else _LONGEST_BUCKET


def decayed(impulses: Impulses, at: IntArray, bucket: timedelta, half_life: timedelta | None) -> FloatArray:
    """Return the decayed sums at each instant.

    Parameters
    ----------
    impulses : Impulses
        What happened.
    at : IntArray of shape (m,)
        Instants, microseconds from 1970-01-01 UTC, ascending.
    bucket : timedelta
        Divides `HORIZON`.
    half_life : timedelta or None
        None for a plain sum.

    Returns
    -------
    FloatArray of shape (k, m)
        Sum of value x 2^-(age / half-life) over the events that began to count between the start of the bucket
        `HORIZON` before the instant's own, and the instant.
    """
    size = impulses.at.size
    if size == 0 or at.size == 0:
        return np.zeros((impulses.values.shape[0], at.size))
    width = bucket // _MICROSECOND
    rate = 0.0 if half_life is None else _MICROSECOND / half_life

    own, asked = impulses.at // width, at // width
    # Weighed as at the start of their bucket: within it weights grow to at most 2^(bucket / half-life).
    weighed = impulses.values * np.exp2(-(own * width - impulses.since) * rate)

    whole = HORIZON // bucket
    first = int(min(own[0], asked[0])) - whole
    begins = np.flatnonzero(np.diff(own, prepend=own[0] - 1))
    fade = float(np.exp2(-width * rate))
    buckets = np.zeros((weighed.shape[0], int(asked[-1]) - first + 1))
    past = own[begins] <= asked[-1]
    buckets[:, own[begins][past] - first] = np.add.reduceat(weighed, begins, axis=1)[:, past]
    windows = np.stack([total(row, whole, decay=fade) for row in buckets])

    start = np.searchsorted(impulses.at, asked * width, side="left")
    stop = np.searchsorted(impulses.at, at, side="right")
    opened = _segments(weighed, start, stop)
    faded: FloatArray = np.exp2(-(at - asked * width) * rate)
    return faded * (windows[:, asked - 1 - first] * fade + opened)


def _segments(values: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """Return the sums of ``values[:, start:stop]``; segments may overlap and be empty."""
    # A closing 0 lets a segment end, or begin, behind the last value.
    closed = np.concatenate([values, np.zeros((values.shape[0], 1))], axis=1)
    bounds = np.stack([start, stop], axis=1).ravel()
    sums = np.add.reduceat(closed, bounds, axis=1)[:, ::2]
    return np.where(stop > start, sums, 0.0)
