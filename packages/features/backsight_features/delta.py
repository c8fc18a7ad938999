"""Reading Delta tables."""

import polars as pl
from deltalake import DeltaTable


def scan(table: DeltaTable) -> pl.LazyFrame:
    """Return the rows of a table at the version it was opened at, unordered."""
    # polars looks for a local file under its percent-encoded name: behind a blank in the path it would find nothing.
    encoded = table.table_uri.startswith("file://") and "%" in table.table_uri
    return pl.scan_delta(table, use_pyarrow=encoded)
