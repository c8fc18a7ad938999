"""Coverage: which part of its time line a job has asked for, and what was not there.

The walk forward needs one number, the watermark, which is in the commit of the facts. Everything else is in the table
`COVERAGE`: where the walk began, what was filled in before that, and the holes. Of several rows about one instant the
one written last counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from backsight_features.clocks import from_us, to_us
from backsight_features.lake import Lake
from backsight_features.rolling import IntArray
from backsight_features.schemas import COVERAGE, Table
from backsight_features.spans import Span

BEGUN: Final = "begun"
WHOLE: Final = "whole"
HOLE: Final = "hole"
LOST: Final = "lost"
UNASKED: Final = "unasked"
_ORDER: Final = {BEGUN: 0, WHOLE: 1, HOLE: 2, LOST: 2}
_NEVER: Final = -2
_WALKED: Final = -1


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a job's time line in one state.

    Parameters
    ----------
    span : Span
        Which part.
    status : {"whole", "hole", "lost", "unasked"}
        ``hole``: asked for and not there, asked for again; ``lost``: the source cannot give it any more;
        ``unasked``: between parts that were asked for.
    reason : str
        Of a hole.
    asked_at : datetime, optional
        When a hole was last asked for.
    """

    span: Span
    status: str
    reason: str = ""
    asked_at: datetime | None = None

    def due_at(self, shortest: timedelta) -> datetime:
        """Return when a hole is to be asked for again.

        The wait doubles: a hole is due when it has been left alone for as long as it was old when last asked for. So
        what comes late is found soon, and what never comes costs ever less.

        Parameters
        ----------
        shortest : timedelta
            The least wait.
        """
        assert self.asked_at is not None
        return self.asked_at + max(self.asked_at - from_us(self.span.stop), shortest)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a job has asked for so far.

    Parameters
    ----------
    begun : int, optional
        Where the walk forward began, in microseconds; None for a job that never ran.
    reached : int, optional
        How far it has come: the watermark.
    stretches : tuple of Stretch
        The time line from the first instant asked for to the last, in order and without gaps.
    """

    begun: int | None
    reached: int | None
    stretches: tuple[Stretch, ...]

    @property
    def holes(self) -> tuple[Stretch, ...]:
        """What was asked for, was not there, and may come."""
        return tuple(stretch for stretch in self.stretches if stretch.status == HOLE)

    def unasked(self, span: Span) -> list[Span]:
        """Return the parts of a span that were never asked for."""
        asked = [stretch.span for stretch in self.stretches if stretch.status != UNASKED]
        return without(span, asked)

    def due(self, now: datetime, *, shortest: timedelta, reach: timedelta) -> tuple[Span, ...]:
        """Return the holes to ask for again, those close together as one.

        Parameters
        ----------
        now : datetime
            The current instant.
        shortest : timedelta
            The least wait.
        reach : timedelta
            What one request covers.
        """
        due = [hole.span for hole in self.holes if now >= hole.due_at(shortest)]
        return tuple(joined(due, within=reach // timedelta(microseconds=1)))


def read(lake: Lake, job: str, table: Table) -> Coverage:
    """Return what a job has asked for.

    Parameters
    ----------
    lake : Lake
        Where its facts are.
    job : str
        Its name.
    table : Table
        The one that keeps its watermark.
    """
    rows = lake.scan(COVERAGE).filter(pl.col("job") == job).collect()
    return painted(rows, lake.watermark(table, app(job)))


def app(job: str) -> str:
    """Return the name under which a job's watermark is kept."""
    return f"pull:{job}"


def row(job: str, span: Span, status: str, reason: str, *, asked_at: datetime, cadence: timedelta) -> dict[str, object]:
    """Return a row of `COVERAGE`."""
    return {
        "job": job,
        "since": from_us(span.start),
        "until": from_us(span.stop),
        "status": status,
        "reason": reason,
        "asked_at": asked_at,
        "cadence_s": int(cadence.total_seconds()),
    }


