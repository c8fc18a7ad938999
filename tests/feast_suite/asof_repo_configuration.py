"""Feast's own offline-store tests on the as-of store: the module for ``FULL_REPO_CONFIGS_MODULE``.

It needs the ``tests`` package of a checkout of Feast and is not collected here; docs/asof-store.md says how to run it.
"""

import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from backsight_features.store.asof import AsofOfflineStoreConfig
from deltalake import write_deltalake
from feast import FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from tests.universal.feature_repos.universal.data_sources.file import DeltaFileSourceCreator, FileDataSourceCreator


class AsofParquetDataSourceCreator(FileDataSourceCreator):
    """One Parquet file per source, written by pandas."""

    def create_offline_store_config(self) -> AsofOfflineStoreConfig:
        return AsofOfflineStoreConfig()


class AsofDeltaDataSourceCreator(DeltaFileSourceCreator):
    """One Delta table per source, saved datasets included."""

    def create_offline_store_config(self) -> AsofOfflineStoreConfig:
        return AsofOfflineStoreConfig()


class AsofFolderDataSourceCreator(AsofParquetDataSourceCreator):
    """A folder of several Parquet files per source, the rows dealt out in turn."""

    def create_data_source(
        self,
        df: pd.DataFrame,
        destination_name: str,
        created_timestamp_column: str = "created_ts",
        field_mapping: dict[str, str] | None = None,
        timestamp_field: str | None = "ts",
    ) -> FileSource:
        folder = self._folder()
        table = pa.Table.from_pandas(df, preserve_index=False)
        for part in range(3):
            rows = pa.array(range(part, table.num_rows, 3), pa.int64())
            pq.write_table(table.take(rows), folder / f"part-{part}.parquet")
        return self._source(
            folder,
            ParquetFormat(),
            created_timestamp_column,
            field_mapping=field_mapping,
            timestamp_field=timestamp_field,
        )

    def _folder(self) -> Path:
        held = TemporaryDirectory(prefix=self.project_name)
        self.keep.append(held)
        return Path(held.name)

    def _source(
        self,
        folder: Path,
        file_format: ParquetFormat | DeltaFormat,
        created_timestamp_column: str,
        *,
        field_mapping: dict[str, str] | None,
        timestamp_field: str | None,
    ) -> FileSource:
        return FileSource(
            file_format=file_format,
            path=str(folder),
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping or {"ts_1": "ts"},
        )


class AsofPartitionedDeltaDataSourceCreator(AsofFolderDataSourceCreator):
    """A Delta table per source, partitioned by the first column and written in two commits."""

    def create_data_source(
        self,
        df: pd.DataFrame,
        destination_name: str,
        created_timestamp_column: str = "created_ts",
        field_mapping: dict[str, str] | None = None,
        timestamp_field: str | None = "ts",
    ) -> FileSource:
        folder = self._folder() / uuid.uuid4().hex
        table = pa.Table.from_pandas(df, preserve_index=False)
        half = table.num_rows // 2
        by: list[Any] = [name for name in ("driver_id", "customer_id", "location_id") if name in df.columns][:1]
        for part in (table.slice(0, half), table.slice(half)):
            write_deltalake(folder, part, mode="append", partition_by=by or None)
        return self._source(
            folder,
            DeltaFormat(),
            created_timestamp_column,
            field_mapping=field_mapping,
            timestamp_field=timestamp_field,
        )


AVAILABLE_OFFLINE_STORES = [
    ("local", AsofParquetDataSourceCreator),
    ("local", AsofDeltaDataSourceCreator),
    ("local", AsofFolderDataSourceCreator),
    ("local", AsofPartitionedDeltaDataSourceCreator),
]

AVAILABLE_ONLINE_STORES = {"sqlite": ({"type": "sqlite"}, None)}
