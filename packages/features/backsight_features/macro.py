"""Macro features: what the published numbers said at an instant, from their vintages.

At each release the state of a series is worked out from all that was published by then: the newest period that has a
number, its newest vintage, and the periods before it, each in *its* newest vintage. So a revision of an old month
that comes out together with a new month does not win, and a number is compared with the past as people knew it. A
period published as missing falls back on the newest one that has a number.

Bars then carry the state of the last release, and its age; a number that has grown too old is null.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl

from backsight_features.clocks import timeframe
from backsight_features.feature import Feature
from backsight_features.rolling import FloatArray, IntArray, delayed, moments
from backsight_features.spans import FOREVER, Span, between
from backsight_features.vintages import NEVER, Vintages

_AVERAGED: Final = 12
"""Changes whose mean is the naive expectation of the next."""

_JUDGED: Final = 36
"""Past surprises that set the scale of a surprise, and how many of them there must be."""
_JUDGED_AT_LEAST: Final = 12

REACH: Final = {"month": 24, "day": 40}
"""Periods to look back for numbers: months may be missing, and days hold weekends and holidays."""

_A_YEAR: Final = {"month": 12, "day": 365}
_YEAR_AGO: Final = {"month": np.array([12]), "day": 365 + np.arange(10)}
"""Periods back to the value of a year before; of days, the first one that has a number."""

_DAY_US: Final = 86_400_000_000
STALE_AFTER: Final = {"month": timedelta(days=100), "day": timedelta(days=14)}
"""Age at which a number no longer speaks for the present: a release was missed, or is not being read."""

_SERVED_FOR: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Series:
    """A published series and how it is read.

    Parameters
    ----------
    id : str
        FRED's name, or ``FNG`` for the Fear & Greed index.
    period : {"month", "day"}
        The calendar unit of its periods.
    level : {"yoy", "level"}
        ``yoy``: ln of the value over that of a year before, for what grows. ``level``: the value.
    change : {"log", "difference"}
        Against the period before.
    unit : str
        Of a level, or a difference.
    """

    id: str
    period: Literal["month", "day"]
    level: Literal["yoy", "level"]
    change: Literal["log", "difference"]
    unit: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which vintages of a series a feature is made of, beside the first publication of the newest period.

    Parameters
    ----------
    series : Series
        Which.
    newest : int
        How many of the newest periods that have a number.
    back : tuple of int
        Periods before the newest of these, from which the first that has a number is read too.
    every : bool
        Whether it is all periods of ``back`` that are read, and not the first.
    past : bool
        Whether it is all that was ever published, in every vintage.
    """

    series: Series
    newest: int = 1
    back: tuple[int, ...] = ()
    every: bool = False
    past: bool = False


UNITS: Final = ("lin", "pch")
"""FRED's words for levels and for percent changes on the period before."""

SERIES: Final = (
    Series(id="CPIAUCSL", period="month", level="yoy", change="log", unit="ln ratio"),
    Series(id="UNRATE", period="month", level="level", change="difference", unit="percent"),
    Series(id="DGS10", period="day", level="level", change="difference", unit="percent"),
    Series(id="VIXCLS", period="day", level="level", change="difference", unit="index points"),
    Series(id="DTWEXBGS", period="day", level="yoy", change="log", unit="ln ratio"),
    Series(id="FNG", period="day", level="level", change="difference", unit="0 to 100"),
)
"""Consumer prices, unemployment, ten-year yield, volatility index, dollar index, Fear & Greed index."""


def features(bar: str) -> tuple[Feature, ...]:
    """Return the macro features on the grid of bars of one length, ``1h``; the same ones for all lengths."""
    max_age = max(_SERVED_FOR, 2 * timeframe(bar))
    return tuple(
        Feature(
            name=f"{series.id.lower()}_{name}",
            description=description,
            unit=unit,
            reads=("value",),
            lookback=None,
            max_age=max_age,
        )
        for series in SERIES
        for name, description, unit in (
            (
                series.level,
                "ln(newest value / value a year before)" if series.level == "yoy" else "newest value",
                series.unit,
            ),
            (
                "change",
                f"{'ln ratio' if series.change == 'log' else 'difference'} of the newest value and the one before",
                series.unit,
            ),
            (
                "surprise",
                f"change at its release less the mean of the {_AVERAGED} changes known just before, "
                f"over the root mean square of the last {_JUDGED} such",
                "root mean squares",
            ),
            ("age_d", "days since the newest value's period was first published", "days"),
        )
    )


