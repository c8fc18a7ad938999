"""Prices: the closed bars of a market, page by page, and what an exchange did not give of them.

An answer is believed as far as it goes. What it leaves out is asked for once more or becomes a hole; what lies outside
of what was asked for changes nothing; and no answer, however empty, ends a span.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import from_us, timeframe, to_us
from backsight_features.errors import BacksightError, BadInput, Drifted
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage, joined
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.sources.exchange import Answer, Exchange
from backsight_ingest.sources.exchange_bars import Grid, Rows, microseconds
from backsight_ingest.sources.exchange_markets import Market

LAYOUT: Final = "ccxt"
NO_BAR: Final = "no bar"

_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_LANES: Final = 4
_MOST_BARS: Final = 20_000
_MOST_ANSWERS: Final = 60
"""Of one page: a commit costs as much for a bar as for twenty thousand, and what is cut off is asked for again."""
_QUIET: Final = timedelta(hours=1)
"""Where an exchange leaves out what was not traded: a gap as long is an outage, and a bar that old is not late."""
_CACHED: Final = timedelta(minutes=2)
"""How old an answer may be that a cache gave: a bar that closed since then may stand in it unfinished."""


class Prices:
    """The bars of one market and length; a `Job`.

    Parameters
    ----------
    exchange : Exchange
        Where they are asked for.
    market : Market
        Of which.
    length : str
        As ccxt names it: ``1m``, ``1h``, ``1d``.
    tell : callable
        Is given a line for what a person should know.

    Raises
    ------
    BadInput
        If the exchange has no bars of this length, or nobody can say where they begin.
    """

    verb: str = "pull prices"
    layouts: tuple[str, ...] = (LAYOUT,)

    def __init__(
        self, exchange: Exchange, market: Market, length: str, *, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        if length not in (usable := _usable(exchange.timeframes)):
            raise BadInput(f"{exchange.name} has no bars of {length!r}; it has: {', '.join(usable) or 'none'}")
        self.name = f"prices:{market.venue}:{market.symbol}:{length}"
        self.source = exchange.name
        self.cadence = self.length = timeframe(length)
        self.variables: Mapping[str, str] = {**market.variables, "timeframe": length}
        self.lanes = 1 if exchange.traits.recent else _LANES
        self._exchange = exchange
        self._market = market
        self._timeframe = length
        self._tell = tell
        phase = exchange.traits.week if self.length == _WEEK else timedelta(0)
        self._grid = Grid(step=microseconds(self.length), phase=microseconds(phase))
        self._size = exchange.page(market)

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return what a run asks for: what closed since the last one; the first takes the last page of bars."""
        grid = self._grid
        stop = grid.floor(to_us(now if until is None else min(now, until)))
        start = coverage.begun if coverage.reached is None else coverage.reached
        first = None if since is None else grid.ceil(to_us(since))
        if start is None:
            # One bar fewer than a page has, so that the unfinished one after the last fits in.
            start = stop - (self._size - 1) * grid.step
            start = start if first is None else min(max(start, first), stop)
        backfill = [] if first is None else coverage.unasked(Span(first, min(start, stop)))
        due = coverage.due(now, shortest=max(self.length, timedelta(minutes=1)), reach=self.length * self._size)
        return Plan(
            forward=Span(start, stop) if start < stop else None,
            backfill=tuple(self._shared(backfill)),
            again=tuple(Span(span.start, min(span.stop, stop)) for span in due if span.start < stop),
        )

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the pages of a span, until it ends or what follows is not over yet."""
        self._exchange.check(self._market)
        return gathered(self._pages(span))

    def _shared(self, spans: list[Span]) -> Iterator[Span]:
        """Yield spans cut so that each lane gets about as much of them."""
        step = self._grid.step
        total = sum(span.stop - span.start for span in spans)
        most = max(-(-total // (self.lanes * step)), self._size) * step
        for span in spans:
            for start in range(span.start, span.stop, most):
                yield Span(start, min(start + most, span.stop))

    def _pages(self, span: Span) -> Iterator[Page]:
        at, more = span.start, True
        while more and at < span.stop:
            page, more = self._page(Span(at, span.stop))
            if page is not None:
                yield page
                at = page.span.stop

    def _page(self, rest: Span) -> tuple[Page | None, bool]:
        """Return what one answer says of the beginning of what is left of a span, and whether to ask for more now."""
        step = self._grid.step
        answer, rows = self._asked(rest.start, min(self._size, (rest.stop - rest.start) // step + 1))
        stop = min(rest.stop, self._grid.floor(to_us(answer.settled)))
        window = Span(rest.start, min(rest.start + self._size * step, stop))
        if window.stop <= window.start:
            return None, False
        if (lost := self._before(window.start, answer, rows)) is not None:
            return lost, True
        opens = rows.opens(window)
        later = rows.opens(Span(window.stop, stop))
        if self._exchange.traits.skips and not opens.size and later.size:
            skipped = Span(window.start, int(later[0]))
            # One answer alone is no proof that years are empty.
            answer, rows = self._asked(skipped.start, self._size, until=skipped.stop - step)
            opens = rows.opens(window)
            if not rows.opens(skipped).size:
                window = skipped
        if not opens.size:
            return self._made(window, answer, rows), True
        first, last = int(opens[0]), int(opens[-1])
        if first > window.start and not self._exchange.traits.whole_from_start:
            # Where the answer was cut is not known, so its beginning is asked for by itself.
            return self._page(Span(window.start, first))
        followed = rows.opens(Span(last + step, to_us(answer.fetched_at) + 1)).size > 0
        if not followed and answer.fetched_at - from_us(last + step) < _CACHED:
            return (self._made(Span(window.start, last), answer, rows) if last > window.start else None), False
        # What lies between the last bar and the end of the window is asked for again, with what follows.
        return self._made(Span(window.start, last + step), answer, rows), True

    def _before(self, start: int, answer: Answer[list[list[object]]], rows: Rows) -> Page | None:
        """Return the page of what lies before the last bars, if an exchange gives no others."""
        if not self._exchange.traits.recent:
            return None
        kept = self._grid.floor(to_us(answer.settled)) - (self._size - 1) * self._grid.step
        there = rows.opens(Span(start, kept))
        lost = Span(start, int(there[0]) if there.size else kept)
        if lost.stop <= lost.start:
            return None
        reason = f"{self._exchange.name} gives only the last {self._size} bars; {self._exchange.traits.elsewhere}"
        self._tell(f"{self.name}: nothing from {_shown(lost.start)} to {_shown(lost.stop)}: {reason}")
        return Page(
            span=lost,
            records={LAYOUT: rows.records(Span(start, start), now=to_us(answer.fetched_at))},
            fetched_at=answer.fetched_at,
            holes=(Hole(span=lost, reason=reason, again=False),),
        )

    def _asked(self, start: int, count: int, until: int | None = None) -> tuple[Answer[list[list[object]]], Rows]:
        until_ms = None if until is None else until // 1000
        answer = self._exchange.bars(
            self._market, self._timeframe, since_ms=start // 1000, count=count, until_ms=until_ms
        )
        rows = Rows(answer.said, self._grid)
        if self.length >= _DAY and rows.off_grid.size:
            # Shorter bars off their grid go into quarantine, where it is the same for all venues.
            raise Drifted(
                f"{self._exchange.name}: a bar of {self._timeframe} begins at {_shown(rows.off_grid[0])}, where none "
                "should; its bars are of another length than it says, or of other days"
            )
        return answer, rows

    def _made(self, span: Span, answer: Answer[list[list[object]]], rows: Rows) -> Page:
        return Page(
            span=span,
            records={LAYOUT: rows.records(span, now=to_us(answer.fetched_at))},
            fetched_at=answer.fetched_at,
            holes=tuple(Hole(span=gap, reason=NO_BAR) for gap in rows.gaps(span) if not self._quiet(gap, answer, rows)),
        )

    def _quiet(self, gap: Span, answer: Answer[list[list[object]]], rows: Rows) -> bool:
        """Return whether nothing was traded where no bar is, as far as the exchange can say that at all."""
        if not self._exchange.traits.quiet or rows.opens(gap).size:
            return False
        length, age = gap.stop - gap.start, to_us(answer.fetched_at) - gap.stop
        return length < microseconds(_QUIET) <= age


def _shown(us: int) -> str:
    return f"{from_us(int(us)):%Y-%m-%d %H:%M} UTC"


def gathered(pages: Iterable[Page]) -> Iterator[Page]:
    """Yield pages that follow each other as fewer and larger ones; before an error, what was there."""
    held: list[Page] = []
    try:
        for page in pages:
            held.append(page)
            bars = sum(each.records[LAYOUT].height for each in held)
            if bars >= _MOST_BARS or len(held) >= _MOST_ANSWERS:
                yield _one(held)
                held = []
    except BacksightError:
        if held:
            yield _one(held)
        raise
    if held:
        yield _one(held)


def _one(pages: list[Page]) -> Page:
    holes = [hole for page in pages for hole in page.holes]
    kinds = dict.fromkeys((hole.reason, hole.again) for hole in holes)
    return Page(
        span=Span(pages[0].span.start, pages[-1].span.stop),
        records={LAYOUT: pl.concat(page.records[LAYOUT] for page in pages)},
        fetched_at=max(page.fetched_at for page in pages),
        holes=tuple(
            Hole(span=span, reason=reason, again=again)
            for reason, again in kinds
            for span in joined(hole.span for hole in holes if (hole.reason, hole.again) == (reason, again))
        ),
    )


def _usable(names: Iterable[str]) -> list[str]:
    """Return the lengths of which it is known where bars begin: parts of a day, a day, a week."""
    found = []
    for name in names:
        try:
            length = timeframe(name)
        except BadInput:  # seconds and months
            continue
        if length == _WEEK or (length <= _DAY and _DAY % length == timedelta(0)):
            found.append(name)
    return found
