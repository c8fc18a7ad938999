"""Where feature tables came from: the record that their build left in its commit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from backsight_features.bars import BarSeries
from backsight_features.build import KINDS
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from deltalake import DeltaTable


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What feature tables were built from.

    Attributes
    ----------
    facts : Snapshot
        The lake as the build read it. Labels come from the same, so that features and labels fit together.
    ingested_until : datetime
        When the newest of these facts was written.
    scorer : str
        Whose scores the texts had; empty for none.
    feature_versions : dict of str to int
        Version of each feature table.
    """

    facts: Snapshot
    ingested_until: datetime
    scorer: str
    feature_versions: dict[str, int]


def provenance(features: Path, lake: Lake, series: BarSeries) -> Provenance:
    """Return what the feature tables of a series' timeframe were built from.

    Parameters
    ----------
    features : Path
        Folder of the feature tables.
    lake : Lake
        Where the facts are.
    series : BarSeries
        The bars that labels are to be made of.

    Raises
    ------
    BadInput
        Where no features were built, or from other bars than these, or the tables were not built together.
    """
    paths = {f"{kind}_{series.timeframe}": features / f"{kind}_{series.timeframe}" for kind in KINDS}
    if not all(DeltaTable.is_deltatable(str(path)) for path in paths.values()):
        raise BadInput(f"no features of {series.timeframe} bars are built; run `backsight build --bars {series}`")
    opened = {name: DeltaTable(str(path)) for name, path in paths.items()}
    records = [_record(table, series) for table in opened.values()]
    if any(record != records[0] for record in records):
        raise BadInput(
            f"a build of {series} was broken off: {', '.join(paths)} come from different states of the lake; "
            f"run `backsight build --bars {series}`"
        )
    facts = Snapshot(lake=lake, versions=json.loads(records[0]["backsight.lake"]))
    return Provenance(
        facts=facts,
        ingested_until=_newest_write(facts),
        scorer=records[0]["backsight.scorer"],
        feature_versions={name: table.version() for name, table in opened.items()},
    )


def _record(table: DeltaTable, series: BarSeries) -> Mapping[str, Any]:
    """Return what the newest build of a series' symbol left in its commit: rows of other symbols have their own."""
    for commit in table.history():
        built = [BarSeries.parse(name) for name in commit.get("backsight.bars", "").split(", ") if name]
        own = next((one for one in built if one.symbol == series.symbol), None)
        if own == series:
            return {name: value for name, value in commit.items() if name.startswith("backsight.")}
        if own is not None:
            raise BadInput(f"the features were built from {own}, not {series}; build them from what you train on")
    raise BadInput(f"no features of {series} are built; run `backsight build --bars {series}`")


def _newest_write(facts: Snapshot) -> datetime:
    written = [facts.scan(table).select(pl.col("ingested_at").max()) for table in FACTS.values()]
    newest: datetime = pl.concat(written).max().collect().item()
    return newest
