"""``backsight dataset``: a set as files, and the same set again when the lake holds more than then."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_features.snapshot import Snapshot
from backsight_features.workspace import Workspace
from click.testing import CliRunner

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
SERIES = BarSeries.parse("v:BTC-USD:1h")
WRITTEN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def bars(bars_of: Callable[..., pl.DataFrame], walk: Callable[..., np.ndarray]) -> pl.DataFrame:
    return bars_of(walk(900, seed=1)).drop("ingested_at")


@pytest.fixture(scope="module")
def workspace(bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with bars, features built from them, and a registry."""
    from backsight_features.store import Store

    made = Workspace(root=tmp_path_factory.mktemp("home"))
    Lake(made.lake).append(BARS, bars, now=WRITTEN)
    build(Snapshot.take(Lake(made.lake)), made.features, [SERIES])
    Store(REPO, made).apply()
    return made


def dataset(workspace: Workspace, *arguments: str) -> Any:
    asked = ["--home", str(workspace.root), "dataset", "--repo", str(REPO), *arguments, "--json"]
    return json.loads(CliRunner().invoke(cli, asked, catch_exceptions=False).output.splitlines()[-1])["manifest"]


ASKED = ("forecast_1h", "--bars", str(SERIES), "--length", "8")


def test_a_manifest_that_promises_other_bytes_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    made = dataset(workspace, *ASKED, "--out", str(tmp_path / "set"), "--format", "parquet")
    assert pl.read_parquet(tmp_path / "set" / "samples.parquet").height == made["samples"] > 300
    (tmp_path / "manifest.json").write_text(json.dumps({"manifest": made | {"sha256": "0" * 64}}))
    with pytest.raises(BadInput, match="its manifest says 000000000000"):
        dataset(workspace, "--rebuild", str(tmp_path / "manifest.json"))
    (tmp_path / "manifest.json").write_text(json.dumps({"manifest": made | {"service": "price_1h"}}))
    with pytest.raises(BadInput, match=r"price_1h has \d+ features now, others"):
        dataset(workspace, "--rebuild", str(tmp_path / "manifest.json"))


def test_late_facts_change_the_tables_and_not_a_set_that_is_rebuilt(
    workspace: Workspace, bars: pl.DataFrame, tmp_path: Path
) -> None:
    first, now, again = (tmp_path / name for name in ("first", "now", "again"))
    made = dataset(workspace, *ASKED, "--out", str(first))
    # Versions that claim to have been seen at the time, but came in after.
    late = bars[600:640].with_columns(pl.col("close") * 1.0005)
    lake = Lake(workspace.lake)
    lake.append(BARS, late, now=WRITTEN + timedelta(days=1))
    build(Snapshot.take(lake), workspace.features, [SERIES])
    assert dataset(workspace, *ASKED, "--out", str(now))["sha256"] != made["sha256"]
    assert dataset(workspace, "--rebuild", str(first / "manifest.json"), "--out", str(again)) == made
    for name in ("rows", "index", "at", "label_at", "log_rv", "log_return"):
        assert (first / f"{name}.npy").read_bytes() == (again / f"{name}.npy").read_bytes()
    assert (first / "log_rv.npy").read_bytes() != (now / "log_rv.npy").read_bytes()


def test_what_is_asked_for_must_be_whole(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name a SERVICE, --bars and --out"):
        dataset(workspace, *ASKED)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BadInput, match="leave them out"):
        dataset(workspace, "forecast_1h", "--rebuild", str(tmp_path / "manifest.json"))
    with pytest.raises(BadInput, match="no whole number of bars"):
        dataset(workspace, *ASKED, "--out", str(tmp_path / "set"), "--horizon", "90m")
