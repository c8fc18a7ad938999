"""A Feast offline store whose point-in-time join is an as-of join, over Parquet and Delta file sources.

::

    offline_store:
      type: backsight_features.store.asof.AsofOfflineStore

It needs nothing else of this project, and no network: see ``docs/asof-store.md``.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
    compute_non_entity_date_range,
)
from pydantic import StrictStr, field_validator

from backsight_features.asof import newest
from backsight_features.errors import BadInput
from backsight_features.store import entities, memory, sources
from backsight_features.store.views import ViewRows, reading


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Settings of the offline store.

    Attributes
    ----------
    root : str, optional
        Where relative paths of sources start; the feature repo unless said otherwise. ``${NAME:-default}`` works.
    memory_limit : str, optional
        What a retrieval may work in, such as ``4GB`` or ``512MiB``; half of the memory of the machine, or of its
        container, unless said otherwise. A join that needs more runs in slices of time and keeps what it found in
        temporary files. ``${NAME:-default}`` works.
    """

    type: StrictStr = "backsight_features.store.asof.AsofOfflineStore"
    root: StrictStr | None = None
    memory_limit: StrictStr | None = None

    @field_validator("memory_limit", mode="before")
    @classmethod
    def _is_size(cls, value: object) -> object:
        memory.limit(value)
        return value


class AsofRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """A retrieval that runs when its result is asked for."""

    def __init__(
        self,
        run: Callable[[], pa.Table],
        config: RepoConfig,
        *,
        full_feature_names: bool = False,
        on_demand: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._run = run
        self._config = config
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand or []
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature's name begins with its view's."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The on-demand views to compute on the result."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._run().to_pandas()
        return frame

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the result to a file, a folder or a Delta table."""
        source = storage.to_data_source()
        if sources.exists(self._config, source) and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=sources.location(self._config, source))
        sources.overwrite(self._config, source, self.to_arrow())


class AsofOfflineStore(OfflineStore):  # type: ignore[misc]
    """Feast's offline store interface over as-of joins; the methods are Feast's, and so are their arguments."""

    supports_filter_by_created_timestamp: ClassVar[bool] = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return the entity rows, in their order, with what every view knew at each row's instant.

        Raises
        ------
        BadInput
            If a source, a column or a key cannot be used; the message names the view and the column.
        """
        on_demand = _get_requested_on_demand_feature_views(feature_refs, project, registry)
        wanted, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        views = {view: ViewRows(config, view) for view in wanted}
        limit = memory.limit(config.offline_store.memory_limit)
        if entity_df is None:
            start, end = compute_non_entity_date_range(feature_views, start_date, end_date)
            asked = entities.from_range(
                list(views),
                lambda view: (views[view].scan(), views[view].event, dict(views[view].keys)),
                start,
                end,
            )
        elif isinstance(entity_df, str):
            named = {view.name: rows for view, rows in views.items()}
            asked = entities.from_query(entity_df, lambda name: named[name].scan(), list(named), limit)
        else:
            asked = entities.from_frame(entity_df)

        taken = set(asked.table.column_names)
        names: dict[FeatureView, list[str]] = {}
        for view, features in wanted.items():
            prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
            names[view] = [f"{prefix}{feature}" for feature in features]
            for name in names[view]:
                if name in taken:
                    raise BadInput(
                        f"feature view {view.name!r}: column {name!r} would occur twice in the result; "
                        "ask for full feature names or rename it"
                    )
                taken.add(name)

        def run() -> pa.Table:
            table = asked.table
            for view, features in wanted.items():
                found = views[view].known_at(asked, features, as_known=filter_by_created_timestamp, memory=limit)
                for name, column in zip(names[view], found.columns, strict=True):
                    table = table.append_column(name, column)
            return table

        instants = pl.from_arrow(asked.table[asked.at])
        return AsofRetrievalJob(
            run,
            config,
            full_feature_names=full_feature_names,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in asked.table.column_names if name != asked.at],
                min_event_timestamp=instants.min(),
                max_event_timestamp=instants.max(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Return the newest row of every key whose instant lies in ``[start_date, end_date]``."""
        keys = [key for key in join_key_columns if key != DUMMY_ENTITY_ID]
        clocks = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]

        def run() -> pa.Table:
            names = [*keys, *feature_name_columns, *clocks]
            rows = _pull(config, data_source, names, timestamp_field, start_date, end_date)
            latest = newest(rows, event=timestamp_field, keys=keys, created=created_timestamp_column or None)
            return _pulled(latest, keys)

        return AsofRetrievalJob(run, config)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return every row whose instant lies in ``[start_date, end_date]``; a bound that is None bounds nothing."""
        keys = [key for key in join_key_columns if key != DUMMY_ENTITY_ID]
        clocks = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]

        def run() -> pa.Table:
            names = [*keys, *feature_name_columns, *clocks]
            return _pulled(_pull(config, data_source, names, timestamp_field, start_date, end_date), keys)

        return AsofRetrievalJob(run, config)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the source of a view, all or none."""
        if feature_view.batch_source is None:
            raise BadInput(f"feature view {feature_view.name!r} has no batch source to write to")
        # Feast hands over the rows under the names of the view.
        stored = {new: old for old, new in (feature_view.batch_source.field_mapping or {}).items()}
        table = table.rename_columns([stored.get(name, name) for name in table.column_names])
        try:
            sources.append(config, feature_view.batch_source, table)
        except (BadInput, pa.ArrowInvalid) as error:
            raise BadInput(f"feature view {feature_view.name!r}: {error}") from error
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Write logged features as one more file in the folder of a `FileLoggingDestination`."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise BadInput(f"features can be logged to a FileLoggingDestination, not {type(destination).__name__}")
        sources.add_file(config, destination.to_data_source(), data, destination.partition_by)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check that the source is one that this store reads. It need not exist yet: ``apply`` may come first."""
        sources.location(config, data_source)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return the columns of a source with the names of their Arrow types."""
        return [(field.name, str(field.type)) for field in sources.columns(config, data_source)]


def _pull(
    config: RepoConfig,
    source: FileSource,
    names: list[str],
    event: str,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """Return the columns of the rows of a source between two instants, in microseconds: Feast stores no finer."""
    with reading(f"source {source.name!r}"):
        rows = sources.scan(config, source)
        held = rows.collect_schema()
        absent = [name for name in names if name not in held]
        if absent:
            raise BadInput(f"no column {', '.join(map(repr, absent))}; there are {', '.join(held.names())}")
        # First the rows: behind an expression, files and row groups could not be skipped.
        rows = rows.filter(sources.within(held[event], event, start, end)).select(
            pl.col(name).dt.cast_time_unit("us") if isinstance(held[name], pl.Datetime) else pl.col(name)
            for name in dict.fromkeys(names)
        )
        return rows.collect()


def _pulled(rows: pl.DataFrame, keys: list[str]) -> pa.Table:
    """Return what was pulled; rows of a view without entities have the key under which Feast keeps them online."""
    return sources.plain(rows if keys else rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID)))
