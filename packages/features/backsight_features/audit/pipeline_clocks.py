"""Clocks that cannot be right: facts that say they were known before they could be."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import polars as pl

from backsight_features.audit.findings import Finding, Severity
from backsight_features.bars import BarSeries
from backsight_features.clocks import timeframe
from backsight_features.schemas import BARS, BOOKS, FACTS, MACRO, NEWS, POSTS, SCORES, Table
from backsight_features.snapshot import Facts

_DAY: Final = timedelta(days=1)
_FEWEST: Final = 20
"""Facts that make a habit."""

_PAIRS: Final = 30
_AGREE: Final = 1e-9
_DUMP: Final = "dump:"


def impossible(facts: Facts) -> Iterator[Finding]:
    """Yield facts that were available before what they are about had happened: the first of each table and source."""
    for table in FACTS.values():
        early = pl.col("available_at") < pl.col("observed_at")
        yield from _first(
            facts.scan(table).filter(early),
            table,
            check="known-before-it-happened",
            said="{rows} facts of {source} are available before what they are about had happened",
            right="available_at is never before observed_at",
        )


def dates_for_instants(facts: Facts) -> Iterator[Finding]:
    """Yield sources whose stamps are dates without a time that count from within their day, without being sighted."""
    for table in (NEWS, POSTS):
        day = pl.col("observed_at").dt.truncate("1d")
        midnight = pl.col("observed_at") == day
        unseen = pl.col("available_at_estimated") | (pl.col("available_at") == day)
        early = unseen & (pl.col("available_at") < pl.col("observed_at") + _DAY)
        rows = facts.scan(table).group_by("source").agg(all=pl.len(), early=(midnight & early).sum()).collect()
        habit = rows.filter(pl.col("early") >= _FEWEST, pl.col("early") * 5 >= pl.col("all"))["source"]
        yield from _first(
            facts.scan(table).filter(midnight & early, pl.col("source").is_in(habit.implode())),
            table,
            check="date-only",
            said="{rows} facts of {source} bear a date without a time and count from within that very day",
            right="what bears only a date counts from the end of its day (day_end in the layout)",
        )
    habit = (
        facts.scan(MACRO)
        .group_by("source")
        .agg(all=pl.len(), early=(pl.col("available_at") <= pl.col("observed_at")).sum())
        .filter(pl.col("early") * 5 >= pl.col("all"))
        .collect()["source"]
    )
    yield from _first(
        facts.scan(MACRO).filter(
            pl.col("available_at") == pl.col("observed_at"), pl.col("source").is_in(habit.implode())
        ),
        MACRO,
        check="unreleased-macro",
        said="{rows} numbers of {source} are available at the very beginning of the period that they are about",
        right="a number is available from its release on, after its period (a lag, or the vintages, in the layout)",
    )


def backfilled(facts: Facts) -> Iterator[Finding]:
    """Yield facts that were written long after they claim to have been sighted, and are neither estimated nor a dump.

    Macro vintages are dated by their publisher, and scores by their text; news may have been sighted by an archive, so
    of these it is a warning.
    """
    for table in FACTS.values():
        if table in (MACRO, SCORES):
            continue
        late = pl.col("ingested_at") - pl.col("available_at") > _DAY
        claim = ~pl.col("available_at_estimated") & ~pl.col("source").str.starts_with(_DUMP)
        yield from _first(
            facts.scan(table).filter(late & claim),
            table,
            check="backfilled",
            said="{rows} facts of {source} were written more than a day after they say that they were sighted",
            right="what is filled in later is available from when it came, or is marked as estimated",
            severity="warning" if table is NEWS else "error",
        )


def bars_at_open(facts: Facts, series: BarSeries) -> Iterator[Finding]:
    """Yield a finding where the bars of a series are stamped with their open.

    That shows where something else was seen at the same instants: bars of another length, or order books. At a bar's
    own stamp their price must be the one that the bar closed with, not the one that the bar before did. Bars that were
    sighted, and none of them within a bar's length of its stamp, are a warning.
    """
    bars = (
        facts.scan(BARS)
        .filter(pl.col("symbol") == series.symbol, pl.col("venue") == series.venue)
        .select("timeframe", "observed_at", "available_at", "available_at_estimated", "close")
        .sort("available_at")
        .unique(["timeframe", "observed_at"], keep="last", maintain_order=True)
    )
    own = bars.filter(pl.col("timeframe") == series.timeframe).drop("timeframe")
    others = [name for name in bars.select("timeframe").unique().collect()["timeframe"] if name != series.timeframe]
    for name in sorted(others):
        if timeframe(name) > series.grid.step:
            seen = bars.filter(pl.col("timeframe") == name).select("observed_at", price="close").collect()
            yield from _shifted(own.collect(), seen, series, f"the {name} bars")
    books = facts.scan(BOOKS).filter(pl.col("symbol") == series.symbol, pl.col("venue") == series.venue)
    middle = books.select("observed_at", price=(pl.col("bid") + pl.col("ask")) / 2).collect()
    yield from _shifted(own.collect(), middle, series, "the order books")
    yield from _never_in_time(bars.filter(pl.col("timeframe") == series.timeframe), series)


def _shifted(own: pl.DataFrame, seen: pl.DataFrame, series: BarSeries, what: str) -> Iterator[Finding]:
    """Yield a finding where prices seen at an instant are those of the bar that is stamped one bar earlier."""
    step = series.grid.step
    stamped = own.join(seen, on="observed_at")
    earlier = own.with_columns(pl.col("observed_at") + step).join(seen, on="observed_at")
    both = stamped.join(earlier.select("observed_at", before="close"), on="observed_at")
    if both.height < _PAIRS:
        return
    off, shifted = (
        both.select((pl.col("price") / pl.col(name)).log().abs().median()).item() for name in ("close", "before")
    )
    if off > _AGREE and shifted < off / 4:
        row = both.sort("observed_at").row(0, named=True)
        yield Finding(
            check="bars-at-open",
            name=str(series),
            where="bars",
            instant=row["observed_at"],
            datum=f"close {row['close']} of the bar stamped {row['observed_at']:%Y-%m-%d %H:%M}; {what} say "
            f"{row['price']} then, and the bar stamped one earlier {row['before']}",
            said=f"the bars are stamped with their open: {what} agree with the bar that is stamped one earlier "
            f"({shifted:.2g} off against {off:.2g})",
            right="observed_at is the close of a bar (observed.bar in the layout)",
        )


def _never_in_time(bars: pl.LazyFrame, series: BarSeries) -> Iterator[Finding]:
    """Yield a warning where many bars were sighted and each of them a whole bar after its stamp, or later."""
    sighted = bars.filter(~pl.col("available_at_estimated")).select("observed_at", "available_at", "close").collect()
    lag = (sighted["available_at"] - sighted["observed_at"]).min()
    if sighted.height >= _PAIRS and isinstance(lag, timedelta) and series.grid.step <= lag < 2 * series.grid.step:
        stamped, seen = sighted.sort("observed_at").row(0)[:2]
        yield Finding(
            check="bars-at-open",
            name=str(series),
            where="bars",
            instant=stamped,
            datum=f"the bar stamped {stamped:%Y-%m-%d %H:%M} was sighted {seen:%Y-%m-%d %H:%M:%S}",
            said=f"of {sighted.height:,} bars that were sighted none was before {lag} after its stamp",
            right="observed_at is the close of a bar, and a bar can be sighted soon after it",
            severity="warning",
        )


def _first(
    rows: pl.LazyFrame, table: Table, *, check: str, said: str, right: str, severity: Severity = "error"
) -> Iterator[Finding]:
    """Yield a finding for each source, with its first fact."""
    found = (
        rows.sort("available_at", *table.key, nulls_last=True)
        .group_by("source", maintain_order=True)
        .agg(pl.len().alias("rows"), *(pl.col(name).first() for name in _shown(table)))
        .collect()
    )
    for row in found.iter_rows(named=True):
        yield Finding(
            check=check,
            name=row["source"],
            where=table.name,
            instant=row["available_at"],
            datum=worded(table, row),
            said=said.format(rows=f"{row['rows']:,}", source=row["source"]),
            right=right,
            severity=severity,
        )


def worded(table: Table, row: dict[str, object]) -> str:
    """Return a fact in words: its table, key and clocks."""
    key = ", ".join(f"{name} {row[name]}" for name in table.key if name != "observed_at")
    clocks = ", ".join(
        f"{name} {row[name]:%Y-%m-%d %H:%M:%S}" for name in ("observed_at", "available_at", "ingested_at")
    )
    return f"{table.name}: {key}; {clocks}"


def _shown(table: Table) -> list[str]:
    return list(dict.fromkeys([*table.key, "observed_at", "available_at", "ingested_at"]))
