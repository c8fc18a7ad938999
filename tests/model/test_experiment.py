"""A whole run over a real lake, real feature tables and the project's own feature repo."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
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
from backsight_model import lastlook
from backsight_model.experiment import Plan, run
from backsight_model.manifest import Manifest
from backsight_model.promotion import promote
from backsight_model.provenance import provenance
from backsight_model.settings import Settings
from backsight_model.trading import Costs
from backsight_model.training import collect, rebuild
from backsight_model.treatments import DECLARED, Treatment
from click.testing import CliRunner

pytestmark = pytest.mark.slow

SERIES = BarSeries.parse("bitstamp:BTC-USD:1h")
REPO = Path(__file__).resolve().parents[2] / "feature_repo"
WRITTEN = datetime(2024, 1, 1, tzinfo=UTC)
ROBUST = Treatment(kind="robust")
World = Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]


def as_facts(bars: pl.DataFrame) -> pl.DataFrame:
    """Return bars with every column of the lake's table, their ranges made up around the close."""
    opened = pl.col("close").shift(1).fill_null(pl.col("close"))
    return bars.with_columns(
        venue=pl.lit(SERIES.venue),
        symbol=pl.lit(SERIES.symbol),
        timeframe=pl.lit(SERIES.timeframe),
        open=opened,
        high=pl.max_horizontal(opened, "close") * 1.001,
        low=pl.min_horizontal(opened, "close") * 0.999,
        volume=1.0 + pl.int_range(pl.len()) % 7,
        quote_volume=pl.lit(None, pl.Float64),
        available_at_estimated=pl.lit(False),
        source=pl.lit("made up"),
    )


@pytest.fixture(scope="module")
def store_class() -> Any:
    from backsight_features.store import Store

    return Store


@pytest.fixture(scope="module")
def trained(bars_and_states: World, tmp_path_factory: pytest.TempPathFactory, store_class: Any) -> SimpleNamespace:
    bars = as_facts(bars_and_states(1, 1500)[0])
    workspace = Workspace(root=tmp_path_factory.mktemp("home"))
    lake = Lake(workspace.lake)
    lake.append(BARS, bars, now=WRITTEN)
    build(Snapshot.take(lake), workspace.features, [SERIES])
    store = store_class(REPO, workspace)
    store.apply()
    plan = Plan(
        series=(SERIES,),
        service="forecast_1h",
        compare=("price_1h",),
        horizon=timedelta(hours=24),
        further=(timedelta(hours=6),),
        length=8,
        folds=2,
        seed=1,
        settings=Settings(members=1, epochs=1, units=2, projection=2, treatments=(("rsi_*", ROBUST), *DECLARED)),
        costs=Costs(fee_bp=7.5),
    )
    said: list[str] = []
    done = run(plan, store, workspace, report_folder=None, say=said.append)
    return SimpleNamespace(plan=plan, store=store, workspace=workspace, done=done, said=said, bars=bars, lake=lake)


def test_a_run_leaves_bundle_pointer_and_report(trained: SimpleNamespace) -> None:
    done, workspace = trained.done, trained.workspace
    assert not done.verdict.skill
    assert not done.promoted
    assert not (workspace.models / "current.json").exists()
    with pytest.raises(BadInput, match=f"{done.folder.name} has no proven skill"):
        promote(workspace, done.folder, reason=None, now=WRITTEN)
    assert done.html.parent == workspace.reports / done.folder.name
    document = json.loads(done.json.read_text())
    assert document["sentences"] == list(done.verdict.sentences)
    assert document["trading"]["costs"]["per_side_bp"] == 9.5
    assert len(document["trading"]["rules"]) == 4
    assert [check["said"] for check in document["looked_for"] if check["raised"]] == list(done.flags)
    assert [claim["name"] for claim in document["claims"]] == [
        "volatility",
        "direction",
        "return",
        "volatility over 6 bars",
        "direction over 6 bars",
        "return over 6 bars",
        "volatility: forecast_1h over price_1h",
        "direction: forecast_1h over price_1h",
        "return: forecast_1h over price_1h",
    ]
    assert [row["model"] for row in document["horizons"]["rows"]][2:4] == [
        "return over 24 bars",
        "volatility over 6 bars",
    ]
    by_name = {claim["name"]: claim for claim in document["claims"]}
    assert document["horizons"]["rows"][3]["p_value"] == by_name["volatility over 6 bars"]["p_value"]
    assert [row["bars"] for row in document["horizons"]["held"]] == [24, 6]
    assert (document["manifest"]["horizon"], document["manifest"]["further"]) == (24, [6])
    assert "<h2>All horizons</h2>" in done.html.read_text()
    assert sum("fold" in line for line in trained.said) == 4
    assert not [path for path in workspace.models.iterdir() if path.name.startswith(".new-")]


