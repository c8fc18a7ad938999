"""What came between two points of knowledge: facts, and the feature values that are others because of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from backsight_features import bars, book
from backsight_features.bars import BarSeries
from backsight_features.behind.facts import READ
from backsight_features.building.identities import identify
from backsight_features.building.states import KINDS, READS, Background, Kind, features, states
from backsight_features.clocks import to_us
from backsight_features.schemas import BARS, BOOKS, FACTS, Table
from backsight_features.snapshot import Snapshot
from backsight_features.snapshots import Point, Recalled
from backsight_features.spans import FOREVER, Span
from backsight_features.text import Scorer
from backsight_features.why import explain

_EXAMPLES: Final = 3
"""Changed values of a table that are explained."""

NEW: Final = "new"
VERSION: Final = "version"
GONE: Final = "gone"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A value that is another one, and the facts that make it so.

    Parameters
    ----------
    table, symbol, feature : str
        Where it is.
    available_at : datetime
        Of the row.
    before, after : float or None
        The value at the two points.
    facts : pl.DataFrame
        With the columns of `behind.facts.SCHEMA` and ``change``: ``read now`` or ``no longer read``.
    """

    table: str
    symbol: str
    feature: str
    available_at: datetime
    before: float | None
    after: float | None
    facts: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class Between:
    """What came between two points.

    Parameters
    ----------
    facts : pl.DataFrame
        By ``table``, ``source`` and ``kind``: how many ``rows``, and the ``first`` and ``last`` instant at which one
        became available. Kinds are ``new``, ``version`` (a further version of a fact that was there: a correction, an
        edit, a revision) and ``gone`` (purged).
    rows : pl.DataFrame
        By ``table`` and ``symbol``: how many feature rows are ``new``, ``gone`` and ``other``.
    values : pl.DataFrame
        By ``table``, ``symbol`` and ``feature``: how many values of rows that both points have are others, in
        ``values``; the ``first`` and ``last`` of their instants; and the ``most`` that a number changed by.
    examples : list of Example
        The first changed values of each table and symbol.
    """

    facts: pl.DataFrame
    rows: pl.DataFrame
    values: pl.DataFrame
    examples: list[Example]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A point, read."""

    facts: Snapshot
    series: Mapping[str, str]
    versions: pl.DataFrame

    def background(self, series: str) -> Background:
        return Background.read(self.facts, self.scorer(series), self.versions)

    def scorer(self, series: str) -> Scorer | None:
        by = self.series.get(series)
        return Scorer.parse(by) if by else None


def between(before: tuple[Point, Recalled], after: tuple[Point, Recalled]) -> Between:
    """Return what came between two points.

    Values are compared from the first instant at which a fact that differs became available: no row before depends
    on it.

    Parameters
    ----------
    before, after : tuple of Point and Recalled
        The two points, and the lake as of them.
    """
    whole = {
        name: _differing(table, before[1].facts, after[1].facts, exact=_exact(name, before, after))
        for name, table in FACTS.items()
    }
    facts = _counted(whole)
    sides = [
        _Side(facts=recalled.facts, series=point.series, versions=identify(recalled.facts))
        for point, recalled in (before, after)
    ]
    rows, values, examples = [], [], []
    for name in dict.fromkeys([*before[0].series, *after[0].series]):
        series = BarSeries.parse(name)
        for kind in KINDS:
            other_scorer = kind == "text" and sides[0].scorer(name) != sides[1].scorer(name)
            since = None if other_scorer else _since(kind, series, whole)
            if since is not None or other_scorer:
                was, now = (_rows(kind, series, side, since, sides) for side in sides)
                row, changed = _compared(kind, series, was, now)
                rows.append(row)
                values.append(changed)
                examples += _examples(kind, series, was, now, changed, sides)
    return Between(
        facts=facts,
        rows=pl.concat(rows) if rows else pl.DataFrame(schema=_ROWS),
        values=pl.concat(values) if values else pl.DataFrame(schema=_VALUES),
        examples=examples,
    )


_ROWS: Final = pl.Schema(
    {"table": pl.String(), "symbol": pl.String(), NEW: pl.Int64(), GONE: pl.Int64(), "other": pl.Int64()}
)
_INSTANT: Final = BARS.empty().schema["available_at"]
_VALUES: Final = pl.Schema(
    {
        "table": pl.String(),
        "symbol": pl.String(),
        "feature": pl.String(),
        "values": pl.Int64(),
        "first": _INSTANT,
        "last": _INSTANT,
        "most": pl.Float64(),
    }
)


def _exact(name: str, before: tuple[Point, Recalled], after: tuple[Point, Recalled]) -> bool:
    """Return whether one table is read at the versions of both points, that of the first not being newer."""
    then, now = (point.tables[name] for point, _ in (before, after))
    if then.id is None or then.id != now.id or then.version is None or now.version is None:
        return False
    as_then = all(recalled.facts.versions[name] == point.tables[name].version for point, recalled in (before, after))
    return as_then and then.version <= now.version


def _differing(table: Table, before: Snapshot, after: Snapshot, *, exact: bool) -> pl.DataFrame:
    """Return the facts that only one of two states of a lake has, with their ``kind``."""
    was, now = before.scan(table), after.scan(table)
    came = after.added(table, before.versions[table.name]) if exact else None
    if came is not None:
        new, gone = came.collect(), table.empty()
    else:
        columns = [*table.columns, "ingested_at"]
        new = now.join(was, on=columns, how="anti", nulls_equal=True).collect()
        gone = was.join(now, on=columns, how="anti", nulls_equal=True).collect()
    known = was.join(new.lazy(), on=table.key, how="semi", nulls_equal=True).select(table.key).unique().collect()
    kinds = new.join(known.with_columns(kind=pl.lit(VERSION)), on=table.key, how="left", nulls_equal=True)
    return pl.concat([kinds.with_columns(pl.col("kind").fill_null(NEW)), gone.with_columns(kind=pl.lit(GONE))])


def _counted(whole: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    counts = [
        rows.group_by("source", "kind")
        .agg(rows=pl.len(), first=pl.col("available_at").min(), last=pl.col("available_at").max())
        .sort("source", "kind")
        .select(pl.lit(name).alias("table"), pl.all())
        for name, rows in whole.items()
    ]
    return pl.concat(counts)


def _since(kind: Kind, series: BarSeries, whole: Mapping[str, pl.DataFrame]) -> datetime | None:
    """Return the first instant whose row of a table may be another; None where there is none."""
    instants = []
    for table in READS[kind]:
        rows = whole[table.name]
        if table is BARS:
            rows = bars.of(rows.lazy(), series).collect()
        if table is BOOKS:
            rows = book.of(rows.lazy(), series).collect()
        instants.append(rows["available_at"].min())
    found: datetime | None = pl.Series(instants, dtype=_INSTANT).min()  # type: ignore[assignment]
    return found


def _rows(kind: Kind, series: BarSeries, side: _Side, since: datetime | None, sides: list[_Side]) -> pl.DataFrame:
    """Return the rows of one point from an instant on; of the bars before only what they need is read."""
    span, newest = Span(-FOREVER, FOREVER), -FOREVER
    if since is not None:
        span = Span(to_us(since), FOREVER)
        closes = [
            bars.of(one.facts.scan(BARS), series)
            .filter(pl.col("available_at") < since)
            .select(pl.col("observed_at").max())
            .collect()
            .item()
            for one in sides
        ]
        if all(closes):
            newest = min(to_us(close) for close in closes)
    return states(kind, side.facts, series, side.background(str(series)), span, newest)


def _compared(kind: Kind, series: BarSeries, was: pl.DataFrame, now: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return how many rows, and how many values of each feature, are others."""
    names = [feature.name for feature in features(kind, series.timeframe)]
    both = was.join(now, on="available_at", how="inner", suffix=" now")
    differs = {name: pl.col(name).ne_missing(pl.col(f"{name} now")) for name in names}
    changed = both.select("available_at", *(differs[name].alias(name) for name in names))
    table = f"{kind}_{series.timeframe}"
    rows = pl.DataFrame(
        {
            "table": [table],
            "symbol": [series.symbol],
            NEW: [now.height - both.height],
            GONE: [was.height - both.height],
            "other": [changed.select(pl.any_horizontal(names).sum()).item()],
        },
        schema=_ROWS,
    )
    summed = [
        {
            "table": table,
            "symbol": series.symbol,
            "feature": name,
            "values": told.height,
            "first": told["available_at"].min(),
            "last": told["available_at"].max(),
            "most": told.select((pl.col(f"{name} now") - pl.col(name)).abs().cast(pl.Float64).max()).item(),
        }
        for name in names
        if (told := both.filter(differs[name])).height
    ]
    return rows, pl.DataFrame(summed, schema=_VALUES)


