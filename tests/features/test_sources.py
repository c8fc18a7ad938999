"""Sources on an object store."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from backsight_features.errors import BadInput
from backsight_features.store import sources
from feast import FileSource, RepoConfig
from feast.data_format import DeltaFormat, ParquetFormat

ROWS = pl.DataFrame(
    {"symbol": ["BTC", "ETH"], "ret": [0.5, None], "available_at": [datetime(2024, 3, 1, tzinfo=UTC)] * 2}
)
MORE = ROWS.with_columns(ret=pl.lit(2.0))


@pytest.fixture
def config(s3_root: str, tmp_path: Path) -> RepoConfig:
    return RepoConfig(
        project="p",
        provider="local",
        registry=str(tmp_path / "registry.db"),
        offline_store={"type": "backsight_features.store.asof.AsofOfflineStore", "root": s3_root},
        entity_key_serialization_version=3,
    )


def test_a_delta_source_below_a_root_on_an_object_store(config: RepoConfig) -> None:
    source = FileSource(path="features/market", file_format=DeltaFormat(), timestamp_field="available_at")
    with pytest.raises(sources.NoTable, match=r"no Delta table at s3://team/.*/features/market"):
        sources.scan(config, source)
    sources.overwrite(config, source, ROWS.to_arrow())
    assert sources.scan(config, source).sort("symbol").collect().equals(ROWS)
    assert sources.columns(config, source).names == ROWS.columns
    sources.append(config, source, MORE.select(ROWS.columns).to_arrow())
    assert sources.scan(config, source).collect().height == 4
    sources.overwrite(config, source, MORE.to_arrow())
    assert sources.scan(config, source).sort("symbol").collect().equals(MORE)


def test_a_source_may_name_its_own_endpoint(
    config: RepoConfig, s3_root: str, monkeypatch: pytest.MonkeyPatch, s3_server: object
) -> None:
    source = FileSource(
        path=f"{s3_root}/elsewhere",
        file_format=DeltaFormat(),
        timestamp_field="available_at",
        s3_endpoint_override=s3_server.endpoint,
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    sources.overwrite(config, source, ROWS.to_arrow())
    assert sources.scan(config, source).sort("symbol").collect().equals(ROWS)


def test_a_parquet_source_on_an_object_store(config: RepoConfig, s3_root: str) -> None:
    ROWS.write_parquet(f"{s3_root}/facts.parquet", storage_options={"AWS_ALLOW_HTTP": "true"})
    source = FileSource(path="facts.parquet", file_format=ParquetFormat(), timestamp_field="available_at")
    assert sources.scan(config, source).sort("symbol").collect().equals(ROWS)
    for change in (sources.append, sources.overwrite):
        with pytest.raises(BadInput, match=r"facts.parquet: Parquet on an object store is read only"):
            change(config, source, ROWS.to_arrow())
