"""Bitstamp's public API."""

from datetime import datetime
from itertools import islice, takewhile
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Bar, Market, Trade, to_ms
from backsight_fakeworld.exchange.venue import STEPS, Venue, shown_levels
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_MOST = 1000
_STEPS = {STEPS[name] for name in ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", "3d")}
_SPANS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class Bitstamp(Venue):
    """1000 bars a page, oldest first; trades of the last day at most."""

    name = "bitstamp"
    pairs: ClassVar = {
        "btcusd": ("BTC", "USD"),
        "ethusd": ("ETH", "USD"),
        "btcusdt": ("BTC", "USDT"),
        "ethusdt": ("ETH", "USDT"),
    }
    omits_quiet = False

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        match request.path.strip("/").split("/"):
            case ["api", "v2", "markets"]:
                return json_document([_market(name, market) for name, market in self.markets.items()])
            case ["api", "v2", "ohlc", name] if name in self.markets:
                return self._bars(self.markets[name], request, now)
            case ["api", "v2", "transactions", name] if name in self.markets:
                return self._trades(self.markets[name], request, now)
            case ["api", "v2", "order_book", name] if name in self.markets:
                return self._book(self.markets[name], now)
        return json_document({"status": "error", "reason": "Not found", "code": "404.002"}, status=404)

    def _bars(self, market: Market, request: Request, now: datetime) -> Answer:
        step, limit = request.number("step", 60) * 1000, min(request.number("limit", _MOST), _MOST)
        if step not in _STEPS:
            return json_document({"code": "400.002", "errors": [{"field": "step", "message": "Invalid"}]}, status=400)
        end = request.number("end", to_ms(now) // 1000) * 1000 + 1
        if "start" in request.query:
            bars = list(islice(self.bars(market, step, request.number("start", 0) * 1000, end, now), limit))
        else:
            bars = list(islice(self.bars_before(market, step, end, now), limit))[::-1]
        return json_page(
            [_bar(market, bar) for bar in bars],
            lambda rows: {"data": {"pair": market.symbol, "ohlc": rows}},
            names={"time": "timestamp"},
        )

    def _trades(self, market: Market, request: Request, now: datetime) -> Answer:
        since = (to_ms(now) - _SPANS.get(request.query.get("time", ""), _SPANS["hour"])) * 1000
        trades = takewhile(lambda trade: trade.at >= since, self.trades_before(market, to_ms(now), now))
        return json_page([_trade(market, trade) for trade in trades], names={"time": "date"})

    def _book(self, market: Market, now: datetime) -> Answer:
        bids, asks = (shown_levels(market, side) for side in market.book(to_ms(now), 100))
        stamp = to_ms(now)
        return json_page(
            bids,
            lambda rows: {
                "timestamp": str(stamp // 1000),
                "microtimestamp": str(stamp * 1000),
                "bids": rows,
                "asks": asks,
            },
            names={"price": 0, "amount": 1},
        )


def _bar(market: Market, bar: Bar) -> dict[str, str]:
    return {
        "timestamp": str(bar.at // 1000),
        "open": market.show_price(bar.open),
        "high": market.show_price(bar.high),
        "low": market.show_price(bar.low),
        "close": market.show_price(bar.close),
        "volume": market.show_amount(bar.volume),
    }


def _trade(market: Market, trade: Trade) -> dict[str, str]:
    return {
        "date": str(trade.at // 1_000_000),
        "tid": str(trade.id),
        "amount": market.show_amount(trade.amount),
        "type": "1" if trade.is_sell else "0",
        "price": market.show_price(trade.price),
    }


def _market(name: str, market: Market) -> dict[str, object]:
    return {
        "name": market.symbol,
        "market_symbol": name,
        "base_currency": market.base,
        "base_decimals": 8,
        "counter_currency": market.quote,
        "counter_decimals": market.decimals,
        "minimum_order_value": "10",
        "maximum_order_value": "30000000",
        "minimum_order_amount": "0.00000001",
        "maximum_order_amount": "100000000",
        "trading": "Enabled",
        "instant_order_counter_decimals": 2,
        "instant_and_market_orders": "Enabled",
        "description": f"{market.base} / {market.quote}",
        "market_type": "SPOT",
    }