def _examples(
    kind: Kind, series: BarSeries, was: pl.DataFrame, now: pl.DataFrame, changed: pl.DataFrame, sides: list[_Side]
) -> list[Example]:
    known = {feature.name: feature for feature in features(kind, series.timeframe)}
    found = []
    for row in changed.sort("first", "values", maintain_order=True).head(_EXAMPLES).iter_rows(named=True):
        at, name = row["first"], row["feature"]
        told = [
            explain(
                side.facts,
                series,
                kind,
                known[name],
                at,
                scorer=side.scorer(str(series)),
                versions=side.versions,
            ).facts.filter(part=READ)
            for side in sides
        ]
        told = [one.drop("part", "reason") for one in told]
        came, gone = (
            one.join(other, on=one.columns, how="anti", nulls_equal=True) for one, other in (told[::-1], told)
        )
        found.append(
            Example(
                table=row["table"],
                symbol=row["symbol"],
                feature=name,
                available_at=at,
                before=was.filter(pl.col("available_at") == at)[name].item(),
                after=now.filter(pl.col("available_at") == at)[name].item(),
                facts=pl.concat(
                    [
                        came.with_columns(change=pl.lit("read now")),
                        gone.with_columns(change=pl.lit("no longer read")),
                    ]
                ),
            )
        )
    return found
