"""Macro series of FRED as jobs: with all their vintages, or without a key as they are now.

The time line of a job is FRED's calendar of vintages, its days written as midnights in UTC. A day that is not over in
St. Louis may still bring more: what it brought so far is taken, and the day is asked for again.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import MACRO, RUNS
from backsight_features.spans import Span

from backsight_ingest.live.clock import Clock
from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.job import Page, Plan
from backsight_ingest.sources.fred import FIRST_DAY, Fred, NotArchived
from backsight_ingest.sources.fredgraph import Fredgraph
from backsight_ingest.sources.macro_layouts import (
    ARCHIVE,
    NOTHING,
    RULE,
    SEEN,
    VINTAGES,
    check_rule,
    dated_by_rule,
    dated_by_vintage,
)
from backsight_ingest.sources.macro_releases import releases

MOST_VINTAGES: Final = 1900
"""Of one request: FRED's limit is 2000."""

_DAY: Final = timedelta(days=1)
_ST_LOUIS: Final = ZoneInfo("America/Chicago")
_GRACE: Final = timedelta(hours=1)
"""How much of the next day has passed when a day is over: clocks differ, and an answer is older than its arrival."""


class _Series:
    """What both ways to a series share.

    Parameters
    ----------
    series : str
        Its id.
    lake : Lake
        Where it goes.
    clock : Clock
        Tells which day it is.
    cadence : timedelta
        How often something new is expected.
    lag : str, optional
        From the date of an observation to its publication, ``45d``, for a series without vintages and without a rule.
    """

    name: str
    verb = "pull macro"
    length = timedelta(0)
    lanes = 1

    def __init__(self, series: str, lake: Lake, clock: Clock, *, cadence: timedelta, lag: str | None = None) -> None:
        self.cadence = cadence
        self.variables: Mapping[str, str] = {"series": series} if lag is None else {"series": series, "lag": lag}
        self._series = series
        self._lake = lake
        self._clock = clock

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return the days from the last unfinished one on; at first all there ever were, whatever ``since`` is."""
        start = _us(FIRST_DAY) if coverage.reached is None else coverage.reached
        stop = _us(_day_in_st_louis(now) + _DAY)
        if until is not None:
            stop = min(stop, _us(until.date()))
        return Plan(forward=Span(start, stop) if start < stop else None)

    def _today(self) -> date:
        return _day_in_st_louis(self._clock.now())

    def _as_they_are(self, span: Span, today: date, values: pl.DataFrame) -> Page:
        """Return the values that hold now: what is left of all that was published before today."""
        now = self._clock.now()
        runs = self._lake.scan(RUNS).filter(pl.col("origin") == self.name, pl.col("status") == "ok")
        asked = runs.select(pl.col("started_at").max()).collect().item()
        found = dated_by_rule(values, self.variables, self._lake, asked=asked, now=now)
        return Page(span=Span(span.start, _us(today)), records=found, fetched_at=now)


class Macro(_Series):
    """A series with all its vintages; where FRED keeps none, its values as they are now.

    Parameters
    ----------
    series : str
        Its id.
    fred : Fred
        Whom to ask.
    lake, clock, cadence, lag
        See `_Series`.
    """

    source = "fred"
    layouts: tuple[str, ...] = (ARCHIVE, SEEN, RULE, VINTAGES)

    def __init__(
        self, series: str, fred: Fred, lake: Lake, clock: Clock, *, cadence: timedelta, lag: str | None = None
    ) -> None:
        super().__init__(series, lake, clock, cadence=cadence, lag=lag)
        self.name = f"macro:{series}"
        self._fred = fred

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield what was published on the days of a span.

        Raises
        ------
        BadInput
            If there is no such series, or the lake holds values of it from elsewhere.
        SourceError
            If FRED does not answer, or not to us.
        """
        today = self._today()
        try:
            vintages = self._fred.vintage_dates(self._series)
        except NotArchived:
            if any(name.endswith(VINTAGES) for name in self._sources()):
                raise  # it had vintages: those that come once more must not be missed
            check_rule(self.variables)
            if _us(today) < span.stop:
                yield self._as_they_are(span, today, self._fred.observations(self._series).select("date", "value"))
            return
        if not vintages:
            raise Drifted(f"FRED keeps vintages of {self._series}, and lists none")
        if span.start == _us(FIRST_DAY):
            self._refuse_others()
        yield from self._published(span, vintages, today)

    def _published(self, span: Span, vintages: Sequence[date], today: date) -> Iterator[Page]:
        start, stop = span.start, _date(span.stop)
        over = min(today, stop)
        after = max(_date(start) - _DAY, FIRST_DAY)
        whole = [vintage for vintage in vintages if after < vintage < over]
        for i in range(0, len(whole), MOST_VINTAGES):
            until = whole[i : i + MOST_VINTAGES][-1]
            end = over if until == whole[-1] else until + _DAY
            yield self._page(Span(start, _us(end)), after, until, vintages[0])
            start, after = _us(end), until
        if start < _us(over):
            yield Page(span=Span(start, _us(over)), records=NOTHING, fetched_at=self._clock.now())
        begun = [vintage for vintage in vintages if over <= vintage < stop]
        if begun:
            yield self._page(Span(_us(over), _us(over)), after, begun[-1], vintages[0])

    def _page(self, span: Span, after: date, until: date, first: date) -> Page:
        held = self._fred.observations(self._series, since=after, until=until)
        now = self._clock.now()
        published = releases(held, after=after, until=until)
        found = dated_by_vintage(published, self.variables, self._lake, first=first, now=now)
        return Page(span=span, records=found, fetched_at=now)

    def _refuse_others(self) -> None:
        """Refuse to mix vintages with what else the lake holds of a series: it would come out as their correction."""
        others = sorted(name for name in self._sources() if not name.endswith((ARCHIVE, VINTAGES)))
        if others:
            raise BadInput(
                f"the lake holds {self._series} from {', '.join(others)}; with its vintages beside it, nobody could "
                "say what was known when: pull them into a lake of their own, see BACKSIGHT_HOME"
            )

    def _sources(self) -> list[str]:
        """Return where the lake has the series from."""
        stored = self._lake.scan(MACRO).filter(pl.col("series") == self._series, pl.col("units") == "lin")
        return stored.select(pl.col("source").unique()).collect()["source"].to_list()


