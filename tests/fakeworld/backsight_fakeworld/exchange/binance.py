"""Binance's spot API; there are no futures."""

from datetime import datetime
from itertools import islice
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Bar, Market, Trade, to_ms
from backsight_fakeworld.exchange.venue import STEPS, Venue, shown_levels
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_NAMES = {"time": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}
_FOREVER = 2**53


class Binance(Venue):
    """1000 bars a page, oldest first; a bar for each stretch of time, traded in or not."""

    name = "binance"
    pairs: ClassVar = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT")}
    omits_quiet = False
    monday_weeks = True

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        match request.path:
            case "/api/v3/exchangeInfo":
                return json_document({"timezone": "UTC", "serverTime": to_ms(now), "symbols": self._symbols()})
            case "/fapi/v1/exchangeInfo" | "/dapi/v1/exchangeInfo":
                return json_document({"timezone": "UTC", "serverTime": to_ms(now), "symbols": []})
            case "/api/v3/time":
                return json_document({"serverTime": to_ms(now)})
            case "/api/v3/ping":
                return json_document({})
        market = self.markets.get(request.query.get("symbol", ""))
        if market is None:
            return _error(-1121, "Invalid symbol.")
        match request.path:
            case "/api/v3/klines":
                return self._klines(market, request, now)
            case "/api/v3/aggTrades":
                return self._trades(market, request, now)
            case "/api/v3/depth":
                bids, asks = market.book(to_ms(now), min(request.number("limit", 100), 5000))
                return json_page(
                    shown_levels(market, bids),
                    lambda rows: {
                        "lastUpdateId": to_ms(now),
                        "bids": rows,
                        "asks": shown_levels(market, asks),
                    },
                    names={"price": 0, "amount": 1},
                )
        return json_document({"code": 404, "msg": "Not Found"}, status=404)

    def _symbols(self) -> list[dict[str, object]]:
        return [
            {
                "symbol": name,
                "status": "TRADING",
                "baseAsset": market.base,
                "baseAssetPrecision": 8,
                "quoteAsset": market.quote,
                "quotePrecision": 8,
                "quoteAssetPrecision": 8,
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": False,
                "permissions": [],
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
                    {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
                    {"filterType": "NOTIONAL", "minNotional": "5.0", "maxNotional": "9000000.0"},
                ],
            }
            for name, market in self.markets.items()
        ]

    def _klines(self, market: Market, request: Request, now: datetime) -> Answer:
        interval = request.query.get("interval", "")
        if interval not in STEPS:
            return _error(-1120, "Invalid interval.")
        step, limit = STEPS[interval], min(request.number("limit", 500), 1000)
        end = request.number("endTime", _FOREVER) + 1
        if "startTime" in request.query:
            bars = list(islice(self.bars(market, step, request.number("startTime", 0), end, now), limit))
        else:
            bars = list(islice(self.bars_before(market, step, end, now), limit))[::-1]
        return json_page([_kline(market, bar, step) for bar in bars], names=_NAMES)

    def _trades(self, market: Market, request: Request, now: datetime) -> Answer:
        limit, end = min(request.number("limit", 500), 1000), request.number("endTime", _FOREVER) + 1
        if "startTime" in request.query:
            trades = list(islice(self.trades(market, request.number("startTime", 0), end, now), limit))
        else:
            trades = list(islice(self.trades_before(market, end, now), limit))[::-1]
        return json_page(
            [_aggregate(market, trade) for trade in trades], names={"time": "T", "price": "p", "amount": "q"}
        )


def _kline(market: Market, bar: Bar, step: int) -> list[object]:
    prices = [market.show_price(price) for price in (bar.open, bar.high, bar.low, bar.close)]
    volume = market.show_amount(bar.volume)
    return [bar.at, *prices, volume, bar.at + step - 1, "0", bar.trades, "0", "0", "0"]


def _aggregate(market: Market, trade: Trade) -> dict[str, object]:
    return {
        "a": trade.id,
        "p": market.show_price(trade.price),
        "q": market.show_amount(trade.amount),
        "f": trade.id,
        "l": trade.id,
        "T": trade.at // 1000,
        "m": trade.is_sell,
        "M": True,
    }


def _error(code: int, message: str) -> Answer:
    return json_document({"code": code, "msg": message}, status=400)
