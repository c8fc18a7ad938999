"""Delta tables in a folder or on an S3-compatible object store: where they are, how they are read and written.

No lock guards them; an object store has none. A writer opens a table, computes from what it reads there, and its commit
is made only if nothing was committed in between (`append`, `replace`); else it computes again (`settle`).
"""

import os
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSystem, FileType, PyFileSystem

from backsight_features.errors import BadInput, Busy, SourceError

_T = TypeVar("_T")

FILE_BYTES: Final = 16 << 20
"""Files are about as large: a replaced row costs the rewriting of one, a read of few rows the reading of one."""

KEPT: Final = timedelta(days=7)
"""How long a table can be read as it was: older versions, and files that nothing refers to any more, may go."""

_COMPRESSION: Final = "SNAPPY"

_COMMITS_PER_CHECKPOINT: Final = 20
"""To open a table takes half a millisecond per commit since the last one."""

HOOKS: Final = PostCommitHookProperties(cleanup_expired_logs=False)
"""To look for expired commits after each commit would take longer the more there are: maintenance does it."""

_PATIENCE: Final = timedelta(seconds=30)
_FEWEST_ATTEMPTS: Final = 10
"""A writer whose work takes long has lost a race less often when its patience ends."""

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_DECORATION: Final = re.compile(r"\x1b\[[0-9;]*m|↳")
_LONGEST_CAUSE: Final = 400


class Outrun(Exception):
    """Another commit came in between; what was computed may be wrong now. Raised for `settle`."""


class Gone(BadInput):
    """A version of a table cannot be read any more."""


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
    Gone
        If there is a table, and that version of it is not kept any more or never was.
    SourceError
        If the object store does not answer, or not to us.
    """
    try:
        newest = DeltaTable(uri, storage_options=storage_options(uri, options))
    except TableNotFoundError:
        return None
    except OSError as error:
        if "://" not in uri:
            raise
        cause = " ".join(_DECORATION.sub("", str(error)).split())
        raise SourceError(f"{uri} cannot be reached: {cause[:_LONGEST_CAUSE]}") from error
    return newest if version is None or version == newest.version() else _past(newest, version)


def _past(newest: DeltaTable, version: int) -> DeltaTable:
    told = f"{newest.table_uri} is at version {newest.version()} and cannot be read as of version {version}"
    if version > newest.version():
        raise Gone(f"{told}, which is still to come")
    cleaned = "; backsight maintain --retention-days says how long versions are kept"
    try:
        past = DeltaTable(newest.table_uri, version=version, storage_options=newest._storage_options)
    except DeltaError as error:
        raise Gone(f"{told} any more: its log does not go back so far{cleaned}") from error
    # Files are cleaned up before the log forgets them; a scan would find out in the middle of its work.
    if lost := absent(newest, paths(past) - paths(newest)):
        raise Gone(f"{told} any more: {len(lost)} of its files were cleaned up{cleaned}")
    return past


def ensure(uri: str, schema: pa.Schema, *, partition_by: str | None = None, indexed: Sequence[str] = ()) -> DeltaTable:
    """Return a table at its newest version, made empty where there was none; errors as in `open`.

    Parameters
    ----------
    uri : str
        As for `open`.
    schema : pa.Schema
        Columns of a new table.
    partition_by : str, optional
        The column of a new table that makes folders.
    indexed : sequence of str
        The columns of a new table of which the log says between what bounds each file has them; all if none is named.
    """
    table = open(uri)
    if table is not None:
        return table
    try:
        return DeltaTable.create(
            uri,
            schema=schema,
            partition_by=partition_by,
            configuration={
                **({"delta.dataSkippingStatsColumns": ",".join(indexed)} if indexed else {}),
                **properties(KEPT),
            },
            storage_options=storage_options(uri),
        )
    except DeltaError:
        # Another process was quicker.
        table = open(uri)
        if table is None:
            raise
        return table


def properties(retention: timedelta) -> dict[str, str]:
    """Return the properties of a table whose versions are kept for some time."""
    interval = f"interval {retention // timedelta(seconds=1)} seconds"
    return {
        "delta.checkpointInterval": str(_COMMITS_PER_CHECKPOINT),
        "delta.logRetentionDuration": interval,
        "delta.deletedFileRetentionDuration": interval,
    }


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
    # polars takes the percent-encoded address for the name: behind a blank in the path it would find nothing. By way of
    # Arrow it does, but to count rows there, ask for a column: of none there are none.
    return pl.scan_delta(table, use_pyarrow="%" in table.table_uri)


def paths(table: DeltaTable) -> set[str]:
    """Return the data files of a table at the version it was opened at, percent-encoded below its root."""
    return set(pl.DataFrame(table.get_add_actions()).get_column("path").to_list())


def addresses(table: DeltaTable, files: Iterable[str]) -> list[str]:
    """Return where polars reads some files of a table, named as by `paths`."""
    root = unquote(table.table_uri).removeprefix("file://")
    return [join(root, unquote(path)) for path in files]


def filesystem(uri: str, options: Mapping[str, str] | None = None) -> FileSystem:
    """Return the files below a folder or URL that exists."""
    given = storage_options(uri, options)
    return PyFileSystem(DeltaStorageHandler(uri, None if given is None else dict(given)))


def absent(table: DeltaTable, files: Collection[str]) -> set[str]:
    """Return which of some files of a table, named as by `paths`, do not exist."""
    if not files:
        return set()
    named = {unquote(path): path for path in files}
    found = filesystem(table.table_uri, table._storage_options).get_file_info(list(named))
    return {named[info.path] for info in found if info.type == FileType.NotFound}


def append(
    table: DeltaTable,
    rows: pl.DataFrame,
    *,
    transactions: Sequence[Transaction] = (),
    metadata: Mapping[str, str] | None = None,
    repeating: Collection[str] | None = None,
    indexed: Collection[str] = (),
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
    repeating : collection of str, optional
        The columns that say the same in many rows, where these are known: to look for repetition in the others takes
        half the time of writing them, and makes them no smaller.
    indexed : collection of str
        The columns by whose bounds parts of files are passed over; with ``repeating`` given, no other has bounds.

    Raises
    ------
    Outrun
        If another commit came in between; nothing was changed.
    """
    with unless_outrun(table):
        write_deltalake(
            table,
            rows.to_arrow(),
            mode="append",
            target_file_size=FILE_BYTES,
            writer_properties=WriterProperties(compression=_COMPRESSION)
            if repeating is None
            else _properties(repeating, indexed),
            commit_properties=strictly(metadata, transactions=transactions),
            post_commithook_properties=HOOKS,
        )