def painted(rows: pl.DataFrame, reached: int | None) -> Coverage:
    """Return what a job has asked for.

    Parameters
    ----------
    rows : pl.DataFrame
        All of `COVERAGE` about the job, in any order.
    reached : int, optional
        Its watermark.
    """
    rows = rows.with_columns(order=pl.col("status").replace_strict(_ORDER, return_dtype=pl.Int8)).sort(
        "asked_at", "order", maintain_order=True
    )
    starts = rows["since"].dt.epoch("us").to_numpy()
    stops = rows["until"].dt.epoch("us").to_numpy()
    begins = starts[(rows["status"] == BEGUN).to_numpy()]
    begun = int(begins[0]) if begins.size else None
    forward = [] if begun is None or reached is None or reached <= begun else [Span(begun, reached)]
    points = np.unique(np.concatenate([starts, stops, *(np.array(span, dtype=np.int64) for span in forward)]))
    if points.size < 2:
        return Coverage(begun=begun, reached=reached, stretches=())
    painted = np.full(points.size - 1, _NEVER)
    for span in forward:
        painted[np.searchsorted(points, span.start) : np.searchsorted(points, span.stop)] = _WALKED
    owner = _uppermost(np.searchsorted(points, starts), np.searchsorted(points, stops), painted.size)
    whole = np.append((rows["status"] == WHOLE).to_numpy(), False)  # the last stands for no owner
    painted = np.where(owner < 0, painted, np.where(whole[owner], _WALKED, owner))
    status, reason, asked = rows["status"].to_list(), rows["reason"].to_list(), rows["asked_at"].to_list()
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(painted)) + 1, [painted.size]])
    stretches = [
        Stretch(
            span=Span(int(points[low]), int(points[high])),
            status={_NEVER: UNASKED, _WALKED: WHOLE}.get(owner) or status[owner],
            reason="" if owner < 0 else reason[owner],
            asked_at=None if owner < 0 else asked[owner],
        )
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        for owner in [int(painted[low])]
    ]
    return Coverage(begun=begun, reached=reached, stretches=tuple(stretches))


def first_missed(rows: pl.DataFrame, instants: pl.Series) -> pl.Series:
    """Return when each instant was first asked for and not there, null for one that never was.

    Parameters
    ----------
    rows : pl.DataFrame
        All of `COVERAGE` about the job, in any order.
    instants : pl.Series of Int64
        On its time line, in microseconds.
    """
    missing = rows.filter(pl.col("status").is_in([HOLE, LOST])).sort("asked_at", descending=True)
    starts, stops = (missing[name].dt.epoch("us").to_numpy() for name in ("since", "until"))
    points = np.unique(np.concatenate([starts, stops]))
    owner = _uppermost(np.searchsorted(points, starts), np.searchsorted(points, stops), points.size)
    place = np.searchsorted(points, instants.to_numpy(), side="right") - 1
    first = pl.Series(np.append(owner, -1)[place])  # before all points is the place at the end
    return missing["asked_at"].gather(first.replace(-1, None))


def _uppermost(lows: IntArray, highs: IntArray, size: int) -> IntArray:
    """Return for each of ``size`` places the number of the last interval that holds it, -1 where none does.

    A segment tree, a level of it at a time for all intervals: each is held by two nodes a level at most, and a place by
    its node and those above. A loop over intervals would take a minute where a venue left out half a million minutes.

    Parameters
    ----------
    lows, highs : ndarray of shape (n_intervals,)
        Of half-open intervals of places; empty ones hold nothing.
    size : int
        Number of places.
    """
    leaves = 1 << max(size - 1, 1).bit_length()
    tree = np.full(2 * leaves, -1, dtype=np.int64)
    number, low, high = np.arange(lows.size), lows + leaves, highs + leaves
    while number.size:
        for node, side in ((low, (low & 1 == 1) & (low < high)), (high - 1, (high & 1 == 1) & (low < high))):
            np.maximum.at(tree, node[side], number[side])
        low, high = (low + 1) >> 1, high >> 1
        left = low < high
        number, low, high = number[left], low[left], high[left]
    first = 1
    while first < leaves:
        above = np.repeat(tree[first : 2 * first], 2)
        tree[2 * first : 4 * first] = np.maximum(tree[2 * first : 4 * first], above)
        first *= 2
    return tree[leaves : leaves + size]


def joined(spans: Iterable[Span], *, within: int = 0) -> list[Span]:
    """Return spans in order, those at most ``within`` microseconds apart as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start - found[-1].stop <= within:
            found[-1] = Span(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return found


def without(span: Span, others: Iterable[Span]) -> list[Span]:
    """Return the parts of a span that none of the others holds."""
    left: list[Span] = []
    start = span.start
    for other in joined(others):
        if other.stop <= start:
            continue
        if other.start >= span.stop:
            break
        if other.start > start:
            left.append(Span(start, other.start))
        start = other.stop
    if start < span.stop:
        left.append(Span(start, span.stop))
    return left


def span(since: datetime, until: datetime) -> Span:
    """Return the span between two instants."""
    return Span(to_us(since), to_us(until))
