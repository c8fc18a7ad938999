"""The made-up world: the same bytes for a seed, and a relation that texts show before the price moves."""

import gzip
import json
from datetime import date

import numpy as np
import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_ingest.sample.draws import decayed, keep, wander
from backsight_ingest.sample.relation import Relation
from backsight_ingest.sample.world import World, world
from click.testing import CliRunner

END = date(2024, 6, 30)


@pytest.fixture(scope="module")
def made() -> World:
    return world(seed=3, days=540, end=END, signal=True)


@pytest.fixture(scope="module")
def silent() -> World:
    return world(seed=3, days=540, end=END, signal=False)


def _table(made: World, name: str, separator: str = ",") -> pl.DataFrame:
    content = made.files[name]
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    return pl.read_csv(plain, separator=separator, infer_schema=False, truncate_ragged_lines=True)


def _closes(made: World) -> np.ndarray:
    """Return the close per hour, NaN where there is no sound bar."""
    bars = _table(made, "bars/BTCUSDT_1h.csv.gz").with_columns(
        pl.col("datetime").str.to_datetime("%Y-%m-%d %H:%M:%S"),
        pl.col("high", "low", "close").cast(pl.Float64, strict=False),
    )
    sound = bars.filter(pl.col("close").is_finite() & (pl.col("high") >= pl.col("low"))).unique("datetime")
    grid = bars.select(pl.datetime_range(pl.col("datetime").min(), pl.col("datetime").max(), "1h"))
    return grid.join(sound, on="datetime", how="left", maintain_order="left")["close"].to_numpy()


def _mood(made: World, hours: int) -> np.ndarray:
    """Return the decaying mean of a crude verdict on the news published by the end of each hour, less its week."""
    news = _table(made, "news/cryptonews.csv.gz", ";").with_columns(
        at=pl.col("date").str.to_datetime("%d-%m-%Y %H:%M", strict=False)
    )
    news = news.filter(pl.col("at").is_not_null() & ~pl.col("date").str.ends_with(" 00:00"))
    title = pl.col("title").fill_null("")
    good = title.str.count_matches(r"(?i)gains|surges|inflows|wins|soars|jumps|growth|climbs|bullish|rally")
    bad = title.str.count_matches(r"(?i)losses|plunges|outflows|lawsuit|tumbles|drops|loses|slides|bearish|fall")
    start = pl.lit("2023-01-07").str.to_datetime()
    news = news.select(
        hour=(pl.col("at") - start).dt.total_hours(), verdict=good.clip(0, 1).cast(pl.Int32) - bad.clip(0, 1)
    )
    count = np.bincount(news["hour"], minlength=hours).astype(float)
    total = np.bincount(news["hour"], news["verdict"], minlength=hours)
    short = decayed(total, 12.0) / (decayed(count, 12.0) + 1e-9)
    return short - decayed(total, 120.0) / (decayed(count, 120.0) + 1e-9)


def _drift_tells(made: World) -> float:
    """Return the correlation of the news known now with the return from 1 h to 25 h from now."""
    close = np.log(_closes(made))
    mood = _mood(made, len(close))
    ahead = close[25:] - close[1:-24]
    known = mood[: len(ahead)]
    there = np.isfinite(ahead) & (np.arange(len(ahead)) > 168)
    return float(np.corrcoef(known[there], ahead[there])[0, 1])


def test_the_same_seed_gives_the_same_bytes(made: World) -> None:
    again = world(seed=3, days=540, end=END, signal=True)
    assert again.files == made.files
    assert again.manifest == made.manifest
    assert world(seed=4, days=540, end=END, signal=True).files != made.files


def test_without_signal_texts_stay_and_prices_change(made: World, silent: World) -> None:
    changed = {name for name in made.files if made.files[name] != silent.files[name]}
    assert changed == {"bars/BTCUSDT_1h.csv.gz"}


def test_news_tell_the_drift_to_come_only_where_it_is_planted(made: World, silent: World) -> None:
    # 540 independent days: the standard error of the second is near 0.045.
    assert _drift_tells(made) > 0.2
    assert abs(_drift_tells(silent)) < 0.13


def test_past_returns_tell_next_to_nothing(made: World) -> None:
    close = np.log(_closes(made))
    past, ahead = close[24:-24] - close[:-48], close[48:] - close[24:-24]
    there = np.isfinite(past) & np.isfinite(ahead)
    assert abs(np.corrcoef(past[there], ahead[there])[0, 1]) < 0.15


