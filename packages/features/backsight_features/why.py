"""Why a feature has the value it has: every fact behind it with its clocks, and those that were passed over.

The value is computed anew from exactly the facts that were read, by the functions that built the table.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import DeltaTable

from backsight_features import delta
from backsight_features.bars import BarSeries
from backsight_features.behind import bars as bars_behind
from backsight_features.behind import books as books_behind
from backsight_features.behind import texts as texts_behind
from backsight_features.behind import vintages as vintages_behind
from backsight_features.behind.facts import Behind
from backsight_features.building.identities import identify, kept
from backsight_features.building.record import Record, records
from backsight_features.building.states import KINDS, READS, Background, Kind, features, states
from backsight_features.clocks import to_us
from backsight_features.errors import BadInput
from backsight_features.feature import Feature
from backsight_features.frames import Frames
from backsight_features.lake import Lake
from backsight_features.maintenance import folders
from backsight_features.purged import PURGED
from backsight_features.schemas import FACTS, Table
from backsight_features.sights import VERSIONS
from backsight_features.snapshot import Facts, Snapshot
from backsight_features.spans import Span
from backsight_features.text import Scorer

_NAMED: Final = 12
"""Names that an error lists."""


@dataclass(frozen=True, kw_only=True)
class Why:
    """A value and what it follows from.

    Parameters
    ----------
    series : BarSeries
        Whose row it is in.
    table : str
        ``market_1h``.
    feature : Feature
        What it is a value of.
    at : datetime
        The instant that was asked for.
    observed_at, available_at : datetime
        Of the row: the newest close known, and the row's own instant.
    value : float or None
        From the facts that were read; None where it is undefined.
    facts : pl.DataFrame
        With the columns of `behind.facts.SCHEMA`.
    notes : list of str
        What else a person should know.
    """

    series: BarSeries
    table: str
    feature: Feature
    at: datetime
    observed_at: datetime
    available_at: datetime
    value: float | None
    facts: pl.DataFrame
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A row of a feature table, as far as one feature goes.

    Parameters
    ----------
    series : BarSeries
        Of whose bars it was made.
    kind : {"market", "text", "macro", "book"}
        In which table.
    feature : Feature
        Which.
    available_at : datetime
        The row's instant.
    value : float or None
        What is stored.
    record : Record
        What the rows follow from.
    """

    series: BarSeries
    kind: Kind
    feature: Feature
    available_at: datetime
    value: float | None
    record: Record

    def differs(self, why: Why) -> bool:
        """Return whether it is another value than follows from the facts, to the last bit."""
        return _bits(self.value) != _bits(why.value)


def explain(
    facts: Facts,
    series: BarSeries,
    kind: Kind,
    feature: Feature,
    at: datetime,
    *,
    scorer: Scorer | None,
    versions: pl.DataFrame | None = None,
    asked: datetime | None = None,
) -> Why:
    """Return what a value follows from.

    Parameters
    ----------
    facts : Facts
        The lake.
    series : BarSeries
        Whose row.
    kind : {"market", "text", "macro", "book"}
        In which table.
    feature : Feature
        Which of its features.
    at : datetime
        ``available_at`` of the row: an instant at which a bar of the series became known.
    scorer : Scorer or None
        Whose scores are read.
    versions : pl.DataFrame, optional
        `sights.VERSIONS` of the lake's texts; worked out from all texts unless given.
    asked : datetime, optional
        The instant asked for, if it is later than the row's.

    Raises
    ------
    BadInput
        If no bar of the series became known at the instant.
    """
    asked = asked or at
    making = bars_behind.making(facts, series, at)
    if making.listed.is_empty():
        raise BadInput(f"no bar of {series} became known at {at:%Y-%m-%dT%H:%M:%S.%fZ}; there is no row then")
    found = _behind(facts, series, kind, feature, at, asked, scorer, versions)
    listed, read = found.listed, {**making.read, **found.read}
    if kind != "market":
        listed = pl.concat([listed, making.listed])
    return Why(
        series=series,
        table=f"{kind}_{series.timeframe}",
        feature=feature,
        at=asked,
        observed_at=bars_behind.newest_close(facts, series, at),
        available_at=at,
        value=_value(Frames(read), series, kind, feature, at, scorer),
        facts=listed,
        notes=found.notes,
    )


def find(features_root: str | Path, symbol: str, name: str, at: datetime, series: BarSeries | None = None) -> Stored:
    """Return the row of a feature table from which a value would be served at an instant.

    Parameters
    ----------
    features_root : str or Path
        Where the feature tables are.
    symbol, name : str
        ``BTC-USD``, ``rsi_14``.
    at : datetime
        The instant.
    series : BarSeries, optional
        Whose bars; needed where the symbol has features of several timeframes under that name.

    Raises
    ------
    BadInput
        If there is no such table, symbol or feature, several fit, or nothing was known at the instant.
    """
    places = _places(features_root, symbol, name)
    if series is not None:
        places = [place for place in places if place[0] == series]
        if not places:
            raise BadInput(f"no feature {name} of {series} is built; run `backsight build --bars {series}`")
    if len(places) > 1:
        names = ", ".join(str(place[0]) for place in places)
        raise BadInput(f"{name} of {symbol} is built for several timeframes; choose one with --bars: {names}")
    [(own, kind, feature, table, record)] = places
    rows = delta.scan(table).filter(pl.col("symbol") == symbol)
    newest = rows.filter(pl.col("available_at") <= at).select(pl.col("available_at").max()).collect().item()
    if newest is None:
        first = rows.select(pl.col("available_at").min()).collect().item()
        raise BadInput(f"nothing was known of {symbol} at {at:%Y-%m-%dT%H:%M:%SZ}; its first row is of {first:%FT%TZ}")
    value = rows.filter(pl.col("available_at") == newest).select(name).collect().item()
    return Stored(series=own, kind=kind, feature=feature, available_at=newest, value=value, record=record)


