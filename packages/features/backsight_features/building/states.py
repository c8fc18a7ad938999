"""States of knowledge: the feature rows of a bar series in a span of instants, from nothing but the lake."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import polars as pl

from backsight_features import bars, book, macro, market, text
from backsight_features.bars import BarSeries
from backsight_features.clocks import UTC_US
from backsight_features.decay import HORIZON, bucket_length
from backsight_features.feature import Feature
from backsight_features.schemas import BARS, BOOKS, MACRO, NEWS, POSTS, SCORES, Table
from backsight_features.sights import SOURCES, Texts
from backsight_features.snapshot import Facts
from backsight_features.spans import ALWAYS, FOREVER, Span
from backsight_features.text import Scorer

Kind = Literal["market", "text", "macro", "book"]

KINDS: Final[tuple[Kind, ...]] = ("market", "text", "macro", "book")

CLOCKS: Final = ("symbol", "observed_at", "available_at")
"""What every feature table has beside its features."""

READS: Final[dict[Kind, tuple[Table, ...]]] = {
    "market": (BARS,),
    "text": (BARS, POSTS, NEWS, SCORES),
    "macro": (BARS, MACRO),
    "book": (BARS, BOOKS),
}
"""The facts that the features of a kind are made of; bars make the rows of all."""


@dataclass(frozen=True, kw_only=True)
class Background:
    """What is read once for all bar series.

    Parameters
    ----------
    texts : dict of str to Texts
        Per source.
    vintages : pl.DataFrame
        The lake's macro table.
    scorer : Scorer or None
        Whose scores the texts have.
    """

    texts: dict[str, Texts]
    vintages: pl.DataFrame
    scorer: Scorer | None

    @classmethod
    def read(cls, facts: Facts, scorer: Scorer | None, versions: pl.DataFrame) -> "Background":
        """Return it from a lake.

        Parameters
        ----------
        facts : Facts
            The lake.
        scorer : Scorer or None
            Whose scores; None for none.
        versions : pl.DataFrame
            `sights.VERSIONS` of the lake's texts.
        """
        scores = text.by(facts.scan(SCORES), scorer)
        return cls(
            texts={
                source: Texts(versions=versions.filter(pl.col("source") == source), scores=scores) for source in SOURCES
            },
            vintages=facts.scan(MACRO).collect(),
            scorer=scorer,
        )

    def gaps(self) -> list[str]:
        """Return what is not there and leaves features null, in words."""
        gaps = [
            f"no texts of {source}: its features are null"
            for source, texts in self.texts.items()
            if texts.versions.is_empty()
        ]
        if self.scorer is None:
            gaps.append("no text was scored: all sentiment is null")
        if missing := macro.absent(self.vintages):
            gaps.append(f"no macro series {', '.join(missing)}: their features are null")
        return gaps


def features(kind: Kind, bar: str) -> tuple[Feature, ...]:
    """Return the features of one table for bars of one length, ``1h``."""
    return {"market": market.features, "text": text.features, "macro": macro.features, "book": book.features}[kind](bar)


def columns(kind: Kind, bar: str) -> pl.Schema:
    """Return the columns of one table for bars of one length, ``1h``."""
    clocks = {"symbol": pl.String(), "observed_at": UTC_US, "available_at": UTC_US}
    return pl.Schema({**clocks, **{feature.name: pl.Float32() for feature in features(kind, bar)}})


def memory(kind: Kind, bar: str) -> int:
    """Return how many slots before the newest the bars decide about a row of one table."""
    return market.memory(bar) if kind == "market" else 0


def states(
    kind: Kind,
    facts: Facts,
    series: BarSeries,
    background: Background,
    within: Span = ALWAYS,
    newest: int = -FOREVER,
) -> pl.DataFrame:
    """Return the rows of one bar series in one table: one per instant at which a bar became known.

    Parameters
    ----------
    kind : {"market", "text", "macro", "book"}
        Which table.
    facts : Facts
        The lake.
    series : BarSeries
        Whose rows.
    background : Background
        Read from the same lake.
    within : Span
        The instants to return. The values do not depend on it.
    newest : int
        Allows not to read all bars: a close that was known before the span, see `bars.needed`.

    Returns
    -------
    pl.DataFrame
        `CLOCKS` and the features, ascending by ``available_at``.
    """
    bar, step = series.timeframe, series.grid.step
    symbol = pl.lit(series.symbol).alias("symbol")
    if kind == "market":
        versions = bars.needed(facts, series, within, newest, memory(kind, bar))
        return market.market(versions, bar, within).select(symbol, pl.all())
    clocks = bars.clocks(bars.stamps(facts, series, within, newest), series.grid, within).select(symbol, pl.all())
    at = clocks["available_at"]
    if at.is_empty():
        return pl.DataFrame(schema=columns(kind, bar))
    if kind == "macro":
        return clocks.with_columns(macro.macro(background.vintages, at).get_columns())
    if kind == "book":
        return clocks.with_columns(book.book(book.needed(facts, series, at[0], at[-1]), at, bar).get_columns())
    said = [text.text(_lately(texts, at, step), source, at, step) for source, texts in background.texts.items()]
    return clocks.with_columns(column for frame in said for column in frame.get_columns())


def _lately(texts: Texts, at: pl.Series, step: timedelta) -> pl.DataFrame:
    """Return the first sights that may count at some instants, in their order."""
    return texts.since(at[0] - HORIZON - bucket_length(step)).filter(pl.col("known_at") <= at[-1])
