"""What cannot be read is said with the name of the view or source."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import feast
import pandas as pd
import polars as pl
import pytest
from backsight_features.errors import BadInput, SourceError
from deltalake import write_deltalake

T0 = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = pd.DataFrame({"key": [1], "event_timestamp": [T0]})


@pytest.fixture
def store(tmp_path: Path) -> feast.FeatureStore:
    """One view of two features, ``a`` and ``b``, with a tie between its facts."""
    pl.DataFrame({"key": [1, 1], "at": [T0, T0], "a": [1, 1], "b": [1, 2]}).write_parquet(tmp_path / "facts.parquet")
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="errors",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            entity_key_serialization_version=3,
            offline_store={"type": "backsight_features.store.asof.AsofOfflineStore", "root": str(tmp_path)},
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            repo_path=tmp_path,
        )
    )
    key = feast.Entity(name="key", join_keys=["key"], value_type=feast.ValueType.INT64)
    view = feast.FeatureView(
        name="view",
        entities=[key],
        schema=[feast.Field(name=name, dtype=feast.types.Int64) for name in ("a", "b")],
        source=feast.FileSource(name="facts", path="facts.parquet", timestamp_field="at"),
    )
    store.apply([key, view])
    return store


def test_a_damaged_file_names_the_view_and_the_source(store: feast.FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "facts.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(SourceError, match="feature view 'view' cannot be read: "):
        store.get_historical_features(ROWS, ["view:a"]).to_arrow()
    with pytest.raises(SourceError, match="source 'facts' cannot be read: "):
        store.materialize(T0, T0)


def test_a_file_cut_off_within_names_the_view(store: feast.FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    held = path.read_bytes()
    path.write_bytes(held[:4] + bytes(len(held) // 3) + held[4 + len(held) // 3 :])
    with pytest.raises(SourceError, match="feature view 'view' cannot be read: "):
        store.get_historical_features(ROWS, ["view:a", "view:b"]).to_arrow()


def test_a_missing_file_and_a_missing_column_name_the_source_too(store: feast.FeatureStore, tmp_path: Path) -> None:
    pl.read_parquet(tmp_path / "facts.parquet").drop("a").write_parquet(tmp_path / "facts.parquet")
    with pytest.raises(BadInput, match="source 'facts': no column 'a'; there are key, at, b"):
        store.materialize(T0, T0)
    (tmp_path / "facts.parquet").unlink()
    with pytest.raises(BadInput, match=r"source 'facts': no Parquet file at .*facts\.parquet"):
        store.materialize(T0, T0)


def test_a_feature_that_is_not_stored_matters_where_it_is_asked_for(store: feast.FeatureStore, tmp_path: Path) -> None:
    facts = pl.read_parquet(tmp_path / "facts.parquet").drop("b")
    facts.write_parquet(tmp_path / "facts.parquet")
    # The facts tie; those that are stored decide.
    assert store.get_historical_features(ROWS, ["view:a"]).to_arrow()["a"].to_pylist() == [1]
    with pytest.raises(BadInput, match=r"feature view 'view': no column 'b' in .*facts\.parquet"):
        store.get_historical_features(ROWS, ["view:b"]).to_arrow()


def test_a_folder_that_disappears_before_the_result_is_asked_for(store: feast.FeatureStore, tmp_path: Path) -> None:
    job = store.get_historical_features(ROWS, ["view:a"])
    shutil.move(tmp_path / "facts.parquet", tmp_path / "elsewhere.parquet")
    with pytest.raises(BadInput, match="feature view 'view': no Parquet file"):
        job.to_arrow()


def test_a_delta_table_that_cannot_be_read_names_the_view_and_why(store: feast.FeatureStore, tmp_path: Path) -> None:
    facts = pl.read_parquet(tmp_path / "facts.parquet")
    mapping = {"delta.columnMapping.mode": "name", "delta.minReaderVersion": "2", "delta.minWriterVersion": "5"}
    write_deltalake(tmp_path / "mapped", facts, configuration=mapping)
    write_deltalake(tmp_path / "damaged", facts)
    (tmp_path / "damaged" / "_delta_log" / f"{0:020}.json").write_text("damaged")
    for name, cause in (("mapped", "column mapping"), ("damaged", "Json error")):
        source = feast.FileSource(
            name=name, path=name, timestamp_field="at", file_format=feast.data_format.DeltaFormat()
        )
        view = feast.FeatureView(
            name=f"{name}_view",
            entities=[store.get_entity("key")],
            schema=[feast.Field(name="a", dtype=feast.types.Int64)],
            source=source,
        )
        store.apply([view])
        with pytest.raises(SourceError, match=f"'{name}_view' cannot be read: .*{cause}") as error:
            store.get_historical_features(ROWS, [f"{name}_view:a"]).to_arrow()
        assert "<unknown>" not in str(error.value)
