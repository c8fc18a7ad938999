"""Bars as they were known: a series, its versions in the lake, and what was known of it at each instant.

Bars may come late or be corrected. At an instant t each slot of the bar grid holds the newest version that was
available by then. Where versions come in the order of their slots, as they nearly always do, everything known at t
is everything up to the newest slot. A version that comes out of order begins a new *epoch*: from its instant on,
the past is another one. Features are computed once per epoch, and only on the slots that the epoch's rows need.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from backsight_features.clocks import UTC_US, timeframe
from backsight_features.errors import BadInput
from backsight_features.rolling import FloatArray, IntArray
from backsight_features.schemas import BARS
from backsight_features.snapshot import Facts
from backsight_features.spans import ALWAYS, FOREVER, Span, between

_MICROSECOND: Final = timedelta(microseconds=1)
_WEEK: Final = timedelta(weeks=1)
_MONDAY: Final = timedelta(days=4)
"""From 1970-01-01, a Thursday, to the first Monday: weekly bars close on Mondays."""

_PRICES: Final = ("open", "high", "low", "close")
ARRIVAL: Final = ("available_at", "ingested_at", *_PRICES, "volume", "quote_volume")
"""Orders the versions of a slot; the values make the order a total one."""


@dataclass(frozen=True, kw_only=True)
class BarSeries:
    """Bars of one symbol at one venue.

    Parameters
    ----------
    venue, symbol : str
        As in the lake: ``bitstamp``, ``BTC-USD``.
    timeframe : str
        Length of a bar, ``1h``.
    """

    venue: str
    symbol: str
    timeframe: str

    @classmethod
    def parse(cls, text: str) -> "BarSeries":
        """Return the series that a text names.

        >>> BarSeries.parse("bitstamp:BTC-USD:1h").symbol
        'BTC-USD'

        Raises
        ------
        BadInput
            If the text is not venue:symbol:timeframe.
        """
        parts = text.split(":")
        if len(parts) != 3 or not all(parts):
            raise BadInput(f"{text!r} is not a bar series; write venue:symbol:timeframe, bitstamp:BTC-USD:1h")
        timeframe(parts[2])
        return cls(venue=parts[0], symbol=parts[1], timeframe=parts[2])

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol}:{self.timeframe}"

    @property
    def grid(self) -> "Grid":
        """The slots on which its bars close."""
        return Grid(step=timeframe(self.timeframe))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Regular instants at which bars close: slot 0 at 1970-01-01 UTC, or at the Monday after for weekly bars.

    Parameters
    ----------
    step : timedelta
        Length of a bar.
    """

    step: timedelta

    @property
    def step_us(self) -> int:
        """Length of a bar in microseconds."""
        return self.step // _MICROSECOND

    @property
    def origin_us(self) -> int:
        """Microseconds from 1970-01-01 UTC to slot 0."""
        return (_MONDAY if self.step % _WEEK == timedelta(0) else timedelta(0)) // _MICROSECOND

    def slots(self, length: timedelta) -> int:
        """Return how many whole slots a duration covers."""
        return length // self.step