def test_settings_are_kept_in_bundle_and_report(trained: SimpleNamespace) -> None:
    stated = {"kind": "robust", "tail": 0.005, "mask": False}
    bundle = json.loads((trained.done.folder / "bundle.json").read_text())
    for document in (bundle, json.loads(trained.done.json.read_text())):
        assert document["settings"]["units"] == 2
        assert document["settings"]["treatments"][0] == ["rsi_*", stated]
    pairs = zip(bundle["scaler"]["features"], bundle["scaler"]["treatments"], strict=True)
    assert [name for name, treated in pairs if treated == stated] == ["rsi_14"]


def test_settings_that_cannot_be_and_a_service_named_twice_are_refused(
    trained: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "wide.toml").write_text("unit = 64")
    asked = ["--home", str(trained.workspace.root), "train", "--repo", str(REPO), "--bars", str(SERIES)]
    with pytest.raises(BadInput, match=r"wide\.toml: unit is no setting; there are projection, layers"):
        CliRunner().invoke(cli, [*asked, "--settings", str(tmp_path / "wide.toml")], catch_exceptions=False)
    with pytest.raises(BadInput, match="compared with price_1h, price_1h; name each service once"):
        CliRunner().invoke(cli, [*asked, "--compare", "price_1h", "--compare", "price_1h"], catch_exceptions=False)
    idle = replace(trained.plan, settings=replace(trained.plan.settings, treatments=(("rsy_*", ROBUST), *DECLARED)))
    with pytest.raises(BadInput, match=r"declared for 'rsy_\*', which is none of the"):
        run(idle, trained.store, trained.workspace, report_folder=None, say=lambda line: None)


def manifest_of(trained: SimpleNamespace) -> Manifest:
    return Manifest(**json.loads((trained.done.folder / "bundle.json").read_text())["manifest"])


def test_the_manifest_rebuilds_the_training_set_after_late_data(
    trained: SimpleNamespace, tmp_path: Path, store_class: Any
) -> None:
    manifest = manifest_of(trained)
    lake = Lake(shutil.copytree(trained.workspace.lake, tmp_path / "lake"))
    # Versions that claim to have been seen at the time, but came in after the training.
    late = trained.bars[600:640].with_columns(pl.col("close") * 1.0005)
    lake.append(BARS, late, now=WRITTEN + timedelta(days=1))
    then = Snapshot.take(lake, ingested_until=datetime.fromisoformat(manifest.ingested_until))
    now = Snapshot.take(lake)
    for facts, home in ((then, "then"), (now, "now")):
        workspace = Workspace(root=tmp_path / home)
        build(facts, workspace.features, [SERIES])
        store = store_class(REPO, workspace)
        store.apply()
        if facts is then:
            assert rebuild(manifest, store, facts).sha256() == manifest.sha256
        else:
            with pytest.raises(BadInput, match="build the feature tables from facts ingested until 2024-01-01"):
                rebuild(manifest, store, facts)


