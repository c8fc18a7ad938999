"""Bitfinex's public API, version 2."""

from datetime import datetime
from itertools import islice
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Bar, Market, Trade, to_ms
from backsight_fakeworld.exchange.venue import STEPS, Venue
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_MOST = 10_000
_FRAMES = {"1D": "1d", "7D": "1w", "14D": "2w"} | {
    name: name for name in ("1m", "5m", "15m", "30m", "1h", "3h", "4h", "6h", "12h")
}
_NAMES = {"time": 0, "open": 1, "close": 2, "high": 3, "low": 4, "volume": 5}
_CONFIGURATION: dict[str, object] = {
    "pub:list:currency": ["BTC", "ETH", "USD", "UST"],
    "pub:map:currency:sym": [["UST", "USDt"]],
    "pub:map:currency:label": [["BTC", "Bitcoin"], ["ETH", "Ethereum"], ["USD", "US Dollar"], ["UST", "Tether USDt"]],
}


class Bitfinex(Venue):
    """10000 bars a page, newest first unless asked otherwise; no bar where nothing was traded, and that is often."""

    name = "bitfinex"
    pairs: ClassVar = {
        "BTCUSD": ("BTC", "USD"),
        "ETHUSD": ("ETH", "USD"),
        "BTCUST": ("BTC", "USDT"),
        "ETHUST": ("ETH", "USDT"),
    }
    omits_quiet = True
    monday_weeks = True

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        match request.path.split("/")[1:]:
            case ["v2", "platform", "status"]:
                return json_document([1])
            case ["v2", "conf", labels]:
                return json_document([self._configuration(label) for label in labels.split(",")])
            case ["v2", "candles", key, "hist"]:
                return self._candles(key, request, now)
            case ["v2", "trades", name, "hist"] if name[1:] in self.markets:
                return self._trades(self.markets[name[1:]], request, now)
            case ["v2", "book", name, precision] if name[1:] in self.markets:
                return self._book(self.markets[name[1:]], precision, request.number("len", 25), now)
        return _error("symbol: invalid")

    def _configuration(self, label: str) -> object:
        if label == "pub:info:pair":
            return [[name, [None, None, None, "0.0001", "2000.0", *[None] * 7]] for name in self.markets]
        return _CONFIGURATION.get(label, [])

    def _candles(self, key: str, request: Request, now: datetime) -> Answer:
        kind, _, rest = key.partition(":")
        frame, _, name = rest.partition(":")
        if kind != "trade" or frame not in _FRAMES or name[1:] not in self.markets:
            return _error("key: invalid")
        market, step = self.markets[name[1:]], STEPS[_FRAMES[frame]]
        limit, start = min(request.number("limit", 100), _MOST), request.number("start", 0)
        end = request.number("end", to_ms(now)) + 1
        if request.query.get("sort") == "1":
            bars = list(islice(self.bars(market, step, start, end, now), limit))
        else:
            bars = [bar for bar in islice(self.bars_before(market, step, end, now), limit) if bar.at >= start]
        return json_page([_candle(market, bar) for bar in bars], names=_NAMES)

    def _trades(self, market: Market, request: Request, now: datetime) -> Answer:
        limit, start = min(request.number("limit", 125), _MOST), request.number("start", 0)
        end = request.number("end", to_ms(now)) + 1
        if request.query.get("sort") == "1":
            trades = list(islice(self.trades(market, start, end, now), limit))
        else:
            found = islice(self.trades_before(market, end, now), limit)
            trades = [trade for trade in found if trade.at >= start * 1000]
        return json_page([_trade(market, trade) for trade in trades], names={"time": 1, "amount": 2, "price": 3})

    def _book(self, market: Market, precision: str, length: int, now: datetime) -> Answer:
        ticks = market.ticks
        rows: list[list[float]] = []
        for sign, side in zip((1, -1), market.book(to_ms(now), length), strict=True):
            for price, amount in side:
                second = len(rows) + 1
                first = price / ticks
                rows.append(
                    [second, first, sign * amount / 1e8] if precision == "R0" else [first, 1, sign * amount / 1e8]
                )
        return json_page(rows, names={"price": 1 if precision == "R0" else 0, "amount": 2})


def _candle(market: Market, bar: Bar) -> list[object]:
    ticks = market.ticks
    return [bar.at, *(price / ticks for price in (bar.open, bar.close, bar.high, bar.low)), bar.volume / 1e8]


def _trade(market: Market, trade: Trade) -> list[object]:
    amount = (-1 if trade.is_sell else 1) * trade.amount / 1e8
    return [trade.id, trade.at // 1000, amount, trade.price / market.ticks]


def _error(message: str) -> Answer:
    return json_document(["error", 10020, message], status=500)
