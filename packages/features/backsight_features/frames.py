"""Facts in memory: what is read where a lake would be, so that some of its facts can be taken away or changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from backsight_features.schemas import FACTS, Table


@dataclass(frozen=True)
class Frames:
    """Facts that were never written.

    Parameters
    ----------
    frames : mapping of str to pl.DataFrame
        Facts by table name, each with all columns of its table and ``ingested_at``; of a table that is left out there
        are none.
    """

    frames: Mapping[str, pl.DataFrame]

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return all versions of all facts of a table, unordered."""
        return self[table.name].lazy()

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name] if name in self.frames else FACTS[name].empty()

    def items(self) -> Iterator[tuple[Table, pl.DataFrame]]:
        """Yield each table with its facts."""
        for name, table in FACTS.items():
            yield table, self[name]

    def having(self, **frames: pl.DataFrame) -> "Frames":
        """Return the same facts with other ones in some tables."""
        return Frames({**self.frames, **frames})
