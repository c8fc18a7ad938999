"""What a build has to compute: the instants that the facts since the last one affect, per table and bar series."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import polars as pl

from backsight_features import bars, book, macro, text
from backsight_features.bars import BarSeries
from backsight_features.building.record import Record
from backsight_features.building.states import READS, Background, Kind, memory
from backsight_features.building.tables import FeatureTable
from backsight_features.clocks import to_us
from backsight_features.schemas import BARS, BOOKS, MACRO, SCORES, Table
from backsight_features.sights import SOURCES, identified
from backsight_features.snapshot import Snapshot
from backsight_features.spans import FOREVER, Span, united

_ROWS_AT_ONCE: Final = 500_000
"""A whole table is computed in pieces of so many rows, to spare memory."""

_NOT_WORTH_A_PIECE: Final = 1000
"""Rows that are computed sooner than skipped."""


class Piece(NamedTuple):
    """Rows to compute.

    Parameters
    ----------
    span : Span
        The instants.
    newest : int
        A close that was known before, see `bars.needed`.
    """

    span: Span
    newest: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What has to be computed of one symbol in one table.

    Parameters
    ----------
    pieces : list of Piece
        Ascending, apart.
    full : str or None
        Why that is everything, in words; None where it is what new facts affect.
    """

    pieces: list[Piece]
    full: str | None


class Planner:
    """Makes the plans of one build.

    Parameters
    ----------
    facts : Snapshot
        The lake.
    background : Background
        Read from it.
    now : Record
        What the rows will follow from.
    """

    def __init__(self, facts: Snapshot, background: Background, now: Record) -> None:
        self.facts = facts
        self.background = background
        self.now = now
        self._came: dict[tuple[str, int | None], pl.LazyFrame | None] = {}
        self._changes: dict[tuple[object, ...], list[Span]] = {}

    def plan(self, kind: Kind, series: BarSeries, table: FeatureTable) -> Plan:
        """Return the plan of one series in one table."""
        before = table.records.get(str(series))
        if before is None:
            return Plan(pieces=self._everything(series), full=_unrecorded(series, table))
        reason = self._differs(kind, before, table)
        if reason is not None:
            return Plan(pieces=self._everything(series), full=reason)
        came = {facts.name: self._added(facts, before) for facts in READS[kind]}
        for name, added in came.items():
            if added is None:
                reason = f"what came into {name} since version {before.lake[name]} cannot be told"
                return Plan(pieces=self._everything(series), full=reason)
        new = {name: added for name, added in came.items() if added is not None}
        spans = self._by_bars(kind, series, table, new.pop(BARS.name))
        if any(not added.head(1).collect().is_empty() for added in new.values()):
            spans += self._by_background(kind, series, before, new)
        # Between spans that are less than the warm-up apart, it is less work to compute all.
        gap = max(memory(kind, series.timeframe), _NOT_WORTH_A_PIECE) * series.grid.step_us
        pieces = [Piece(span, table.newest_close(series.symbol, span.start)) for span in united(spans, gap)]
        return Plan(pieces=pieces, full=None)

    def _differs(self, kind: Kind, before: Record, table: FeatureTable) -> str | None:
        """Return why rows cannot be taken over from a build, in words."""
        now = self.now
        if table.is_other:
            return "the table has other features"
        if before.code != now.code:
            return f"built by version {before.code}, this is {now.code}"
        if kind == "text" and before.scorer != now.scorer:
            return f"texts were scored by {before.scorer or 'none'}, now by {now.scorer or 'none'}"
        if before.ingested_until != now.ingested_until:
            return f"built from facts ingested until {before.ingested_until or 'then'}"
        for facts in READS[kind]:
            if before.lake[facts.name] is not None and before.ids[facts.name] != now.ids[facts.name]:
                return f"{facts.name} in the lake is another table than it was"
        return None

    def _added(self, facts: Table, before: Record) -> pl.LazyFrame | None:
        """Return what came in of one table since a record; series that were built together share it."""
        key = (facts.name, before.lake[facts.name])
        if key not in self._came:
            self._came[key] = self.facts.added(facts, before.lake[facts.name])
        return self._came[key]

    def _everything(self, series: BarSeries) -> list[Piece]:
        stamps = bars.of(self.facts.scan(BARS), series).select("observed_at", "available_at").collect()
        clocks = bars.clocks(stamps, series.grid)
        cuts = range(_ROWS_AT_ONCE, clocks.height, _ROWS_AT_ONCE)
        starts = [to_us(clocks["available_at"][cut]) for cut in cuts]
        newest = [to_us(clocks["observed_at"][cut - 1]) for cut in cuts]
        spans = map(Span, [-FOREVER, *starts], [*starts, FOREVER])
        return list(map(Piece, spans, [-FOREVER, *newest]))

    def _by_bars(self, kind: Kind, series: BarSeries, table: FeatureTable, added: pl.LazyFrame) -> list[Span]:
        new = bars.on_grid(bars.of(added, series).collect(), series.grid)
        if new.is_empty():
            return []
        first = new["observed_at"].dt.epoch("us").to_numpy().min()
        return bars.affected(
            new, table.clocks(series.symbol, closed_after=int(first)), series.grid, memory(kind, series.timeframe)
        )

    def _by_background(
        self, kind: Kind, series: BarSeries, before: Record, new: Mapping[str, pl.LazyFrame]
    ) -> list[Span]:
        """Return the instants that new looks, texts, scores or vintages affect.

        Of texts, scores and vintages series that were built together share them.
        """
        if kind == "book":
            return book.affected(book.of(new[BOOKS.name], series).collect(), series.grid.step)
        key = (kind, series.grid.step, *sorted(before.lake.items()))
        if key not in self._changes:
            then = replace(self.facts, versions=before.lake)
            if kind == "macro":
                self._changes[key] = macro.affected(self.background.vintages, then.scan(MACRO).collect())
            else:
                self._changes[key] = self._by_texts(series, then, new)
        return self._changes[key]

    def _by_texts(self, series: BarSeries, then: Snapshot, new: Mapping[str, pl.LazyFrame]) -> list[Span]:
        scorer = self.background.scorer
        judged = text.by(new[SCORES.name], scorer).select("text_id").collect()
        spans = []
        for source, texts in self.background.texts.items():
            seen = identified(new[SOURCES[source].name], source).collect()
            now, before = texts.changed(seen, judged, text.by(then.scan(SCORES), scorer))
            spans += text.affected(now, before, series.grid.step)
        return spans


def _unrecorded(series: BarSeries, table: FeatureTable) -> str:
    for other in table.records:
        if BarSeries.parse(other).symbol == series.symbol:
            return f"the rows were those of {other}"
    return "first build"
