"""Keeping Delta tables fast and small: few files, a short log, nothing that no version refers to.

Every step is one commit, or removes what no version of the last days needs. So it may be killed anywhere, and run
while others read and write.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileSelector, FileType

from backsight_features import delta
from backsight_features.clocks import from_us

_FEWEST_GATHERED: Final = 8
"""Small files in one folder that are worth their rewriting."""

_MOST_SMALL_FILES: Final = 64
"""Small files in a table that are worth it in the middle of a build."""

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)

_BUSY: Final = 700
"""Commits a day; each open and each commit lists all that are kept, so of so many a day's are enough."""


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """What was done to one table, or would be.

    Parameters
    ----------
    table : str
        ``bars``.
    files_before, files_after : int
        Data files of the newest version.
    bytes : int
        Their size after.
    gathered : int
        Files whose rows were put together in larger ones.
    removed : int
        Data files deleted that no version within the retention refers to, those of killed writers included.
    checkpoint : int or None
        The version of which a checkpoint was made; None where it had one.
    forgotten : int
        Files of the log deleted; a dry run cannot tell.
    left : str
        Why something was left to the next run; mostly empty.
    """

    table: str
    files_before: int
    files_after: int
    bytes: int
    gathered: int
    removed: int
    checkpoint: int | None
    forgotten: int
    left: str = ""


def maintain(root: str | Path, *, retention: timedelta | None = None, dry_run: bool = False) -> Iterator[Maintained]:
    """Compact, checkpoint and clean up each Delta table in a folder.

    Parameters
    ----------
    root : str or Path
        Of a lake or of feature tables: a folder or a URL.
    retention : timedelta, optional
        How long a version of a table can be read after it was replaced, in hours. No job may take longer: its files
        would count as left behind before it commits them. If left out, a week; a day where commits come so fast that
        their mere number slows the next one down.
    dry_run : bool
        Only say what would be done.

    Yields
    ------
    Maintained
        By table.
    """
    for name in folders(root):
        table = delta.open(delta.join(root, name))
        if table is not None:
            kept = _retention(table) if retention is None else retention
            yield _planned(name, table, kept) if dry_run else _maintained(name, table, kept)


def gather(table: DeltaTable, *, metadata: Mapping[str, str]) -> None:
    """Maintain a table once it has many small files; for builds, which look after their own.

    Parameters
    ----------
    table : DeltaTable
        Just written.
    metadata : mapping of str to str
        Recorded with the commits, as with that of the rows.
    """
    table.update_incremental()
    if _small(table).height >= _MOST_SMALL_FILES:
        _maintained("", table, delta.KEPT, delta.strictly(metadata))


def folders(root: str | Path) -> list[str]:
    """Return the names of the folders in a folder or URL, sorted; none where that does not exist."""
    try:
        found = delta.filesystem(str(root)).get_file_info(FileSelector(""))
    except TableNotFoundError:  # delta-rs' word for a folder that does not exist
        return []
    return sorted(info.path for info in found if info.type == FileType.Directory)


def _retention(table: DeltaTable) -> timedelta:
    commits = sorted(path for path in _log(table) if path.endswith(".json"))
    place = delta.filesystem(table.table_uri, table._storage_options)
    first, last = (_committed_at(place.open_input_stream(path).read()) for path in (commits[0], commits[-1]))
    return _DAY if len(commits) * _DAY > _BUSY * max(last - first, _DAY) else delta.KEPT


def _committed_at(commit: bytes) -> datetime:
    told = pl.read_ndjson(io.BytesIO(commit), schema={"commitInfo": pl.Struct({"timestamp": pl.Int64})})
    return from_us(told["commitInfo"].struct["timestamp"].drop_nulls()[0] * 1000)


def _maintained(
    name: str, table: DeltaTable, retention: timedelta, properties: CommitProperties | None = None
) -> Maintained:
    before, logged = len(delta.paths(table)), _log(table)
    gathered, removed, left = 0, 0, ""
    try:
        _keep_for(table, retention, properties)
        gathered = _compact(table, properties)
        removed = _vacuum(table, retention, properties)
    except delta.Outrun as error:
        left = str(error)
        table.update_incremental()
    checkpoint = _uncheckpointed(table)
    if checkpoint is not None:
        table.create_checkpoint()
    table.cleanup_metadata()
    sizes = pl.DataFrame(table.get_add_actions())["size_bytes"]
    return Maintained(
        table=name,
        files_before=before,
        files_after=sizes.len(),
        bytes=int(sizes.sum()),
        gathered=gathered,
        removed=removed,
        checkpoint=checkpoint,
        forgotten=len(logged - _log(table)),
        left=left,
    )


def _planned(name: str, table: DeltaTable, retention: timedelta) -> Maintained:
    sizes = pl.DataFrame(table.get_add_actions())["size_bytes"]
    expired = table.vacuum(retention_hours=retention // _HOUR, enforce_retention_duration=False, full=True)
    return Maintained(
        table=name,
        files_before=sizes.len(),
        files_after=sizes.len(),
        bytes=int(sizes.sum()),
        gathered=_crowded(table),
        removed=len(expired),
        checkpoint=_uncheckpointed(table),
        forgotten=0,
    )


def _keep_for(table: DeltaTable, retention: timedelta, properties: CommitProperties | None) -> None:
    wanted = delta.properties(retention)
    if not wanted.items() <= table.metadata().configuration.items():
        with delta.unless_outrun(table):
            table.alter.set_table_properties(
                wanted, commit_properties=properties, post_commithook_properties=delta.HOOKS
            )


def _compact(table: DeltaTable, properties: CommitProperties | None) -> int:
    if not _crowded(table):
        return 0
    # Appends in between take nothing from what is put together, so delta-rs may commit after them.
    with delta.unless_outrun(table):
        done = table.optimize.compact(
            target_size=delta.FILE_BYTES, commit_properties=properties, post_commithook_properties=delta.HOOKS
        )
    return int(done["numFilesRemoved"])


def _vacuum(table: DeltaTable, retention: timedelta, properties: CommitProperties | None) -> int:
    hours = retention // _HOUR
    # A vacuum leaves commits even where there is nothing to remove.
    if not table.vacuum(retention_hours=hours, full=True):
        return 0
    with delta.unless_outrun(table):
        removed = table.vacuum(
            retention_hours=hours,
            dry_run=False,
            full=True,
            commit_properties=properties,
            post_commithook_properties=delta.HOOKS,
        )
    table.update_incremental()
    return len(removed)


def _small(table: DeltaTable) -> pl.DataFrame:
    return pl.DataFrame(table.get_add_actions(flatten=True)).filter(pl.col("size_bytes") < delta.FILE_BYTES // 2)


def _crowded(table: DeltaTable) -> int:
    """Return how many small files lie in folders with several of them."""
    small = _small(table)
    folders = [name for name in small.columns if name.startswith("partition.")]
    sizes = small.group_by(folders).len() if folders else small.select(pl.len())
    return int(sizes.filter(pl.col("len") >= _FEWEST_GATHERED)["len"].sum())


def _uncheckpointed(table: DeltaTable) -> int | None:
    """Return the version of a table, None where there is a checkpoint of it or a newer one."""
    place = delta.filesystem(table.table_uri, table._storage_options)
    try:
        last = json.loads(place.open_input_stream("_delta_log/_last_checkpoint").read())["version"]
    except FileNotFoundError:
        return table.version()
    return None if last >= table.version() else table.version()


def _log(table: DeltaTable) -> set[str]:
    place = delta.filesystem(table.table_uri, table._storage_options)
    return {info.path for info in place.get_file_info(FileSelector("_delta_log"))}