def reading(name: str, units: str) -> Reading:
    """Return what a feature reads of the numbers that were published in some units.

    Parameters
    ----------
    name : str
        One of the `features`.
    units : {"lin", "pch"}
        See `UNITS`.
    """
    id_, _, what = name.rpartition("_") if not name.endswith("_age_d") else (name.removesuffix("_age_d"), "", "age_d")
    series = next(one for one in SERIES if one.id.lower() == id_)
    if what == "surprise":
        return Reading(series=series, past=True)
    if what == "change":
        return Reading(series=series, newest=1 if units == "pch" else 2)
    if what == "yoy" and units == "pch":
        return Reading(series=series, back=tuple(range(_A_YEAR[series.period])), every=True)
    if what == "yoy":
        return Reading(series=series, back=tuple(_YEAR_AGO[series.period].tolist()))
    return Reading(series=series)


def macro(vintages: pl.DataFrame, at: pl.Series) -> pl.DataFrame:
    """Return the macro features at given instants.

    Parameters
    ----------
    vintages : pl.DataFrame
        The lake's macro table: ``series``, ``units`` (``lin``: levels, ``pch``: percent changes; others are not
        read), ``observed_at`` (start of the period), ``available_at``, ``ingested_at``, ``value``.
    at : pl.Series of shape (n,)
        UTC instants, ascending.

    Returns
    -------
    pl.DataFrame
        n rows of Float32, null where a series had no number yet. Of a series that comes in both units, the one
        with the newer period known at the instant is read, levels where both are as new.
    """
    instants = at.dt.epoch("us").to_numpy()
    columns: dict[str, FloatArray] = {}
    for series in SERIES:
        state = States.of(vintages, series).at(instants)
        name = series.id.lower()
        age = (instants - state.released_at) / _DAY_US
        fresh = age <= STALE_AFTER[series.period] / timedelta(days=1)
        columns[f"{name}_{series.level}"] = np.where(fresh, state.level, np.nan)
        columns[f"{name}_change"] = np.where(fresh, state.change, np.nan)
        columns[f"{name}_surprise"] = np.where(fresh, state.surprise, np.nan)
        columns[f"{name}_age_d"] = age
    return pl.DataFrame({name: pl.Series(values.astype(np.float32)) for name, values in columns.items()}).select(
        pl.when(pl.all().is_finite()).then(pl.all())
    )


def affected(new: pl.DataFrame, before: pl.DataFrame) -> list[Span]:
    """Return the spans between releases in which the state of a series is another with new vintages than without.

    Parameters
    ----------
    new : pl.DataFrame
        The lake's macro table, as in `macro`.
    before : pl.DataFrame
        The same without what came in since.
    """
    spans = []
    for series in SERIES:
        with_, without = (States.of(vintages, series) for vintages in (new, before))
        instants = np.union1d(with_.instants, without.instants)
        pairs = zip(with_.at(instants)[1:], without.at(instants)[1:], strict=True)
        differs = np.any([one.view(np.int64) != other.view(np.int64) for one, other in pairs], axis=0)
        spans += between(instants[differs], np.append(instants[1:], FOREVER)[differs])
    return spans


def absent(vintages: pl.DataFrame) -> list[str]:
    """Return the ids of the `SERIES` of which there is nothing to read, in any of the `UNITS`."""
    there = vintages.filter(pl.col("units").is_in(UNITS))["series"].unique().to_list()
    return [series.id for series in SERIES if series.id not in there]


class Releases(NamedTuple):
    """What was known of a series, row by row.

    Parameters
    ----------
    instant : IntArray of shape (n,)
        When it became known, microseconds from 1970-01-01 UTC, ascending.
    period : IntArray of shape (n,)
        Number of the newest period with a number, counted from 1970; `NEVER` where there is none.
    level, change, surprise : FloatArray of shape (n,)
        See `features`; NaN where undefined.
    released_at : FloatArray of shape (n,)
        First publication of the newest period, microseconds from 1970-01-01 UTC; NaN where there is none.
    """

    instant: IntArray
    period: IntArray
    level: FloatArray
    change: FloatArray
    surprise: FloatArray
    released_at: FloatArray

    def at(self, instants: IntArray) -> "Releases":
        """Return the last state at each instant."""
        index = np.searchsorted(self.instant, instants, side="right") - 1
        unknown = index < 0
        if self.instant.size == 0:
            nothing = np.full(instants.size, np.nan)
            return Releases(instants, np.full(instants.size, NEVER), nothing, nothing, nothing, nothing)
        return Releases(
            instants,
            np.where(unknown, NEVER, self.period[index]),
            *(np.where(unknown, np.nan, column[index]) for column in self[2:]),
        )


