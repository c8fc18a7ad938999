"""What really happened on a market: trades, and the bars that they make.

All is drawn by the hour, so that any stretch of time is there at once and always the same. Prices and amounts are whole
numbers of ticks and lots; what a venue prints is exact.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from backsight_fakeworld.draws import rng

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
LOTS: Final = 10**8
"""Lots in a coin."""

Gaps = Sequence[tuple[int, int]]
"""Stretches [start, end) in ms in which nothing was traded, or nothing is shown."""


class Bar(NamedTuple):
    """A bar: open time in ms, prices in ticks, volume in lots, number of trades."""

    at: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


class Trade(NamedTuple):
    """A trade: time in µs, price in ticks, amount in lots; ids grow with time."""

    at: int
    id: int
    price: int
    amount: int
    is_sell: bool


@dataclass(frozen=True, kw_only=True)
class Market:
    """A pair on a venue.

    Parameters
    ----------
    seed : int
        Of the world.
    venue, base, quote : str
        ``"kraken"``, ``"BTC"``, ``"USD"``.
    listed : int
        First trade, in ms.
    price : float
        About which the price moves.
    quiet : float
        Share of minutes without a trade.
    """

    seed: int
    venue: str
    base: str
    quote: str
    listed: int
    price: float
    quiet: float
    decimals: int = 2

    @property
    def symbol(self) -> str:
        """Name in ccxt: ``BTC/USD``."""
        return f"{self.base}/{self.quote}"

    @property
    def ticks(self) -> int:
        """Ticks in a unit of the quote."""
        return int(10**self.decimals)

    def show_price(self, ticks: int) -> str:
        """Return a price as venues print it."""
        return _decimal(ticks, self.decimals)

    def show_amount(self, lots: int) -> str:
        """Return an amount of coins as venues print it."""
        return _decimal(lots, 8)

    def bars(self, step: int, start: int, end: int, *, now: int, gaps: Gaps, offset: int = 0) -> Iterator[Bar]:
        """Yield the bars that open in [start, end), oldest first, those that have begun before now.

        A bar of which all minutes are in gaps is left out; one in which nothing was traded has zero trades.

        Parameters
        ----------
        step : int
            Length in ms.
        offset : int
            Where the first bar of all opens, in ms.
        """
        at = offset - (offset - max(start, self.listed)) // step * step
        while at < min(end, now):
            bar = self._bar(at, step, now, gaps)
            if bar is not None:
                yield bar
            at += step

    def bars_before(self, step: int, end: int, *, now: int, gaps: Gaps, offset: int = 0) -> Iterator[Bar]:
        """Yield the bars that open before an instant, newest first."""
        at = offset + (min(end, now) - 1 - offset) // step * step
        while at >= self.listed:
            bar = self._bar(at, step, now, gaps)
            if bar is not None:
                yield bar
            at -= step

    def trades(self, start: int, end: int, *, gaps: Gaps) -> Iterator[Trade]:
        """Yield the trades of [start, end), in ms, oldest first."""
        at = max(start, self.listed) // MINUTE * MINUTE
        while at < end:
            if not _inside(at, at + MINUTE, gaps):
                yield from (trade for trade in _trades(self, at) if start * 1000 <= trade.at < end * 1000)
            at += MINUTE

    def trades_before(self, end: int, *, gaps: Gaps) -> Iterator[Trade]:
        """Yield the trades before an instant in ms, newest first."""
        at = (end - 1) // MINUTE * MINUTE
        while at >= self.listed:
            if not _inside(at, at + MINUTE, gaps):
                yield from (trade for trade in reversed(_trades(self, at)) if trade.at < end * 1000)
            at -= MINUTE

    def book(self, now: int, depth: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return bids and asks of a second, (price in ticks, amount in lots), best first."""
        draw = rng(self.seed, self.venue, self.symbol, "book", now // 1000)
        middle = _price_before(self, now // MINUTE * MINUTE)
        bid, ask = middle - draw.randint(1, 20), middle + draw.randint(1, 20)
        bids, asks = [], []
        for _ in range(depth):
            bids.append((bid, draw.randint(1, 5 * LOTS)))
            asks.append((ask, draw.randint(1, 5 * LOTS)))
            bid -= draw.randint(1, 30)
            ask += draw.randint(1, 30)
        return bids, asks

    def _bar(self, at: int, step: int, now: int, gaps: Gaps) -> Bar | None:
        end = at + step
        if end > now:
            return _merged(at, self._minutes(at, now, gaps))
        touching = tuple(gap for gap in gaps if gap[0] < end and at < gap[1])
        if touching:
            return _merged(at, self._minutes(at, end, touching))
        if step < HOUR:
            return _merged(at, self._minutes(at, end, ()))
        return _merged(at, [_hour(self, hour) for hour in range(at // HOUR, end // HOUR)])

    def _minutes(self, start: int, end: int, gaps: Gaps) -> list[Bar]:
        """Return the minutes of [start, end), the last as it stands if the end is within it."""
        found = []
        for at in range(start, end, MINUTE):
            if at < self.listed or _inside(at, at + MINUTE, gaps):
                continue
            minute = _minutes(self, at // HOUR)[at % HOUR // MINUTE]
            if at + MINUTE > end:
                minute = self._so_far(at, end)
            found.append(minute)
        return found

    def _so_far(self, at: int, now: int) -> Bar:
        """Return a minute of which only some trades have happened."""
        trades = [trade for trade in _trades(self, at) if trade.at < now * 1000]
        if not trades:
            price = _price_before(self, at)
            return Bar(at, price, price, price, price, 0, 0)
        prices = [trade.price for trade in trades]
        volume = sum(trade.amount for trade in trades)
        return Bar(at, prices[0], max(prices), min(prices), prices[-1], volume, len(trades))


def _inside(start: int, end: int, gaps: Gaps) -> bool:
    return any(gap[0] < end and start < gap[1] for gap in gaps)


def _decimal(number: int, decimals: int) -> str:
    whole, part = divmod(abs(number), 10**decimals)
    return f"{'-' if number < 0 else ''}{whole}.{part:0{decimals}}"


def _merged(at: int, bars: Sequence[Bar]) -> Bar | None:
    """Return the bar that bars make together, or none if there are none."""
    if not bars:
        return None
    traded = [bar for bar in bars if bar.trades]
    if not traded:
        price = bars[0].open
        return Bar(at, price, price, price, price, 0, 0)
    return Bar(
        at,
        traded[0].open,
        max(bar.high for bar in traded),
        min(bar.low for bar in traded),
        traded[-1].close,
        sum(bar.volume for bar in traded),
        sum(bar.trades for bar in traded),
    )


@lru_cache(maxsize=100_000)
def _hour(market: Market, hour: int) -> Bar:
    bar = _merged(hour * HOUR, [minute for minute in _minutes(market, hour) if minute.at >= market.listed])
    assert bar is not None, f"{market.symbol} was not listed in hour {hour}"
    return bar


def _price_before(market: Market, minute: int) -> int:
    """Return the last price before a minute."""
    before = minute - MINUTE
    return _minutes(market, before // HOUR)[before % HOUR // MINUTE].close


def _anchor(market: Market, hour: int) -> int:
    """Return the price in ticks at the start of an hour: slow waves and noise around the market's price."""
    draw = rng(market.seed, market.base, "waves")
    waves = sum(
        size * math.sin(2 * math.pi * (hour / period + draw.random()))
        for size, period in ((0.35, 9001), (0.12, 1511), (0.04, 211), (0.015, 37))
    )
    noise = rng(market.seed, market.base, "noise", hour).gauss(0, 0.004)
    spread = rng(market.seed, market.venue, market.symbol, "spread", hour).gauss(0, 0.0005)
    return round(market.price * math.exp(waves + noise + spread) * market.ticks)


@lru_cache(maxsize=1024)
def _minutes(market: Market, hour: int) -> tuple[Bar, ...]:
    """Return the 60 minutes of an hour, those without a trade flat at the last price; the last one always trades."""
    random = rng(market.seed, market.venue, market.symbol, "minutes", hour).random
    price, target = _anchor(market, hour), _anchor(market, hour + 1)
    reach = price * 0.0015
    bars = []
    for i in range(60):
        at = hour * HOUR + i * MINUTE
        if i < 59 and random() < market.quiet:
            bars.append(Bar(at, price, price, price, price, 0, 0))
            continue
        close = target if i == 59 else price + (target - price) // (60 - i) + round((random() - 0.5) * reach)
        trades = 1 if random() < 0.1 else 2 + int(random() * 11)
        first = close if trades == 1 else price + round((random() - 0.5) * reach / 8)
        high, low = max(first, close), min(first, close)
        if trades > 3:
            high, low = high + round(random() * reach / 2), low - round(random() * reach / 2)
        bars.append(Bar(at, first, high, low, close, trades + int(random() * trades * LOTS), trades))
        price = close
    return tuple(bars)


@lru_cache(maxsize=4096)
def _trades(market: Market, at: int) -> tuple[Trade, ...]:
    """Return the trades of a minute: they make its bar, to the last lot."""
    bar = _minutes(market, at // HOUR)[at % HOUR // MINUTE]
    draw = rng(market.seed, market.venue, market.symbol, "trades", at)
    if bar.trades == 0 or at < market.listed:
        return ()
    inner = [draw.randint(bar.low, bar.high) for _ in range(bar.trades - 2)]
    if len(inner) >= 2:
        inner[:2] = [bar.high, bar.low]
        draw.shuffle(inner)
    prices = [bar.open] if bar.trades == 1 else [bar.open, *inner, bar.close]
    times = sorted(draw.sample(range(MINUTE * 1000), bar.trades))
    edges = [0, *sorted(draw.sample(range(1, bar.volume), bar.trades - 1)), bar.volume]
    return tuple(
        Trade(at * 1000 + time, at // MINUTE * 16 + i, price, edges[i + 1] - edges[i], draw.random() < 0.5)
        for i, (time, price) in enumerate(zip(times, prices, strict=True))
    )


def to_ms(at: datetime) -> int:
    """Return an instant in ms since the epoch."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the instant of ms since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
