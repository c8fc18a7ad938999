"""The looks at a market's book behind an order-book feature."""

from datetime import datetime

import polars as pl

from backsight_features import book
from backsight_features.bars import BarSeries
from backsight_features.behind.facts import PASSED, READ, Behind, after, raw, stamp, told
from backsight_features.feature import Feature
from backsight_features.schemas import BOOKS
from backsight_features.snapshot import Facts


def behind(facts: Facts, series: BarSeries, feature: Feature, at: datetime, asked: datetime) -> Behind:
    """Return the looks behind an order-book feature at the instant of a row; arguments as in `behind.bars.behind`."""
    step = series.grid.step
    since = at - book.silence(step)
    rows = (
        facts.scan(BOOKS)
        .filter(pl.col("venue") == series.venue, pl.col("symbol") == series.symbol)
        .filter(pl.col("observed_at").is_between(since - step, asked))
        .collect()
    )
    seen = pl.col("available_at") <= at
    known = (
        rows.sort("observed_at", *book.ARRIVAL)
        .with_row_index("place")
        .with_columns(
            counts=seen & (pl.col("place") == pl.col("place").filter(seen).max().over("observed_at")),
            winner=pl.col("available_at").filter(seen).max().over("observed_at"),
            is_newest=pl.col("observed_at") == pl.col("observed_at").filter(seen, pl.col("observed_at") > since).max(),
        )
    )
    marked = _marked(known, feature, series, at, asked)
    return Behind(listed=_listed(marked, feature.reads), read={BOOKS.name: raw(marked, rows, [READ])})


def _marked(known: pl.DataFrame, feature: Feature, series: BarSeries, at: datetime, asked: datetime) -> pl.DataFrame:
    """Return looks with their parts; of those before the last bar the newest, and of the bar before."""
    lately = pl.col("observed_at") > at - series.grid.step
    newest = pl.col("is_newest").fill_null(False)
    wanted = book.wanted(feature.name, newest, lately)
    return (
        known.filter(newest | (pl.col("observed_at") > at - 2 * series.grid.step))
        .with_columns(
            part=pl.when(pl.col("counts") & wanted).then(pl.lit(READ)).otherwise(pl.lit(PASSED)),
            reason=pl.when(pl.col("available_at") > at)
            .then(after(at, asked))
            .when(~pl.col("counts"))
            .then(pl.format("superseded by the version available {}", stamp(pl.col("winner"))))
            .when(wanted & newest)
            .then(pl.lit("the newest look that was known"))
            .when(wanted)
            .then(pl.lit(f"a look of the last {series.timeframe}"))
            .when(lately)
            .then(pl.lit("an older look: the newest one is read"))
            .otherwise(pl.lit(f"taken {series.timeframe} or longer before the row")),
        )
        .sort("observed_at", "available_at", "ingested_at")
    )


def _listed(marked: pl.DataFrame, reads: tuple[str, ...]) -> pl.DataFrame:
    fact = pl.format("book {}:{} at {}", "venue", "symbol", stamp(pl.col("observed_at")))
    # Where it is the time alone that is read, the prices tell which look it is.
    shown = [name for name in reads if name != "observed_at"] or ["bid", "ask"]
    says = pl.concat_str([pl.format(f"{name} {{}}", name) for name in shown], separator=", ")
    return told(marked, BOOKS.name, fact, says)
