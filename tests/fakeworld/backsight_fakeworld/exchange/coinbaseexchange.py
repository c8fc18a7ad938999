"""Coinbase Exchange's public API."""

from datetime import datetime
from itertools import islice
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Market, Trade, from_ms, to_ms
from backsight_fakeworld.exchange.venue import Venue, shown_levels
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_MOST = 300
_GRANULARITIES = (60, 300, 900, 3600, 21600, 86400)
_NAMES = {"time": 0, "low": 1, "high": 2, "open": 3, "close": 4, "volume": 5}


class CoinbaseExchange(Venue):
    """Newest first, an error for more than 300 bars, no bar where nothing was traded; prices are numbers."""

    name = "coinbaseexchange"
    pairs: ClassVar = {
        "BTC-USD": ("BTC", "USD"),
        "ETH-USD": ("ETH", "USD"),
        "BTC-USDT": ("BTC", "USDT"),
        "ETH-USDT": ("ETH", "USDT"),
    }
    omits_quiet = True

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        match request.path.split("/")[1:]:
            case ["time"]:
                return json_document({"iso": _stamp(to_ms(now)), "epoch": to_ms(now) / 1000})
            case ["currencies"]:
                return json_document([_currency(code) for code in ("USD", "BTC", "ETH", "USDT")])
            case ["products"]:
                return json_document([_product(name, market) for name, market in self.markets.items()])
            case ["products", name, "candles"] if name in self.markets:
                return self._candles(self.markets[name], request, now)
            case ["products", name, "trades"] if name in self.markets:
                return self._trades(self.markets[name], request, now)
            case ["products", name, "book"] if name in self.markets:
                return self._book(self.markets[name], now)
        return _error("NotFound", 404)

    def _candles(self, market: Market, request: Request, now: datetime) -> Answer:
        granularity = request.number("granularity", 60)
        if granularity not in _GRANULARITIES:
            return _error("Unsupported granularity", 400)
        step = granularity * 1000
        if "start" in request.query and "end" in request.query:
            start, end = (to_ms(datetime.fromisoformat(request.query[name])) for name in ("start", "end"))
            if (end - start) // step > _MOST:
                message = "granularity too small for the requested time range. Count of aggregations requested exceeds"
                return _error(f"{message} {_MOST}", 400)
            bars = list(self.bars(market, step, start, end + 1, now))[::-1]
        else:
            bars = list(islice(self.bars_before(market, step, to_ms(now), now), _MOST))
        ticks = market.ticks
        rows = [
            [bar.at // 1000, *(price / ticks for price in (bar.low, bar.high, bar.open, bar.close)), bar.volume / 1e8]
            for bar in bars
        ]
        return json_page(rows, names=_NAMES)

    def _trades(self, market: Market, request: Request, now: datetime) -> Answer:
        limit, after = min(request.number("limit", 1000), 1000), request.number("after", 2**62)
        # An id holds its minute.
        end = min(to_ms(now), (after // 16 + 1) * 60_000)
        trades = list(islice((trade for trade in self.trades_before(market, end, now) if trade.id < after), limit))
        headers = {"CB-BEFORE": str(trades[0].id), "CB-AFTER": str(trades[-1].id)} if trades else {}
        return json_page([_trade(market, trade) for trade in trades], names={"amount": "size"}, headers=headers)

    def _book(self, market: Market, now: datetime) -> Answer:
        bids, asks = ([[*level, 1] for level in shown_levels(market, side)] for side in market.book(to_ms(now), 50))
        return json_page(
            bids,
            lambda rows: {"bids": rows, "asks": asks, "sequence": to_ms(now), "time": _stamp(to_ms(now))},
            names={"price": 0, "amount": 1},
        )


def _trade(market: Market, trade: Trade) -> dict[str, object]:
    return {
        "time": _stamp(trade.at // 1000),
        "trade_id": trade.id,
        "price": market.show_price(trade.price),
        "size": market.show_amount(trade.amount),
        # The maker's side.
        "side": "buy" if trade.is_sell else "sell",
    }


def _stamp(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _currency(code: str) -> dict[str, object]:
    kind = "fiat" if code == "USD" else "crypto"
    return {
        "id": code,
        "name": code.title(),
        "min_size": "0.00000001",
        "status": "online",
        "max_precision": "0.00000001",
        "details": {"type": kind, "min_withdrawal_amount": 0.01},
        "supported_networks": [],
    }


def _product(name: str, market: Market) -> dict[str, object]:
    return {
        "id": name,
        "base_currency": market.base,
        "quote_currency": market.quote,
        "quote_increment": "0.01",
        "base_increment": "0.00000001",
        "display_name": name.replace("-", "/"),
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
    }


def _error(message: str, status: int) -> Answer:
    return json_document({"message": message}, status=status)
