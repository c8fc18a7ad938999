"""An exchange as ccxt talks to it, over a session of ours; what ccxt raises, repeats, waits for or drops ends here."""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import ccxt
from backsight_features.clocks import from_us
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.live.faults import Transient
from backsight_ingest.live.http import Session
from backsight_ingest.live.web import Web
from backsight_ingest.sources.exchange_errors import REFUSALS, translated
from backsight_ingest.sources.exchange_markets import Market
from backsight_ingest.sources.exchange_traits import TRAITS, UNKNOWN

T = TypeVar("T")

_FEWEST: Final = 100
"""Bars of a page where ccxt does not know how many an exchange gives: each that it knows gives as many."""
_KEPT: Final = timedelta(minutes=2)
"""How old a book may be by its exchange's stamp: as far as the clocks of both may lie apart."""
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What ccxt's parsers raise where an answer has another shape."""


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """What an exchange said.

    Parameters
    ----------
    said : object
        As ccxt gives it.
    settled : datetime
        What was over by then, by our clock and by the exchange's, was over when the answer was made.
    fetched_at : datetime
        When it was there.
    """

    said: T
    settled: datetime
    fetched_at: datetime


class Exchange:
    """One exchange, for all jobs and threads of a process: each thread has a client, the markets are loaded once.

    Parameters
    ----------
    name : str
        As ccxt names it.
    web : Web
        The way there.
    contracts : bool
        Whether markets of contracts are wanted too; some exchanges list them elsewhere, and not to everybody.

    Raises
    ------
    BadInput
        If ccxt knows no such exchange.
    """

    def __init__(self, name: str, web: Web, *, contracts: bool = False) -> None:
        if name not in ccxt.exchanges:
            raise BadInput(f"ccxt knows no exchange {name!r}{near(name, ccxt.exchanges)}")
        self.name = name
        self.traits = TRAITS.get(name, UNKNOWN)
        self._web = web
        self._contracts = contracts
        self._about: ccxt.Exchange = getattr(ccxt, name)()
        self._loaded: ccxt.Exchange | None = None
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    @property
    def timeframes(self) -> list[str]:
        """The lengths of its bars, as ccxt names them."""
        return list(self._about.timeframes or {})

    def page(self, market: Market) -> int:
        """Return how many bars of a market one request gets."""
        features: Any = self._about.features or {}
        kind = (features.get("swap") or {}).get("linear") if market.contract else features.get("spot")
        most = ((kind or {}).get("fetchOHLCV") or {}).get("limit")
        return int(most or _FEWEST)

    def check(self, market: Market) -> None:
        """Refuse a market that the exchange does not have.

        Raises
        ------
        BadInput
            Names those that are called alike.
        SourceError
            If it cannot be asked.
        """
        symbols: list[str] = self._ask(lambda client: client.symbols).said
        if market.name not in symbols:
            raise BadInput(f"{self.name} has no market {market.name!r}{near(market.name, symbols)}")

    def bars(
        self, market: Market, timeframe: str, *, since_ms: int, count: int, until_ms: int | None = None
    ) -> Answer[list[list[Any]]]:
        """Return rows of open time in ms, open, high, low, close and volume; what is not a number is text or None.

        Parameters
        ----------
        market : Market
            Of which.
        timeframe : str
            How long.
        since_ms : int
            The first open that is asked for. What comes may lie anywhere.
        count : int
            How many.
        until_ms : int, optional
            The last open that is asked for. Only for exchanges that are known to heed it.

        Raises
        ------
        SourceError
            If it does not answer.
        Drifted
            If ccxt cannot read its answer.
        """
        bounds = {} if until_ms is None else {"until": until_ms}

        def ask(client: ccxt.Exchange) -> list[list[Any]]:
            rows: list[list[Any]] = client.fetch_ohlcv(market.name, timeframe, since_ms, count, bounds)
            if rows and all(row[0] is None for row in rows):
                raise Transient(f"{self.name}: of {len(rows)} rows none has a time; the first is {rows[0]}")
            if not rows and self.traits.known and not _lists_nothing(client.last_json_response):
                raise Transient(f"{self.name}: an answer that holds no list of bars")
            return rows

        return self._ask(ask)

    def trades(self, market: Market, *, after_ns: int, count: int, known: bool) -> Answer[list[dict[str, Any]]]:
        """Return trades as ccxt gives them, from Kraken's cursor on: what happened after an instant, oldest first.

        Parameters
        ----------
        market : Market
            Of which.
        after_ns : int
            The cursor, in nanoseconds.
        count : int
            How many at most.
        known : bool
            Whether there is one, so that an answer without any is none.

        Raises
        ------
        SourceError, Drifted
            As for bars.
        """

        def ask(client: ccxt.Exchange) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = client.fetch_trades(market.name, None, count, {"since": str(after_ns)})
            if not rows and (known or not _lists_nothing(client.last_json_response)):
                raise Transient(f"{self.name}: an answer without the trades that are there")
            return rows

        return self._ask(ask)

    def book(self, market: Market) -> Answer[dict[str, Any]]:
        """Return an order book as ccxt gives it: ``bids`` and ``asks``, each of price and amount.

        Raises
        ------
        SourceError, Drifted
            As for bars; and if the exchange stamped it minutes ago, so that somebody must have kept it.
        """

        def ask(client: ccxt.Exchange) -> dict[str, Any]:
            book: dict[str, Any] = client.fetch_order_book(market.name, self.traits.levels)
            stamp = None if book["timestamp"] is None else from_us(int(book["timestamp"]) * 1000)
            if stamp is not None and self._web.clock.now() - stamp > _KEPT:
                raise Transient(f"{self.name}: a book that it stamped {stamp:%Y-%m-%d %H:%M:%S} UTC")
            return book

        return self._ask(ask)

    def _ask(self, question: Callable[[ccxt.Exchange], T]) -> Answer[T]:
        def attempt() -> Answer[T]:
            # What is over before the question is over in the answer, however long the answer takes.
            begun = self._web.clock.now()
            try:
                client = self._client()
                said = question(client)
            except ccxt.BaseError as error:
                raise translated(error, self.name) from None
            except _UNREADABLE as error:
                raise Drifted(f"{self.name}: ccxt cannot read its answer ({type(error).__name__}: {error})") from error
            session: Session = client.session
            return Answer(said=said, settled=min(begun, session.settled_now()), fetched_at=self._web.clock.now())

        return self._web.retry(attempt)

    def _client(self) -> ccxt.Exchange:
        """Return the client of this thread; ccxt's are not made for several."""
        client: ccxt.Exchange | None = getattr(self._of_thread, "client", None)
        if client is None:
            client = self._made()
            with self._lock:
                if self._loaded is None:
                    client.load_markets()
                    self._loaded = client
                else:
                    client.set_markets(self._loaded.markets, self._loaded.currencies)
            # Only now: some exchanges' markets are made by counting with numbers.
            client.number = str
            self._of_thread.client = client
        return client

    def _made(self) -> ccxt.Exchange:
        session = self._web.session(interval=timedelta(milliseconds=float(self._about.rateLimit)), check=_document)
        client: ccxt.Exchange = getattr(ccxt, self.name)(
            {"session": session, "enableLastJsonResponse": True, "enableLastHttpResponse": False}
        )
        if self._web.endpoint is not None:
            client.urls["api"] = _moved(client.urls["api"], f"{self._web.endpoint}/{self.name}")
        kinds = client.options.get("fetchMarkets")
        if not self._contracts and isinstance(kinds, dict) and "spot" in kinds.get("types", []):
            kinds["types"] = ["spot"]
        client.httpExceptions = {**client.httpExceptions, **dict.fromkeys(REFUSALS, ccxt.ExchangeError)}
        client.throttle = self._pace(client, session)
        # It would drop rows that bear no time, and what it thinks too early or too much; and count with amounts.
        client.filter_by_since_limit = client.filter_by_symbol_since_limit = _all
        client.safe_trade = lambda trade, market=None: trade
        return client

    def _pace(self, client: ccxt.Exchange, session: Session) -> Callable[..., None]:
        """Return what ccxt calls before a request: it takes its price, and does not wait."""

        def throttle(cost: float | None = None) -> None:
            if self._web.interval is None:
                session.interval = timedelta(milliseconds=float(client.rateLimit) * (1 if cost is None else cost))

        return throttle


def near(name: str, names: Iterable[str]) -> str:
    """Return the end of an error: names that are nearly the one given; "" where there are none."""
    folded = {each.lower(): each for each in names}
    close = get_close_matches(name.lower(), folded, n=5, cutoff=0.5)
    return f"; near it: {', '.join(folded[each] for each in close)}" if close else ""


def _all(rows: T, *bounds: object) -> T:
    return rows


def _document(body: bytes) -> None:
    """Raise ValueError where a body is no JSON object or list; ccxt takes anything else for no bars at all."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no whole JSON document ({error})") from None
    if not isinstance(document, dict | list):
        raise ValueError("no JSON object or list")


def _lists_nothing(document: object) -> bool:
    """Return whether an answer holds a list without entries, other than of errors."""
    if isinstance(document, dict):
        return any(_lists_nothing(each) for name, each in document.items() if name not in ("error", "errors"))
    return document is None or document == []


def _moved(addresses: Any, to: str) -> Any:
    """Return ccxt's addresses of an exchange with another scheme and host."""
    if isinstance(addresses, dict):
        return {name: _moved(each, to) for name, each in addresses.items()}
    return to + urlsplit(addresses).path if isinstance(addresses, str) else addresses