class Bars(NamedTuple):
    """Values on consecutive slots, NaN where no bar is known.

    Parameters
    ----------
    open, high, low, close : FloatArray of shape (n,)
        Prices in quote units.
    volume : FloatArray of shape (n,)
        In base units; where the venue states quote units only, these over the close.
    """

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A stretch of instants during which bars came in the order of their slots.

    Parameters
    ----------
    bars : Bars
        What was known at the last of the instants, on slots ``first …``.
    first : int
        Number of the first slot.
    slot : IntArray of shape (n,)
        The newest slot known at each instant. Later slots were not yet known then; earlier ones were as in `bars`.
    available_at : IntArray of shape (n,)
        The instants, microseconds from 1970-01-01 UTC, ascending.
    """

    bars: Bars
    first: int
    slot: IntArray
    available_at: IntArray


def check(facts: Facts, wanted: Sequence[BarSeries]) -> None:
    """Refuse series of which the lake has no bar, or none on the grid, before anything is computed.

    Raises
    ------
    BadInput
        The message names one, and what there is.
    """
    for one in wanted:
        versions = of(facts.scan(BARS), one)
        if not versions.filter(_closes_on(one.grid)).head(1).collect().is_empty():
            continue
        if not versions.head(1).collect().is_empty():
            raise BadInput(f"no bar of {one} closes on the {one.timeframe} grid of UTC; import them as what they are")
        # Named once they are few.
        series = facts.scan(BARS).select("venue", "symbol", "timeframe").unique().collect()
        names = ", ".join(series.select(pl.concat_str(pl.all(), separator=":")).to_series().sort())
        raise BadInput(f"no bars {one} in the lake; there are {names or 'none at all; pull some first'}")


def of(facts: pl.LazyFrame, series: BarSeries) -> pl.LazyFrame:
    """Return the bars of one series, unordered, without what names it."""
    name = (pl.col("venue") == series.venue, pl.col("symbol") == series.symbol, pl.col("timeframe") == series.timeframe)
    return facts.filter(*name).select("observed_at", *ARRIVAL)


def read(facts: Facts, series: BarSeries) -> pl.DataFrame:
    """Return all versions of a series' bars: by close, then by arrival, the one that counts last.

    Parameters
    ----------
    facts : Facts
        Where from.
    series : BarSeries
        Which.

    Raises
    ------
    BadInput
        If the lake has no such bars, or none that closes on the grid.
    """
    versions = of(facts.scan(BARS), series).sort("observed_at", *ARRIVAL).collect()
    if on_grid(versions, series.grid).is_empty():
        check(facts, [series])
    return versions


def needed(facts: Facts, series: BarSeries, span: Span, newest: int, memory: int) -> pl.DataFrame:
    """Return the versions on the grid that decide what is known in a span of instants: enough for `epochs`.

    Parameters
    ----------
    facts, series
        As in `read`.
    span : Span
        The instants.
    newest : int
        A close that was known before the span, the newest one or an older: microseconds from 1970-01-01 UTC;
        ``-FOREVER`` where none was.
    memory : int
        Slots, see `epochs`.
    """
    return on_grid(_deciding(facts, series, span, newest, memory).collect(), series.grid)


def stamps(facts: Facts, series: BarSeries, span: Span, newest: int) -> pl.DataFrame:
    """Return ``observed_at`` and ``available_at`` of the versions that are `needed` without memory: for `clocks`."""
    deciding = _deciding(facts, series, span, newest, 0).select("observed_at", "available_at")
    return on_grid(deciding.collect(), series.grid)


def _deciding(facts: Facts, series: BarSeries, span: Span, newest: int, memory: int) -> pl.LazyFrame:
    oldest = newest - memory * series.grid.step_us
    # A bar from before all that is remembered may still come in late: it makes a row.
    told = Span(oldest, FOREVER).holds("observed_at") | Span(span.start, FOREVER).holds("available_at")
    known = Span(-FOREVER, span.stop).holds("available_at")
    return of(facts.scan(BARS), series).filter(told, known)


def clocks(versions: pl.DataFrame, grid: Grid, within: Span = ALWAYS) -> pl.DataFrame:
    """Return the clocks of the rows that versions make, ascending, as those of `rows`, without working out the bars.

    Parameters
    ----------
    versions : pl.DataFrame
        All, or those that are `needed` for the span.
    grid : Grid
        The series' slots.
    within : Span
        The instants to return.
    """
    ordered = on_grid(versions.select("observed_at", "available_at"), grid).sort("available_at")
    newest = ordered.select(pl.col("observed_at").cum_max(), "available_at")
    # The last of those that became known at one instant has seen them all.
    is_last = pl.col("available_at").ne_missing(pl.col("available_at").shift(-1))
    return newest.filter(is_last).filter(within.holds("available_at"))


def affected(new: pl.DataFrame, before: pl.DataFrame, grid: Grid, memory: int) -> list[Span]:
    """Return the instants at which new versions change what is known, a span for each version.

    A version counts from its own instant until its slot has left the memory of the newest one.

    Parameters
    ----------
    new : pl.DataFrame
        Versions that have come in, on the grid.
    before : pl.DataFrame
        The `clocks` of the rows without them, ascending; of those from before the first close that is new there need
        be none.
    grid : Grid
        The series' slots.
    memory : int
        Slots before the newest that a row depends on.
    """
    closes, starts = (new[name].dt.epoch("us").to_numpy() for name in ("observed_at", "available_at"))
    newest, instants = (before[name].dt.epoch("us").to_numpy() for name in ("observed_at", "available_at"))
    forgotten = np.searchsorted(newest, closes + memory * grid.step_us, side="right")
    # The instant of a version makes a row, however old its slot is.
    return between(starts, np.maximum(np.append(instants, FOREVER)[forgotten], starts + 1))


def on_grid(versions: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    """Return the versions that close on the grid; an exchange that stumbles may leave odd ones."""
    return versions.filter(_closes_on(grid))


def _closes_on(grid: Grid) -> pl.Expr:
    return (pl.col("observed_at").dt.epoch("us") - grid.origin_us) % grid.step_us == 0


def epochs(versions: pl.DataFrame, grid: Grid, memory: int, within: Span = ALWAYS) -> Iterator[Epoch]:
    """Yield what was known, epoch by epoch; one row per distinct ``available_at`` in all.

    Parameters
    ----------
    versions : pl.DataFrame
        All, or those that are `needed` for the span; those off the grid are left out.
    grid : Grid
        The series' slots.
    memory : int
        Slots before the newest that a row's features depend on.
    within : Span
        Leave out the instants outside.
    """
    # The last version of a slot at one instant wins.
    ordered = on_grid(versions, grid).sort(ARRIVAL)
    if ordered.is_empty():
        return
    slots = (ordered["observed_at"].dt.epoch("us").to_numpy() - grid.origin_us) // grid.step_us
    volume = pl.coalesce("volume", pl.col("quote_volume") / pl.col("close"))
    values = ordered.select(*_PRICES, volume.alias("volume").fill_null(np.nan)).to_numpy(order="fortran")

    instants, begins = np.unique(ordered["available_at"].dt.epoch("us").to_numpy(), return_index=True)
    ends = np.append(begins[1:], slots.size)
    newest = np.maximum.accumulate(slots)[ends - 1]
    # Out of order: at or before the newest slot that was known at an earlier instant.
    known = np.repeat(np.append(np.iinfo(np.int64).min, newest[:-1]), ends - begins)
    of_instant = np.repeat(np.arange(instants.size), ends - begins)
    first, last = np.searchsorted(instants, within).tolist()
    if first == last:
        return
    # An epoch that is cut at the first instant asked for is as good as a whole one.
    starts = np.union1d([0, first], of_instant[slots <= known])
    starts = starts[starts < last]

    base = max(int(slots.min()), int(newest[first]) - memory)
    now = Bars(*(np.full(int(newest[last - 1]) - base + 1, np.nan) for _ in Bars._fields))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), last], strict=True):
        arrived = np.arange(begins[start], ends[stop - 1])
        arrived = arrived[slots[arrived] >= base]
        for column, value in zip(now, values[arrived].T, strict=True):
            column[slots[arrived] - base] = value
        if start < first:
            continue
        lower = max(int(newest[start]) - memory - base, 0)
        upper = int(newest[stop - 1]) - base + 1
        yield Epoch(
            bars=Bars(*(column[lower:upper].copy() for column in now)),
            first=base + lower,
            slot=newest[start:stop],
            available_at=instants[start:stop],
        )


def rows(epoch: Epoch, grid: Grid) -> pl.DataFrame:
    """Return the clocks of an epoch's rows: ``observed_at`` (close of the newest bar known), ``available_at``."""
    return pl.DataFrame(
        {"observed_at": epoch.slot * grid.step_us + grid.origin_us, "available_at": epoch.available_at},
        schema={"observed_at": pl.Int64, "available_at": pl.Int64},
    ).with_columns(pl.all().cast(UTC_US))
