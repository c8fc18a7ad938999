"""What is written for other people's models is the training set, whole, and in little memory."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.errors import BadInput
from backsight_model import export
from backsight_model.manifest import Manifest, features_digest
from backsight_model.training import TrainingSet

LENGTH = 12


@pytest.fixture(scope="module")
def data(world: Callable[..., TrainingSet]) -> TrainingSet:
    """Return a training set with a gap and undefined values in its windows."""
    made = world(6, hours=900, length=LENGTH)
    rows, index = made.windows.rows.copy(), made.windows.index.copy()
    rows[10:20, 3] = np.nan
    index[5, 2] = len(rows) - 1
    return replace(made, windows=replace(made.windows, rows=rows, index=index))


@pytest.fixture(scope="module")
def manifest(data: TrainingSet) -> Manifest:
    return Manifest(
        series=["bitstamp:BTC-USD:1h"],
        service="forecast_1h",
        features_sha256=features_digest(data.windows.features),
        length=LENGTH,
        horizon=data.horizon,
        seed=0,
        ingested_until="2024-01-01T00:00:00+00:00",
        first_at="2023-01-01T00:00:15+00:00",
        last_at="2023-12-31T00:00:15+00:00",
        lake_versions={"bars": 3, "macro": None},
        feature_versions={"market_1h": 0},
        scorer="words@1",
        code="0.1.0",
        samples=len(data),
        sha256=data.sha256(),
    )


def test_the_arrays_are_the_training_set(data: TrainingSet, manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "set"
    export.write(data, manifest, folder, form="numpy", gathered=True)
    document = json.loads((folder / "manifest.json").read_text())
    read = {name.removesuffix(".npy"): np.load(folder / name, allow_pickle=False) for name in document["files"]}
    np.testing.assert_array_equal(read.pop("windows"), data.windows.gather())
    assert read.pop("symbol").tolist() == list(data.windows.symbol)
    windows = replace(
        data.windows,
        rows=read.pop("rows"),
        index=read.pop("index"),
        at=read.pop("at"),
        features=tuple(document["features"]),
    )
    assert replace(data, windows=windows, **read).sha256() == document["manifest"]["sha256"] == data.sha256()
    assert export.read_manifest(folder / "manifest.json") == manifest
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    for name, digest in document["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_parquet_holds_the_same(
    data: TrainingSet, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_AT_ONCE", 2_000)
    export.write(data, manifest, tmp_path / "set", form="parquet")
    rows, samples = (pl.read_parquet(tmp_path / "set" / f"{name}.parquet") for name in ("rows", "samples"))
    features = list(data.windows.features)
    assert samples["symbol"].unique().to_list() == ["BTC-USD"]
    for name in ("log_rv", "log_return"):
        np.testing.assert_array_equal(samples[name], getattr(data, name))
    for name in ("at", "label_at"):
        assert samples[name].dtype == pl.Datetime("us", "UTC")
        np.testing.assert_array_equal(samples[name].to_numpy(), getattr(data, name))
    newest = samples.select(features).to_numpy()
    np.testing.assert_array_equal(newest, data.windows.rows[data.windows.index[:, -1]])
    slots = (
        samples.select(pl.col("window").arr.to_list().explode())
        .with_row_index("slot")
        .join(rows, left_on="window", right_on="row", how="left", maintain_order="left")
    )
    values = slots.select(features).to_numpy().reshape(len(data), LENGTH, len(features))
    np.testing.assert_array_equal(values, data.windows.gather())
    assert slots["window"].null_count() == 1
    assert rows[features[3]].null_count() == 10
    np.testing.assert_array_equal(rows["available_at"].to_numpy(), data.windows.row_available_at)


def test_windows_are_written_a_part_at_a_time(
    data: TrainingSet, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_AT_ONCE", 20_000)
    # Each sample once more, so that there is more to write than what the rest needs.
    long = replace(data.windows, index=np.tile(data.windows.index, (1, 40)))
    tracemalloc.start()
    try:
        export.write(replace(data, windows=long), manifest, tmp_path / "set", form="numpy", gathered=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * (tmp_path / "set" / "windows.npy").stat().st_size


def test_what_is_there_is_not_written_over(data: TrainingSet, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty"):
        export.write(data, manifest, tmp_path, form="numpy")
    with pytest.raises(BadInput, match="leave --gathered out"):
        export.write(data, manifest, tmp_path / "set", form="parquet", gathered=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"manifest": {"series": ["a:b:1h"]}}'])
def test_a_file_without_a_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match=r"manifest.json holds no manifest of a training set"):
        export.read_manifest(tmp_path / "manifest.json")
