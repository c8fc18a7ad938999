"""Stamps: from the text of an instant to the instant, and from there to when a fact was known."""

from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US

from backsight_ingest.holidays import federal_holidays
from backsight_ingest.layout import Available, Stamp

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_BELOW: Final = {"s": 10**11, "ms": 10**14, "us": 10**17}
"""The size below which an epoch is in this unit: 10**11 s is the year 5138, 10**11 ms is 1973."""
_YEARS: Final = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_MIDNIGHT: Final = time(0)


def instant(text: pl.Expr, stamp: Stamp) -> pl.Expr:
    """Return the UTC instant of a text.

    Parameters
    ----------
    text : pl.Expr of String
        The cell.
    stamp : Stamp
        How it is read.

    Returns
    -------
    pl.Expr of UTC microseconds
        Null where the text fits no format, lies outside the years 1900 to 2199, or names a local time that a change
        of clocks skips or repeats.
    """
    text = text.str.strip_chars()
    if stamp.epoch is not None:
        at = _epoch(text, stamp.epoch)
    else:
        at = pl.coalesce(_formatted(text, each, stamp.zone) for each in stamp.formats)
    return at.map_batches(_within_years, return_dtype=UTC_US, is_elementwise=True)


def _within_years(instants: pl.Series) -> pl.Series:
    within = instants.is_between(*_YEARS, closed="left")
    return instants if within.all() else instants.set(~within, None)


def _epoch(text: pl.Expr, unit: str) -> pl.Expr:
    whole = text.cast(pl.Int64, strict=False)
    # A whole number of microseconds is exact only as an integer; what has a fraction is counted in seconds.
    broken = text.cast(pl.Float64, strict=False)
    size = broken.abs()

    def us(name: str) -> pl.Expr:
        per_second = _PER_SECOND[name]
        exact = whole * (1_000_000 // per_second) if per_second <= 1_000_000 else whole // 1_000
        return pl.coalesce(exact, (broken * (1_000_000 / per_second)).round().cast(pl.Int64, strict=False))

    if unit != "auto":
        return us(unit).cast(UTC_US)
    branches = reduce(
        lambda otherwise, name: pl.when(size < _BELOW[name]).then(us(name)).otherwise(otherwise),
        ("us", "ms", "s"),
        us("ns"),
    )
    return branches.cast(UTC_US)


def _formatted(text: pl.Expr, fmt: str, zone: str) -> pl.Expr:
    at = text.str.to_datetime(fmt, time_unit="us", strict=False)
    if "%z" in fmt:
        return at.dt.convert_time_zone("UTC")
    zone = "UTC" if fmt.endswith("Z") else zone
    return at.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")


def known(base: pl.Expr, rule: Available, *, zone: str, lag: timedelta) -> tuple[pl.Expr, pl.Expr]:
    """Return when a fact was known, and whether that is estimated.

    Parameters
    ----------
    base : pl.Expr of UTC microseconds
        The instant that the rule starts from.
    rule : Available
        How it is moved.
    zone : str
        In which the base was stamped: it says which date that is, and where midnight stands.
    lag : timedelta
        Added to the base.

    Returns
    -------
    available_at : pl.Expr of UTC microseconds
        The base and the lag; where the base is only a date, the end of the day reached.
    available_at_estimated : pl.Expr of Boolean
        By the rule, and always at an archive's start.
    """
    local = base.dt.convert_time_zone(zone)
    day = (base + lag).dt.convert_time_zone(zone).dt.date()
    if rule.business_days:
        day = day.dt.add_business_days(rule.business_days, holidays=federal_holidays(), roll="forward")
    end = (day + timedelta(days=1)).cast(pl.Datetime("us")).dt.replace_time_zone(rule.day_zone)
    end = end.dt.convert_time_zone("UTC")
    dated = {"never": pl.lit(False), "always": pl.lit(True), "midnight": local.dt.time() == _MIDNIGHT}[rule.day_end]
    estimated = pl.lit(rule.estimated) | local.dt.date().is_in(_dates(rule.archive_start))
    return pl.when(dated).then(end).otherwise(base + lag), estimated


def _dates(days: tuple[date, ...]) -> pl.Series:
    return pl.Series(days, dtype=pl.Date).implode()
