"""A lake as it stood at one moment, so that what is read from several tables fits together and can be read again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import polars as pl
from deltalake import DeltaTable

from backsight_features import changes, delta
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, Table


class Facts(Protocol):
    """Where facts are read: a `Snapshot`, or `frames.Frames` that were never written."""

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return all versions of all facts of a table, unordered."""
        ...


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
    _opened: dict[tuple[str, int], DeltaTable] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def take(cls, lake: Lake, *, ingested_until: datetime | None = None) -> "Snapshot":
        """Return the lake as it is now."""
        opened = {name: delta.open(delta.join(lake.root, name)) for name in FACTS}
        versions = {name: None if handle is None else handle.version() for name, handle in opened.items()}
        taken = cls(lake=lake, versions=versions, ingested_until=ingested_until)
        taken._opened.update(
            {(name, handle.version()): handle for name, handle in opened.items() if handle is not None}
        )
        return taken

    def renewed(self) -> "Snapshot":
        """Return the lake as it is now, with the same bound."""
        return Snapshot.take(self.lake, ingested_until=self.ingested_until)

    def is_newest(self) -> bool:
        """Return whether the lake is still as it was."""
        now = self.renewed()
        return now.versions == self.versions and now.ids() == self.ids()

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return all versions of all facts of a table, unordered.

        Raises
        ------
        delta.Gone
            If the table cannot be read any more as it was then: maintenance keeps its versions for a while only.
        """
        handle = self._open(table, self.versions[table.name])
        return table.empty().lazy() if handle is None else self._facts(table, delta.scan(handle))

    def added(self, table: Table, since: int | None) -> pl.LazyFrame | None:
        """Return the facts of a table that came in after an older version of it, unordered.

        Only what came in is read. None where that cannot be told: the older version cannot be read any more, or facts
        went in between.
        """
        version = self.versions[table.name]
        if since == version or since is None:
            return self.scan(table).clear() if since == version else self.scan(table)
        now = self._open(table, version)
        try:
            then = self._open(table, since)
        except delta.Gone:
            return None
        if now is None or then is None:
            return None
        rows = changes.added(now, then)
        return None if rows is None else self._facts(table, rows)

    def ids(self) -> dict[str, str | None]:
        """Return Delta's id of each fact table, None for one that did not exist."""
        opened = {name: self._open(table, self.versions[name]) for name, table in FACTS.items()}
        return {name: None if handle is None else str(handle.metadata().id) for name, handle in opened.items()}

    def _facts(self, table: Table, rows: pl.LazyFrame) -> pl.LazyFrame:
        facts = rows.select(*table.columns, "ingested_at")
        return facts if self.ingested_until is None else facts.filter(pl.col("ingested_at") <= self.ingested_until)

    def _open(self, table: Table, version: int | None) -> DeltaTable | None:
        """Return a version of a table, opened once: a version never changes."""
        if version is None:
            return None
        key = (table.name, version)
        if key not in self._opened:
            handle = delta.open(delta.join(self.lake.root, table.name), version=version)
            if handle is None:
                return None
            self._opened[key] = handle
        return self._opened[key]
