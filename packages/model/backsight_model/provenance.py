"""Where feature tables came from: the record that their build left in its commit."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from backsight_features.bars import BarSeries
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
        Where no features were built, or from other bars than these.
    """
    names = [f"{kind}_{series.timeframe}" for kind in ("market", "text", "macro")]
    tables = {name: features / name for name in names if DeltaTable.is_deltatable(str(features / name))}
    if not tables:
        raise BadInput(f"no features of {series.timeframe} bars are built; run `backsight build --bars {series}`")
    opened = {name: DeltaTable(str(path)) for name, path in tables.items()}
    newest = opened[names[0]].history(1)[0]
    bars = newest["backsight.bars"].split(", ")
    if str(series) not in bars:
        raise BadInput(
            f"the features were built from {', '.join(bars)}, not {series}; build them from what you train on"
        )
    facts = Snapshot(lake=lake, versions=json.loads(newest["backsight.lake"]))
    return Provenance(
        facts=facts,
        ingested_until=_newest_write(facts),
        scorer=newest["backsight.scorer"],
        feature_versions={name: table.version() for name, table in opened.items()},
    )


def _newest_write(facts: Snapshot) -> datetime:
    written = [facts.scan(table).select(pl.col("ingested_at").max()) for table in FACTS.values()]
    newest: datetime = pl.concat(written).max().collect().item()
    return newest
