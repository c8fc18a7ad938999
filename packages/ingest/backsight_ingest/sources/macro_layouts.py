"""Which layout reads what of FRED: when a value was known is told by its vintage, by a rule, or by when it was seen.

A rule is only believed where nothing speaks against it. What the lake already holds may: a value that was not there
when the source was last asked, though by the rule it was out; and one that was another then.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

import polars as pl
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import MACRO

from backsight_ingest.dumps import facts
from backsight_ingest.layouts import load
from backsight_ingest.live.pull import SEEN_AT

VINTAGES: Final = "fred-live"
"""Published on the day of a vintage: at its end, or at 08:30 for the series that the layout names."""

ARCHIVE: Final = "fred-live-archive"
"""Held by the first vintage: published on its day or at any time before."""

RULE: Final = "fred-date-value"
"""Without a vintage: published as is usual for the series."""

SEEN: Final = "fred-live-seen"
"""Not out when a rule says so: known from when it was seen."""

NOTHING: Final[Mapping[str, pl.DataFrame]] = {
    layout: pl.DataFrame(schema=dict.fromkeys(cells, pl.String))
    for layout, cells in {
        VINTAGES: ("date", "realtime_start", "value"),
        ARCHIVE: ("date", "realtime_start", "value"),
        RULE: ("date", "value"),
        SEEN: ("date", "value", SEEN_AT),
    }.items()
}
"""No record of any layout."""

_STAMP: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"


def check_rule(variables: Mapping[str, str]) -> None:
    """Refuse a series without vintages of which nothing says when it is published.

    Raises
    ------
    BadInput
        If there is neither a rule nor a lag.
    """
    series = variables["series"]
    if series not in load(RULE).published and "lag" not in variables:
        raise BadInput(f"no rule says how long after its date {series} is published; give one like --lag 45d")


def dated_by_rule(
    values: pl.DataFrame, variables: Mapping[str, str], lake: Lake, *, asked: datetime | None, now: datetime
) -> dict[str, pl.DataFrame]:
    """Return the records of each layout for values without vintages.

    Parameters
    ----------
    values : pl.DataFrame
        ``date`` and ``value``, as text.
    variables : mapping of str to str
        ``series``, and ``lag`` for one without a rule.
    lake : Lake
        Holds what was there when the source was last asked.
    asked : datetime, optional
        When that was; None where it never was.
    now : datetime
        When the values were there.
    """
    stored = _stored(lake, variables["series"]).group_by("observed_at", maintain_order=True)
    newest = stored.agg(pl.col("stored").last(), told=pl.lit(True))
    read = _read(values, RULE, variables, now).join(newest, on="observed_at", how="left")
    changed = pl.col("value").ne_missing(pl.col("stored"))
    late = pl.lit(False) if asked is None else pl.col("available_at") <= asked
    seen = read.filter(pl.when(pl.col("told")).then(changed).otherwise(late))["@fact"] - 1
    seen_at = pl.lit(now).dt.strftime(_STAMP).alias(SEEN_AT)
    return {**NOTHING, RULE: _without(values, seen), SEEN: values[seen].with_columns(seen_at)}


def dated_by_vintage(
    published: pl.DataFrame, variables: Mapping[str, str], lake: Lake, *, first: date, now: datetime
) -> dict[str, pl.DataFrame]:
    """Return the records of each layout for what was published.

    A vintage holds the last of what came out on its day. What took the place of something else on that day was not
    out at 08:30: it is known from the end of the day.

    Parameters
    ----------
    published : pl.DataFrame
        ``date``, ``realtime_start`` and ``value``, as text.
    variables : mapping of str to str
        ``series``.
    lake : Lake
        Holds what was there before.
    first : date
        The first vintage of the series.
    now : datetime
        When the answer was there.
    """
    in_first = (published["realtime_start"] == str(first)).fill_null(False)
    later = published.filter(~in_first)
    split = {**NOTHING, ARCHIVE: published.filter(in_first), VINTAGES: later}
    stored = _stored(lake, variables["series"])
    if stored.is_empty():
        return split
    read = _read(later, VINTAGES, variables, now).join(stored, on=("observed_at", "available_at"), how="inner")
    replacing = read.filter(pl.col("value").ne_missing(pl.col("stored")))["@fact"] - 1
    if replacing.is_empty():
        return split
    ends = _read(later[replacing], ARCHIVE, variables, now)["available_at"].dt.strftime(_STAMP)
    seen = later[replacing].select("date", "value", ends.alias(SEEN_AT))
    return {**split, VINTAGES: _without(later, replacing), SEEN: seen}


def _stored(lake: Lake, series: str) -> pl.DataFrame:
    """Return what the lake holds of a series, in the order in which it was known."""
    rows = lake.scan(MACRO).filter(pl.col("series") == series, pl.col("units") == "lin")
    ordered = rows.sort("available_at", "ingested_at")
    return ordered.select("observed_at", "available_at", stored="value").collect()


def _read(records: pl.DataFrame, layout: str, variables: Mapping[str, str], now: datetime) -> pl.DataFrame:
    """Return the facts that a layout reads in records; ``@fact`` counts these from 1."""
    row = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("@row")
    return facts(load(layout), records.with_columns(row, pl.lit("").alias("@origin")), variables, now=now).good


def _without(records: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    return records.filter(~pl.int_range(pl.len()).is_in(rows.implode()))
