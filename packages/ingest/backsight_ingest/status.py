"""The status of jobs: how fresh each is, what is missing, what waits, how its last runs ended, and what to do next."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.lake import Lake
from backsight_features.schemas import RUNS

from backsight_ingest.gaps import TimeLine, time_lines
from backsight_ingest.live.coverage import HOLE, LOST
from backsight_ingest.pull import VERB as DUMP
from backsight_ingest.quarantine import DUMPS, counts, dump_job

FAILED: Final = "failed"
STALE: Final = "stale"
LATE: Final = "late"
GAPS: Final = "gaps"
QUARANTINE: Final = "quarantine"
FINDINGS: Final = (FAILED, STALE, LATE, LOST, GAPS, QUARANTINE)
"""What may be found of a job, the worst first."""

LOOKBACK: Final = timedelta(days=32)
"""Accounts older than this are not looked at: what is read has an end, and even a job of every month has one."""

LAST_RUNS: Final = 5
_SLACK: Final = timedelta(minutes=1)
"""What a run may take."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How one run of a job ended.

    Parameters
    ----------
    started_at, finished_at : datetime
        When.
    outcome : {"ok", "busy", "failed"}
        ``busy``: another run of the job was going on, so this one left it alone.
    error : str
        Why, unless it is ok.
    """

    started_at: datetime
    finished_at: datetime
    outcome: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a job is.

    Parameters
    ----------
    job : str
        Its name; ``dump:`` and the layout for files that were read through it.
    line : TimeLine, optional
        Its time line; None for files, and for a job that never had a page.
    behind : timedelta, optional
        How long ago what is there ends.
    waiting : tuple of (str, int)
        Reasons and how many rows are in quarantine for each, the commonest first.
    runs : tuple of Ran
        The last ones, the newest first. Of files: the last reading of the file that was read last, or failed.
    findings : tuple of str
        What is the matter, of `FINDINGS`, the worst first.
    """

    job: str
    line: TimeLine | None
    behind: timedelta | None
    waiting: tuple[tuple[str, int], ...]
    runs: tuple[Ran, ...]
    findings: tuple[str, ...]

    @property
    def state(self) -> str:
        """The worst that was found, or ``ok``."""
        return self.findings[0] if self.findings else "ok"


def survey(
    lake: Lake,
    *,
    now: datetime,
    every: timedelta = timedelta(0),
    wanted: Callable[[str], bool] = lambda job: True,
) -> list[Status]:
    """Return how jobs are, the worst first.

    A job is fresh while its facts end no longer ago than one cadence and one distance of runs: what comes next is not
    there yet, or the run to come will ask for it. It is ``late`` when one run more is missing, and then ``stale``. To
    have asked for what was not there makes no job fresh.

    Parameters
    ----------
    lake : Lake
        Where they write.
    now : datetime
        The current instant.
    every : timedelta
        How far apart runs are scheduled, where that is longer than the cadence of a job.
    wanted : callable
        Whether a job is, by name.
    """
    found = time_lines(lake, wanted)
    ran = _last_runs(lake, now, wanted)
    waiting = _waiting(lake, wanted)
    all_of = [
        _status(job, found.get(job), ran.get(job, ()), waiting.get(job, ()), now, every)
        for job in {*found, *ran, *waiting}
    ]
    return sorted(all_of, key=lambda each: ([FINDINGS.index(name) for name in each.findings] or [9], each.job))


def _status(
    job: str,
    line: TimeLine | None,
    runs: tuple[Ran, ...],
    waiting: tuple[tuple[str, int], ...],
    now: datetime,
    every: timedelta,
) -> Status:
    behind = None if line is None or line.filled is None else now - line.filled
    done = [run.outcome for run in runs if run.outcome != "busy"]
    found = {
        FAILED: done[:1] == [FAILED],
        LOST: line is not None and bool(line.total(LOST)),
        GAPS: line is not None and bool(line.total(HOLE)),
        QUARANTINE: bool(waiting),
    }
    if line is not None:
        found[_age(behind, line.cadence, every)] = True
    elif done[:1] == ["ok"] and not job.startswith(DUMPS):
        found[STALE] = True  # it ran, and never got a page
    return Status(
        job=job,
        line=line,
        behind=behind,
        waiting=waiting,
        runs=runs,
        findings=tuple(name for name in FINDINGS if found.get(name)),
    )


def _age(behind: timedelta | None, cadence: timedelta, every: timedelta) -> str:
    """Return ``fresh``, ``late`` or ``stale``."""
    apart = max(cadence, every)
    if behind is None or behind > cadence + 2 * apart + _SLACK:
        return STALE
    return LATE if behind > cadence + apart + _SLACK else "fresh"


def accounts(lake: Lake) -> pl.LazyFrame:
    """Return the accounts of runs, unordered, and in ``job`` whose they are."""
    of_files = pl.col("verb") == DUMP
    return lake.scan(RUNS).with_columns(job=pl.when(of_files).then(dump_job("source")).otherwise("origin"))


def _last_runs(lake: Lake, now: datetime, wanted: Callable[[str], bool]) -> dict[str, tuple[Ran, ...]]:
    """Return the last runs of jobs by name, the newest first."""
    recent = (
        accounts(lake)
        .filter(pl.col("started_at") > now - LOOKBACK, pl.col("verb").str.starts_with("pull "))
        .select("job", "origin", "started_at", "finished_at", "status", dump=pl.col("verb") == DUMP)
        .sort("finished_at")
        .collect()
    )
    # A file that failed stays so until that very file is read, whatever other files were read meanwhile.
    files = recent.filter("dump").group_by("job", "origin", maintain_order=True).last()
    files = files.sort(pl.col("status").str.starts_with(FAILED), "finished_at", maintain_order=True)
    parts = (recent.filter(~pl.col("dump")), files)
    columns = ["job", "started_at", "finished_at", "status"]
    last = pl.concat(
        part.group_by("job", maintain_order=True).tail(LAST_RUNS).select(columns).reverse() for part in parts
    )
    return {
        str(job): tuple(_ran(*row) for row in part.drop("job").iter_rows())
        for (job,), part in last.partition_by("job", as_dict=True).items()
        if wanted(str(job))
    }


def _ran(started_at: datetime, finished_at: datetime, status: str) -> Ran:
    outcome, _, error = status.partition(": ")
    return Ran(started_at=started_at, finished_at=finished_at, outcome=outcome, error=error)


def _waiting(lake: Lake, wanted: Callable[[str], bool]) -> dict[str, tuple[tuple[str, int], ...]]:
    """Return reasons and how many rows wait for each, by job."""
    return {
        str(job): tuple(part.group_by("reason", maintain_order=True).agg(pl.col("rows").sum()).iter_rows())
        for (job,), part in counts(lake).partition_by("job", as_dict=True).items()
        if wanted(str(job))
    }