def test_a_final_period_is_scored_once_and_trials_are_counted(trained: SimpleNamespace) -> None:
    plan = replace(trained.plan, compare=(), further=(), folds=1, held=0.2, trials=2, window=timedelta(days=20))
    models = trained.workspace.models
    first, last = trained.store.windows("forecast_1h", ["BTC-USD"], length=8).at[[0, -1]]
    spent = lastlook.span_of(str(SERIES), np.array([first, last]))
    assert lastlook.spend(models, (spent,), service="price_1h", now=WRITTEN) == 1
    with pytest.raises(BadInput, match="a score that was seen cannot be unseen"):
        run(plan, trained.store, trained.workspace, report_folder=None, say=lambda line: None)
    done = run(
        replace(plan, second_look=True), trained.store, trained.workspace, report_folder=None, say=lambda line: None
    )
    document = json.loads(done.json.read_text())
    assert document["final_period"]["look"] == 2
    assert "second look" in document["final_period"]["title"]
    assert done.final is not None
    assert done.final.title in done.html.read_text()
    assert [trial["number"] for trial in document["trials"]] == [0, 1]
    assert len((models / lastlook.LEDGER).read_text().splitlines()) == 2
    # Nothing that the walk was judged on lies in the final period.
    assert document["coverage"]["last"] < document["final_period"]["first"]
    assert document["coverage"]["left_out"]["held back for the final period"] > document["final_period"]["samples"]
    assert json.loads((done.folder / "bundle.json").read_text())["window_seconds"] == 20 * 24 * 3600


def test_samples_can_be_bounded_in_time(trained: SimpleNamespace) -> None:
    everything = manifest_of(trained)
    first, last = (datetime.fromisoformat(at) for at in (everything.first_at, everything.last_at))
    bounded = collect(
        trained.store,
        Snapshot.take(Lake(trained.workspace.lake)),
        [SERIES],
        service="forecast_1h",
        length=8,
        horizon=everything.horizon,
        further=everything.further,
        first_at=first + timedelta(days=5),
        last_at=last - timedelta(days=5),
    )
    assert len(bounded) == everything.samples - 10 * 24
    assert bounded.at[0] == np.datetime64((first + timedelta(days=5)).replace(tzinfo=None), "us")


def test_a_published_window_is_forecast_in_a_process_of_its_own(trained: SimpleNamespace) -> None:
    bundle, report = promote(trained.workspace, trained.done.folder, reason="to see a forecast", now=WRITTEN)
    assert report == trained.done.html
    assert "In use without proven skill since 2024-01-01T00:00:00+00:00: to see a forecast" in report.read_text()
    assert json.loads(trained.done.json.read_text())["override"]["reason"] == "to see a forecast"
    assert bundle.word == "no skill"
    at = trained.bars["observed_at"][-1] + timedelta(minutes=1)
    trained.store.publish("forecast_1h", length=8, at=at)
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from backsight_features.cli import cli\n"
        "result = CliRunner().invoke(cli, sys.argv[1:], catch_exceptions=False)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "print(result.output)\n"
    )
    arguments = ["--home", str(trained.workspace.root), "forecast", "--repo", str(REPO), "BTC-USD"]
    instant = ["--at", at.isoformat()]
    run_it = [sys.executable, "-c", program, *arguments, *instant]
    line = subprocess.run(run_it, capture_output=True, text=True, check=True).stdout
    assert "BTC-USD next 24 h as of" in line
    assert trained.done.folder.name in line
    assert "no proven skill, in use all the same: to see a forecast)" in line


def test_labels_come_from_the_bars_that_the_features_were_built_from(trained: SimpleNamespace) -> None:
    features, lake = trained.workspace.features, trained.lake
    with pytest.raises(BadInput, match="were built from bitstamp:BTC-USD:1h, not binance:BTC-USD:1h"):
        provenance(features, lake, [BarSeries.parse("binance:BTC-USD:1h")])
    with pytest.raises(BadInput, match="run `backsight build --bars bitstamp:BTC-USD:4h`"):
        provenance(features, lake, [BarSeries.parse("bitstamp:BTC-USD:4h")])
    origin = provenance(features, lake, [SERIES])
    assert origin.scorer == ""
    assert origin.ingested_until == WRITTEN
    assert origin.facts.versions["bars"] == lake.version(BARS)


