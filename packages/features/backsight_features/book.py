"""Order-book features: how the book of a market looked over the last bar, evaluated on the bar grid.

A look at a book counts from when it was *known* and is about when it was *taken*. At an instant those taken within one
bar before it count, as far as they were known by then, each in its newest version known. So a look that comes in hours
late is none of the present, and nothing is carried forward: without a look within the last bar the book is unknown,
and only its age is told.

Each window is summed on its own, look by look in the order of time, so that a slice of the instants gets what all
instants get, to the last bit.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backsight_features.bars import BarSeries
from backsight_features.books import imbalance, spread_bp
from backsight_features.clocks import timeframe
from backsight_features.feature import Feature
from backsight_features.rolling import FloatArray, IntArray
from backsight_features.schemas import BOOKS
from backsight_features.snapshot import Facts
from backsight_features.spans import FOREVER, Span, between

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR_US: Final = 3_600_000_000

_READ: Final = ("bid", "ask", "bid_depth", "ask_depth")
ARRIVAL: Final = ("available_at", "ingested_at", *_READ)
"""Orders the versions of a look; the values make the order a total one."""

_PRICES: Final = ("bid", "ask")
_DEPTHS: Final = ("bid_depth", "ask_depth")
_TAKEN: Final = ("observed_at",)


def features(bar: str) -> tuple[Feature, ...]:
    """Return the order-book features on the grid of bars of one length, ``1h``; windows are named after it."""
    step = timeframe(bar)

    def feature(name: str, description: str, unit: str, reads: tuple[str, ...], lookback: timedelta) -> Feature:
        return Feature(
            name=f"book_{name}", description=description, unit=unit, reads=reads, lookback=lookback, max_age=2 * step
        )

    spread, side = "10000 (ask - bid) / middle", "(bid depth - ask depth) / both"
    return (
        feature("spread_last", f"{spread} at the newest look of the last bar", "basis points", _PRICES, step),
        feature(
            f"spread_mean_{bar}",
            f"mean of {spread} over the looks of the last bar",
            "basis points",
            _PRICES,
            step,
        ),
        feature("imbalance_last", f"{side} at the newest look of the last bar", "-1 to 1", _DEPTHS, step),
        feature(f"imbalance_mean_{bar}", f"mean of {side} over the looks of the last bar", "-1 to 1", _DEPTHS, step),
        feature(
            f"imbalance_std_{bar}",
            f"standard deviation of {side} over the looks of the last bar; two at least",
            "0 to 1",
            _DEPTHS,
            step,
        ),
        feature(
            f"count_{bar}",
            "ln(1 + looks of the last bar); null where the age is",
            "ln count",
            _TAKEN,
            silence(step),
        ),
        feature(
            "age_h",
            f"hours since the newest look was taken; null from {silence(step) // timedelta(hours=1)} h on",
            "hours",
            _TAKEN,
            silence(step),
        ),
    )


def wanted(name: str, newest: pl.Expr, lately: pl.Expr) -> pl.Expr:
    """Return which of the looks that were known a feature is made of.

    Parameters
    ----------
    name : str
        One of the `features`.
    newest, lately : pl.Expr of Boolean
        Whether a look is the newest one, and whether it was taken within the last bar.
    """
    if name.endswith("_last"):
        return newest & lately
    if name.startswith("book_count_"):
        return newest | lately
    return newest if name == "book_age_h" else lately


def silence(step: timedelta) -> timedelta:
    """Return how long after the last look nobody is taken to look at the book any more: a day, or a longer bar."""
    return max(_DAY, step)


def of(facts: pl.LazyFrame, series: BarSeries) -> pl.LazyFrame:
    """Return the looks at the market of a bar series, at its venue: all their versions, unordered."""
    own = (pl.col("venue") == series.venue, pl.col("symbol") == series.symbol)
    return facts.filter(*own).select("observed_at", *ARRIVAL)


def needed(facts: Facts, series: BarSeries, first: datetime, last: datetime) -> pl.DataFrame:
    """Return the looks that decide what is known from a first instant to a last: enough for `book`."""
    taken = pl.col("observed_at").is_between(first - silence(series.grid.step), last, closed="right")
    return of(facts.scan(BOOKS), series).filter(taken, pl.col("available_at") <= last).collect()


def absent(facts: Facts, wanted: Sequence[BarSeries]) -> list[str]:
    """Return of which series there is no look at the book: ``venue:symbol``, each once."""
    missing = [one for one in wanted if of(facts.scan(BOOKS), one).head(1).collect().is_empty()]
    return list(dict.fromkeys(f"{one.venue}:{one.symbol}" for one in missing))


def affected(new: pl.DataFrame, step: timedelta) -> list[Span]:
    """Return the spans of instants at which the book may be another one with new looks than without.

    A look counts from when it was known until it is out of all windows: one that comes in later than that changes
    nothing.

    Parameters
    ----------
    new : pl.DataFrame
        Versions that came in: ``observed_at``, ``available_at``.
    step : timedelta
        Length of a bar.
    """
    counting = (
        new.select(since="available_at", until=pl.col("observed_at") + silence(step))
        .filter(pl.col("since") < pl.col("until"))
        # Of a minute each there would be a span for every look.
        .group_by(pl.col("since").dt.truncate("1h"))
        .agg(pl.col("since").min().alias("start"), pl.col("until").max())
    )
    return between(counting["start"].dt.epoch("us").to_numpy(), counting["until"].dt.epoch("us").to_numpy())


def book(looks: pl.DataFrame, at: pl.Series, bar: str) -> pl.DataFrame:
    """Return the order-book features at given instants.

    Parameters
    ----------
    looks : pl.DataFrame
        All versions of the looks at one market, as `of` returns them, or those that are `needed`; in any order.
    at : pl.Series of shape (n,)
        UTC instants, ascending.
    bar : str
        Length of a bar, ``1h``.

    Returns
    -------
    pl.DataFrame
        n rows of Float32, null where undefined.

    Examples
    --------
    >>> from backsight_features.clocks import parse_instant
    >>> when = [parse_instant(f"2024-03-01T09:{minute}:00Z") for minute in (10, 50)]
    >>> looks = pl.DataFrame(
    ...     {
    ...         "observed_at": when,
    ...         "available_at": when,
    ...         "ingested_at": when,
    ...         "bid": [99.0, 98.0],
    ...         "ask": [101.0, 102.0],
    ...         "bid_depth": [3.0, 1.0],
    ...         "ask_depth": [1.0, 1.0],
    ...     }
    ... )
    >>> book(looks, pl.Series([parse_instant("2024-03-01T10:00:00Z")]), "1h").row(0)[:4]
    (400.0, 300.0, 0.0, 0.25)
    """
    step = timeframe(bar)
    ordered = looks.sort("observed_at", *ARRIVAL).with_columns(spread_bp(), imbalance())
    taken, known = (ordered[name].dt.epoch("us").to_numpy() for name in ("observed_at", "available_at"))
    instants = at.dt.epoch("us").to_numpy()
    row, look = _seen(taken, known, instants, step // _MICROSECOND)
    spread, side = (ordered[name].fill_null(np.nan).to_numpy()[look] for name in ("spread_bp", "imbalance"))
    spread_mean, _ = _moments(row, spread, instants.size)
    side_mean, side_std = _moments(row, side, instants.size)
    age = (instants - _newest(taken, known, instants)) / _HOUR_US
    looked_at = age < silence(step) / timedelta(hours=1)
    count = np.log1p(np.bincount(row, minlength=instants.size))
    columns = {
        "book_spread_last": _last(row, spread, instants.size),
        f"book_spread_mean_{bar}": spread_mean,
        "book_imbalance_last": _last(row, side, instants.size),
        f"book_imbalance_mean_{bar}": side_mean,
        f"book_imbalance_std_{bar}": side_std,
        f"book_count_{bar}": np.where(looked_at, count, np.nan),
        "book_age_h": np.where(looked_at, age, np.nan),
    }
    return pl.DataFrame({name: pl.Series(values.astype(np.float32)) for name, values in columns.items()}).select(
        pl.when(pl.all().is_finite()).then(pl.all())
    )


def _seen(taken: IntArray, known: IntArray, instants: IntArray, width: int) -> tuple[IntArray, IntArray]:
    """Return instants and the looks that count at them as pairs of positions, by instant, then by when it was taken.

    Parameters
    ----------
    taken, known : IntArray of shape (m,)
        Of the versions of looks, in microseconds; by look, then by arrival.
    instants : IntArray of shape (n,)
        Ascending.
    width : int
        How long after it was taken a look counts.
    """
    # A version counts until the next one of the same look is known.
    next_known = np.append(np.where(taken[1:] == taken[:-1], known[1:], FOREVER), FOREVER)[: taken.size]
    first = np.searchsorted(instants, known, side="left")
    stop = np.searchsorted(instants, np.minimum(taken + width, next_known), side="left")
    times = np.maximum(stop - first, 0)
    look = np.repeat(np.arange(taken.size), times)
    row = np.arange(look.size) - np.repeat(np.cumsum(times) - times - first, times)
    order = np.argsort(row, kind="stable")
    return row[order], look[order]


def _begins(row: IntArray) -> IntArray:
    """Return where the pairs of each instant begin."""
    return np.flatnonzero(np.diff(row, prepend=-1))


def _last(row: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Return the value of the newest look at each instant, NaN where there is none."""
    last = np.full(size, np.nan)
    # Of one position it is the last value that stays.
    last[row] = values
    return last


def _moments(row: IntArray, values: FloatArray, size: int) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of the values that are there at each instant, NaN below one and two."""
    there = ~np.isnan(values)
    row, values = row[there], values[there]
    begins = _begins(row)
    mean, deviation = np.full((2, size), np.nan)
    if not begins.size:
        return mean, deviation
    count = np.diff(np.append(begins, row.size))
    # From the first one, so that values that are all alike have that mean and deviate by exactly 0.
    moved = values - np.repeat(values[begins], count)
    shift = np.add.reduceat(moved, begins) / count
    square = np.add.reduceat((moved - np.repeat(shift, count)) ** 2, begins) / count
    mean[row[begins]] = values[begins] + shift
    deviation[row[begins]] = np.where(count > 1, np.sqrt(square), np.nan)
    return mean, deviation


def _newest(taken: IntArray, known: IntArray, instants: IntArray) -> FloatArray:
    """Return when the newest look known at each instant was taken, NaN before the first."""
    order = np.argsort(known, kind="stable")
    newest = np.append(np.nan, np.maximum.accumulate(taken[order].astype(np.float64)))
    return newest[np.searchsorted(known[order], instants, side="right")]


FEATURES: Final = features("1h")
"""The order-book features on the grid of hourly bars."""