def test_the_best_reachable_skill_is_stated(made: World, silent: World) -> None:
    direction, log_rv = (made.manifest["best_reachable"][key] for key in ("direction", "log_rv"))
    assert 0.62 < direction["bayes_accuracy"] < 0.70
    # The oracle's own accuracy is what came of it: 540 days, so two points either way.
    assert abs(direction["oracle_accuracy"] - direction["bayes_accuracy"]) < 0.06
    assert direction["bayes_log_loss"] < direction["base_rate_log_loss"] - 0.04
    assert log_rv["oracle_gain_on_har"] > 0.2
    assert log_rv["public_gain_on_har"] > 0.1
    assert log_rv["oracle_qlike"] < log_rv["har_and_public_qlike"] < log_rv["har_qlike"]
    nothing = silent.manifest["best_reachable"]
    assert nothing["direction"]["bayes_accuracy"] == pytest.approx(0.5, abs=0.01)
    assert nothing["log_rv"]["public_gain_on_har"] < 0.06


def test_the_manifest_counts_what_the_files_hold(made: World) -> None:
    stated = made.manifest["files"]
    assert set(stated) == set(made.files)
    bars = _table(made, "bars/BTCUSDT_1h.csv.gz")
    faults = stated["bars/BTCUSDT_1h.csv.gz"]["faults"]
    assert bars.height == stated["bars/BTCUSDT_1h.csv.gz"]["lines"]
    assert bars.height == 540 * 24 - faults["missing hours"] + faults["repeated"]
    assert bars.filter(pl.col("open") == "nan").height == faults["price is nan"]
    assert bars.height - bars.n_unique() == faults["repeated"]
    news = _table(made, "news/cryptonews.csv.gz", ";")
    faults = stated["news/cryptonews.csv.gz"]["faults"]
    assert news.filter(pl.col("date") == "yesterday").height == faults["date is no date"]
    for channel in ("bitcoin", "cryptomarkets"):
        lines = gzip.decompress(made.files[f"posts/{channel}_posts.jsonl.gz"]).decode().splitlines()
        faults = stated[f"posts/{channel}_posts.jsonl.gz"]["faults"]
        whole = [json.loads(line) for line in lines if line.endswith("}")]
        assert len(lines) - len(whole) == faults["line cut short"]
        assert sum(post["created_utc"] == "nan" for post in whole) == faults["created is nan"]


def test_volumes_are_those_of_a_real_user(made: World) -> None:
    lines = {name: part["lines"] for name, part in made.manifest["files"].items()}
    assert 12_000 < lines["bars/BTCUSDT_1h.csv.gz"] < 13_500
    assert 12_000 < lines["news/cryptonews.csv.gz"] < 24_000
    assert 9_000 < sum(count for name, count in lines.items() if name.startswith("posts/")) < 18_000


def test_texts_are_mostly_unique(made: World) -> None:
    news = _table(made, "news/cryptonews.csv.gz", ";").unique("url")
    assert news.select("title", "text").n_unique() > 0.95 * news.height
    assert not news["title"].str.contains("{n}", literal=True).any()


def test_a_lag_means_published_first() -> None:
    assert Relation().lag >= 3


def test_an_autoregression_has_variance_one() -> None:
    x = wander(np.random.default_rng(0), 200_000, 12.0)
    assert x.var() == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(x[12:], x[:-12])[0, 1] == pytest.approx(np.exp(-1), abs=0.03)


def test_a_decaying_sum_starts_from_nothing() -> None:
    left = keep(2.0)
    np.testing.assert_allclose(decayed(np.array([1.0, 0.0, 1.0]), 2.0), [1.0, left, left**2 + 1.0])


@pytest.mark.parametrize(("days", "seed"), [(39, 1), (540, -1)])
def test_an_impossible_world_is_refused(days: int, seed: int) -> None:
    with pytest.raises(BadInput, match="must"):
        world(seed=seed, days=days, end=END, signal=True)


def test_command_writes_the_world_and_refuses_a_full_folder(tmp_path) -> None:
    runner = CliRunner()
    folder = tmp_path / "a world"
    done = runner.invoke(cli, ["sample", str(folder), "--seed", "1", "--days", "40"])
    assert done.exit_code == 0, done.output
    manifest = json.loads((folder / "manifest.json").read_text())
    assert all((folder / name).is_file() for name in manifest["files"])
    again = runner.invoke(cli, ["sample", str(folder), "--seed", "1", "--days", "40"])
    assert isinstance(again.exception, BadInput)
    assert "not empty" in str(again.exception)
