"""Where feature tables came from: the record that their build left in its commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from backsight_features import delta
from backsight_features.bars import BarSeries
from backsight_features.building.record import Record, records
from backsight_features.building.states import KINDS
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from deltalake import DeltaTable

from backsight_model.words import listed


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


def provenance(features: Path | str, lake: Lake, series: Sequence[BarSeries]) -> Provenance:
    """Return what the feature tables of some series' timeframe were built from.

    Parameters
    ----------
    features : Path or str
        Folder or URL of the feature tables.
    lake : Lake
        Where the facts are.
    series : sequence of BarSeries
        The bars that labels are to be made of, of one timeframe.

    Raises
    ------
    BadInput
        Where no features were built, or from other bars than these, or the tables were not built together.
    """
    build = f"run `backsight build {' '.join(f'--bars {one}' for one in series)}`"
    names = [f"{kind}_{series[0].timeframe}" for kind in KINDS]
    opened = {name: table for name in names if (table := delta.open(delta.join(features, name)))}
    if len(opened) < len(names):
        raise BadInput(f"no features of {series[0].timeframe} bars are built; {build}")
    by_series = {str(one): [_record(table, one) for table in opened.values()] for one in series}
    for name, of_tables in by_series.items():
        if any(other != of_tables[0] for other in of_tables):
            raise BadInput(
                f"a build of {name} was broken off: {', '.join(names)} come from different states of the lake; {build}"
            )
    first, *others = (of_tables[0] for of_tables in by_series.values())
    if any(other != first for other in others):
        raise BadInput(f"features of {listed(list(by_series))} come from different states of the lake; {build}")
    facts = Snapshot(lake=lake, versions=first.lake, ingested_until=first.ingested_until)
    return Provenance(
        facts=facts,
        ingested_until=_newest_write(facts),
        scorer=first.scorer,
        feature_versions={name: table.version() for name, table in opened.items()},
    )


def _record(table: DeltaTable, series: BarSeries) -> Record:
    """Return what the rows of a series' symbol follow from: those of other symbols may follow from another lake."""
    kept = records(table)
    if str(series) in kept:
        return kept[str(series)]
    for other in kept:
        if BarSeries.parse(other).symbol == series.symbol:
            raise BadInput(f"the features were built from {other}, not {series}; build them from what you train on")
    raise BadInput(f"no features of {series} are built; run `backsight build --bars {series}`")


def _newest_write(facts: Snapshot) -> datetime:
    written = [facts.scan(table).select(pl.col("ingested_at").max()) for table in FACTS.values()]
    newest: datetime = pl.concat(written).max().collect().item()
    return newest
