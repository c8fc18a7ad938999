"""Coinbase's Advanced Trade API, the public part, and the parts of v2 that ccxt needs."""

from datetime import datetime
from itertools import islice
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Bar, Market, Trade, from_ms, to_ms
from backsight_fakeworld.exchange.venue import STEPS, Venue
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_MOST = 350
_GRANULARITIES = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "THIRTY_MINUTE": "30m",
    "ONE_HOUR": "1h",
    "TWO_HOUR": "2h",
    "FOUR_HOUR": "4h",
    "SIX_HOUR": "6h",
    "ONE_DAY": "1d",
}
_PRODUCTS = "/api/v3/brokerage/market/products"


class Coinbase(Venue):
    """Newest first, an error for more than 350 bars, no bar where nothing was traded."""

    name = "coinbase"
    pairs: ClassVar = {
        "BTC-USD": ("BTC", "USD"),
        "ETH-USD": ("ETH", "USD"),
        "BTC-USDT": ("BTC", "USDT"),
        "ETH-USDT": ("ETH", "USDT"),
    }
    omits_quiet = True

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        seconds = to_ms(now) // 1000
        match request.path:
            case "/v2/time":
                return json_document({"data": {"iso": f"{now:%Y-%m-%dT%H:%M:%SZ}", "epoch": seconds}})
            case "/api/v3/brokerage/time":
                return json_document(
                    {"iso": f"{now:%Y-%m-%dT%H:%M:%SZ}", "epochSeconds": str(seconds), "epochMillis": str(to_ms(now))}
                )
            case "/v2/currencies":
                return json_document({"data": [{"id": "USD", "name": "US Dollar", "min_size": "0.01"}]})
            case "/v2/currencies/crypto":
                return json_document({"data": [_coin(code) for code in ("BTC", "ETH", "USDT")]})
            case "/v2/exchange-rates":
                return json_document({"data": {"currency": "USD", "rates": {"USD": "1.0", "USDT": "1.0"}}})
            case "/api/v3/brokerage/market/products":
                futures = request.query.get("product_type") == "FUTURE"
                products = [] if futures else [_product(name, market) for name, market in self.markets.items()]
                return json_document({"products": products, "num_products": len(products)})
            case "/api/v3/brokerage/market/product_book":
                return self._book(request, now)
        name, _, what = request.path.removeprefix(f"{_PRODUCTS}/").partition("/")
        if name not in self.markets:
            return _error("NOT_FOUND", "valid product_id is required", 404)
        match what:
            case "candles":
                return self._candles(self.markets[name], request, now)
            case "ticker":
                return self._trades(name, self.markets[name], request, now)
        return _error("NOT_FOUND", "no such place", 404)

    def _candles(self, market: Market, request: Request, now: datetime) -> Answer:
        name = _GRANULARITIES.get(request.query.get("granularity", ""))
        if name is None:
            return _error("INVALID_ARGUMENT", "unsupported granularity", 400)
        step, start = STEPS[name], request.number("start", 0) * 1000
        end = request.number("end", to_ms(now) // 1000) * 1000
        if (end - start) // step > _MOST:
            return _error("INVALID_ARGUMENT", "number of candles requested should be less than 350", 400)
        bars = list(islice(self.bars(market, step, start, end + 1, now), _MOST))[::-1]
        return json_page(
            [_candle(market, bar) for bar in bars], lambda rows: {"candles": rows}, names={"time": "start"}
        )

    def _trades(self, name: str, market: Market, request: Request, now: datetime) -> Answer:
        limit, end = min(request.number("limit", 100), 1000), request.number("end", 2**40) * 1000
        start = request.number("start", 0) * 1000
        found = islice(self.trades_before(market, end, now), limit)
        trades = [trade for trade in found if trade.at >= start * 1000]
        bids, asks = market.book(to_ms(now), 1)
        return json_page(
            [_trade(name, market, trade) for trade in trades],
            lambda rows: {
                "trades": rows,
                "best_bid": market.show_price(bids[0][0]),
                "best_ask": market.show_price(asks[0][0]),
            },
            names={"amount": "size"},
        )

    def _book(self, request: Request, now: datetime) -> Answer:
        name = request.query.get("product_id", "")
        if name not in self.markets:
            return _error("NOT_FOUND", "valid product_id is required", 404)
        market = self.markets[name]
        bids, asks = (
            [{"price": market.show_price(price), "size": market.show_amount(amount)} for price, amount in side]
            for side in market.book(to_ms(now), request.number("limit", 100))
        )
        return json_page(
            bids,
            lambda rows: {"pricebook": {"product_id": name, "bids": rows, "asks": asks, "time": _stamp(to_ms(now))}},
            names={"amount": "size"},
        )


def _candle(market: Market, bar: Bar) -> dict[str, str]:
    return {
        "start": str(bar.at // 1000),
        "low": market.show_price(bar.low),
        "high": market.show_price(bar.high),
        "open": market.show_price(bar.open),
        "close": market.show_price(bar.close),
        "volume": market.show_amount(bar.volume),
    }


def _trade(name: str, market: Market, trade: Trade) -> dict[str, str]:
    return {
        "trade_id": str(trade.id),
        "product_id": name,
        "price": market.show_price(trade.price),
        "size": market.show_amount(trade.amount),
        "time": _stamp(trade.at // 1000),
        "side": "SELL" if trade.is_sell else "BUY",
        "exchange": "CBE",
    }


def _stamp(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _coin(code: str) -> dict[str, str]:
    return {"asset_id": f"fake-{code.lower()}", "code": code, "name": code.title(), "exponent": "8", "type": "crypto"}


def _product(name: str, market: Market) -> dict[str, object]:
    return {
        "product_id": name,
        "price": "0",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_min_size": "0.00000001",
        "base_max_size": "3400",
        "status": "online",
        "trading_disabled": False,
        "is_disabled": False,
        "product_type": "SPOT",
        "base_currency_id": market.base,
        "quote_currency_id": market.quote,
        "alias": "",
        "alias_to": [],
        "display_name": name,
        "product_venue": "CBE",
    }


def _error(error: str, message: str, status: int) -> Answer:
    return json_document({"error": error, "error_details": message, "message": message}, status=status)
