"""Feature tables: for each bar series, what was known at each instant, written as Delta tables.

``market_1h``, ``text_1h`` and ``macro_1h`` (for hourly bars) have the same rows: one per symbol and ``available_at``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import filelock
import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake

from backsight_features import __version__, bars, delta, macro, market, text
from backsight_features.bars import BarSeries
from backsight_features.errors import BadInput, Busy
from backsight_features.schemas import MACRO
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer

KINDS: Final = ("market", "text", "macro")

CLOCKS: Final = ("symbol", "observed_at", "available_at")
"""What every feature table has beside its features."""

_MOST_FILES: Final = 64
_LOCK_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Built:
    """The rows of one symbol in one table.

    Parameters
    ----------
    table : str
        ``market_1h``.
    symbol : str
        ``BTC-USD``.
    rows : int
        How many.
    first, last : datetime
        The first and last ``available_at``.
    """

    table: str
    symbol: str
    rows: int
    first: datetime
    last: datetime


@dataclass(frozen=True, kw_only=True)
class States:
    """The three feature frames of one bar series, row by row at the same instants.

    Parameters
    ----------
    market, text, macro : pl.DataFrame
        ``symbol``, ``observed_at``, ``available_at`` and the features.
    """

    market: pl.DataFrame
    text: pl.DataFrame
    macro: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class Background:
    """What is read once for all bar series.

    Parameters
    ----------
    texts : dict of str to pl.DataFrame
        First sights per source, see `text.first_sights`.
    vintages : pl.DataFrame
        The lake's macro table.
    scorer : Scorer or None
        Whose scores the texts have.
    """

    texts: dict[str, pl.DataFrame]
    vintages: pl.DataFrame
    scorer: Scorer | None

    @classmethod
    def read(cls, facts: Snapshot, wanted: Scorer | None) -> "Background":
        """Return it from a lake; errors as in `text.choose_scorer`."""
        scorer = text.choose_scorer(facts, wanted)
        return cls(
            texts={source: text.read(facts, source, scorer) for source in text.SOURCES},
            vintages=facts.scan(MACRO).collect(),
            scorer=scorer,
        )

    def gaps(self) -> list[str]:
        """Return what is not there and leaves features null, in words."""
        gaps = [
            f"no texts of {source}: its features are null" for source, texts in self.texts.items() if texts.is_empty()
        ]
        if self.scorer is None:
            gaps.append("no text was scored: all sentiment is null")
        if missing := macro.absent(self.vintages):
            gaps.append(f"no macro series {', '.join(missing)}: their features are null")
        return gaps


def states(facts: Snapshot, series: BarSeries, background: Background) -> States:
    """Return all features of one bar series, from nothing but the lake.

    Raises
    ------
    BadInput
        If the lake has no such bars.
    """
    market_rows = market.market(bars.read(facts, series), series.timeframe)
    clocks = market_rows.select(pl.lit(series.symbol).alias("symbol"), "observed_at", "available_at")
    at = clocks["available_at"]
    said = [text.text(texts, source, at, series.grid.step).get_columns() for source, texts in background.texts.items()]
    return States(
        market=clocks.with_columns(market_rows.drop("observed_at", "available_at").get_columns()),
        text=clocks.with_columns(column for columns in said for column in columns),
        macro=clocks.with_columns(macro.macro(background.vintages, at).get_columns()),
    )


def build(
    facts: Snapshot,
    folder: Path,
    series: Sequence[BarSeries],
    *,
    scorer: Scorer | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Built]:
    """Compute the features of bar series and write their tables.

    The rows of the symbols that are built become those computed now, in one commit per table, those of others stay.
    The commit records the series, the lake's versions, the scorer and the version of this code; where rows and record
    are as before there is none.

    Parameters
    ----------
    facts : Snapshot
        The lake.
    folder : Path
        Where the tables are.
    series : sequence of BarSeries
        At most one per symbol and timeframe.
    scorer : Scorer, optional
        Whose scores to use; may be left out where the lake has those of one only.
    say : callable
        Told what is going on, a line at a time, warnings too.

    Raises
    ------
    BadInput
        If a series is not in the lake, two have one symbol and timeframe, the scorer is unknown or not unique, or a
        table has other columns and symbols that are not built now.
    Busy
        If another build has been writing these tables for half a minute.
    """
    _check_distinct(series)
    bars.check(facts, series)
    background = Background.read(facts, scorer)
    for gap in background.gaps():
        say(f"warning: {gap}")
    built = []
    for timeframe in dict.fromkeys(one.timeframe for one in series):
        same = sorted((one for one in series if one.timeframe == timeframe), key=lambda one: one.symbol)
        made = []
        for one in same:
            made.append(states(facts, one, background))
            say(f"{one}: {made[-1].market.height:,} rows")
        metadata = {
            "backsight.bars": ", ".join(map(str, same)),
            "backsight.lake": json.dumps(dict(facts.versions)),
            "backsight.scorer": str(background.scorer or ""),
            "backsight.version": __version__,
        }
        frames = {f"{kind}_{timeframe}": pl.concat([getattr(one, kind) for one in made]) for kind in KINDS}
        with _writing(folder, timeframe):
            # Before any is written: all three can be.
            as_before = {name: _is_as_before(folder / name, rows) for name, rows in frames.items()}
            for name, rows in frames.items():
                _write(folder / name, rows, as_before=as_before[name], metadata=metadata)
                built.extend(_spans(name, rows))
    return built


def _check_distinct(series: Sequence[BarSeries]) -> None:
    named: dict[tuple[str, str], BarSeries] = {}
    for one in series:
        other = named.setdefault((one.symbol, one.timeframe), one)
        if other is not one:
            raise BadInput(f"{other} and {one} would be the same rows; a symbol has one venue per timeframe")


def _is_as_before(path: Path, rows: pl.DataFrame) -> bool:
    """Return whether a table exists with the columns of these rows.

    Raises
    ------
    BadInput
        If it has others, and symbols that are not among the rows: they would be left half old, half new.
    """
    if not DeltaTable.is_deltatable(str(path)):
        return False
    stored = delta.scan(DeltaTable(str(path)))
    if stored.collect_schema() == rows.schema:
        return True
    built = rows["symbol"].unique().to_list()
    others = stored.filter(~pl.col("symbol").is_in(built)).select(pl.col("symbol").unique().sort()).collect()
    if others.height:
        names = ", ".join(others["symbol"])
        raise BadInput(f"{path.name} has other features than this version computes; build {names} in the same call")
    return False


def _write(path: Path, rows: pl.DataFrame, *, as_before: bool, metadata: dict[str, str]) -> None:
    """Make rows those of their symbols, in at most one commit.

    Rows do not change with what becomes known after them, so a table mostly grows at its end. Then only what is new
    is appended, until there are so many small files that reading them would be slow.
    """
    properties = CommitProperties(custom_metadata=metadata)
    if not as_before:
        write_deltalake(
            str(path), rows.to_arrow(), mode="overwrite", schema_mode="overwrite", commit_properties=properties
        )
        return
    stored = DeltaTable(str(path))
    symbols = rows["symbol"].unique().to_list()
    old = delta.scan(stored).filter(pl.col("symbol").is_in(symbols)).sort("symbol", "available_at").collect()
    reached = old.group_by("symbol").agg(until=pl.col("available_at").max())
    is_new = rows.join(reached, on="symbol", how="left", maintain_order="left").select(
        (pl.col("available_at") > pl.col("until")).fill_null(True)
    )
    new = rows.filter(is_new.to_series())
    if rows.filter(~is_new.to_series()).equals(old, null_equal=True) and len(stored.file_uris()) < _MOST_FILES:
        # A commit without rows still says that they follow from the lake as it is now.
        if new.height or not metadata.items() <= stored.history(1)[0].items():
            write_deltalake(stored, new.to_arrow(), mode="append", commit_properties=properties)
        return
    listed = ", ".join("'" + symbol.replace("'", "''") + "'" for symbol in symbols)
    write_deltalake(
        stored, rows.to_arrow(), mode="overwrite", predicate=f"symbol IN ({listed})", commit_properties=properties
    )


def _spans(name: str, rows: pl.DataFrame) -> list[Built]:
    spans = rows.group_by("symbol", maintain_order=True).agg(
        rows=pl.len(), first=pl.col("available_at").min(), last=pl.col("available_at").max()
    )
    return [Built(table=name, **span) for span in spans.iter_rows(named=True)]


@contextmanager
def _writing(folder: Path, timeframe: str) -> Iterator[None]:
    """Hold the writer lock of the tables of one timeframe."""
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(locks / f"{timeframe}.lock", timeout=_LOCK_WAIT_SECONDS):
            yield
    except filelock.Timeout:
        raise Busy(f"another build has been writing {folder} for {_LOCK_WAIT_SECONDS:.0f} s") from None