class KeylessMacro(_Series):
    """A series as it is now, without a key and without vintages.

    Parameters
    ----------
    series : str
        Its id.
    graph : Fredgraph
        Whom to ask.
    lake, clock, cadence, lag
        See `_Series`.

    Raises
    ------
    BadInput
        If nothing says when the series is published.
    """

    source = "fredgraph"
    layouts: tuple[str, ...] = (SEEN, RULE)

    def __init__(
        self, series: str, graph: Fredgraph, lake: Lake, clock: Clock, *, cadence: timedelta, lag: str | None = None
    ) -> None:
        super().__init__(series, lake, clock, cadence=cadence, lag=lag)
        # Another name: a key that is found later has to bring all vintages, not only those from now on.
        self.name = f"macro:{series}:keyless"
        check_rule(self.variables)
        self._graph = graph

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield what holds now.

        Raises
        ------
        BadInput
            If there is no such series.
        SourceError
            If the site does not answer, or not to us.
        """
        today = self._today()
        if _us(today) < span.stop:
            yield self._as_they_are(span, today, self._graph.values(self._series))


def _day_in_st_louis(now: datetime) -> date:
    """Return the first day of FRED's calendar that is not over."""
    return (now - _GRACE).astimezone(_ST_LOUIS).date()


def _us(day: date) -> int:
    return to_us(datetime.combine(day, time(0), UTC))


def _date(us: int) -> date:
    return from_us(us).date()
