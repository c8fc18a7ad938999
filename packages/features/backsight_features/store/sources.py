"""The files behind a Feast `FileSource`: Parquet and Delta, on disk or on an object store."""

import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from feast import FileSource, RepoConfig
from feast.data_format import DeltaFormat
from feast.data_source import DataSource

from backsight_features import delta
from backsight_features.errors import BadInput
from backsight_features.store.settings import resolve

_FINENESS: Final = ("ms", "us", "ns")
_WIDTHS: Final[list[pl.DataType]] = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.Float32(), pl.Float64()]
_WIDENING: Final = pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast", datetime_cast="upcast")
_FIRST_NANOSECOND: Final = datetime(1677, 9, 22, tzinfo=UTC)
_LAST_NANOSECOND: Final = datetime(2262, 4, 11, tzinfo=UTC)


class NoTable(BadInput):
    """A source points to nothing."""


def location(config: RepoConfig, source: DataSource) -> str:
    """Return the path or URL of a source; a relative path starts at the store's ``root``, else at the feature repo.

    Raises
    ------
    BadInput
        If the source is no `FileSource`.
    """
    if not isinstance(source, FileSource):
        raise BadInput(f"source {source.name!r} is a {type(source).__name__}; the as-of store reads FileSource only")
    repo = Path(config.repo_path) if config.repo_path else None
    root = config.offline_store.root
    return resolve(source.path, resolve(root, repo) if root else repo)


def scan(config: RepoConfig, source: DataSource) -> pl.LazyFrame:
    """Return the rows of a source, unread. Of a Delta table only what its log calls current; of a folder, all files.

    What begins with ``_`` or ``.`` in a folder is passed over, as Spark and Arrow do; a column that a file lacks is
    null there.

    Raises
    ------
    NoTable
        If there is nothing to read.
    BadInput
        If the files of a folder do not agree on the type of a column.
    """
    path = location(config, source)
    if isinstance(source.file_format, DeltaFormat):
        return delta.scan(table(config, source))
    if "://" in path:
        options = delta.storage_options(path, _options(source))
        return pl.scan_parquet(path, storage_options=options, missing_columns="insert")
    folder = Path(path).is_dir()
    files = _files(Path(path)) if folder else [Path(path)]
    if not files or not files[0].exists():
        raise NoTable(f"no Parquet file at {path}")
    schemas = [pl.Schema(pl.read_parquet_schema(file)) for file in files] if len(files) > 1 else []
    # No globbing: a bracket in a folder's name is a bracket.
    return pl.scan_parquet(
        files,
        glob=False,
        hive_partitioning=folder and any("=" in part for part in files[0].parent.relative_to(path).parts),
        schema=_united(files, schemas) if any(schema != schemas[0] for schema in schemas) else None,
        missing_columns="insert",
        cast_options=_WIDENING,
    )


def table(config: RepoConfig, source: DataSource) -> DeltaTable:
    """Return the Delta table of a source.

    Raises
    ------
    NoTable
        If there is none.
    """
    path = location(config, source)
    found = delta.open(path, options=delta.storage_options(path, _options(source)))
    if found is None:
        raise NoTable(f"no Delta table at {path}")
    return found


def columns(config: RepoConfig, source: DataSource) -> pa.Schema:
    """Return the columns of a source with their Arrow types, in order."""
    return plain(pl.DataFrame(schema=scan(config, source).collect_schema())).schema


def append(config: RepoConfig, source: DataSource, table: pa.Table) -> None:
    """Add rows to a source: one Delta commit, one new file in a folder, or one file rewritten in place.

    A reader sees all of the rows or none.

    Raises
    ------
    BadInput
        If there is nothing to add to, or the types do not fit.
    """
    held = columns(config, source)
    if table.column_names != held.names:
        raise BadInput(f"source {source.name!r} has columns {held.names} in this order, not {table.column_names}")
    path = location(config, source)
    if isinstance(source.file_format, DeltaFormat):
        target = DeltaTable(path, storage_options=delta.storage_options(path, _options(source)))
        types = pa.schema(target.schema().to_arrow())
        write_deltalake(target, table.cast(types), mode="append")
    elif "://" in path:
        raise _unwritable(path)
    elif Path(path).is_dir():
        if any("=" in folder.name for folder in Path(path).iterdir() if folder.is_dir()):
            raise BadInput(
                f"{path} is split into folders by value, and is read only; keep it as a Delta table to write"
            )
        _write(table.cast(held), Path(path) / f"part-{uuid.uuid4().hex}.parquet")
    else:
        before = pq.read_table(path)
        _write(pa.concat_tables([before, table.cast(before.schema)]), Path(path))