def _properties(repeating: Collection[str], indexed: Collection[str]) -> WriterProperties:
    return WriterProperties(
        compression=_COMPRESSION,
        default_column_properties=ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
        column_properties={
            name: ColumnProperties(
                dictionary_enabled=name in repeating, statistics_enabled="PAGE" if name in indexed else "NONE"
            )
            for name in {*repeating, *indexed}
        },
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
    with unless_outrun(table):
        write_deltalake(
            table,
            rows.to_arrow(),
            mode="overwrite",
            predicate=where,
            schema_mode="overwrite" if where is None else None,
            target_file_size=FILE_BYTES,
            commit_properties=strictly(metadata),
            post_commithook_properties=HOOKS,
        )


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


def strictly(
    metadata: Mapping[str, str] | None = None, *, transactions: Sequence[Transaction] = ()
) -> CommitProperties:
    """Return the properties of a commit that is made only if the table is at the version it was opened at."""
    # Left to itself, delta-rs would append to any newer version without looking at its rows.
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=list(transactions),
        custom_metadata=None if metadata is None else dict(metadata),
    )


@contextmanager
def unless_outrun(table: DeltaTable) -> Iterator[None]:
    """Raise `Outrun` where a commit, or reading, failed because another commit came in between.

    Reading fails where a purge took away files at once.
    """
    version = table.version()
    try:
        yield
    except (CommitFailedError, FileNotFoundError) as error:
        newest = DeltaTable(table.table_uri, storage_options=table._storage_options).version()
        if newest == version:
            raise
        raise Outrun(f"{table.table_uri} went from version {version} to {newest}") from error
