"""Delta tables in a folder or on an S3-compatible object store: where they are, how they are read and written.

No lock guards them; an object store has none. A writer opens a table, computes from what it reads there, and its commit
is made only if nothing was committed in between (`append`, `replace`); else it computes again (`settle`).
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from backsight_features.errors import Busy, SourceError

_T = TypeVar("_T")

FILE_BYTES: Final = 16 << 20
"""Files are about as large: a replaced row costs the rewriting of one, a read of few rows the reading of one."""

_MOST_SMALL_FILES: Final = 64
_KEPT_HOURS: Final = 7 * 24
"""How long a file that nothing refers to any more stays, for those who opened the table before."""

_PATIENCE: Final = timedelta(seconds=30)
_FEWEST_ATTEMPTS: Final = 10
"""A writer whose work takes long has lost a race less often when its patience ends."""

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_DECORATION: Final = re.compile(r"\x1b\[[0-9;]*m|↳")
_LONGEST_CAUSE: Final = 400


class Outrun(Exception):
    """Another commit came in between; what was computed may be wrong now. Raised for `settle`."""


def join(root: str | Path, *names: str) -> str:
    """Return the place of a table below a folder or URL.

    >>> join("s3://bucket/team/", "lake", "bars")
    's3://bucket/team/lake/bars'
    """
    return "/".join([str(root).rstrip("/"), *names])


def open(uri: str, *, version: int | None = None, options: Mapping[str, str] | None = None) -> DeltaTable | None:
    """Return a table, at its newest version unless another is asked for; None where there is none.

    Parameters
    ----------
    uri : str
        A folder, or a URL such as ``s3://bucket/team/lake/bars``.
    version : int, optional
        Which version.
    options : mapping of str to str, optional
        Settings of the object store beyond the ``AWS_*`` variables of this process.

    Raises
    ------
    SourceError
        If the object store does not answer, or not to us.
    """
    try:
        return DeltaTable(uri, version=version, storage_options=storage_options(uri, options))
    except TableNotFoundError:
        return None
    except OSError as error:
        if "://" not in uri:
            raise
        cause = " ".join(_DECORATION.sub("", str(error)).split())
        raise SourceError(f"{uri} cannot be reached: {cause[:_LONGEST_CAUSE]}") from error


def ensure(uri: str, schema: pa.Schema, *, partition_by: str | None = None) -> DeltaTable:
    """Return a table at its newest version, made empty where there was none; errors as in `open`."""
    table = open(uri)
    if table is not None:
        return table
    try:
        return DeltaTable.create(uri, schema=schema, partition_by=partition_by, storage_options=storage_options(uri))
    except DeltaError:
        # Another process was quicker.
        table = open(uri)
        if table is None:
            raise
        return table


def storage_options(uri: str, options: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Return what delta-rs and polars have to be told of an object store, or None.

    Both read the ``AWS_*`` variables themselves; they refuse an endpoint without TLS unless told that it is meant.

    Parameters
    ----------
    uri : str
        The folder or URL.
    options : mapping of str to str, optional
        Settings that go before the variables.
    """
    if not uri.startswith("s3://"):
        return dict(options) if options else None
    endpoint = next((value for name in _ENDPOINTS if (value := (options or {}).get(name) or os.environ.get(name))), "")
    return {"AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower(), **(options or {})}


def scan(table: DeltaTable) -> pl.LazyFrame:
    """Return the rows of a table at the version it was opened at, unordered."""
    # polars takes the percent-encoded address for the name: behind a blank in the path it would find nothing.
    return pl.scan_delta(table, use_pyarrow="%" in table.table_uri)


def added(table: DeltaTable, since: DeltaTable) -> pl.LazyFrame | None:
    """Return the rows that an append-only table got after an older version of it, unordered.

    Only the files that came in are read. None where files went too: then rows may have gone, or be there anew.
    """
    before, now = (
        set(pl.DataFrame(version.get_add_actions()).get_column("path").to_list()) for version in (since, table)
    )
    if not before <= now:
        return None
    if before == now:
        return scan(table).clear()
    root = (
        unquote(table.table_uri.removeprefix("file://")) if table.table_uri.startswith("file://") else table.table_uri
    )
    # The values of partitions are in the paths, not in the files; nobody asks for them here.
    return pl.scan_parquet(
        [join(root, unquote(path)) for path in sorted(now - before)],
        glob=False,
        hive_partitioning=False,
        storage_options=table._storage_options,
    )


def append(
    table: DeltaTable,
    rows: pl.DataFrame,
    *,
    transactions: Sequence[Transaction] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Add rows in one commit, if the table is still at the version it was opened at; call it within `settle`.

    Parameters
    ----------
    table : DeltaTable
        From `open` or `ensure`, before what the rows follow from was read there.
    rows : pl.DataFrame
        With the columns of the table; may have none.
    transactions : sequence of Transaction
        Watermarks that move in the same commit.
    metadata : mapping of str to str, optional
        Recorded with the commit.

    Raises
    ------
    Outrun
        If another commit came in between; nothing was changed.
    """
    with _unless_outrun(table):
        write_deltalake(
            table,
            rows.to_arrow(),
            mode="append",
            target_file_size=FILE_BYTES,
            commit_properties=_strictly(metadata, transactions=transactions),
        )


def replace(
    table: DeltaTable, rows: pl.DataFrame, *, where: str | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Put rows in the place of others in one commit; otherwise as `append`.

    Parameters
    ----------
    table, rows, metadata
        As in `append`.
    where : str, optional
        An SQL condition on the rows to replace, which the new ones meet too. Without it the table is replaced, its
        columns included.

    Raises
    ------
    Outrun
        If another commit came in between; nothing was changed.
    """
    with _unless_outrun(table):
        write_deltalake(
            table,
            rows.to_arrow(),
            mode="overwrite",
            predicate=where,
            schema_mode="overwrite" if where is None else None,
            target_file_size=FILE_BYTES,
            commit_properties=_strictly(metadata),
        )


def gather(table: DeltaTable, *, metadata: Mapping[str, str]) -> None:
    """Make few files of many small ones, and remove those that nothing has referred to for a week.

    Parameters
    ----------
    table : DeltaTable
        Just written.
    metadata : mapping of str to str
        Recorded with the commits, as with that of the rows.
    """
    table.update_incremental()
    sizes = pl.DataFrame(table.get_add_actions())["size_bytes"]
    if (sizes < FILE_BYTES // 2).sum() < _MOST_SMALL_FILES:
        return
    properties = _strictly(metadata)
    try:
        table.optimize.compact(target_size=FILE_BYTES, commit_properties=properties)
        table.vacuum(retention_hours=_KEPT_HOURS, dry_run=False, commit_properties=properties)
    except CommitFailedError:
        # Another process is writing; who writes next gathers.
        return


def settle(uri: str, attempt: Callable[[], _T], *, patience: timedelta = _PATIENCE) -> _T:
    """Return what an attempt returns, made again whenever it was outrun.

    Parameters
    ----------
    uri : str
        The table, for the message.
    attempt : callable
        Opens the table, computes and writes; safe to repeat.
    patience : timedelta
        After how long to give up; an attempt that is running is not broken off, and ten are made in any case.

    Raises
    ------
    Busy
        If others kept writing the table.
    """
    begun = time.monotonic()
    attempts = 0
    while True:
        try:
            return attempt()
        except Outrun as error:
            attempts += 1
            spent = time.monotonic() - begun
            if attempts >= _FEWEST_ATTEMPTS and spent >= patience.total_seconds():
                raise Busy(f"other jobs kept writing {uri}: outrun {attempts} times in {spent:.0f} s") from error
            # Of two that started together, one should be done before the other starts again.
            time.sleep(random.uniform(0, min(0.01 * 2**attempts, 1.0)))


def _strictly(metadata: Mapping[str, str] | None, *, transactions: Sequence[Transaction] = ()) -> CommitProperties:
    # Left to itself, delta-rs would append to any newer version without looking at its rows.
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=list(transactions),
        custom_metadata=None if metadata is None else dict(metadata),
    )


@contextmanager
def _unless_outrun(table: DeltaTable) -> Iterator[None]:
    version = table.version()
    try:
        yield
    except CommitFailedError as error:
        newest = DeltaTable(table.table_uri, storage_options=table._storage_options).version()
        if newest == version:
            raise
        raise Outrun(f"{table.table_uri} went from version {version} to {newest}") from error
