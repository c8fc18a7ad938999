"""Kraken's public API."""

from datetime import datetime
from itertools import islice
from typing import ClassVar

from backsight_fakeworld.exchange.markets import Bar, Market, Trade, to_ms
from backsight_fakeworld.exchange.venue import Venue, shown_levels
from backsight_fakeworld.messages import Answer, Request, json_document, json_page

_NAMES = {"time": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 6}
_BARS = 720
_TRADES = 1000
_INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080)
_ASSETS = {"XXBT": ("XBT", 10), "XETH": ("ETH", 10), "ZUSD": ("USD", 4), "USDT": ("USDT", 8)}
_ALTNAMES = {"XXBTZUSD": "XBTUSD", "XETHZUSD": "ETHUSD", "XBTUSDT": "XBTUSDT", "ETHUSDT": "ETHUSDT"}


class Kraken(Venue):
    """The last 720 bars whatever is asked for, no bar where nothing was traded; trades reach back to the first."""

    name = "kraken"
    pairs: ClassVar = {
        "XXBTZUSD": ("BTC", "USD"),
        "XETHZUSD": ("ETH", "USD"),
        "XBTUSDT": ("BTC", "USDT"),
        "ETHUSDT": ("ETH", "USDT"),
    }
    omits_quiet = True

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request."""
        match request.path:
            case "/0/public/Time":
                return _result({"unixtime": to_ms(now) // 1000, "rfc1123": f"{now:%a, %d %b %y %H:%M:%S +0000}"})
            case "/0/public/Assets":
                return _result(
                    {
                        asset: {
                            "aclass": "currency",
                            "altname": name,
                            "decimals": decimals,
                            "display_decimals": 5,
                            "status": "enabled",
                        }
                        for asset, (name, decimals) in _ASSETS.items()
                    }
                )
            case "/0/public/AssetPairs":
                return _result({name: _pair(name, market) for name, market in self.markets.items()})
        pair = request.query.get("pair", "")
        name = next((name for name, other in _ALTNAMES.items() if pair in (name, other)), "")
        if name not in self.markets:
            return _failed("EQuery:Unknown asset pair")
        market = self.markets[name]
        match request.path:
            case "/0/public/OHLC":
                return self._bars(name, market, request, now)
            case "/0/public/Trades":
                return self._trades(name, market, request, now)
            case "/0/public/Depth":
                bids, asks = market.book(to_ms(now), min(request.number("count", 100), 500))
                at = to_ms(now) // 1000
                sides = [[[*level, at] for level in shown_levels(market, side)] for side in (bids, asks)]
                return json_page(
                    sides[0],
                    lambda rows: {"error": [], "result": {name: {"asks": sides[1], "bids": rows}}},
                    names={"price": 0, "amount": 1},
                )
        return _failed("EGeneral:Unknown method")

    def _bars(self, name: str, market: Market, request: Request, now: datetime) -> Answer:
        interval = request.number("interval", 1)
        if interval not in _INTERVALS:
            return _failed("EGeneral:Invalid arguments:interval")
        step, since = interval * 60_000, request.number("since", 0) * 1000
        # A stretch of 720 intervals up to now, not 720 bars: where nothing was traded there are fewer.
        start = to_ms(now) // step * step - (_BARS - 1) * step
        bars = list(self.bars(market, step, max(start, since + 1), to_ms(now), now))
        last = bars[-2].at // 1000 if len(bars) > 1 else since // 1000
        return json_page(
            [_row(market, bar) for bar in bars],
            lambda rows: {"error": [], "result": {name: rows, "last": last}},
            names=_NAMES,
        )

    def _trades(self, name: str, market: Market, request: Request, now: datetime) -> Answer:
        count = min(request.number("count", _TRADES), _TRADES)
        if "since" in request.query:
            cursor = _nanoseconds(request.query["since"])
            found = self.trades(market, cursor // 1_000_000, to_ms(now), now)
            trades = list(islice((trade for trade in found if trade.at * 1000 > cursor), count))
        else:
            cursor = 0
            trades = list(islice(self.trades_before(market, to_ms(now), now), count))[::-1]
        last = trades[-1].at * 1000 if trades else cursor
        return json_page(
            [_trade(market, trade) for trade in trades],
            lambda rows: {"error": [], "result": {name: rows, "last": str(last)}},
            names={"price": 0, "amount": 1, "time": 2},
        )


def _nanoseconds(since: str) -> int:
    """Return a cursor in nanoseconds; small numbers are seconds, as Kraken takes them."""
    whole, _, part = since.partition(".")
    if int(whole) < 10**12:
        return int(whole) * 10**9 + int(part.ljust(9, "0")[:9])
    return int(whole)


def _row(market: Market, bar: Bar) -> list[object]:
    prices = [market.show_price(price) for price in (bar.open, bar.high, bar.low, bar.close)]
    return [bar.at // 1000, *prices, prices[-1], market.show_amount(bar.volume), bar.trades]


def _trade(market: Market, trade: Trade) -> list[object]:
    side = "s" if trade.is_sell else "b"
    return [market.show_price(trade.price), market.show_amount(trade.amount), trade.at / 1e6, side, "l", "", trade.id]


def _pair(name: str, market: Market) -> dict[str, object]:
    base = next(asset for asset in _ASSETS if name.startswith((asset, _ASSETS[asset][0])))
    quote = next(asset for asset in _ASSETS if name.endswith((asset, _ASSETS[asset][0])))
    return {
        "altname": _ALTNAMES[name],
        "wsname": f"{_ASSETS[base][0]}/{_ASSETS[quote][0]}",
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "pair_decimals": market.decimals,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.26]],
        "fees_maker": [[0, 0.16]],
        "ordermin": "0.0001",
        "costmin": "0.5",
        "status": "online",
    }


def _result(result: object) -> Answer:
    return json_document({"error": [], "result": result})


def _failed(error: str) -> Answer:
    return json_document({"error": [error]})