def with_another_symbol(trained: SimpleNamespace, home: Path) -> tuple[Workspace, Lake]:
    """Return a copy of the workspace in which ETH-USD was pulled and built after the training."""
    workspace = Workspace(root=Path(shutil.copytree(trained.workspace.root, home)))
    lake = Lake(workspace.lake)
    lake.append(BARS, trained.bars.with_columns(symbol=pl.lit("ETH-USD"))[:100], now=WRITTEN + timedelta(days=1))
    build(Snapshot.take(lake), workspace.features, [replace(SERIES, symbol="ETH-USD")])
    return workspace, lake


def test_rows_of_each_symbol_keep_the_record_of_their_own_build(trained: SimpleNamespace, tmp_path: Path) -> None:
    workspace, lake = with_another_symbol(trained, tmp_path / "home")
    before = provenance(trained.workspace.features, trained.lake, [SERIES])
    after = provenance(workspace.features, lake, [SERIES])
    assert dict(after.facts.versions) == dict(before.facts.versions)
    assert after.ingested_until == WRITTEN
    assert provenance(workspace.features, lake, [replace(SERIES, symbol="ETH-USD")]).ingested_until > WRITTEN
    with pytest.raises(BadInput, match="no features of bitstamp:XRP-USD:1h are built"):
        provenance(workspace.features, lake, [replace(SERIES, symbol="XRP-USD")])


def test_tables_of_a_build_that_was_broken_off_are_not_learnt_from(trained: SimpleNamespace, tmp_path: Path) -> None:
    whole, lake = with_another_symbol(trained, tmp_path / "whole")
    build(Snapshot.take(lake), whole.features, [SERIES])
    assert provenance(whole.features, lake, [SERIES]).ingested_until > WRITTEN
    shutil.rmtree(whole.features / "macro_1h")
    with pytest.raises(BadInput, match="no features of 1h bars are built"):
        provenance(whole.features, lake, [SERIES])
    shutil.copytree(trained.workspace.features / "macro_1h", whole.features / "macro_1h")
    with pytest.raises(BadInput, match="broken off: market_1h, text_1h, macro_1h, book_1h come from different states"):
        provenance(whole.features, lake, [SERIES])


def test_bars_label_windows_of_their_own_length_only(trained: SimpleNamespace) -> None:
    facts = Snapshot.take(trained.lake)
    with pytest.raises(BadInput, match="forecast_1h has slots of 1:00:00, bars of bitstamp:BTC-USD:4h cannot label"):
        collect(trained.store, facts, [replace(SERIES, timeframe="4h")], service="forecast_1h", length=8, horizon=6)


def test_a_horizon_must_be_whole_bars(trained: SimpleNamespace) -> None:
    assert trained.plan.bars_ahead == (24, 6)
    assert trained.plan.embargo == timedelta(hours=24)
    assert replace(trained.plan, further=(timedelta(days=7),)).embargo == timedelta(days=7)
    with pytest.raises(BadInput, match="no whole number of bars"):
        replace(trained.plan, horizon=timedelta(minutes=90)).bars_ahead  # noqa: B018


def test_windows_of_the_run_are_those_served(trained: SimpleNamespace) -> None:
    at = trained.bars["observed_at"][-1] + timedelta(minutes=1)
    trained.store.publish("forecast_1h", length=8, at=at)
    online = trained.store.online("forecast_1h", "BTC-USD", at=at)
    offline = trained.store.windows("forecast_1h", ["BTC-USD"], length=8).gather(slice(-1, None))[0]
    np.testing.assert_array_equal(online.values, offline)