def overwrite(config: RepoConfig, source: DataSource, table: pa.Table) -> None:
    """Make a source hold these rows and no others.

    Raises
    ------
    BadInput
        If it is Parquet on an object store.
    """
    path = location(config, source)
    if isinstance(source.file_format, DeltaFormat):
        coarse = pa.schema([field.with_type(_microseconds(field.type)) for field in table.schema])
        options = delta.storage_options(path, _options(source))
        write_deltalake(path, table.cast(coarse), mode="overwrite", storage_options=options)
    elif "://" in path:
        raise _unwritable(path)
    elif Path(path).is_dir():
        before = list(Path(path).rglob("*.parquet"))
        _write(table, Path(path) / f"part-{uuid.uuid4().hex}.parquet")
        for file in before:
            file.unlink()
    else:
        _write(table, Path(path))


def add_file(config: RepoConfig, folder: DataSource, data: pa.Table | Path, partition_by: list[str] | None) -> None:
    """Add rows, or the files of a folder, to a folder of Parquet files, split by the values of columns if asked."""
    table = data if isinstance(data, pa.Table) else pq.read_table(data)
    pq.write_to_dataset(
        table,
        location(config, folder),
        partition_cols=partition_by,
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
    )


def within(kind: pl.DataType, column: str, start: datetime | None, end: datetime | None) -> pl.Expr:
    """Return the condition that an instant lies in ``[start, end]``, in a form that lets whole row groups be skipped.

    Raises
    ------
    BadInput
        If the column is no timestamp.
    """
    if kind != pl.Date and not isinstance(kind, pl.Datetime):
        raise BadInput(f"column {column!r} is {kind}; an instant must be a timestamp")
    condition = pl.col(column).is_not_null()
    for bound, before in ((start, False), (end, True)):
        if bound is not None:
            limit = _limit(bound, kind, up=not before)
            condition &= pl.col(column) <= limit if before else pl.col(column) >= limit
    return condition


def _limit(bound: datetime, kind: pl.DataType, *, up: bool) -> pl.Expr:
    """Return an instant in the type of a column, since polars compares two units in the coarser one.

    What a coarser unit cannot say is rounded, up or down; what nanoseconds cannot hold is moved to their end.
    """
    if not isinstance(kind, pl.Datetime):
        return pl.lit(bound.astimezone(UTC).replace(tzinfo=None))
    if kind.time_unit == "ns":
        bound = min(max(bound, _FIRST_NANOSECOND), _LAST_NANOSECOND)
    elif kind.time_unit == "ms" and up:
        bound += timedelta(microseconds=-bound.microsecond % 1000)
    zoned = bound.astimezone(ZoneInfo(kind.time_zone or "UTC"))
    return pl.lit(zoned if kind.time_zone else zoned.replace(tzinfo=None), dtype=kind)


def exists(config: RepoConfig, source: DataSource) -> bool:
    """Return whether something is stored where a source points."""
    path = location(config, source)
    if isinstance(source.file_format, DeltaFormat):
        return DeltaTable.is_deltatable(path, storage_options=_options(source))
    return Path(path).exists()


def plain(frame: pl.DataFrame) -> pa.Table:
    """Return a frame as an Arrow table with the types that Feast knows: ``string``, not ``large_string``."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(pa.schema([field.with_type(_small(field.type)) for field in table.schema]))


def _files(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder, without those that a writer has not finished."""
    return sorted(
        file
        for file in folder.rglob("*.parquet")
        if not any(
            part.startswith(".") or (part.startswith("_") and "=" not in part)
            for part in file.relative_to(folder).parts
        )
    )


def _united(files: list[Path], schemas: list[pl.Schema]) -> pl.Schema:
    """Return every column of some files, in the widest type that it has in one of them."""
    united = pl.Schema()
    for file, schema in zip(files, schemas, strict=True):
        for name, kind in schema.items():
            wider = _wider(united.get(name, pl.Null()), kind)
            if wider is None:
                raise BadInput(f"column {name!r} is {kind} in {file}, but {united[name]} in another file of its folder")
            united[name] = wider
    return united


def _wider(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type that holds every value of both exactly; None where there is none."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime) and one.time_zone == other.time_zone:
        # Not the common type of polars, which is the coarser one: rounded down, a fact would be known too early.
        return max(one, other, key=lambda kind: _FINENESS.index(kind.time_unit))
    if (one.is_signed_integer() and other.is_signed_integer()) or (one.is_float() and other.is_float()):
        return max(one, other, key=_WIDTHS.index)
    return None


def _unwritable(path: str) -> BadInput:
    return BadInput(f"{path}: Parquet on an object store is read only; keep it as a Delta table to write")


def _small(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return _small(kind.value_type)
    if pa.types.is_large_list(kind):
        return pa.list_(_small(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_small(field.type)) for field in kind])
    return kind


def _microseconds(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def _options(source: FileSource) -> dict[str, str] | None:
    given = source.resolve_credentials() or {}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")
    options = {name: given[name] for name in names if given.get(name)}
    if source.s3_endpoint_override:
        options["AWS_ENDPOINT_URL"] = source.s3_endpoint_override
    return options or None


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, unfinished)
    os.replace(unfinished, path)
