"""A lake as it stood at one moment, so that what is read from several tables fits together and can be read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, Table


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The facts of a lake at given versions.

    Parameters
    ----------
    lake : Lake
        Where from.
    versions : mapping of str to int or None
        Version of each fact table; None for one that did not exist.
    ingested_until : datetime, optional
        Leave out what was written after this instant.
    """

    lake: Lake
    versions: Mapping[str, int | None]
    ingested_until: datetime | None = None

    @classmethod
    def take(cls, lake: Lake, *, ingested_until: datetime | None = None) -> "Snapshot":
        """Return the lake as it is now."""
        versions = {name: lake.version(table) for name, table in FACTS.items()}
        return cls(lake=lake, versions=versions, ingested_until=ingested_until)

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return all versions of all facts of a table, unordered."""
        version = self.versions[table.name]
        if version is None:
            return table.empty().lazy()
        return self.lake.scan(table, version=version, ingested_until=self.ingested_until)
