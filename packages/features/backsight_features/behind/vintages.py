"""The vintages behind a macro feature."""

from datetime import datetime

import numpy as np
import polars as pl

from backsight_features import macro
from backsight_features.behind.facts import PASSED, READ, Behind, after, raw, stamp, told
from backsight_features.clocks import to_us
from backsight_features.feature import Feature
from backsight_features.macro import REACH, STALE_AFTER, UNITS, Reading, States
from backsight_features.schemas import MACRO
from backsight_features.snapshot import Facts
from backsight_features.vintages import NEVER, number


def behind(facts: Facts, feature: Feature, at: datetime, asked: datetime) -> Behind:
    """Return the vintages behind a macro feature at the instant of a row; arguments as in `behind.bars.behind`."""
    series = macro.reading(feature.name, "lin").series
    rows = facts.scan(MACRO).filter(pl.col("series") == series.id, pl.col("units").is_in(UNITS)).collect()
    states = States.of(rows, series)
    now = np.array([to_us(at)])
    levels, changes = (int(releases.at(now).period[0]) for releases in (states.levels, states.changes))
    units = "pch" if changes > levels else "lin"
    newest = max(levels, changes)
    numbered = rows.with_columns(period=number(series.period)).sort("period", "available_at", "ingested_at", "value")
    own = _marked(
        numbered.filter(pl.col("units") == units), macro.reading(feature.name, units), feature, newest, at, asked
    )
    newer = "has the newer period" if changes != levels else "goes first where both are as new"
    other = (
        numbered.filter(pl.col("units") != units, pl.col("available_at") <= asked)
        .filter(pl.col("period") >= newest - 1)
        .with_columns(part=pl.lit(PASSED), reason=pl.lit(f"what is published as {units} is read: it {newer}"))
    )
    marked = pl.concat([own, other.select(own.columns)])
    notes = []
    if newest == NEVER:
        notes.append(f"no number of {series.id} was known")
    elif not feature.name.endswith("_age_d"):
        days = STALE_AFTER[series.period].days
        notes.append(f"null once the newest period was first published more than {days} days ago")
    fact = pl.format("{} of {}", "series", pl.col("observed_at").dt.strftime("%Y-%m-%d"))
    says = pl.format("{} {}", "units", pl.col("value").cast(pl.String).fill_null("not published"))
    return Behind(
        listed=told(marked, MACRO.name, fact, says), read={MACRO.name: raw(marked, rows, [READ])}, notes=notes
    )


def _marked(
    ordered: pl.DataFrame, reading: Reading, feature: Feature, newest: int, at: datetime, asked: datetime
) -> pl.DataFrame:
    """Return vintages in one unit with their parts; of other periods those beside one that is read, and newer ones."""
    seen = pl.col("available_at") <= at
    known = ordered.with_row_index("place").with_columns(
        counts=seen & (pl.col("place") == pl.col("place").filter(seen).max().over("period")),
        winner=pl.col("available_at").filter(seen).max().over("period"),
    )
    winners = known.filter("counts")
    periods = _periods(winners, reading, newest)
    first = known.filter(seen, pl.col("period") == newest, pl.col("value").is_not_null())["place"].min()
    wanted = pl.col("period").is_in(periods)
    near = pl.col("period").is_in([period + lag for period in periods for lag in (-1, 0, 1)])
    if reading.past or not periods:
        wanted, near = pl.lit(reading.past), pl.lit(True)
    is_first = pl.col("place") == (-1 if first is None else first)
    read = seen & (is_first | (wanted & (pl.lit(reading.past) | pl.col("counts"))))
    return (
        known.filter(near | (pl.col("period") > newest) | is_first)
        .filter(seen | (pl.col("observed_at") <= asked))
        .with_columns(
            part=pl.when(read).then(pl.lit(READ)).otherwise(pl.lit(PASSED)),
            reason=pl.when(~seen)
            .then(after(at, asked))
            .when(is_first & ~pl.col("counts"))
            .then(pl.lit("the first publication of the newest period: sets its age"))
            .when(wanted & pl.col("counts"))
            .then(pl.lit("the newest vintage of its period"))
            .when(pl.lit(reading.past))
            .then(pl.lit("judged a surprise of its time"))
            .when(pl.col("counts") & pl.col("value").is_null() & (pl.col("period") > newest))
            .then(pl.lit("published as missing: the newest period that has a number is read"))
            .when(~pl.col("counts"))
            .then(pl.format("superseded by the vintage available {}", stamp(pl.col("winner"))))
            .otherwise(pl.lit(f"of another period than {feature.name} reads")),
        )
        .drop("place", "counts", "winner")
    )


def _periods(winners: pl.DataFrame, reading: Reading, newest: int) -> list[int]:
    """Return the numbers of the periods whose newest vintage is read."""
    if newest == NEVER:
        return []
    published = winners["period"].max()
    numbered = winners.filter(pl.col("value").is_not_null()).sort("period", descending=True)["period"]
    reach = numbered.filter(numbered > published - REACH[reading.series.period])  # type: ignore[operator]
    back = [newest - lag for lag in reading.back]
    there = set(numbered)
    ago = back if reading.every else [period for period in back if period in there][:1]
    return [*reach.head(reading.newest).to_list(), *ago]
