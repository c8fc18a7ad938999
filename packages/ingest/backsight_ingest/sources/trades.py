"""Bars made from public trades, for an exchange that gives its old trades and not its old bars.

The trades of a page are asked for from the instant of the last one that is known, that instant included: what shares it
on both sides of the border is told apart by its number. A stretch without a trade has no bar, and that is no hole.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import polars as pl
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import Drifted
from backsight_features.spans import Span

from backsight_ingest.live.coverage import LOST, Coverage, joined
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.sources.exchange import Answer
from backsight_ingest.sources.exchange_bars import COLUMNS, READABLE, Grid
from backsight_ingest.sources.prices import LAYOUT, NO_BAR, Prices, gathered

_PAGE: Final = 1000
_NS: Final = 1000
"""Nanoseconds of a microsecond."""
_SCHEMA: Final = {"time": pl.Int64(), "number": pl.Int64(), "price": pl.String(), "amount": pl.String()}


class TradedPrices(Prices):
    """The bars of one market and length made from Kraken's trades; fills in, and leaves the walk forward alone."""

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return what a run asks for: from ``since`` on what was never asked for, or is lost as bars."""
        plan = super().plan(coverage, since=since, until=until, now=now)
        stop = self._grid.floor(to_us(now if until is None else min(now, until)))
        if coverage.reached is not None:
            stop = min(stop, coverage.reached)
        start = stop if since is None else self._grid.ceil(to_us(since))
        lost = [stretch.span for stretch in coverage.stretches if stretch.status == LOST]
        wanted = [*plan.backfill, *(Span(max(span.start, start), min(span.stop, stop)) for span in lost)]
        if coverage.reached is None and plan.forward is not None and since is not None:
            wanted.append(plan.forward)
        return Plan(backfill=tuple(joined(span for span in wanted if span.start < span.stop)))

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the pages of a span, until it ends or what follows is not over yet."""
        self._exchange.check(self._market)
        return gathered(self._made_pages(span))

    def _made_pages(self, span: Span) -> Iterator[Page]:
        # Kraken gives what comes after its cursor.
        at, cursor, asked = span.start, span.start * _NS - 1, 0
        held = pl.DataFrame(schema=_SCHEMA)
        while at < span.stop:
            answer = self._exchange.trades(self._market, after_ns=cursor, count=_PAGE, known=held.height > 0)
            asked += 1
            found = _read(answer, self._exchange.name).filter(pl.col("time") > cursor)
            new = found.join(held, on="number", how="anti")
            settled = min(span.stop, self._grid.floor(to_us(answer.settled)))
            if found.is_empty() and asked == 1:
                continue  # that nothing was traded ever since is believed when it is said twice
            if new.is_empty():
                if found.height >= _PAGE:
                    at_once = f"{from_us(cursor // _NS):%Y-%m-%d %H:%M:%S}"
                    raise Drifted(f"{self.name}: {_PAGE} trades at {at_once} fill a page, and nothing leads past them")
                over = settled
            else:
                held = pl.concat([held, new])
                last = int(held["time"].max())  # type: ignore[arg-type]
                cursor = last - 1
                over = min(settled, self._grid.floor(last // _NS))
            if over > at:
                part = held.filter(pl.col("time") < over * _NS)
                made = bars(part, self._grid)
                holes, fetched_at = self._spoilt(made), answer.fetched_at
                yield Page(span=Span(at, over), records={LAYOUT: made}, fetched_at=fetched_at, holes=holes)
                held, at = held.filter(pl.col("time") >= over * _NS), over
            elif new.is_empty():
                return  # what follows is not over yet

    def _spoilt(self, made: pl.DataFrame) -> tuple[Hole, ...]:
        opens = made.filter(~READABLE).select(pl.col("timestamp").cast(pl.Int64) * 1000).to_series().to_list()
        return tuple(Hole(span=Span(at, at + self._grid.step), reason=NO_BAR) for at in opens)


def bars(trades: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    """Return the bars that trades make, none for a stretch without a trade.

    Parameters
    ----------
    trades : pl.DataFrame
        ``time`` in nanoseconds and ``number`` (both order them), ``price`` and ``amount`` as text.
    grid : Grid
        Where bars begin.

    Returns
    -------
    pl.DataFrame
        Text columns as in ccxt's rows: ``timestamp`` in ms, ``open``, ``high``, ``low``, ``close`` and ``volume``, a
        sum without rounding. A price or an amount that is no number stands for that of the whole bar, whose value
        nobody knows then.
    """
    price, amount = pl.col("price"), pl.col("amount")
    value = price.cast(pl.Float64, strict=False)
    size = amount.cast(pl.Decimal(38, 18), strict=False)
    since = pl.col("time") // _NS
    opens = since - (since - grid.phase) % grid.step
    unpriced = price.fill_null("null").filter(~value.is_finite().fill_null(False)).first()
    unsized = amount.fill_null("null").filter(size.is_null()).first()
    return (
        trades.sort("time", "number")
        .group_by((opens // 1000).alias("timestamp"), maintain_order=True)
        .agg(
            price.first().alias("open"),
            price.get(value.fill_nan(None).arg_max()).alias("high"),
            price.get(value.fill_nan(None).arg_min()).alias("low"),
            pl.coalesce(unpriced, price.last()).alias("close"),
            pl.coalesce(unsized, size.sum().cast(pl.String)).alias("volume"),
        )
        .select(pl.col(name).cast(pl.String) for name in COLUMNS)
    )


def _read(answer: Answer[list[dict[str, Any]]], exchange: str) -> pl.DataFrame:
    """Return Kraken's trades as it wrote them; ccxt rounds their times to ms, and orders by numbers as text."""
    try:
        raw = [trade["info"] for trade in answer.said]
        cells = {name: [row[i] for row in raw] for name, i in (("time", 2), ("number", 6), ("price", 0), ("amount", 1))}
    except (LookupError, TypeError) as error:
        raise Drifted(f"{exchange}: its trades have another shape ({type(error).__name__}: {error})") from error
    texts = pl.DataFrame({name: pl.Series(each, dtype=pl.String, strict=False) for name, each in cells.items()})
    seconds = pl.col("time").cast(pl.Decimal(38, 9), strict=False)
    found = texts.with_columns(
        (seconds * (1_000_000 * _NS)).cast(pl.Int64, strict=False).alias("time"),
        pl.col("number").cast(pl.Int64, strict=False),
    )
    if found.select(pl.any_horizontal(pl.col("time", "number").is_null()).any()).item():
        raise Drifted(f"{exchange}: a trade without a time or a number; nothing says to which bar it belongs")
    return found.unique("number", keep="first", maintain_order=True)
