"""Order books: one look at a market, as best prices and what lies near them; nobody can ask for an old one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
from backsight_features.clocks import to_us
from backsight_features.errors import BadInput
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_markets import Market

LAYOUT: Final = "order-book"
UNSEEN: Final = "nobody looked, and a book cannot be asked for afterwards"

_REACH_BP: Final = 50.0
_LEVEL: Final = ((0, "price"), (1, "size"))
_COLUMNS: Final = ("time", "bid", "ask", "bid_size", "ask_size", "bid_depth", "ask_depth", "reach_bp")


class Books:
    """Snapshots of one market's order book; a `Job` that takes one each time it runs.

    Parameters
    ----------
    exchange : Exchange
        Where it is asked for.
    market : Market
        Of which.
    every : timedelta
        How often it is run.
    """

    verb: str = "pull books"
    layouts: tuple[str, ...] = (LAYOUT,)
    lanes: int = 1

    def __init__(self, exchange: Exchange, market: Market, *, every: timedelta = timedelta(minutes=1)) -> None:
        self.name = f"books:{market.venue}:{market.symbol}"
        self.source = exchange.name
        self.cadence = every
        self.length = timedelta(0)
        self.variables: Mapping[str, str] = market.variables
        self._exchange = exchange
        self._market = market

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return the stretch from the last look to this one.

        Raises
        ------
        BadInput
            If an older one is asked for.
        """
        if since is not None or until is not None:
            raise BadInput(f"{self.name}: a book is what it is now; leave out --since and --until")
        start = to_us(now) if coverage.reached is None else coverage.reached
        return Plan(forward=Span(start, max(to_us(now), start) + 1))

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the one page of a look.

        Raises
        ------
        SourceError
            If the exchange does not answer, or with a book that it kept.
        """
        self._exchange.check(self._market)
        answer = self._exchange.book(self._market)
        at = to_us(answer.fetched_at)
        yield Page(
            span=Span(span.start, max(at, span.start) + 1),
            records={LAYOUT: snapshot(answer.said["bids"], answer.said["asks"], at=at)},
            fetched_at=answer.fetched_at,
            holes=self._unseen(span.start, at),
        )

    def _unseen(self, last: int, at: int) -> tuple[Hole, ...]:
        since = last + 2 * (self.cadence // timedelta(microseconds=1))
        return (Hole(span=Span(last, at), reason=UNSEEN, again=False),) if at > since else ()


def snapshot(bids: Sequence[Sequence[Any]], asks: Sequence[Sequence[Any]], *, at: int) -> pl.DataFrame:
    """Return what a book says near its middle.

    Parameters
    ----------
    bids, asks : sequence of [price, size, ...]
        In any order.
    at : int
        When it was there, in microseconds.

    Returns
    -------
    pl.DataFrame
        One row of text: ``time``, ``bid``, ``ask``, ``bid_size``, ``ask_size``, ``bid_depth``, ``ask_depth``,
        ``reach_bp``. Depth adds up the sizes of a side no further than ``reach_bp`` from the middle: 50, or as far as
        both sides go. A cell is empty where a side is, and a price or size that is no number stands for the best one,
        as nobody knows the depth then.
    """
    sides = {"bid": _levels(bids).sort("price", descending=True), "ask": _levels(asks).sort("price")}
    cells = {"time": str(at), **_best("bid", sides["bid"]), **_best("ask", sides["ask"])}
    if sides["bid"].height and sides["ask"].height:
        cells |= _depth(sides)
    for name, said in (("bid", bids), ("ask", asks)):
        if sides[name].height < len(said):
            cells[name] = next(f"{level[0]} for {level[1]}" for level in said if _levels([level]).is_empty())
    return pl.DataFrame([cells], schema=dict.fromkeys(_COLUMNS, pl.String()))


def _levels(side: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Return the levels whose price and size are numbers."""
    cells = {name: pl.Series([level[i] for level in side], dtype=pl.String, strict=False) for i, name in _LEVEL}
    numbers = pl.DataFrame(cells).select(pl.all().cast(pl.Float64, strict=False))
    return numbers.filter(pl.all_horizontal(pl.all().is_finite().fill_null(False)))


def _best(name: str, side: pl.DataFrame) -> dict[str, str | None]:
    # No depth is the truth of an empty side; no price is none.
    if side.is_empty():
        return {name: None, f"{name}_size": None, f"{name}_depth": "0"}
    price, size = side.row(0)
    return {name: str(price), f"{name}_size": str(size)}


def _depth(sides: Mapping[str, pl.DataFrame]) -> dict[str, str | None]:
    middle = (sides["bid"].row(0)[0] + sides["ask"].row(0)[0]) / 2
    away = {name: (side["price"] - middle).abs() * 10_000 / middle for name, side in sides.items()}
    reach = min(_REACH_BP, *(float(each[-1]) for each in away.values()))
    depth = {f"{name}_depth": str(side["size"].filter(away[name] <= reach).sum()) for name, side in sides.items()}
    return {"reach_bp": str(reach), **depth}
