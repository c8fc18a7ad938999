"""A lake as it stood at one moment, so that what is read from several tables fits together and can be read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from backsight_features import delta
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

    def added(self, table: Table, since: int | None) -> pl.LazyFrame | None:
        """Return the facts of a table that came in after an older version of it, unordered.

        Only what came in is read. None where that cannot be told: the older version cannot be opened any more, or
        facts went or were written anew in between.
        """
        version = self.versions[table.name]
        if since == version or since is None:
            return self.scan(table).clear() if since == version else self.scan(table)
        now, then = (self._open(table, number) for number in (version, since))
        if now is None or then is None:
            return None
        facts = delta.added(now, then)
        if facts is None:
            return None
        facts = facts.select(*table.columns, "ingested_at")
        return facts if self.ingested_until is None else facts.filter(pl.col("ingested_at") <= self.ingested_until)

    def ids(self) -> dict[str, str | None]:
        """Return Delta's id of each fact table, None for one that did not exist."""
        opened = {name: self._open(table, self.versions[name]) for name, table in FACTS.items()}
        return {name: None if table is None else str(table.metadata().id) for name, table in opened.items()}

    def _open(self, table: Table, version: int | None) -> DeltaTable | None:
        if version is None:
            return None
        try:
            return delta.open(delta.join(self.lake.root, table.name), version=version)
        except DeltaError:
            # The log of an old version is kept for a month only.
            return None