def explain_stored(lake: Lake, features_root: str | Path, stored: Stored, asked: datetime) -> Why:
    """Return what a stored value follows from: the facts of the lake as its build read them.

    Where that version of the lake is not kept any more, the lake as it is now; `Why.notes` says so.

    Parameters
    ----------
    lake : Lake
        Where the facts are.
    features_root : str or Path
        Where the feature tables are.
    stored : Stored
        From `find`.
    asked : datetime
        The instant asked for.
    """
    record = stored.record
    # Texts are taken from where a build keeps them, if it read the same lake: all of it.
    tables = tuple(FACTS.values()) if stored.kind == "text" else READS[stored.kind]
    facts = Snapshot(lake=lake, versions=record.lake, ingested_until=record.ingested_until)
    now = facts.renewed()
    notes = []
    if gone := _gone(facts, now, record, tables):
        notes.append(f"the lake cannot be read as it was at the build, so it is read as it is now: {gone}")
        facts = now
    elif any(facts.versions[table.name] != now.versions[table.name] for table in READS[stored.kind]):
        notes.append("the lake was written to since the build; what came in has no part in this value")
    versions = None
    if stored.kind == "text":
        versions = kept(facts, features_root)
        purged = lake.scan(PURGED).select("id_sha256").collect().height
        if purged:
            notes.append(f"{purged} posts were purged from this lake for good: nothing is left of them to be shown")
    age, most = asked - stored.available_at, stored.feature.max_age
    if age > most:
        notes.append(f"the row is {_words(age)} old at the instant; it is served for {_words(most)}")
    found = explain(
        facts,
        stored.series,
        stored.kind,
        stored.feature,
        stored.available_at,
        scorer=Scorer.parse(record.scorer) if record.scorer else None,
        versions=versions,
        asked=asked,
    )
    found.notes.extend(notes)
    return found


def _gone(facts: Snapshot, now: Snapshot, record: Record, tables: Sequence[Table]) -> str:
    """Return why tables of a lake cannot be read as they were at a build, in words; empty where they can."""
    ids = now.ids()
    for table in tables:
        if record.lake[table.name] is not None and record.ids[table.name] != ids[table.name]:
            return f"{table.name} is another table than it was"
    try:
        for table in tables:
            facts.scan(table)
    except delta.Gone as error:
        return str(error)
    return ""


def _behind(
    facts: Facts,
    series: BarSeries,
    kind: Kind,
    feature: Feature,
    at: datetime,
    asked: datetime,
    scorer: Scorer | None,
    versions: pl.DataFrame | None,
) -> Behind:
    if kind == "market":
        return bars_behind.behind(facts, series, feature, at, asked)
    if kind == "macro":
        return vintages_behind.behind(facts, feature, at, asked)
    if kind == "book":
        return books_behind.behind(facts, series, feature, at, asked)
    return texts_behind.behind(facts, feature, at, asked, identify(facts) if versions is None else versions, scorer)


def _value(
    read: Frames, series: BarSeries, kind: Kind, feature: Feature, at: datetime, scorer: Scorer | None
) -> float | None:
    """Return the value that follows from some facts alone."""
    versions = identify(read) if kind == "text" else pl.DataFrame(schema=VERSIONS)
    background = Background.read(read, scorer, versions)
    rows = states(kind, read, series, background, Span(to_us(at), to_us(at) + 1))
    value: float | None = rows[feature.name].item()
    return value


def _places(root: str | Path, symbol: str, name: str) -> list[tuple[BarSeries, Kind, Feature, DeltaTable, Record]]:
    """Return where a feature of a symbol is stored: one place for each timeframe that has it."""
    found = []
    symbols: set[str] = set()
    names: set[str] = set()
    for folder in folders(root):
        kind_name, _, timeframe = folder.partition("_")
        kind = next((one for one in KINDS if one == kind_name), None)
        table = delta.open(delta.join(root, folder)) if kind else None
        if kind is None or table is None:
            continue
        known = {feature.name: feature for feature in features(kind, timeframe)}
        for text, record in records(table).items():
            series = BarSeries.parse(text)
            symbols.add(series.symbol)
            names.update(known)
            if series.symbol == symbol and name in known:
                found.append((series, kind, known[name], table, record))
    if not symbols:
        raise BadInput(f"no features are built in {root}; run `backsight build`")
    if symbol not in symbols:
        raise BadInput(f"no features of {symbol!r} are built; there are those of {_listed(sorted(symbols))}")
    if not found:
        near = get_close_matches(name, names, _NAMED, 0.4) or sorted(names)
        raise BadInput(f"no feature {name!r} of {symbol}; there are {_listed(near)}")
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _words(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<f", value)
