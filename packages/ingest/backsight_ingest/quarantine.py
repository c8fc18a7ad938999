"""The quarantine: what was set aside and why, and its second chance through a layout that was mended."""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import timeframe, utc_now
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, COVERAGE, FACTS, QUARANTINE, RESOLUTIONS, RUNS, Table

from backsight_ingest.accounts import Account, account_row
from backsight_ingest.dumps import facts
from backsight_ingest.layout import Layout
from backsight_ingest.layouts import load
from backsight_ingest.live import coverage
from backsight_ingest.objects import cells

VERB: Final = "quarantine replay"

DUMPS: Final = "dump:"
"""How the names of jobs that read files begin."""

_QUOTED: Final = "'[^']*'"
_LIVE: Final = coverage.app("")


def dump_job(layout: str) -> pl.Expr:
    """Return the name under which files count as a job, given the column with their layout."""
    return pl.concat_str(pl.lit(DUMPS), layout)


def waiting(lake: Lake) -> pl.LazyFrame:
    """Return the quarantined rows that were not resolved since, unordered, and in ``job`` whose they are."""
    resolved = lake.scan(RESOLUTIONS).select("batch", "row")
    live = pl.col("batch").str.starts_with(_LIVE)
    return (
        lake.scan(QUARANTINE)
        .join(resolved, on=["batch", "row"], how="anti")
        .with_columns(job=pl.when(live).then("origin").otherwise(dump_job("layout")))
    )


def counts(lake: Lake) -> pl.DataFrame:
    """Return how many rows wait, by job, layout and reason, the commonest first.

    Returns
    -------
    pl.DataFrame
        ``job``, ``layout``, ``reason`` (with what was quoted left out, so that like is counted with like) and ``rows``.
    """
    reason = pl.col("reason").str.replace_all(_QUOTED, "'…'")
    return (
        waiting(lake)
        .group_by("job", "layout", reason.alias("reason"))
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort(["rows", "job", "layout", "reason"], descending=[True, False, False, False])
        .collect()
    )


def replay(
    lake: Lake,
    *,
    now: datetime,
    layout: str | None = None,
    wanted: Callable[[str], bool] = lambda job: True,
    rows_at_once: int = 100_000,
) -> Iterator[Account]:
    """Read what waits once more, through its layout as it is now; what passes goes to the lake.

    Rows are read as of when they were set aside: a bar that was not finished then has not become one by waiting.

    Parameters
    ----------
    lake : Lake
        Whose quarantine.
    now : datetime
        Becomes ``ingested_at``.
    layout : str, optional
        Read through this one instead of the one that each row was set aside by; only rows of its kind.
    wanted : callable
        Whether the rows of a job are read, by name.
    rows_at_once : int
        Rows that are held at a time.

    Yields
    ------
    Account
        A file or live job each; what stays in quarantine counts as quarantined.

    Raises
    ------
    BadInput
        If the layout named does not exist or is wrong.
    """
    instead = None if layout is None else load(layout)
    rows = waiting(lake)
    if instead is not None:
        rows = rows.filter(pl.col("kind") == instead.kind)
    for batch, parts in _batches(rows, wanted, rows_at_once):
        started = utc_now()
        done = [_replayed(lake, batch, part, instead, now) for part in parts]
        read_by, account = done[0][0], _together([account for _, account in done])
        # One file may wait under several layouts, so each account is a run of its own.
        lake.append(RUNS, account_row(account, VERB, read_by, uuid.uuid4().hex[:12], started), now=now)
        yield account


def _batches(
    rows: pl.LazyFrame, wanted: Callable[[str], bool], at_once: int
) -> Iterator[tuple[str, Iterable[pl.DataFrame]]]:
    """Yield batches, the first set aside first, and their rows; no more than ``at_once`` are held."""
    sizes = rows.group_by("batch", "job").agg(pl.len(), pl.col("ingested_at").min()).sort("ingested_at", "batch")
    small: list[str] = []
    held = 0
    for batch, job, size, _ in sizes.collect().iter_rows():
        if not wanted(job):
            continue
        if held + size > at_once:
            yield from _held(rows, small)
            small, held = [], 0
        if size > at_once:
            yield batch, rows.filter(pl.col("batch") == batch).collect_batches(chunk_size=at_once)
        else:
            small.append(batch)
            held += size
    yield from _held(rows, small)


def _held(rows: pl.LazyFrame, batches: Sequence[str]) -> Iterator[tuple[str, Iterable[pl.DataFrame]]]:
    if not batches:
        return
    parts = rows.filter(pl.col("batch").is_in(batches)).sort("row").collect().partition_by("batch", as_dict=True)
    yield from ((batch, [parts[batch,]]) for batch in batches)


def _together(accounts: Sequence[Account]) -> Account:
    """Return one account of the parts of a batch."""
    sums = {
        name: sum(getattr(account, name) for account in accounts)
        for name in ("read", "accepted", "duplicate", "quarantined")
    }
    return replace(accounts[0], **sums)


