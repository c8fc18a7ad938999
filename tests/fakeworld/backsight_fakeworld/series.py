"""Macro series: which value of which period was published when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from typing import Final, NamedTuple

from backsight_fakeworld.draws import rng

RELEASED_AT: Final = time(13, 30, tzinfo=UTC)
"""When on its day a release comes out: 08:30 in New York, in winter."""

_LAST: Final = date(2030, 12, 31)
_DAY: Final = timedelta(days=1)
_HOLIDAYS: Final = ((1, 1), (7, 4), (12, 25))


_Day = date


class Release(NamedTuple):
    """A value of a period, as published from a day on; ``"."`` for none."""

    date: _Day
    realtime_start: _Day
    value: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series with all that is ever published of it.

    Parameters
    ----------
    releases : tuple of Release
        By publication; a value that is published again unchanged is not there again.
    archived : bool
        Whether old versions can be asked for.
    """

    id: str
    title: str
    frequency: str
    units: str
    seasonal: str
    archived: bool
    releases: tuple[Release, ...]

    def known(self, now: datetime) -> list[Release]:
        """Return what has been published by an instant."""
        return [release for release in self.releases if datetime.combine(release.realtime_start, RELEASED_AT) <= now]

    def known_at(self, day: date, now: datetime) -> dict[date, str]:
        """Return the last value of each period published up to the end of a day, and by an instant."""
        return {release.date: release.value for release in self.known(now) if release.realtime_start <= day}


Publications = list[tuple[date, dict[date, float | None]]]
"""Per day of publication the values of periods, those that have not changed among them."""


def _daily(draw: Random) -> Publications:
    """Return a daily yield: published on the next business day, never revised, none on holidays."""
    level, found, day = 1.5, [], date(2018, 1, 2)
    while day < _LAST:
        if day.weekday() < 5:
            level = max(0.1, level + draw.gauss(0, 0.05))
            value = None if (day.month, day.day) in _HOLIDAYS else level
            found.append((_business_day(day + _DAY), {day: value}))
        day += _DAY
    return found


def _weekly(draw: Random) -> Publications:
    """Return weekly claims: published on Thursday for the week up to Saturday, revised once; one is withdrawn."""
    found, saturday, before = [], date(2018, 1, 6), None
    level = 230_000.0
    while saturday < _LAST:
        level = max(150_000, level + draw.gauss(0, 6000))
        values: dict[date, float | None] = {saturday: level}
        if before is not None:
            revised = before[1] + draw.choice((0, 0, 1000, -1000, 2000))
            values[before[0]] = None if draw.random() < 0.01 else revised
        found.append((saturday + 5 * _DAY, values))
        before = (saturday, level)
        saturday += 7 * _DAY
    return found


def _prices(draw: Random) -> Publications:
    """Return monthly prices: about the 12th, seasonal factors of five years each February, some taken back in May."""
    found: Publications = []
    truth: dict[date, float] = {}
    level = 240.0
    for month in _months(date(2010, 1, 1)):
        level *= 1 + draw.gauss(0.002, 0.002)
        truth[month] = level
        published = _business_day(_next_month(month) + draw.randint(9, 13) * _DAY)
        values: dict[date, float | None] = {month: level}
        recent = list(truth)[-61:-1]
        if published.month == 2:
            values |= {period: truth[period] + draw.choice((0.0, 0.1, -0.1, 0.2)) for period in recent}
        if published.month == 5:
            values |= {period: truth[period] for period in recent[-6:]}
        found.append((published, values))
    return found


def _payrolls(draw: Random) -> Publications:
    """Return monthly jobs: the first Friday, the two months before revised, all of the past benchmarked in February."""
    found: Publications = []
    truth: dict[date, float] = {}
    level = 110_000.0
    for month in _months(date(1995, 1, 1)):
        level += draw.gauss(150, 120)
        truth[month] = level
        after = _next_month(month)
        published = after + (4 - after.weekday()) % 7 * _DAY
        for period in list(truth)[-3:-1]:
            truth[period] += draw.choice((0, 0, 12, -15, 31))
        if published.month == 2:
            shift = draw.gauss(0, 40)
            truth = {period: value + shift * i / len(truth) for i, (period, value) in enumerate(truth.items())}
            found.append((published, dict(truth)))
        else:
            found.append((published, {period: truth[period] for period in list(truth)[-3:]}))
    return found


