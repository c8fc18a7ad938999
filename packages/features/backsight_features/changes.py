"""What came into a Delta table after an older version of it, told from the log.

A commit says of each file that it adds or removes whether that changes the data. Compaction only puts rows into other
files, so what came in is in the files of the other commits, and those stay for a while after they were put together.
"""

import io
from typing import Final

import polars as pl
from deltalake import DeltaTable

from backsight_features import delta

_ACTION: Final = pl.Struct({"path": pl.String, "dataChange": pl.Boolean})


def added(table: DeltaTable, since: DeltaTable) -> pl.LazyFrame | None:
    """Return the rows that a table got after an older version of it, unordered; only files that came in are read.

    Parameters
    ----------
    table, since : DeltaTable
        Two versions of one table.

    Returns
    -------
    pl.LazyFrame or None
        Without the columns that make folders. None where rows went too, or where it cannot be told any more: the
        commits in between, or files that were put together, were cleaned up.
    """
    before, now = delta.paths(since), delta.paths(table)
    new: set[str] | None = now - before
    if not before <= now:
        new = _written(table, since.version())
        if new is None or delta.absent(table, new - now):
            return None
    if not new:
        return delta.scan(table).clear()
    return pl.scan_parquet(
        delta.addresses(table, sorted(new)),
        glob=False,
        hive_partitioning=False,
        storage_options=table._storage_options,
    )


def _written(table: DeltaTable, since: int) -> set[str] | None:
    """Return the files whose rows came in after a version; None where rows went too or the log is not complete."""
    log = delta.filesystem(table.table_uri, table._storage_options)
    try:
        commits = [
            log.open_input_stream(f"_delta_log/{version:020d}.json").read()
            for version in range(since + 1, table.version() + 1)
        ]
    except FileNotFoundError:
        return None
    actions = pl.read_ndjson(io.BytesIO(b"\n".join(commits)), schema={"add": _ACTION, "remove": _ACTION})
    if actions.select((pl.col("remove").struct["dataChange"]).any()).item():
        return None
    return set(actions.select(pl.col("add").struct.unnest()).filter("dataChange")["path"])
