"""The lake: append-only Delta tables in which every fact keeps all the versions that were ever known.

Nothing is updated. What comes in is compared with what is stored, and only what says something new is appended, in
one commit that also moves the caller's watermark. A crash at any point therefore repeats work and changes nothing. The
commit is made only if the table is still as it was compared with; so any number of hosts may append at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import polars as pl
from deltalake import DeltaTable, Transaction

from backsight_features import delta
from backsight_features.clocks import UTC_US
from backsight_features.errors import Drifted
from backsight_features.purged import spared
from backsight_features.schemas import Table

_PERIOD: Final = {"month": "%Y-%m", "year": "%Y"}


@dataclass(frozen=True, kw_only=True)
class Appended:
    """What became of the rows of one append.

    Parameters
    ----------
    accepted : int
        Rows written.
    duplicate : int
        Rows that said nothing new, or were about what was purged.
    """

    accepted: int
    duplicate: int


class Lake:
    """Delta tables in one place, one per `Table`.

    Parameters
    ----------
    root : str or Path
        A folder, or a URL as in ``s3://bucket/team/lake``; a table is made by its first append.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = root

    def append(
        self,
        table: Table,
        rows: pl.DataFrame,
        *,
        now: datetime,
        app: str | None = None,
        watermark: int | None = None,
    ) -> Appended:
        """Write the rows that say something new, and the watermark, in one commit.

        A version whose instant is only estimated, of a fact that is stored with other content, is a correction:
        nobody can have known it before it was first seen here, so it becomes available at ``now``.

        Parameters
        ----------
        table : Table
            Where to.
        rows : pl.DataFrame
            Has the table's columns. Rules are not checked here; see `schemas.validate`.
        now : datetime
            Becomes ``ingested_at``.
        app, watermark : str and int, optional
            Who writes, and how far that source has been read with this batch. A batch at or below the stored
            watermark was written before: all its rows are duplicates.

        Raises
        ------
        Drifted
            If a column is missing.
        Busy
            If other jobs kept writing the table for half a minute.
        SourceError
            If the object store does not answer, or not to us.
        """
        missing = set(table.columns) - set(rows.columns)
        if missing:
            raise Drifted(f"{table.name}: no column {', '.join(sorted(missing))}")
        rows = rows.select(table.columns.keys())
        transactions = [] if app is None or watermark is None else [Transaction(app, watermark)]
        uri = delta.join(self.root, table.name)
        schema = _with_period(table, table.empty()).to_arrow().schema

        def attempt() -> Appended:
            handle = delta.ensure(uri, schema, partition_by=table.partition, indexed=_indexed(table))
            if app is not None and watermark is not None:
                reached = handle.transaction_version(app)
                if reached is not None and reached >= watermark:
                    return Appended(accepted=0, duplicate=rows.height)
            with delta.unless_outrun(handle):
                new = _news(table, spared(self.root, table, rows), handle, now)
            if new.height > 0 or app is not None:
                stamped = new.with_columns(ingested_at=pl.lit(now, UTC_US))
                delta.append(
                    handle,
                    _with_period(table, stamped),
                    transactions=transactions,
                    repeating=_repeating(table, stamped),
                    indexed=_indexed(table),
                )
            return Appended(accepted=new.height, duplicate=rows.height - new.height)

        return delta.settle(uri, attempt)

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return all versions of all facts of a table, unordered; no row where nothing was written yet."""
        handle = self._open(table)
        return table.empty().lazy() if handle is None else delta.scan(handle).select(*table.columns, "ingested_at")

    def watermark(self, table: Table, app: str) -> int | None:
        """Return how far ``app`` has been read into a table, None if it never was."""
        handle = self._open(table)
        return None if handle is None else handle.transaction_version(app)

    def watermarks(self, table: Table, apps: Iterable[str]) -> dict[str, int | None]:
        """Return how far each of ``apps`` has been read into a table, at one version of it."""
        handle = self._open(table)
        return {app: None if handle is None else handle.transaction_version(app) for app in apps}

    def version(self, table: Table) -> int | None:
        """Return the Delta version of a table, None where it does not exist."""
        handle = self._open(table)
        return None if handle is None else handle.version()

    def _open(self, table: Table) -> DeltaTable | None:
        return delta.open(delta.join(self.root, table.name))


def _indexed(table: Table) -> list[str]:
    """Return the columns by whose bounds files are passed over; what somebody wrote does not belong in the log."""
    clocks = [name for name in ("observed_at", "available_at") if name in table.columns]
    return list(dict.fromkeys([*table.key, *clocks, "ingested_at"]))


def _repeating(table: Table, rows: pl.DataFrame) -> list[str]:
    """Return the columns in which many rows say the same: of what a fact is about, not of what it says."""
    texts = [name for name, dtype in table.columns.items() if dtype == pl.String and name not in table.content]
    return [name for name in texts if 2 * rows[name].n_unique() <= rows.height]


def _with_period(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    if table.partition is None:
        return rows
    begun = rows.with_columns(begins=_begins(table.partition))
    return begun.join(_periods(table.partition, rows), on="begins", how="left", maintain_order="left").drop("begins")


def _periods(partition: Literal["month", "year"], rows: pl.DataFrame) -> pl.DataFrame:
    """Return the calendar units in which rows lie, ``begins`` and its name."""
    # To write an instant in words takes long, so it is done once per unit and not per row.
    name = pl.col("begins").dt.strftime(_PERIOD[partition]).alias(partition)
    return rows.select(begins=_begins(partition)).unique().with_columns(name)


def _begins(partition: Literal["month", "year"]) -> pl.Expr:
    return pl.col("observed_at").dt.truncate({"month": "1mo", "year": "1y"}[partition])


def _news(table: Table, rows: pl.DataFrame, handle: DeltaTable, now: datetime) -> pl.DataFrame:
    """Return the rows that say something new, corrections re-dated, in their order."""
    if rows.is_empty() or table.identity == "none":
        return rows
    stored = _stored(table, rows, handle)
    if table.identity == "row":
        first = rows.unique(table.key, keep="first", maintain_order=True)
        return first.join(stored, on=table.key, how="anti", nulls_equal=True, maintain_order="left")

    if stored.is_empty() and table.apart(rows):
        return rows
    if "observed_at" in table.content:
        rows = _seen_once(table, rows, stored)
    if table.identity == "state":
        rows = _changes(table, rows, stored)
    says = (*table.key, *table.content)
    said = says if table.identity == "sighting" else (*says, "available_at")
    first = (
        rows.with_row_index("position")
        .sort("available_at_estimated", "available_at", "position")
        .unique(said, keep="first", maintain_order=True)
        .sort("position")
        .drop("position")
    )
    known = stored.group_by(says).agg(known_at=pl.col("available_at").min(), instants=pl.col("available_at"))
    seen = (
        pl.col("instants").list.contains(pl.col("available_at"))
        if table.identity != "sighting"
        else pl.col("known_at") <= pl.col("available_at")
    )
    duplicate = pl.col("known_at").is_not_null() & (pl.col("available_at_estimated") | seen)
    new = (
        first.join(known, on=says, how="left", nulls_equal=True, maintain_order="left")
        .filter(~duplicate.fill_null(False))
        .drop("known_at", "instants")
    )
    # What is new of a stored fact says something else, or was sighted earlier, which is no estimate.
    told = stored.select(*table.key, pl.lit(True).alias("told")).unique()
    correction = pl.col("told").fill_null(False) & pl.col("available_at_estimated")
    return (
        new.join(told, on=table.key, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(
            available_at=pl.when(correction)
            .then(pl.max_horizontal("available_at", pl.lit(now, UTC_US)))
            .otherwise("available_at"),
            available_at_estimated=pl.col("available_at_estimated") & ~correction,
        )
        .drop("told")
    )


def _changes(table: Table, rows: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Return the rows without the sightings that say what was known last at their instant."""
    sighted = rows.with_row_index("position").filter(~pl.col("available_at_estimated"))
    says = [*table.key, *table.content, "available_at"]
    versions = pl.concat(
        [stored.select(*says, pl.lit(None, pl.UInt32).alias("position")), sighted.select(*says, "position")]
    )
    content = pl.struct(table.content)
    repeated = (
        versions.filter(pl.struct(table.key).is_duplicated())
        .sort(*table.key, "available_at", "position", nulls_last=False)
        .filter(content.eq_missing(content.shift(1).over(table.key)), pl.col("position").is_not_null())
    )
    return rows.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(repeated["position"].implode()))


