"""Gaps: what live jobs asked for and did not get, what cannot be had any more, and what was never asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

import polars as pl
from backsight_features.clocks import from_us
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, BOOKS, COVERAGE, MACRO, NEWS, POSTS, Table

from backsight_ingest.live import coverage
from backsight_ingest.live.coverage import HOLE, WHOLE, Coverage, Stretch

KEEPERS: Final[Mapping[str, Table]] = {
    "prices": BARS,
    "books": BOOKS,
    "reddit": POSTS,
    "news": NEWS,
    "macro": MACRO,
}
"""The table that keeps a job's watermark, by the kind that its name begins with."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A part of a job's time line that is not whole.

    Parameters
    ----------
    job : str
        Whose.
    status : {"hole", "lost", "unasked"}
        See `Stretch`.
    since, until : datetime
        From when on, and before when.
    reason : str
        Why it is not there; "" where nobody asked.
    asked_at, due_at : datetime, optional
        Of a hole: when it was last asked for, and from when on a run asks again.
    """

    job: str
    status: str
    since: datetime
    until: datetime
    reason: str = ""
    asked_at: datetime | None = None
    due_at: datetime | None = None

    @property
    def length(self) -> timedelta:
        """How much is missing."""
        return self.until - self.since


@dataclass(frozen=True, kw_only=True)
class TimeLine:
    """The time line of a job.

    Parameters
    ----------
    job : str
        Its name.
    cadence : timedelta
        How often something new is expected.
    coverage : Coverage
        What it asked for.
    """

    job: str
    cadence: timedelta
    coverage: Coverage

    @property
    def first(self) -> datetime | None:
        """From where on it asked; None before its first page."""
        stretches = self.coverage.stretches
        return from_us(stretches[0].span.start) if stretches else None

    @property
    def reached(self) -> datetime | None:
        """How far it asked: the watermark."""
        return None if self.coverage.reached is None else from_us(self.coverage.reached)

    @property
    def filled(self) -> datetime | None:
        """The end of the last part that is whole: what was asked for after that was not there."""
        whole = [stretch.span.stop for stretch in self.coverage.stretches if stretch.status == WHOLE]
        end = whole[-1] if whole else self.coverage.begun
        return None if end is None or self.coverage.reached is None else from_us(end)

    def total(self, status: str) -> timedelta:
        """Return the length of all parts in one state."""
        spans = [stretch.span for stretch in self.coverage.stretches if stretch.status == status]
        return timedelta(microseconds=sum(span.stop - span.start for span in spans))

    @property
    def share(self) -> float | None:
        """Which part of the time line is whole, in [0, 1]; None where there is none."""
        stretches = self.coverage.stretches
        if not stretches:
            return None
        return self.total(WHOLE) / timedelta(microseconds=stretches[-1].span.stop - stretches[0].span.start)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is not whole, in order."""
        return tuple(self._gap(stretch) for stretch in self.coverage.stretches if stretch.status != WHOLE)

    def _gap(self, stretch: Stretch) -> Gap:
        return Gap(
            job=self.job,
            status=stretch.status,
            since=from_us(stretch.span.start),
            until=from_us(stretch.span.stop),
            reason=stretch.reason,
            asked_at=stretch.asked_at,
            due_at=stretch.due_at(self.cadence) if stretch.status == HOLE else None,
        )


def time_lines(lake: Lake, wanted: Callable[[str], bool] = lambda job: True) -> dict[str, TimeLine]:
    """Return the time lines of live jobs by name, in order of names.

    Parameters
    ----------
    lake : Lake
        Where they write.
    wanted : callable
        Whether a job is, by name.
    """
    parts = lake.scan(COVERAGE).collect().partition_by("job", as_dict=True)
    rows = {str(job): part for (job,), part in sorted(parts.items()) if wanted(str(job))}
    reached = watermarks(lake, rows)
    return {
        job: TimeLine(
            job=job,
            cadence=timedelta(seconds=part.sort("asked_at")["cadence_s"][-1]),
            coverage=coverage.painted(part, reached[job]),
        )
        for job, part in rows.items()
    }


def watermarks(lake: Lake, jobs: Iterable[str]) -> dict[str, int | None]:
    """Return how far jobs have come, by name, in microseconds; None for one without a page so far.

    Raises
    ------
    BadInput
        If a job is of no kind that is known.
    """
    by_kind: dict[str, list[str]] = {}
    for job in jobs:
        by_kind.setdefault(job.partition(":")[0], []).append(job)
    found: dict[str, int | None] = {}
    for kind, names in by_kind.items():
        if kind not in KEEPERS:
            raise BadInput(f"{names[0]}: no job is of kind {kind}; there are {', '.join(KEEPERS)}")
        reached = lake.watermarks(KEEPERS[kind], [coverage.app(name) for name in names])
        found |= {name: reached[coverage.app(name)] for name in names}
    return found


def chooser(patterns: Sequence[str], without: Sequence[str] = ()) -> Callable[[str], bool]:
    """Return whether a job is meant, by name: patterns as of a shell; none means all."""
    return lambda job: (
        (not patterns or any(fnmatchcase(job, each) for each in patterns))
        and not any(fnmatchcase(job, each) for each in without)
    )


def of_jobs(rows: pl.LazyFrame, patterns: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of jobs, named in a column ``job``, that are meant by patterns; none means all."""
    if not patterns:
        return rows
    wanted = chooser(patterns)
    names = rows.select(pl.col("job").unique()).collect()["job"]
    return rows.filter(pl.col("job").is_in([name for name in names if wanted(name)]))
