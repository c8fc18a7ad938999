"""The bars behind a market feature, and those that make the row of any feature."""

from datetime import datetime

import polars as pl

from backsight_features import bars
from backsight_features.bars import BarSeries
from backsight_features.behind.facts import PASSED, READ, ROW, Behind, after, raw, stamp, told
from backsight_features.feature import Feature
from backsight_features.schemas import BARS
from backsight_features.snapshot import Facts


def behind(facts: Facts, series: BarSeries, feature: Feature, at: datetime, asked: datetime) -> Behind:
    """Return the bars behind a market feature at the instant of a row.

    Parameters
    ----------
    facts : Facts
        The lake.
    series : BarSeries
        Whose row.
    feature : Feature
        Which of `market.features`.
    at : datetime
        ``available_at`` of the row.
    asked : datetime
        The instant that was asked for, not before the row's.
    """
    step, lookback = series.grid.step, feature.lookback
    assert lookback is not None
    newest = newest_close(facts, series, at)
    oldest = newest - lookback
    near = pl.col("observed_at").is_between(oldest - step, max(newest, asked) + step) | (pl.col("available_at") == at)
    rows = _own(facts, series).filter(near).collect()
    slots = series.grid.slots(lookback)
    seen = (pl.col("available_at") <= at) & pl.col("on_grid")
    outside = pl.lit(f"outside the lookback of {slots} bars")
    marked = (
        rows.with_columns(on_grid=pl.col("observed_at").is_in(bars.on_grid(rows, series.grid)["observed_at"].implode()))
        .sort("observed_at", *bars.ARRIVAL)
        .with_columns(
            counts=seen
            & (pl.int_range(pl.len()) == pl.when(seen).then(pl.int_range(pl.len())).max()).over("observed_at"),
            winner=pl.col("available_at").filter(seen).max().over("observed_at"),
        )
        .with_columns(
            reason=pl.when(~pl.col("on_grid"))
            .then(pl.lit(f"does not close on the {series.timeframe} grid of UTC"))
            .when(pl.col("available_at") > at)
            .then(after(at, asked))
            .when((pl.col("observed_at") < oldest) & (pl.col("available_at") == at))
            .then(pl.lit("makes the row; ") + outside)
            .when(pl.col("observed_at") < oldest)
            .then(outside)
            .when(~pl.col("counts"))
            .then(pl.format("superseded by the version available {}", stamp(pl.col("winner"))))
            .otherwise(pl.lit("the newest version of its bar")),
            part=pl.when(~seen)
            .then(pl.lit(PASSED))
            .when((pl.col("observed_at") >= oldest) & pl.col("counts"))
            .then(pl.lit(READ))
            .when(pl.col("available_at") == at)
            .then(pl.lit(ROW))
            .otherwise(pl.lit(PASSED)),
        )
        .sort("observed_at", "available_at", "ingested_at")
    )
    return Behind(listed=_listed(marked, feature.reads), read={BARS.name: raw(marked, rows)})


def making(facts: Facts, series: BarSeries, at: datetime) -> Behind:
    """Return the bars that make the row of an instant, whatever is read for its value."""
    rows = bars.on_grid(_own(facts, series).filter(pl.col("available_at") == at).collect(), series.grid)
    marked = rows.with_columns(part=pl.lit(ROW), reason=pl.lit("makes the row: the value is that of its instant"))
    return Behind(listed=_listed(marked, ("close",)), read={BARS.name: rows})


def newest_close(facts: Facts, series: BarSeries, at: datetime) -> datetime:
    """Return the newest close on the grid that was known at the instant of a row."""
    known = _own(facts, series).filter(pl.col("available_at") <= at).select("observed_at").collect()
    newest: datetime = bars.on_grid(known, series.grid)["observed_at"].max()  # type: ignore[assignment]
    return newest


def _own(facts: Facts, series: BarSeries) -> pl.LazyFrame:
    return facts.scan(BARS).filter(
        pl.col("venue") == series.venue, pl.col("symbol") == series.symbol, pl.col("timeframe") == series.timeframe
    )


def _listed(marked: pl.DataFrame, reads: tuple[str, ...]) -> pl.DataFrame:
    fact = pl.format("bar {}:{}:{} closing {}", "venue", "symbol", "timeframe", stamp(pl.col("observed_at")))
    values = [pl.format(f"{name} {{}}", pl.col(name)) for name in reads if name != "observed_at"]
    return told(
        marked, BARS.name, fact, pl.concat_str(values, separator=", ", ignore_nulls=True) if values else pl.lit("")
    )
