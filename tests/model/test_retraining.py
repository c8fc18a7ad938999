"""What cron calls: due or not, champion against challenger, one at a time, and whole after a cut."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.cli import cli
from backsight_features.errors import BadInput, Busy, Missing
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_features.snapshot import Snapshot
from backsight_features.workspace import Workspace
from backsight_model import bundle, retraining, shadows
from backsight_model.challenge import Comparison
from backsight_model.lineage import Inherited, Refit
from backsight_model.live.lastseen import WATCHED, keep
from backsight_model.policies import Policy
from backsight_model.provenance import provenance
from backsight_model.retraining import Outcome, retrain
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet, collect, describe
from backsight_model.walk import Fitted, final
from click.testing import CliRunner
from filelock import FileLock

pytestmark = pytest.mark.slow

SERIES = BarSeries.parse("bitstamp:BTC-USD:1h")
REPO = Path(__file__).resolve().parents[2] / "feature_repo"
WRITTEN = datetime(2023, 6, 1, tzinfo=UTC)
NOW = datetime(2023, 3, 12, 0, 1, tzinfo=UTC)
"""A minute after the last bar."""
LENGTH, TINY = 4, Settings(members=1, epochs=1, units=2, projection=2)
SERVICE = "price_1h"
World = Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]


@dataclass(frozen=True)
class Home:
    """A workspace whose feature tables are built, and its store."""

    workspace: Workspace
    store: Any
    fitted: Fitted
    learnt: TrainingSet

    @property
    def models(self) -> Path:
        return self.workspace.models

    def retrain(self, policy: str, *, now: datetime = NOW, override: str | None = None) -> Outcome:
        return retrain(
            [SERIES],
            Policy.parse(policy),
            self.store,
            self.workspace,
            override=override,
            now=now,
            say=lambda line: None,
        )

    def used(self) -> str:
        return str(json.loads((self.models / "current.json").read_text())["BTC-USD"]["bundle"])


def champion(home: Home, *, skill: bool = True, window: timedelta | None = None) -> str:
    """Put a bundle that learnt from the first part of the bars into use; return its name."""
    kept = home.workspace.root / f"kept-{skill}-{window}"
    if not kept.exists():
        written(home, kept, skill=skill, window=window)
    (folder,) = (path for path in kept.iterdir() if path.is_dir())
    shutil.copytree(folder, home.models / folder.name)
    override = None if skill else bundle.Override(reason="to try", at="then")
    return bundle.promote(home.models, home.models / folder.name, override=override).name


def written(
    home: Home, models: Path, *, skill: bool, window: timedelta | None = None, refit: Refit | None = None
) -> Path:
    origin = provenance(home.workspace.features, Lake(home.workspace.lake), [SERIES])
    word = "skill" if skill else "no skill"
    return bundle.write(
        models,
        home.fitted,
        manifest=describe(home.learnt, origin, [SERIES], service=SERVICE, length=LENGTH, seed=1),
        settings=TINY,
        timeframe=timedelta(hours=1),
        verdict=Inherited(proven={"volatility": skill, "direction": False}, word=word, sentences=("Verdict.",)),
        window=window,
        refit=refit,
    )


@pytest.fixture(scope="module")
def built(bars_and_states: World, tmp_path_factory: pytest.TempPathFactory) -> Home:
    from backsight_features.store import Store

    bars = bars_and_states(3, 1680)[0]
    opened = pl.col("close").shift(1).fill_null(pl.col("close"))
    facts = bars.with_columns(
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
    workspace = Workspace(root=tmp_path_factory.mktemp("home"))
    lake = Lake(workspace.lake)
    lake.append(BARS, facts, now=WRITTEN)
    build(Snapshot.take(lake), workspace.features, [SERIES])
    store = Store(REPO, workspace)
    store.apply()
    learnt = collect(
        store,
        Snapshot.take(lake),
        [SERIES],
        service=SERVICE,
        length=LENGTH,
        horizon=24,
        last_at=NOW - timedelta(days=25),
    )
    fitted = final(learnt, embargo=timedelta(days=1), settings=TINY, seed=1)
    return Home(workspace=workspace, store=store, fitted=fitted, learnt=learnt)


@pytest.fixture
def home(built: Home) -> Home:
    shutil.rmtree(built.models, ignore_errors=True)
    return built


def files(models: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(models)): path.read_bytes()
        for path in models.rglob("*")
        if path.suffix != ".lock" and path.is_file()
    }


def test_nothing_is_done_before_it_is_due(home: Home) -> None:
    name = champion(home)
    before = files(home.models)
    outcome = home.retrain("every:10000")
    assert not outcome.due
    new = len(collect_all(home)) - len(home.learnt) - 23  # of these the champion knows a part of the outcome
    assert outcome.line == (
        f"not due: {SERIES}, policy every:10000: {new} new samples of the 10000 that are waited for; "
        f"{name} stays in use"
    )
    assert files(home.models) == before
    assert home.retrain("never").line.startswith(f"not due: {SERIES}, policy never: the policy is never to train again")
    assert home.retrain("drift").why == "too little has come since to say"


def collect_all(home: Home) -> TrainingSet:
    facts = Snapshot.take(Lake(home.workspace.lake))
    return collect(home.store, facts, [SERIES], service=SERVICE, length=LENGTH, horizon=24)


def test_a_challenger_that_is_not_worse_takes_over_once_whatever_cuts_the_run_off(home: Home) -> None:
    name = champion(home)
    outcome = home.retrain("every:400")
    assert outcome.promoted, outcome.line
    assert outcome.challenger is not None
    assert home.used() == outcome.challenger != name
    made = bundle.current(home.models, "BTC-USD")
    assert made.refit is not None
    assert (made.refit.champion, made.refit.number, made.refit.proven_by) == (name, 1, name)
    assert (made.proven, made.word, made.verdict) == ({"volatility": True, "direction": False}, "skill", ("Verdict.",))
    document = json.loads((home.models / made.name / "bundle.json").read_text())
    assert f"refit 1 after the walk-forward proof of {name}" in document["fitted_on"]
    compared = document["refit"]["comparison"]
    assert compared["won"]
    assert compared["samples"] == 336
    # It learnt from no label that was known after the stretch began, and its manifest gives these samples again.
    everything = collect_all(home)
    until = np.datetime64(datetime.fromisoformat(made.refit.learnt_until).replace(tzinfo=None), "us")
    learnt = everything.at <= np.datetime64(datetime.fromisoformat(made.manifest.last_at).replace(tzinfo=None), "us")
    assert everything.label_at[learnt].max() <= until
    assert str(until) == str(np.datetime64(compared["first"], "us"))
    assert made.manifest.sha256 == everything.first(int(learnt.sum())).sha256()

    assert made.scaler.to_json() == home.fitted.scaler.to_json(), "a warm start keeps it"

    # A second run does nothing.
    before = files(home.models)
    again = home.retrain("every:400")
    assert not again.due
    assert "0 new samples of the 400" in again.why
    assert files(home.models) == before

    # A person has the last word: who went back to the champion meant it.
    bundle.promote(home.models, home.models / name)
    assert not home.retrain("every:400").due
    assert home.used() == name

    # What is written and in no journal was cut off right before its promotion, and is brought to its end.
    (home.models / retraining.JOURNAL).unlink()
    finished = home.retrain("every:400")
    assert finished.promoted
    assert finished.challenger == made.name == home.used()
    assert "its run had been cut off" in finished.why
    (home.models / retraining.JOURNAL).unlink()  # cut off between promotion and journal
    assert not home.retrain("never").due
    assert [entry["challenger"] for entry in retraining.history(home.models)] == [made.name]


def test_a_champion_stays_where_the_challenger_is_worse(home: Home) -> None:
    name = champion(home, window=timedelta(days=4))  # next to nothing to learn from
    alert = {"rule": "switched", "symbol": "BTC-USD", "said": "BTC-USD: loss rose"}
    seen = {"symbol": "BTC-USD", "bundle": name, "at": NOW.isoformat(), "alerts": [alert]}
    keep(home.workspace.live / WATCHED, {"symbols": [seen | {"bundle": "another"}]})
    assert not home.retrain("drift:cold").due
    keep(home.workspace.live / WATCHED, {"symbols": [seen]})
    outcome = home.retrain("drift:cold")
    assert outcome.due
    assert outcome.why.startswith("seen live: BTC-USD: loss rose")
    assert not outcome.promoted, outcome.line
    assert shadows.named(home.models) == {"BTC-USD": outcome.challenger}
    assert "the challenger is worse on 336 instants" in outcome.line
    assert home.used() == name
    assert outcome.challenger is not None
    assert bundle.read(home.models / outcome.challenger).refit is not None
    again = home.retrain("every:400:cold")
    assert not again.due
    assert "0 new samples of the 400" in again.why


def test_labels_that_are_not_known_yet_are_not_counted(home: Home) -> None:
    champion(home)
    early, later = (home.retrain("every:10000", now=NOW - timedelta(days=days)).why for days in (3, 1))
    counts = [int(why.split()[0]) for why in (early, later)]
    assert counts[1] - counts[0] == 48


def test_two_runs_of_one_symbol_do_not_meet(home: Home) -> None:
    champion(home)
    with (
        FileLock(home.models / ".retrain-BTC-USD.lock"),
        pytest.raises(Busy, match="another run of `backsight retrain`"),
    ):
        home.retrain("never")
    assert not home.retrain("never").due


def test_without_skill_a_reason_is_needed(home: Home) -> None:
    name = champion(home, skill=False)
    with pytest.raises(BadInput, match=f"{name} has no proven skill, and a refit of it would have none"):
        home.retrain("every:400")
    with pytest.raises(BadInput, match="reason of an override is blank"):
        home.retrain("every:400", override=" ")
    compared = Comparison(
        first=np.datetime64("2023-02-01T00:00", "us"),
        last=np.datetime64("2023-02-09T00:00", "us"),
        samples=200,
        champion={"volatility": 0.5},
        challenger={"volatility": 0.4},
    )
    refit = Refit(
        champion=name, number=1, warm=True, policy="drift", why="", at=NOW.isoformat(), learnt_until=NOW.isoformat(),
        comparison=compared.to_json(), won=True, proven_by=name, proven_until="",
    )  # fmt: skip
    waiting = written(home, home.models, skill=False, refit=refit).name
    outcome = home.retrain("every:400", override="to try\n it")
    assert outcome.promoted, outcome.line
    made = bundle.current(home.models, "BTC-USD")
    assert made.name == waiting != name
    assert made.override == bundle.Override(reason="to try it", at=NOW.isoformat())
    assert made.word == "no skill"
    assert "volatility 0.4000 against 0.5000 (mean -20.00 %)" in outcome.line


def test_what_is_not_in_use_cannot_be_trained_again(home: Home) -> None:
    with pytest.raises(Missing, match="no model forecasts BTC-USD"):
        home.retrain("never")
    champion(home)
    with pytest.raises(BadInput, match="forecasts bitstamp:BTC-USD:1h, not kraken:BTC-USD:1h"):
        retrain(
            [BarSeries.parse("kraken:BTC-USD:1h")],
            Policy(),
            home.store,
            home.workspace,
            override=None,
            now=NOW,
            say=lambda line: None,
        )


def test_a_network_comes_back_from_its_file(home: Home) -> None:
    from backsight_model.lstm import load

    network = load(home.models / champion(home))
    rows = home.fitted.scaler.transform(home.learnt.windows.rows)
    some = home.learnt.windows.index[-50:]
    np.testing.assert_array_equal(network.predict(rows, some), home.fitted.network.predict(rows, some))
    for mine, theirs in zip(network.members, home.fitted.network.members, strict=True):
        for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_verb_says_in_a_line_what_it_did(home: Home) -> None:
    name = champion(home)
    arguments = ["--home", str(home.workspace.root), "retrain", "--repo", str(REPO), "--bars", str(SERIES)]
    done = CliRunner().invoke(cli, [*arguments, "--policy", "never"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (
        0,
        f"not due: {SERIES}, policy never: the policy is never to train again; {name} stays in use\n",
    )
    as_json = CliRunner().invoke(cli, [*arguments, "--policy", "never", "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["champion"] == name
    with pytest.raises(BadInput, match="--seed is for --simulate"):
        CliRunner().invoke(cli, [*arguments, "--seed", "3"], catch_exceptions=False)
    with pytest.raises(BadInput, match="retrained by one policy, not by never, drift"):
        CliRunner().invoke(cli, [*arguments, "--policy", "never", "--policy", "drift"], catch_exceptions=False)


def test_the_verb_simulates_and_changes_nothing(home: Home, tmp_path: Path) -> None:
    champion(home)
    before = files(home.models)
    arguments = [
        "--home",
        str(home.workspace.root),
        "retrain",
        "--repo",
        str(REPO),
        "--bars",
        str(SERIES),
        "--simulate",
    ]
    (tmp_path / "tiny.toml").write_text("members = 1\nepochs = 1\nunits = 2\nprojection = 2\n")
    options = ["--service", SERVICE, "--length", "4", "--policy", "every:9999", "--out", str(tmp_path)]
    options += ["--settings", str(tmp_path / "tiny.toml")]
    done = CliRunner().invoke(cli, [*arguments, *options], catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:5] == ["policy", "trained", "used", "CPU", "s"]
    assert [line.split()[0] for line in lines[1:3]] == ["never", "every:9999"]
    assert "No policy loses measurably less than never training again." in lines
    assert lines[-1] == f"report: {tmp_path / 'retraining.html'}"
    assert json.loads((tmp_path / "retraining.json").read_text())["settings"]["units"] == 2
    assert files(home.models) == before
