"""The pull of live sources: page by page into the lake, so that a job can be cut off anywhere and goes on from there.

For each page the quarantine is written first and the facts after it. A page of the walk forward moves the watermark in
the commit of its facts, and its holes are written before: cut off between, it is asked for again. What is filled in
behind the watermark is noted in the coverage after its facts: cut off between, it is asked for again as well, and what
is there already comes out as duplicate.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US, from_us
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import COVERAGE, QUARANTINE, RUNS
from backsight_features.spans import Span

from backsight_ingest.accounts import Account, account_row
from backsight_ingest.dumps import facts
from backsight_ingest.layout import Layout
from backsight_ingest.layouts import load
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.faults import Interrupted
from backsight_ingest.live.job import Job, Page, Plan
from backsight_ingest.live.lanes import pages
from backsight_ingest.locks import alone

SEEN_AT: Final = "seen_at"
"""The cell of a record that says when it was fetched; it is no part of what the record says."""

_NUMBER_BYTES: Final = 7
"""Of the digest that numbers a record: enough that no two are alike, and room for the versions of a row in 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a job is.

    Parameters
    ----------
    account : Account
        So far.
    reached, goal : datetime, optional
        The end of the last page, and of what is asked for.
    """

    account: Account
    reached: datetime | None = None
    goal: datetime | None = None


def pull(
    lake: Lake,
    jobs: Sequence[Job],
    *,
    locks: Path,
    clock: Clock,
    since: datetime | None = None,
    until: datetime | None = None,
    tell: Callable[[Step], None] = lambda step: None,
) -> list[Account]:
    """Run jobs one after the other, each for itself: one that fails leaves the others alone.

    Parameters
    ----------
    lake : Lake
        Where to.
    jobs : sequence of Job
        What is pulled.
    locks : Path
        A folder; of the runs of one job, one goes on at a time.
    clock : Clock
        Tells when answers were there.
    since, until : datetime, optional
        Fill in this part too, as far as it was never asked for; without ``since`` from where the last run ended.
    tell : callable
        Is told of each page.

    Returns
    -------
    list of Account
        A job each, in order; after a signal the last is that of the job that was cut off.
    """
    run = uuid.uuid4().hex[:12]
    accounts: list[Account] = []
    for job in jobs:
        started = clock.now()
        account = Account(origin=job.name, status="reading")
        try:
            with alone(locks, job.name):
                for step in _Pull(lake, job, clock).run(account, since, until):
                    account = step.account
                    tell(step)
            account = replace(account, status="ok")
        except BacksightError as error:
            account = replace(account, status="failed", error=error)
        row = account_row(account, job.verb, job.source, run, started)
        lake.append(RUNS, row, now=clock.now())
        accounts.append(account)
        tell(Step(account=account))
        if isinstance(account.error, Interrupted):
            break
    return accounts


def plan(lake: Lake, job: Job, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
    """Return what a run of a job would ask for; asks nobody and writes nothing."""
    return job.plan(_covered(lake, job), since=since, until=until, now=now)


def _covered(lake: Lake, job: Job) -> Coverage:
    return coverage.read(lake, job.name, load(job.layouts[-1]).table)


class _Pull:
    """One run of one job."""

    def __init__(self, lake: Lake, job: Job, clock: Clock) -> None:
        self._lake = lake
        self._job = job
        self._clock = clock
        self._layouts = tuple(load(name) for name in job.layouts)
        self._coverage = _covered(lake, job)
        holes = self._coverage.holes
        self._holes_start = pl.Series([hole.span.start for hole in holes], dtype=pl.Int64)
        self._holes_stop = pl.Series([hole.span.stop for hole in holes], dtype=pl.Int64)

    def run(self, account: Account, since: datetime | None, until: datetime | None) -> Iterator[Step]:
        """Yield the account after each page."""
        plan = self._job.plan(self._coverage, since=since, until=until, now=self._clock.now())
        for spans, forward in (((plan.forward,) if plan.forward else (), True), (plan.again + plan.backfill, False)):
            goal = max((span.stop for span in spans), default=0)
            for page in pages(self._job, spans):
                account = self._commit(page, account, forward=forward)
                yield Step(account=account, reached=from_us(page.span.stop), goal=from_us(goal))

    def _commit(self, page: Page, account: Account, *, forward: bool) -> Account:
        reached = self._coverage.reached
        begins = forward and self._coverage.begun is None
        moves = forward and (reached is None or page.span.stop > reached)
        if begins:
            start = Span(page.span.start, page.span.start)
            self._note([self._row(start, coverage.BEGUN, "", page)])
            self._coverage = replace(self._coverage, begun=page.span.start)
        if forward:
            self._note(self._holes(page))
        for layout in self._layouts:
            account = self._write(layout, page, account, moves=moves and layout is self._layouts[-1])
        if not forward:
            self._note([self._row(page.span, coverage.WHOLE, "", page), *self._holes(page)])
        if moves:
            self._coverage = replace(self._coverage, reached=page.span.stop)
        return account

    def _row(self, span: Span, status: str, reason: str, page: Page) -> dict[str, object]:
        return coverage.row(self._job.name, span, status, reason, asked_at=page.fetched_at, cadence=self._job.cadence)

    def _holes(self, page: Page) -> list[dict[str, object]]:
        return [
            self._row(hole.span, coverage.HOLE if hole.again else coverage.LOST, hole.reason, page)
            for hole in page.holes
        ]

    def _note(self, rows: list[dict[str, object]]) -> None:
        if rows:
            frame = pl.DataFrame(rows, schema=dict(COVERAGE.columns))
            self._lake.append(COVERAGE, frame, now=self._clock.now())

    def _write(self, layout: Layout, page: Page, account: Account, *, moves: bool) -> Account:
        """Return the account with what one layout reads in a page; ``moves``: its commit moves the watermark."""
        table, now = layout.table, page.fetched_at
        raw = page.records[layout.name]
        records = _numbered(raw, self._job.name)
        good, bad = table.empty().drop("ingested_at"), pl.DataFrame()
        if records.height:
            found = facts(layout, records, self._job.variables, now=now)
            good, bad = found.good.with_columns(source=pl.lit(f"pull:{layout.name}")), found.bad
            good = self._late(good, now)
        if bad.height:
            self._lake.append(QUARANTINE, self._quarantined(bad, layout), now=now)
        accepted = duplicate = 0
        if good.height or moves:
            app, watermark = (coverage.app(self._job.name), page.span.stop) if moves else (None, None)
            written = self._lake.append(table, good, now=now, app=app, watermark=watermark)
            accepted, duplicate = written.accepted, written.duplicate
        repeated = raw.height - records.height
        return replace(
            account,
            read=account.read + repeated + good.height + bad.height,
            accepted=account.accepted + accepted,
            duplicate=account.duplicate + repeated + duplicate,
            quarantined=account.quarantined + bad.height,
        )

    def _late(self, good: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Return facts, those that were not there when they were asked for before as known from now."""
        if self._holes_start.is_empty() or good.is_empty():
            return good
        # Holes are in order and apart: the one to look at is the last that starts no later.
        begins = (good["observed_at"] - self._job.length).dt.epoch("us")
        at = self._holes_start.search_sorted(begins, side="right").cast(pl.Int64) - 1
        late = (at >= 0) & (begins < self._holes_stop.gather(at.clip(lower_bound=0)))
        seen = pl.lit(now, UTC_US)
        return good.with_columns(
            available_at=pl.when(late).then(pl.max_horizontal("available_at", seen)).otherwise("available_at"),
            available_at_estimated=pl.col("available_at_estimated") & ~late,
        )

    def _quarantined(self, bad: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        variables = json.dumps(dict(self._job.variables), sort_keys=True, ensure_ascii=False)
        return bad.select(
            pl.lit(f"{coverage.app(self._job.name)}:{layout.name}").alias("batch"),
            pl.col("row").cast(pl.Int64),
            pl.lit(layout.kind).alias("kind"),
            pl.lit(layout.name).alias("layout"),
            pl.lit(variables).alias("settings"),
            "origin",
            "reason",
            "original",
        )


def _numbered(records: pl.DataFrame, job: str) -> pl.DataFrame:
    """Return records, each once, numbered by what they say: the same bad record is set aside once, in whatever page."""
    says = [name for name in records.columns if name != SEEN_AT]
    unique = records.unique(says, keep="first", maintain_order=True)
    texts = unique.select(pl.struct(says).struct.json_encode()).to_series()
    numbers = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:_NUMBER_BYTES]) + 1 for text in texts]
    return unique.with_columns(
        pl.Series("@row", numbers, dtype=pl.Int64),
        pl.lit(job).alias("@origin"),
    )
