"""Six exchanges, each with its own API, on one history of trades per market."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.draws import rng
from backsight_fakeworld.exchange.binance import Binance
from backsight_fakeworld.exchange.bitfinex import Bitfinex
from backsight_fakeworld.exchange.bitstamp import Bitstamp
from backsight_fakeworld.exchange.coinbase import Coinbase
from backsight_fakeworld.exchange.coinbaseexchange import CoinbaseExchange
from backsight_fakeworld.exchange.kraken import Kraken
from backsight_fakeworld.exchange.markets import LOTS, Gaps, Market, Trade, to_ms
from backsight_fakeworld.exchange.venue import STEPS, Venue

__all__ = ["Exchange", "Gap"]

LISTED: Final = datetime(2021, 1, 1, tzinfo=UTC)
_FORTNIGHT: Final = timedelta(days=14)
_PRICES: Final = {"BTC": 40_000.0, "ETH": 2_400.0}
_QUIET: Final = {"binance": 0.02, "bitfinex": 0.4}
_OTHERS_QUIET: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch of time of which a venue has no bars and no trades, for ever or until it has filled it.

    Parameters
    ----------
    start, end : datetime
        From, and up to. Whole minutes.
    filled_at : datetime or None
        From then on all is there as if there had been no gap.
    """

    venue: str
    start: datetime
    end: datetime
    filled_at: datetime | None = None


class Exchange:
    """All venues, and the truth about their markets.

    Attributes
    ----------
    venues : dict of str to Venue
        By their names in ccxt.
    has_outages : bool
        Whether the world's own outages are there: one of hours in about every second fortnight of a venue.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self._gaps: list[Gap] = []
        self.has_outages = True
        kinds = (Binance, Kraken, Coinbase, CoinbaseExchange, Bitstamp, Bitfinex)
        self.venues: dict[str, Venue] = {kind.name: self._open(kind) for kind in kinds}

    def gap(self, venue: str, start: datetime, end: datetime, *, filled_at: datetime | None = None) -> Gap:
        """Take the bars and trades of [start, end) away from a venue, until they are filled in."""
        gap = Gap(venue=venue, start=start, end=end, filled_at=filled_at)
        self._gaps.append(gap)
        return gap

    def fill(self, gap: Gap) -> None:
        """Give back what a gap had taken away."""
        self._gaps.remove(gap)

    def gaps(self, venue: str) -> list[Gap]:
        """Return the gaps that a venue has now, its outages among them, by start."""
        return self._gaps_at(venue, self._clock.now)

    def truth(self, venue: str, symbol: str, timeframe: str, since: datetime, until: datetime) -> list[list[float]]:
        """Return the bars that a venue has of a time, without an unfinished one, as ccxt's rows.

        Parameters
        ----------
        venue, symbol, timeframe : str
            As in ccxt: ``"kraken"``, ``"BTC/USD"``, ``"1h"``.
        since, until : datetime
            Of the open: from, and up to.

        Returns
        -------
        list of list
            ``[open time in ms, open, high, low, close, volume]``, oldest first.
        """
        market, now, step = self._market(venue, symbol), self._clock.now, STEPS[timeframe]
        ticks = market.ticks
        return [
            [bar.at, bar.open / ticks, bar.high / ticks, bar.low / ticks, bar.close / ticks, bar.volume / LOTS]
            for bar in self.venues[venue].bars(market, step, to_ms(since), to_ms(until), now)
            if bar.at + step <= to_ms(now)
        ]

    def trades(self, venue: str, symbol: str, since: datetime, until: datetime) -> list[Trade]:
        """Return the trades of [since, until) that a venue has, oldest first; see `Trade` for the units."""
        market = self._market(venue, symbol)
        return list(self.venues[venue].trades(market, to_ms(since), to_ms(until), self._clock.now))

    def book(self, venue: str, symbol: str, depth: int) -> tuple[list[list[float]], list[list[float]]]:
        """Return bids and asks of now as ``[price, amount]``, best first."""
        market = self._market(venue, symbol)
        bids, asks = market.book(to_ms(self._clock.now), depth)
        ticks = market.ticks
        shown = [[[price / ticks, amount / LOTS] for price, amount in side] for side in (bids, asks)]
        return shown[0], shown[1]

    def _open(self, kind: type[Venue]) -> Venue:
        markets = {
            pair: Market(
                seed=self._seed,
                venue=kind.name,
                base=base,
                quote=quote,
                listed=to_ms(LISTED),
                price=_PRICES[base],
                quiet=_QUIET.get(kind.name, _OTHERS_QUIET),
            )
            for pair, (base, quote) in kind.pairs.items()
        }

        def gaps(now: datetime) -> Gaps:
            return [(to_ms(gap.start), to_ms(gap.end)) for gap in self._gaps_at(kind.name, now)]

        return kind(markets, gaps)

    def _market(self, venue: str, symbol: str) -> Market:
        return next(market for market in self.venues[venue].markets.values() if market.symbol == symbol)

    def _gaps_at(self, venue: str, now: datetime) -> list[Gap]:
        fortnights = range((now - LISTED) // _FORTNIGHT + 1 if self.has_outages else 0)
        outages = [gap for number in fortnights if (gap := _outage(self._seed, venue, number)) and gap.start < now]
        added = [gap for gap in self._gaps if gap.venue == venue and (gap.filled_at is None or now < gap.filled_at)]
        return sorted([*outages, *added], key=lambda gap: gap.start)


@lru_cache(maxsize=10_000)
def _outage(seed: int, venue: str, fortnight: int) -> Gap | None:
    """Return the outage of a fortnight since the listing, if there is one."""
    draw = rng(seed, venue, "outage", fortnight)
    if draw.random() < 0.5:
        return None
    start = LISTED + fortnight * _FORTNIGHT + timedelta(minutes=draw.randrange(13 * 24 * 60))
    return Gap(venue=venue, start=start, end=start + timedelta(minutes=draw.randint(60, 360)))
