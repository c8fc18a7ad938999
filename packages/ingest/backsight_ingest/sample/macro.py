"""Macro series: monthly ones with their vintages, daily ones as last known, and the fear and greed index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from backsight_ingest.sample.draws import FloatArray, TimeArray, decayed, draws

HISTORY_DAYS: Final = 900
"""Days that the series reach back before the first hour."""

_NEW_YORK: Final = ZoneInfo("America/New_York")
_DAY: Final = np.timedelta64(1, "D")
_FOREVER: Final = np.datetime64("9999-12-31")


@dataclass(frozen=True, kw_only=True)
class Macro:
    """The series and what was new in them.

    Parameters
    ----------
    daily : dict of str to DataFrame
        Per series ``date`` and ``value``; a value is null on a holiday.
    vintages : DataFrame
        ``series_id``, ``date``, ``realtime_start``, ``realtime_end``, ``value_pct_change`` (percent on the month).
    shocks : DataFrame
        ``series_id``, ``known_at`` (UTC) and ``surprise`` (variance 1) of DGS10, CPIAUCSL and VIXCLS.
    revisions : int
        Vintages that change an earlier one.
    """

    daily: dict[str, pl.DataFrame]
    vintages: pl.DataFrame
    shocks: pl.DataFrame
    revisions: int


def macro(seed: int, start: date, end: date, holidays: Sequence[date]) -> Macro:
    """Return the series from `HISTORY_DAYS` before ``start`` to the last one known at ``end``.

    Parameters
    ----------
    seed : int
        Of the world.
    start, end : date
        First day of the world, and the first one after it.
    holidays : sequence of date
        Days on which nothing is published.
    """
    first, last = np.datetime64(start, "D") - HISTORY_DAYS, np.datetime64(end, "D")
    shut = np.array(holidays, dtype="datetime64[D]")
    days = np.arange(first, last, dtype="datetime64[D]")
    days = days[np.is_busday(days)]
    closed = np.isin(days, shut)
    rng = draws(seed, "macro daily")
    steps = {name: np.where(closed, 0.0, rng.standard_normal(len(days))) for name in ("DGS10", "VIXCLS", "DTWEXBGS")}
    values = {
        "DGS10": 3.8 + 0.05 * _pulled(steps["DGS10"], 200.0),
        "VIXCLS": np.exp(2.85 + 0.06 * _pulled(steps["VIXCLS"], 40.0)),
        "DTWEXBGS": 120.0 + 0.3 * _pulled(steps["DTWEXBGS"], 150.0),
    }
    digits = {"DGS10": 2, "VIXCLS": 2, "DTWEXBGS": 4}
    daily = {
        name: pl.DataFrame({"date": days, "value": np.where(closed, np.nan, value.round(digits[name]))}).with_columns(
            pl.col("value").fill_nan(None)
        )
        for name, value in values.items()
    }
    known = _end_of_day(np.busday_offset(days, 1, roll="forward", holidays=shut))
    prices, cpi = _monthly(seed, "CPIAUCSL", first, last, mean=0.25, spread=0.15, day=12, revised=0.3, holidays=shut)
    jobs, _ = _monthly(seed, "UNRATE", first, last, mean=0.0, spread=2.5, day=4, revised=0.05, holidays=shut)
    shocks = pl.concat(
        [
            *(
                pl.DataFrame({"series_id": name, "known_at": known, "surprise": steps[name]}).filter(~closed)
                for name in ("DGS10", "VIXCLS")
            ),
            cpi,
        ]
    )
    vintages = pl.concat([prices, jobs])
    periods = vintages.select("series_id", "date").unique().height
    return Macro(daily=daily, vintages=vintages, shocks=shocks, revisions=vintages.height - periods)


def fear_and_greed(seed: int, start: date, mood: FloatArray) -> pl.DataFrame:
    """Return the index of each day: a late and noisy echo of a week of moods, 0 to 100.

    Parameters
    ----------
    seed : int
        Of the world.
    start : date
        First day.
    mood : ndarray of shape (days,)
        Mean mood of the week before each day.
    """
    noise = draws(seed, "fear and greed").standard_normal(len(mood))
    value = np.clip(50.0 + 22.0 * mood + 4.0 * noise, 4, 96).round().astype(np.int64)
    words = np.array(["Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed"])
    return pl.DataFrame(
        {
            "": np.arange(len(mood)),
            "timestamp": np.datetime64(start, "D") + np.arange(len(mood)),
            "value": value,
            "value_classification": words[np.digitize(value, [25, 45, 55, 76])],
        }
    )


def _monthly(
    seed: int,
    name: str,
    first: np.datetime64,
    last: np.datetime64,
    *,
    mean: float,
    spread: float,
    day: int,
    revised: float,
    holidays: TimeArray,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the vintages of a monthly series in percent change, and the surprises of its first releases."""
    rng = draws(seed, f"macro {name}")
    months = np.arange(first.astype("datetime64[M]"), last.astype("datetime64[M]"), dtype="datetime64[M]")
    out = np.busday_offset((months + 1).astype("datetime64[D]") + (day - 1), 0, roll="forward", holidays=holidays)
    published = out < last
    months, out = months[published], out[published]
    surprise = rng.standard_normal(len(months))
    value = (mean + spread * surprise).round(4)
    # A month is revised, if at all, when the next month comes out.
    again = (rng.random(len(months)) < revised) & (np.arange(len(months)) < len(months) - 1)
    until = np.where(again, np.append(out[1:], last) - _DAY, _FOREVER)
    period = months.astype("datetime64[D]")
    corrected = (value + 0.3 * spread * rng.standard_normal(len(months))).round(4)
    vintages = pl.DataFrame(
        {
            "series_id": name,
            "date": np.concatenate([period, period[again]]),
            "realtime_start": np.concatenate([out, np.append(out[1:], last)[again]]),
            "realtime_end": np.concatenate([until, np.full(again.sum(), _FOREVER)]),
            "value_pct_change": np.concatenate([value, corrected[again]]),
        }
    ).sort("date", "realtime_start")
    return vintages, pl.DataFrame({"series_id": name, "known_at": _end_of_day(out), "surprise": surprise})


def _pulled(steps: FloatArray, days: float) -> FloatArray:
    """Return the sum of the steps, pulled back to 0 over ``days``."""
    return decayed(steps, days)


def _end_of_day(days: TimeArray) -> pl.Series:
    """Return the midnight in New York that ends each day, in UTC."""
    ends = pl.Series("known_at", (days + _DAY).astype("datetime64[us]"))
    return ends.dt.replace_time_zone(_NEW_YORK.key).dt.convert_time_zone("UTC")