def _seen_once(table: Table, rows: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Return the rows without those that bear no date and were seen before.

    What bears no date counts from when it was first seen. Seen again it would seem to say something new: another time.
    """
    undated = rows.select(
        pl.col("available_at_estimated") & (pl.col("observed_at") == pl.col("available_at"))
    ).to_series()
    if not undated.any():
        return rows
    words = [*table.key, *(name for name in table.content if name != "observed_at")]
    known = pl.concat([each.select(words) for each in (stored, rows.filter(~undated))]).unique()
    first = (
        rows.filter(undated)
        .sort("available_at", maintain_order=True)
        .unique(words, keep="first", maintain_order=True)
        .join(known, on=words, how="anti", nulls_equal=True, maintain_order="left")
    )
    return pl.concat([rows.filter(~undated), first])


def _stored(table: Table, rows: pl.DataFrame, handle: DeltaTable) -> pl.DataFrame:
    """Return the stored versions of the facts that ``rows`` are about."""
    facts = delta.scan(handle)
    for name in table.key:
        if not rows[name].has_nulls():
            # The log tells between what bounds a file has its keys, so that few files are opened.
            least, greatest = pl.lit(rows[name].min()), pl.lit(rows[name].max())
            facts = facts.filter(pl.col(name).is_between(least, greatest))
            if "observed_at" not in table.key:
                # Keys without a time lie anywhere between the bounds; this spares the other columns of most rows.
                facts = facts.filter(pl.col(name).is_in(rows[name].unique().implode()))
    wanted = table.key if table.identity == "row" else (*table.key, *table.content, "available_at")
    return facts.select(wanted).join(rows.lazy(), on=table.key, how="semi", nulls_equal=True).collect()
