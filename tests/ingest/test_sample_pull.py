"""The made-up files are read by the shipped layouts, and each line becomes what the manifest says."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, MACRO, NEWS, POSTS
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull
from backsight_ingest.sample.world import World, world

NOW = datetime(2024, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made() -> World:
    return world(seed=5, days=60, end=date(2024, 6, 30), signal=True)


@pytest.fixture(scope="module")
def lake(made: World, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("made") / "world"
    made.write(folder)
    lake = Lake(folder.parent / "lake")
    for name, stated in made.manifest["files"].items():
        layout = load(stated["layout"])
        (account,), _ = pull(lake, layout, [folder / name], settings={}, now=NOW, tell=lambda *seen: None)
        got = {key: getattr(account, key) for key in ("accepted", "duplicate", "quarantined")}
        assert got == {key: stated[key] for key in got}, name
        assert account.read == stated["lines"]
    return lake


def test_few_bad_rows_far_apart_are_set_aside_too(tmp_path: Path) -> None:
    # 540 days: long enough for polars to read the file in several chunks and to panic on what is left of them.
    made = world(seed=7, days=540, end=date(2024, 6, 30), signal=False)
    made.write(tmp_path / "world")
    (name,) = (name for name in made.files if name.startswith("bars/"))
    lake = Lake(tmp_path / "lake")
    (account,), _ = pull(
        lake, load("binance-1h"), [tmp_path / "world" / name], settings={}, now=NOW, tell=lambda *seen: None
    )
    assert account.status == "ok"
    assert account.quarantined == made.manifest["files"][name]["quarantined"] == 8


def test_every_kind_of_fact_is_there(lake: Lake) -> None:
    assert lake.scan(BARS).select(pl.col("symbol").unique()).collect().to_series().to_list() == ["BTC-USDT"]
    assert lake.scan(NEWS).collect().height > 1000
    assert set(lake.scan(POSTS).collect()["channel"]) == {"bitcoin", "cryptomarkets"}
    series = {"CPIAUCSL", "UNRATE", "DGS10", "VIXCLS", "DTWEXBGS", "FNG"}
    assert set(lake.scan(MACRO).collect()["series"]) == series


def test_what_moves_prices_is_known_before_they_move(made: World, lake: Lake) -> None:
    # Articles and posts of an hour act from `lag` hours later on; all but the late and the undated are known by then.
    lag = made.manifest["relation"]["lag"]
    texts = pl.concat([lake.scan(table).select("observed_at", "available_at") for table in (NEWS, POSTS)]).collect()
    delay = (texts["available_at"] - texts["observed_at"]).dt.total_hours()
    assert (delay < lag - 1).mean() > 0.95
