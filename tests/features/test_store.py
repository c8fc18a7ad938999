"""The store over a small feature repo on disk: Feast, Delta and SQLite as they run."""

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import numpy as np
import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.clocks import UTC_US
from backsight_features.errors import (
    BadInput,
    Busy,
    FutureStamped,
    HeaderMismatch,
    Missing,
    NonFinite,
    Stale,
)
from backsight_features.workspace import Workspace
from click.testing import CliRunner
from deltalake import write_deltalake

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAG = timedelta(seconds=15)
FEATURES = {"market_1h": ("ret", "vol"), "text_1h": ("sent_y",)}

VIEWS = (Path(__file__).parent / "small_repo" / "views.py").read_text()


@pytest.fixture(scope="module")
def store_module() -> ModuleType:
    return importlib.import_module("backsight_features.store")


def write(workspace: Workspace, states: pl.DataFrame, mode: str = "overwrite") -> None:
    for table, features in FEATURES.items():
        rows = states.select("symbol", "observed_at", "available_at", *features)
        write_deltalake(workspace.features / table, rows, mode=mode)


def states(seed: int = 0, hours: int = 60) -> pl.DataFrame:
    """Two symbols; bars missing, nulls, bars that came hours late in a bunch, and corrections of old closes."""
    random = np.random.default_rng(seed)
    rows = []
    for symbol in ("BTC-USD", "ETH USD"):
        for hour in range(hours):
            if random.random() < 0.15:
                continue
            known = T0 + hour * HOUR + LAG
            rows.append((symbol, T0 + hour * HOUR, known))
            if random.random() < 0.1:
                rows.append((symbol, T0 + hour * HOUR, known + random.integers(1, 59) * timedelta(minutes=1)))
    frame = pl.DataFrame(rows, {"symbol": pl.String, "observed_at": UTC_US, "available_at": UTC_US}, orient="row")
    for name in ("ret", "vol", "sent_y"):
        values = random.normal(size=len(rows)).astype(np.float32)
        missing = random.random(len(rows)) < 0.1
        frame = frame.with_columns(pl.Series(name, values).set(pl.Series(missing), None))
    return frame


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path / "a home with spaces")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Feature repo of the project, but for its views."""
    project = Path(__file__).resolve().parents[2] / "feature_repo"
    folder = tmp_path / "feature repo"
    folder.mkdir()
    for name in ("feature_store.yaml", "entities.py"):
        (folder / name).write_bytes((project / name).read_bytes())
    (folder / "views.py").write_text(VIEWS)
    return folder


@pytest.fixture
def store(repo: Path, workspace: Workspace, store_module: ModuleType) -> Any:
    write(workspace, states())
    store = store_module.Store(repo, workspace)
    assert store.apply() == ("forecast_1h", "price_1h")
    return store


def one(workspace: Workspace, hours: float = 3, **values: float | None) -> None:
    """Store one state of one symbol, about the close `hours` after T0."""
    stamps = {"symbol": "BTC-USD", "observed_at": T0 + hours * HOUR, "available_at": T0 + hours * HOUR + LAG}
    schema = {"symbol": pl.String, "observed_at": UTC_US, "available_at": UTC_US}
    features = dict.fromkeys(("ret", "vol", "sent_y"), 1.0) | values
    write(workspace, pl.DataFrame([stamps | features], schema | dict.fromkeys(features, pl.Float32)))


def expected(frame: pl.DataFrame, at: datetime, length: int, features: list[str]) -> np.ndarray:
    """Look every slot up by hand."""
    rows = frame.filter(pl.col("available_at") <= at)
    end = rows["observed_at"].max()
    window = np.full((length, len(features)), np.nan, dtype=np.float32)
    for lag in range(length):
        slot = rows.filter(pl.col("observed_at") == end - lag * HOUR).sort("available_at").tail(1)
        if slot.height:
            window[length - 1 - lag] = slot.select(features).row(0)
    return window


def test_applying_again_changes_nothing_and_what_was_removed_goes(store: Any, repo: Path) -> None:
    assert store.apply() == ("forecast_1h", "price_1h")
    (repo / "views.py").write_text("\n".join(line for line in VIEWS.splitlines() if not line.startswith("price_1h")))
    assert store.apply() == ("forecast_1h",)
    with pytest.raises(BadInput, match=r"no service 'price_1h'.*there are forecast_1h"):
        store.instants("price_1h")


def test_reading_a_repo_leaves_no_modules_behind(store: Any, repo: Path) -> None:
    assert {"entities", "views", "services"}.isdisjoint(sys.modules)
    assert str(repo) not in sys.path


def test_history_keeps_order_duplicates_and_columns_and_drops_what_is_too_old(store: Any, workspace: Workspace) -> None:
    one(workspace)
    known = T0 + 3 * HOUR + LAG
    asked = [known, known - timedelta(microseconds=1), known + timedelta(hours=2, minutes=5), known]
    asked.append(asked[2] + timedelta(microseconds=1))
    entities = pl.DataFrame(
        {"label": range(5), "symbol": ["BTC-USD"] * 5, "event_timestamp": asked},
        {"label": pl.Int64, "symbol": pl.String, "event_timestamp": UTC_US},
    )
    got = store.history(entities, "forecast_1h")
    assert got.columns == ["label", "symbol", "event_timestamp", "ret", "vol", "sent_y"]
    assert got.select(entities.columns).equals(entities)
    assert got["ret"].to_list() == [1, None, 1, 1, None]
    assert store.history(entities, "price_1h").columns == ["label", "symbol", "event_timestamp", "ret", "vol"]


def test_windows_of_the_store_are_what_was_known(store: Any) -> None:
    frame = states()
    got = store.windows("forecast_1h", ["ETH USD", "BTC-USD"], length=6)
    assert len(got) == frame.height
    assert got.features == ("ret", "vol", "sent_y")
    assert got.timeframe == HOUR
    for i in range(0, len(got), 7):
        at = got.at[i].astype(datetime).replace(tzinfo=UTC)
        mine = frame.filter(pl.col("symbol") == got.symbol[i])
        np.testing.assert_array_equal(got.gather([i])[0], expected(mine, at, 6, ["ret", "vol", "sent_y"]))
    later = store.windows("forecast_1h", ["BTC-USD"], length=6, start=T0 + 30 * HOUR, end=T0 + 40 * HOUR)
    assert {str(later.at.min())[:13], str(later.at.max())[:13]} <= {f"2024-01-02T{h:02}" for h in range(6, 17)}
    assert len(store.windows("forecast_1h", ["BTC-USD"], length=6, start=T0 + 900 * HOUR)) == 0


def test_a_state_that_is_not_in_every_table_is_not_there(store: Any, workspace: Workspace) -> None:
    """Tables are built one after the other; between two of them, the older state must not stand in."""
    frame = states()
    whole = store.windows("forecast_1h", ["BTC-USD"], length=5)
    newest = (
        frame.filter(pl.col("symbol") == "BTC-USD").tail(1).with_columns(pl.col("observed_at", "available_at") + HOUR)
    )
    write_deltalake(workspace.features / "market_1h", pl.concat([frame, newest]).drop("sent_y"), mode="overwrite")
    partly = store.windows("forecast_1h", ["BTC-USD"], length=5)
    assert partly.gather().tobytes() == whole.gather().tobytes()
    assert len(store.windows("price_1h", ["BTC-USD"], length=5)) == len(whole) + 1


def test_nothing_known_later_changes_a_window(store: Any, workspace: Workspace) -> None:
    at = T0 + 40 * HOUR
    asked = pl.DataFrame({"symbol": ["BTC-USD"], "at": [at]}, {"symbol": pl.String, "at": UTC_US})
    before = store.windows("forecast_1h", ["BTC-USD"], asked, length=24).gather()
    frame = states()
    write(workspace, frame.filter(pl.col("available_at") <= at))
    deleted = store.windows("forecast_1h", ["BTC-USD"], asked, length=24).gather()
    changed = frame.with_columns(
        pl.when(pl.col("available_at") > at).then(pl.lit(9.0)).otherwise(name).cast(pl.Float32).alias(name)
        for name in ("ret", "vol", "sent_y")
    )
    late = frame.head(20).with_columns(pl.lit(at + HOUR / 7, UTC_US).dt.offset_by("1m").alias("available_at")).head(1)
    write(workspace, pl.concat([changed, late.with_columns(ret=pl.lit(7.0, pl.Float32))]))
    rewritten = store.windows("forecast_1h", ["BTC-USD"], asked, length=24).gather()
    assert before.tobytes() == deleted.tobytes() == rewritten.tobytes()
    assert np.isfinite(before).any()


@pytest.mark.parametrize("ordered", [True, False])
def test_online_is_offline_bit_for_bit(store: Any, workspace: Workspace, ordered: bool) -> None:
    random = np.random.default_rng(3)
    minutes = random.integers(60, 60 * 62, size=12)
    newest: dict[str, datetime] = {}
    for minute in sorted(minutes) if ordered else minutes:
        at = T0 + timedelta(minutes=int(minute))
        done = store.publish("forecast_1h", length=9, at=at)
        for window in done.windows:
            assert window.available_at <= at
            kept = window.symbol in newest and newest[window.symbol] > window.available_at
            assert (window.outcome == "kept") is kept
            newest[window.symbol] = max(newest.get(window.symbol, window.available_at), window.available_at)
        for symbol, known in newest.items():
            got = store.online("forecast_1h", symbol, at=known, max_age=timedelta(days=9))
            asked = pl.DataFrame({"symbol": [symbol], "at": [known]}, {"symbol": pl.String, "at": UTC_US})
            offline = store.windows("forecast_1h", [symbol], asked, length=9)
            assert got.values.tobytes() == offline.gather()[0].tobytes()
            assert (got.mask == (offline.index[0] < len(offline.row_available_at))).all()
            assert got.available_at == known
            assert got.features == offline.features


def test_publishing_again_a_correction_and_something_older(store: Any, workspace: Workspace) -> None:
    def outcome(at: datetime) -> str:
        [window] = store.publish("price_1h", length=2, at=at).windows
        return window.outcome

    now = T0 + 5 * HOUR
    one(workspace, 4)
    assert outcome(now) == "written"
    assert outcome(now) == outcome(now + HOUR) == "unchanged"
    one(workspace, 3, ret=8.0)
    assert outcome(now) == "kept"
    assert store.online("price_1h", "BTC-USD", at=now).values[-1].tolist() == [1, 1]
    one(workspace, 4, ret=2.0)
    assert outcome(now) == "corrected"
    assert store.online("price_1h", "BTC-USD", at=now).values[-1].tolist() == [2, 1]
    with pytest.raises(BadInput, match="no features known at 2024-01-01T03:00:00Z"):
        outcome(T0 + 3 * HOUR)


def test_ages_and_mask(store: Any, workspace: Workspace) -> None:
    closes = [T0, T0 + 2 * HOUR]
    features = {"ret": [1, 2], "vol": [3, None], "sent_y": [None, None]}
    stamps = {"observed_at": closes, "available_at": [close + LAG for close in closes]}
    schema = {"symbol": pl.String, "observed_at": UTC_US, "available_at": UTC_US}
    write(
        workspace,
        pl.DataFrame({"symbol": ["A", "A"]} | stamps | features, schema | dict.fromkeys(features, pl.Float32)),
    )
    store.publish("forecast_1h", length=4, at=T0 + 3 * HOUR)
    got = store.online("forecast_1h", "A", at=T0 + 3 * HOUR)
    assert got.mask.tolist() == [False, True, False, True]
    assert got.ages[0] == np.timedelta64(HOUR - LAG)
    assert got.ages[1] == np.timedelta64(3 * HOUR - LAG)
    assert np.isnat(got.ages[2])


def test_the_gate_is_shut(store: Any, workspace: Workspace) -> None:
    known = T0 + 3 * HOUR + LAG
    with pytest.raises(Missing, match="'BTC-USD' is online; symbols with features: BTC-USD, ETH USD"):
        store.online("price_1h", "BTC-USD", at=known)
    one(workspace)
    store.publish("price_1h", length=2, at=known)
    store.publish("forecast_1h", length=2, at=known)
    assert store.online("price_1h", "BTC-USD", at=known).values.shape == (2, 2)
    with pytest.raises(Missing, match="'DOGE-USD' is online; symbols with features: BTC-USD"):
        store.online("price_1h", "DOGE-USD", at=known)
    with pytest.raises(FutureStamped, match="known at 2024-01-01T03:00:15Z, after the instant asked for"):
        store.online("price_1h", "BTC-USD", at=known - timedelta(seconds=1))
    last = T0 + 5 * HOUR + timedelta(minutes=5)
    store.online("price_1h", "BTC-USD", at=last)
    with pytest.raises(Stale, match="newest bar closed at 2024-01-01T03:00:00Z, 2:05:00"):
        store.online("price_1h", "BTC-USD", at=last + timedelta(microseconds=1))
    with pytest.raises(Stale, match="at most 0:30:00"):
        store.online("price_1h", "BTC-USD", at=known + HOUR, max_age=HOUR / 2)
    store.online("forecast_1h", "BTC-USD", at=known + HOUR)
    with pytest.raises(Stale, match=r"forecast_1h window of 'BTC-USD': sent_y became known"):
        store.online("forecast_1h", "BTC-USD", at=known + HOUR + timedelta(microseconds=1))
    one(workspace, 4, vol=float("-inf"))
    store.publish("price_1h", length=2, at=known + HOUR)
    with pytest.raises(NonFinite, match="vol is infinite"):
        store.online("price_1h", "BTC-USD", at=known + HOUR)


def test_a_window_of_other_features_is_refused_and_then_replaced(
    store: Any, repo: Path, workspace: Workspace, store_module: ModuleType
) -> None:
    one(workspace)
    known = T0 + 3 * HOUR + LAG
    store.publish("price_1h", length=2, at=known)
    swapped = VIEWS.replace('[feature("ret", 24), feature("vol", 24)]', '[feature("vol", 24), feature("ret", 24)]')
    (repo / "views.py").write_text(swapped)
    changed = store_module.Store(repo, workspace)
    changed.apply()
    with pytest.raises(HeaderMismatch, match="other features"):
        changed.online("price_1h", "BTC-USD", at=known)
    assert changed.publish("price_1h", length=2, at=known).windows[0].outcome == "corrected"
    assert changed.online("price_1h", "BTC-USD", at=known).features == ("vol", "ret")
    with sqlite3.connect(workspace.online / "online.db") as database:
        database.execute("UPDATE backsight_price_1h_window SET value = substr(value, 1, length(value) - 9)")
    with pytest.raises(HeaderMismatch, match="price_1h window of 'BTC-USD'"):
        changed.online("price_1h", "BTC-USD", at=known)
    assert changed.publish("price_1h", length=2, at=known).windows[0].outcome == "written"


def test_one_process_publishes_at_a_time(store: Any, workspace: Workspace) -> None:
    with (
        filelock.FileLock(workspace.online / "publish.lock"),
        pytest.raises(Busy, match="another process is publishing"),
    ):
        store.publish("price_1h", length=2, at=T0 + 9 * HOUR)


def test_settings_take_variables_as_the_feast_command_does(
    repo: Path, workspace: Workspace, store_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backsight_features.store.repository import configuration
    from backsight_features.store.settings import resolve

    settings = repo / "feature_store.yaml"
    settings.write_text(
        settings.read_text().replace("project: backsight", "project: ${NAME:-other}")
        + "materialization:\n  online_write_batch_size: $SIZE\n"
    )
    config = configuration(repo, {"BACKSIGHT_HOME": "/srv/a: b", "SIZE": "500"})
    assert config.project == "other"
    assert config.offline_store.root == "/srv/a: b"
    assert config.materialization_config.online_write_batch_size == 500
    monkeypatch.setenv("SIZE", "500")
    monkeypatch.setenv("BACKSIGHT_HOME", "nowhere")
    assert store_module.Store(repo, workspace).apply()
    assert (workspace.online / "registry.db").exists()
    with pytest.raises(BadInput, match="BACKSIGHT_HOME is 'nowhere', a relative path"):
        resolve("${BACKSIGHT_HOME:-x}/online.db", repo)
    monkeypatch.delenv("BACKSIGHT_HOME")
    assert resolve("${BACKSIGHT_HOME:-../x}/online.db", repo) == str(repo / "../x/online.db")
    assert resolve("s3://bucket/x", repo) == "s3://bucket/x"


def test_what_is_not_there_yet_is_said(repo: Path, workspace: Workspace, store_module: ModuleType) -> None:
    store = store_module.Store(repo, workspace)
    with pytest.raises(BadInput, match="the registry is empty; run `backsight apply`"):
        store.instants("price_1h")
    store.apply()
    with pytest.raises(BadInput, match=r"no Delta table at .*market_1h; run `backsight build`"):
        store.publish("price_1h", length=2, at=T0)
    with pytest.raises(BadInput, match="run `backsight build`"):
        store.windows("price_1h", ["BTC-USD"], length=2)
    with pytest.raises(Missing, match="publish it first"):
        store.online("price_1h", "BTC-USD", at=T0)
    write(workspace, states())
    with pytest.raises(BadInput, match="no features of DOGE-USD; there are BTC-USD, ETH USD"):
        store.windows("price_1h", ["DOGE-USD"], length=2)
    elsewhere = pl.DataFrame({"symbol": ["ETH USD"], "at": [T0]}, {"symbol": pl.String, "at": UTC_US})
    with pytest.raises(BadInput, match="windows of ETH USD asked for, but not among the symbols"):
        store.windows("price_1h", ["BTC-USD"], elsewhere, length=2)
    with pytest.raises(BadInput, match="column 'event_timestamp' of the rows is None"):
        store.history(elsewhere, "price_1h")
    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    for use in (lambda: store.publish("price_1h", length=2, at=naive), lambda: store.online("price_1h", "A", at=naive)):
        with pytest.raises(BadInput, match="no time zone"):
            use()
    with pytest.raises(BadInput, match=r"no feature_store.yaml in .*elsewhere"):
        store_module.Store(repo / "elsewhere", workspace).apply()


def test_a_damaged_registry_is_named(store: Any, repo: Path, workspace: Workspace, store_module: ModuleType) -> None:
    (workspace.online / "registry.db").write_text("no registry")
    with pytest.raises(BadInput, match=r"registry.db is no registry .* remove it and run `backsight apply`"):
        store_module.Store(repo, workspace).instants("forecast_1h")


def test_verbs(repo: Path, workspace: Workspace, store_module: ModuleType) -> None:
    write(workspace, states())
    home = ["--home", str(workspace.root)]
    applied = CliRunner().invoke(cli, [*home, "apply", "--repo", str(repo), "--json"], catch_exceptions=False)
    assert json.loads(applied.output) == {"services": ["forecast_1h", "price_1h"]}
    arguments = ["publish", "--repo", str(repo), "--service", "price_1h", "--length", "4"]
    instant = ["--at", "2024-01-02T00:30:00Z"]
    first = CliRunner().invoke(cli, [*home, *arguments, *instant, "--json"], catch_exceptions=False)
    document = json.loads(first.output)
    assert document["at"] == "2024-01-02T00:30:00+00:00"
    assert [window["outcome"] for window in document["windows"]] == ["written", "written"]
    second = CliRunner().invoke(cli, [*home, *arguments, *instant], catch_exceptions=False)
    assert "BTC-USD: unchanged, newest bar closed 2024-01-02 00:00 UTC" in second.output


def test_feast_is_imported_without_pytorch_which_can_be_found_all_the_same() -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch: pip install 'backsight-ingest[torch]'")
    program = (
        "import importlib.util, sys, backsight_features.store\n"
        "print('torch' in sys.modules, importlib.util.find_spec('torch') is not None)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False True\n"


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_the_feast_command_applies_the_repo_of_the_project(
    tmp_path: Path, named: bool, store_module: ModuleType
) -> None:
    project = Path(__file__).resolve().parents[2] / "feature_repo"
    folder = tmp_path / "a checkout" / "feature_repo"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "my home" if named else folder.parent / ".backsight"
    environment = {name: value for name, value in os.environ.items() if name != "BACKSIGHT_HOME"}
    if named:
        environment["BACKSIGHT_HOME"] = str(home)
    # Once as anybody starts it, once without waiting for what Feast asks of typeguard.
    quickly = "import backsight_features.store; from feast.cli.cli import cli; cli()"
    start = ["-c", quickly] if named else ["-m", "feast.cli.cli"]
    command = [sys.executable, *start, "-c", str(folder), "apply"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert sorted(path.name for path in (home / "online").iterdir()) == ["online.db", "registry.db"]
    store = store_module.Store(folder, Workspace(root=home))
    for service in ("forecast_1h", "price_1h"):
        with pytest.raises(BadInput, match="run `backsight build`"):
            store.instants(service)