@dataclass(frozen=True, kw_only=True)
class States:
    """What was known of a series that comes in one unit or both.

    Parameters
    ----------
    levels, changes : Releases
        From what was published in each unit.
    """

    levels: Releases
    changes: Releases

    @classmethod
    def of(cls, vintages: pl.DataFrame, series: Series) -> "States":
        """Return them from the lake's macro table."""
        own = vintages.filter(pl.col("series") == series.id)
        levels, changes = (latest_known(own.filter(pl.col("units") == units), series, units) for units in UNITS)
        return cls(levels=levels, changes=changes)

    @property
    def instants(self) -> IntArray:
        """When something became known, microseconds from 1970-01-01 UTC, ascending."""
        return np.union1d(self.levels.instant, self.changes.instant)

    def at(self, instants: IntArray) -> Releases:
        """Return the last state at each instant, from the unit with the newer period, levels where both are as new."""
        lin, pch = self.levels.at(instants), self.changes.at(instants)
        newer = pch.period > lin.period
        return Releases(
            instants, *(np.where(newer, changes, levels) for levels, changes in zip(lin[1:], pch[1:], strict=True))
        )


def latest_known(vintages: pl.DataFrame, series: Series, units: str) -> Releases:
    """Return the state of a series at each of its releases and revisions.

    Parameters
    ----------
    vintages : pl.DataFrame
        Of this series in these units: ``observed_at`` (start of the period), ``available_at``, ``ingested_at``,
        ``value`` (null where published as missing).
    series : Series
        How to read it.
    units : {"lin", "pch"}
        Of percent changes, the change is the value itself, as ln ratio or, where a difference is asked for, as
        ratio; ``yoy`` adds up a year of them, all of which must be there; a level cannot be had.

    Returns
    -------
    Releases
        One row per distinct ``available_at``.
    """
    values = Vintages.of(vintages, series.period)
    known = values.known(np.arange(REACH[series.period]))
    # The periods that have a number, newest first.
    order = np.argsort(np.isnan(known), axis=1, kind="stable")[:, : _AVERAGED + 2]
    numbers = np.take_along_axis(known, order, axis=1)
    back = order[:, :1]
    empty = np.isnan(numbers[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        if units == "pch":
            changes = np.log1p(numbers / 100) if series.change == "log" else numbers / 100
        else:
            scaled = np.log(numbers) if series.change == "log" else numbers
            changes = scaled[:, :-1] - scaled[:, 1:]
        if series.level == "level":
            level = np.full(empty.size, np.nan) if units == "pch" else numbers[:, 0]
        elif units == "pch":
            level = _across(np.log1p(values.known(back + np.arange(_A_YEAR[series.period])) / 100))
        else:
            level = np.log(numbers[:, 0]) - np.log(_first(values.known(back + _YEAR_AGO[series.period])))
    period = np.where(empty, NEVER, values.newest - back[:, 0])
    return Releases(
        instant=values.instants,
        period=period,
        level=level,
        change=changes[:, 0],
        surprise=np.where(empty, np.nan, _surprises(period, changes)),
        released_at=np.where(empty, np.nan, values.released_at(period)),
    )


def _surprises(period: IntArray, changes: FloatArray) -> FloatArray:
    """Return the standardised surprise of the last new period at each release."""
    before = np.append(NEVER, np.maximum.accumulate(period)[:-1])
    expected = _across(changes[:, :_AVERAGED]) / _AVERAGED
    fresh = np.flatnonzero(period > before)
    raw = changes[fresh, 0] - delayed(expected, 1)[fresh]
    past = moments(raw**2, _JUDGED)
    scale = np.where(past.present >= _JUDGED_AT_LEAST, np.sqrt(past.mean), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        judged = raw / delayed(scale, 1)
    last = np.searchsorted(fresh, np.arange(period.size), side="right") - 1
    return np.where(last >= 0, np.append(judged, np.nan)[last], np.nan)


def _across(values: FloatArray) -> FloatArray:
    """Return the sums of the rows, adding column by column: numpy's own order depends on the number of rows."""
    added = np.zeros(values.shape[0])
    for column in values.T:
        added = added + column
    return added


def _first(values: FloatArray) -> FloatArray:
    """Return the first number of each row, NaN where it has none."""
    at = np.argmin(np.isnan(values), axis=1)
    return np.take_along_axis(values, at[:, None], axis=1)[:, 0]


FEATURES: Final = features("1h")
"""The macro features on the grid of hourly bars."""