def _replayed(lake: Lake, batch: str, part: pl.DataFrame, instead: Layout | None, now: datetime) -> tuple[str, Account]:
    """Return the name of the layout that rows of a batch were read through, and their account."""
    origin, table = part["origin"][0].partition("!")[0], FACTS[part["kind"][0]]
    name = part["layout"][0] if instead is None else instead.name
    try:
        passed = _passed(part, instead or load(name))
        if batch.startswith(_LIVE):
            passed = _not_before_seen(lake, table, origin, passed)
    except BadInput as error:
        return name, Account(origin=origin, status="failed", read=part.height, quarantined=part.height, error=error)
    written = lake.append(table, passed, now=now)
    outcome = pl.when(_accepted(lake, table, passed, now)).then(pl.lit("accepted")).otherwise(pl.lit("duplicate"))
    lake.append(RESOLUTIONS, passed.select(batch=pl.lit(batch), row="@fact", outcome=outcome), now=now)
    return name, Account(
        origin=origin,
        status="ok",
        read=part.height,
        accepted=written.accepted,
        duplicate=written.duplicate,
        quarantined=part.height - passed.height,
    )


def _passed(part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the facts that the rows of a batch hold, as far as they can be read, and when each was set aside."""
    found = [layout.table.empty().drop("ingested_at").with_columns(pl.lit(0, pl.Int64).alias("@fact")).clear()]
    for latest, settings, rows in _alike(part, layout):
        try:
            read = facts(layout, rows, json.loads(settings), now=latest)
        except Drifted:  # the layout still does not know these columns: the rows stay
            continue
        found.append(read.good)
    # Each row waits for one fact of its own, whatever else its text holds.
    aside = part.select(pl.col("row").alias("@fact"), aside="ingested_at")
    passed = pl.concat(found).join(aside, on="@fact").sort("@fact")
    return passed.filter(pl.col("observed_at") <= pl.col("aside"))


def _alike(part: pl.DataFrame, layout: Layout) -> Iterator[tuple[datetime, str, pl.DataFrame]]:
    """Yield rows that can be read together: set aside as cells, with the same settings and columns.

    With them comes when the last of them was set aside; they were all at once where the layout makes clocks of that.
    """
    parsed = [cells(text) for text in part["original"]]
    heads: dict[tuple[str, ...], int] = {}
    head = [None if found is None else heads.setdefault(tuple(found), len(heads)) for found in parsed]
    names = list(heads)
    numbered = part.select(
        "ingested_at",
        "settings",
        "origin",
        pl.Series("head", head, pl.UInt32),
        ((pl.col("row") - 1) // len(layout.versions) + 1).alias("@row"),
    ).with_row_index("position")
    alike = ["settings", "head", *(["ingested_at"] if _tells_time(layout) else [])]
    for (settings, number, *_), same in numbered.drop_nulls("head").group_by(alike, maintain_order=True):
        records = [parsed[position] for position in same["position"]]
        columns = {name: [record[name] for record in records if record] for name in names[int(str(number))]}
        texts = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
        clocks = same.select("@row", pl.col("origin").alias("@origin"))
        latest = same["ingested_at"].max()
        assert isinstance(latest, datetime)
        yield latest, str(settings), pl.concat([texts, clocks], how="horizontal")


def _tells_time(layout: Layout) -> bool:
    """Return whether the instant of reading gets into facts: by a rule, or in place of a text's stamp that is later."""
    rules = (layout.available, *layout.published.values())
    return layout.kind in ("news", "posts") or any(rule.base == "now" for rule in rules)


def _not_before_seen(lake: Lake, table: Table, job: str, passed: pl.DataFrame) -> pl.DataFrame:
    """Return the facts as those of a live job; what had been missing is known from when it was set aside.

    What a source did not give when first asked nobody can have had, whatever the rule of its layout says.
    """
    asked = lake.scan(COVERAGE).filter(pl.col("job") == job).collect()
    # A bar belongs to the span of time that it is made of.
    length = timeframe(passed["timeframe"][0]) if table is BARS and passed.height else timedelta(0)
    first_asked = coverage.first_missed(asked, (passed["observed_at"] - length).dt.epoch("us"))
    late = (pl.lit(first_asked) < pl.col("aside")).fill_null(False)
    return passed.with_columns(
        available_at=pl.when(late).then(pl.max_horizontal("available_at", "aside")).otherwise("available_at"),
        available_at_estimated=pl.col("available_at_estimated") & ~late,
        source=pl.col("source").str.replace("^dump:", _LIVE),
    )


def _accepted(lake: Lake, table: Table, passed: pl.DataFrame, now: datetime) -> pl.Series:
    """Return which rows the lake took: those that say what it took at ``now``, each thing once."""
    says = [*table.key, *table.content]
    taken = lake.scan(table).filter(pl.col("ingested_at") == now).select(says).unique().collect()
    marked = passed.join(
        taken.with_columns(taken=pl.lit(True)), on=says, how="left", nulls_equal=True, maintain_order="left"
    )
    first = passed.select(pl.struct(says).is_first_distinct()).to_series()
    return marked["taken"].fill_null(False) & first