def _output(draw: Random) -> Publications:
    """Return quarterly output: first, second and third release a month apart, three years revised each September."""
    found: Publications = []
    truth: dict[date, float] = {}
    level = 15_000.0
    for quarter in _months(date(2005, 1, 1))[::3]:
        level *= 1 + draw.gauss(0.005, 0.006)
        truth[quarter] = level
        after = _next_month(_next_month(_next_month(quarter)))
        for release in range(3):
            published = _business_day(date(after.year, after.month, 26) + draw.randint(0, 3) * _DAY)
            if release:
                truth[quarter] += draw.choice((0.0, 4.2, -6.1, 11.3))
            values: dict[date, float | None] = {quarter: truth[quarter]}
            if published.month == 9:
                for period in list(truth)[-13:-1]:
                    truth[period] *= 1 + draw.gauss(0, 0.002)
                    values[period] = truth[period]
            found.append((published, values))
            after = _next_month(after)
    return found


def _overnight(draw: Random) -> Publications:
    """Return a daily rate of which each business day's publication is a vintage: thousands of them."""
    found: Publications = []
    before: list[tuple[date, float]] = []
    level, day = 2.0, date(2004, 1, 2)
    while day < _LAST:
        if day.weekday() < 5:
            level = max(0.05, level + draw.gauss(0, 0.03))
            values: dict[date, float | None] = {day: level}
            if len(before) >= 5 and draw.random() < 0.2:
                # A few days ago; back to what it was when drawn twice.
                period, value = before[-draw.randint(1, 5)]
                values[period] = value + draw.choice((0, 0.01))
            found.append((_business_day(day + _DAY), values))
            before.append((day, level))
        day += _DAY
    return found


@dataclass(frozen=True, kw_only=True)
class _Plan:
    publish: Callable[[Random], Publications]
    title: str
    frequency: str
    units: str
    seasonal: str
    decimals: int
    archived: bool = True


_PLANS: Final[Mapping[str, _Plan]] = {
    "DGS10": _Plan(
        publish=_daily,
        title="Yield on Treasury Securities at 10-Year Constant Maturity",
        frequency="Daily",
        units="Percent",
        seasonal="Not Seasonally Adjusted",
        decimals=2,
        archived=False,
    ),
    "ICSA": _Plan(
        publish=_weekly,
        title="Initial Claims",
        frequency="Weekly, Ending Saturday",
        units="Number",
        seasonal="Seasonally Adjusted",
        decimals=0,
    ),
    "CPIAUCSL": _Plan(
        publish=_prices,
        title="Consumer Price Index for All Urban Consumers",
        frequency="Monthly",
        units="Index 1982-1984=100",
        seasonal="Seasonally Adjusted",
        decimals=3,
    ),
    "PAYEMS": _Plan(
        publish=_payrolls,
        title="All Employees, Total Nonfarm",
        frequency="Monthly",
        units="Thousands of Persons",
        seasonal="Seasonally Adjusted",
        decimals=0,
    ),
    "GDPC1": _Plan(
        publish=_output,
        title="Real Gross Domestic Product",
        frequency="Quarterly",
        units="Billions of Chained Dollars",
        seasonal="Seasonally Adjusted Annual Rate",
        decimals=3,
    ),
    "DFF": _Plan(
        publish=_overnight,
        title="Overnight Rate",
        frequency="Daily",
        units="Percent",
        seasonal="Not Seasonally Adjusted",
        decimals=2,
    ),
}

SERIES: Final = tuple(_PLANS)
"""Their ids."""


@lru_cache(maxsize=32)
def series(seed: int, series_id: str) -> Series:
    """Return a series of `SERIES`."""
    plan = _PLANS[series_id]
    current: dict[date, str] = {}
    releases = []
    days: dict[date, dict[date, float | None]] = {}
    for day, values in plan.publish(rng(seed, "series", series_id)):
        # Of what comes out on one day, its vintage holds the last.
        days.setdefault(day, {}).update(values)
    for day, values in sorted(days.items()):
        for period, value in sorted(values.items()):
            shown = "." if value is None else f"{value:.{plan.decimals}f}"
            if current.get(period) != shown:
                current[period] = shown
                releases.append(Release(period, day, shown))
    return Series(
        id=series_id,
        title=plan.title,
        frequency=plan.frequency,
        units=plan.units,
        seasonal=plan.seasonal,
        archived=plan.archived,
        releases=tuple(releases),
    )


def _business_day(day: date) -> date:
    """Return a day, or the next one that is neither of a weekend nor a holiday."""
    while day.weekday() >= 5 or (day.month, day.day) in _HOLIDAYS:
        day += _DAY
    return day


def _next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _months(first: date) -> list[date]:
    found = [first]
    while found[-1] < _LAST:
        found.append(_next_month(found[-1]))
    return found
