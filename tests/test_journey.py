"""The whole way, through the command line: raw files in, a judged forecast out."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.identities import identify
from backsight_features.building.states import CLOCKS, KINDS, Background, states
from backsight_features.cli import cli
from backsight_features.clocks import utc_now
from backsight_features.errors import Missing, NotServable
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, Table
from backsight_features.text import choose_scorer
from backsight_features.windows import Windows, windows
from backsight_features.workspace import Workspace
from backsight_model.bundle import Bundle, current
from backsight_model.forecast import estimate
from backsight_model.training import TrainingSet, label
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
BACKSIGHT = Path(sys.executable).parent / "backsight"
BARS = "binance:BTC-USDT:1h"
HOUR = timedelta(hours=1)
END = "2024-06-30T00:01:00Z"
DUMPS = (
    ("binance-1h", "bars"),
    ("cryptonews", "news"),
    ("reddit-first-seen", "posts"),
    ("alfred-intervals", "macro/vintages"),
    ("fred-date-value", "macro/daily"),
    ("fear-greed", "index"),
)


@dataclass(frozen=True)
class Desk:
    """A workspace and the command line over it."""

    home: Path
    world: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BACKSIGHT_HOME": str(self.home)}
        return subprocess.run(
            [str(BACKSIGHT), *arguments], capture_output=True, text=True, timeout=600, env=environment, cwd=ROOT
        )

    def do(self, *arguments: str) -> Any:
        """Run a verb that must succeed and return its JSON document."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    def do_here(self, *arguments: str) -> Any:
        """Do the same in this process, which has imported everything already."""
        with chdir(ROOT):
            done = CliRunner().invoke(
                cli, [*arguments, "--json"], env={"BACKSIGHT_HOME": str(self.home)}, catch_exceptions=False
            )
        assert done.exit_code == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    def pull(self) -> list[dict[str, Any]]:
        """Pull all dumps of the world and return the account of each file."""
        pulled = [self.do_here("pull", "dump", "--layout", name, str(self.world / folder)) for name, folder in DUMPS]
        return [account for accounts in pulled for account in accounts["files"]]


def travel(folder: Path, *flags: str, settings: str | None = None) -> tuple[Desk, dict[str, Any]]:
    """Go the whole way on a sample world and return what `train` said."""
    # A blank in the name: nothing on the way may trip over it.
    desk = Desk(home=folder / "a home", world=folder / "a world")
    made = desk.run("sample", str(desk.world), "--seed", "7", *flags)
    assert made.returncode == 0, made.stderr
    desk.pull()
    desk.do("score", "--scorer", "sentfin-tiny-bert")
    desk.do("build", "--bars", BARS)
    desk.do("apply")
    # Two blocks judge the same time as the usual four, and are learnt for half as often.
    asked = ["--service", "forecast_1h", "--compare", "price_1h", "--folds", "2"]
    if settings is not None:
        (folder / "settings.toml").write_text(settings)
        asked += ["--settings", str(folder / "settings.toml")]
    judged = desk.do("train", "--bars", BARS, *asked)
    desk.do("publish", "--service", "forecast_1h", "--length", "48", "--at", END)
    return desk, judged


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, dict[str, Any]]:
    return travel(tmp_path_factory.mktemp("signal"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, dict[str, Any]]:
    # Skill is as easily claimed wrongly of a shorter world, and of one network.
    return travel(tmp_path_factory.mktemp("noise"), "--no-signal", "--days", "360", settings="members = 1")


def claims(judged: dict[str, Any]) -> dict[str, bool]:
    report = json.loads(Path(judged["report_json"]).read_text())
    return {claim["name"]: claim["proven"] for claim in report["claims"]}


@pytest.mark.slow
def test_every_row_is_accounted_for_and_a_second_pull_accepts_none(signal: tuple[Desk, dict[str, Any]]) -> None:
    desk, _ = signal
    runs = desk.do("runs")
    assert {Path(run["origin"]).name for run in runs} >= {"BTCUSDT_1h.csv.gz", "DGS10.csv"}
    assert all(run["read"] == run["accepted"] + run["duplicate"] + run["quarantined"] for run in runs)
    manifest = json.loads((desk.world / "manifest.json").read_text())
    lines = {Path(name).name: of["lines"] for name, of in manifest["files"].items()}
    assert {Path(run["origin"]).name: run["read"] for run in runs} == lines
    again = desk.pull()
    assert len(again) == len(lines)
    assert [account["accepted"] for account in again] == [0] * len(lines)


@pytest.mark.slow
def test_a_planted_relation_is_found_and_price_alone_does_not_do(signal: tuple[Desk, dict[str, Any]]) -> None:
    _, judged = signal
    assert judged["verdict"] == "tradable", "the relation is stronger than any real one"
    assert judged["promoted"]
    assert any("Net Sharpe ratio" in flag for flag in judged["red_flags"]), "and nobody would believe it"
    assert judged["proven"] == {"volatility": True, "direction": True, "return": True}
    proven = claims(judged)
    assert proven["volatility: forecast_1h over price_1h"]
    assert proven["direction: forecast_1h over price_1h"]
    page = Path(judged["report_html"]).read_text()
    assert "Verdict: tradable, with skill in volatility, direction and return." in page
    assert "sentfin-tiny-bert" in page, "the scorer is named"


@pytest.mark.slow
def test_the_same_world_without_the_relation_is_told_apart(noise: tuple[Desk, dict[str, Any]]) -> None:
    desk, judged = noise
    assert judged["verdict"] == "no skill"
    assert not any(claims(judged).values())
    assert not judged["promoted"]
    asked, name, reason = ("forecast", "BTC-USDT", "--at", END), Path(judged["bundle"]).name, "to see what noise says"
    unpromoted, refused = desk.run(*asked), desk.run("promote", name)
    assert (unpromoted.returncode, refused.returncode) == (5, 2)
    assert "no model forecasts BTC-USDT" in unpromoted.stderr
    assert f"{name} has no proven skill" in refused.stderr
    promoted = desk.do_here("promote", name, "--override", reason)
    assert promoted["override"]["reason"] == reason
    assert reason in Path(promoted["report_html"]).read_text()
    forecast = desk.do_here(*asked)
    assert (forecast["skill"], forecast["override"]) == (False, reason)
    assert f"no proven skill, in use all the same: {reason})" in desk.run(*asked).stdout


@pytest.mark.slow
def test_a_forecast_comes_from_the_newest_window_or_not_at_all(signal: tuple[Desk, dict[str, Any]]) -> None:
    desk, _ = signal
    forecast = desk.do("forecast", "BTC-USDT", "--at", END)
    assert forecast["observed_at"] == "2024-06-30T00:00:00+00:00"
    assert 0 < forecast["p_up"] < 1
    assert 0.05 < forecast["volatility"] < 5
    assert -0.5 < forecast["quantiles"]["0.05"] < forecast["quantiles"]["0.95"] < 0.5
    assert forecast["skill"] is True

    refusals = {
        ("BTC-USDT",): "BTC-USDT",  # now: years after the last bar
        ("BTC-USDT", "--at", "2024-06-29T00:00:00Z"): "BTC-USDT",  # before what is online
        ("DOGE-USD", "--at", END): "DOGE-USD",
    }
    for arguments, named in refusals.items():
        with pytest.raises(NotServable, match=named):
            desk.do_here("forecast", *arguments)
    refused = desk.run("forecast", *arguments)
    assert refused.returncode == 5
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert named in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
def test_the_example_for_modelers_runs(signal: tuple[Desk, dict[str, Any]], tmp_path: Path) -> None:
    desk, _ = signal
    (tmp_path / "feature_repo").symlink_to(ROOT / "feature_repo")
    (tmp_path / "build" / "demo").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "home").symlink_to(desk.home)
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "modelers.md").read_text(), re.DOTALL)
    assert example is not None
    shown = "\nprint(rows.height, rows['rsi_14'].null_count(), batch.dtype, batch.shape[:2])"
    command = [sys.executable, "-c", example[1] + shown]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout.split("\n")[0] == "1 0 float32 (32, 48)", done.stderr


@pytest.mark.slow
def test_the_notebook_for_modelers_runs(signal: tuple[Desk, dict[str, Any]], tmp_path: Path) -> None:
    desk, trained = signal
    (tmp_path / "feature_repo").symlink_to(ROOT / "feature_repo")
    (tmp_path / "build" / "demo").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "home").symlink_to(desk.home)
    notebook = json.loads((ROOT / "docs" / "examples" / "train_on_a_laptop.ipynb").read_text())
    program = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].endswith("windows of 48 slots, 55 features")
    assert said[1] == "fold 1 of 1"
    assert said[2].startswith("Verdict: ")
    assert re.search(r"mine gains [+-][\d.]+ % on log-HAR, p = [\d.]+", done.stdout)
    assert f"{Path(trained['bundle']).name}: tradable" in said


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("pull", "dump", "--layout", "binance-1h", "{}/missing.csv"), 2, "missing.csv"),
        (("pull", "dump", "--layout", "binance-1h", "{}/empty.csv"), 2, "empty.csv"),
        (("pull", "dump", "--layout", "binance-1h", "{}/corrupt.csv.gz"), 2, "corrupt.csv.gz"),
        (("pull", "dump", "--layout", "binance-1h", "{}/BTCUSD_other.csv"), 3, "BTCUSD_other.csv"),
        (("pull", "dump", "--layout", "bnance-1h", "{}/empty.csv"), 2, "bnance-1h"),
        (("build", "--bars", "binance:DOGE-USD:1h"), 2, "DOGE-USD"),
        (("build", "--bars", "DOGE-USD"), 2, "DOGE-USD"),
        (("score", "--model", "{}/no-model"), 2, "no-model"),
        (("forecast", "BTC-USDT"), 5, "BTC-USDT"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_lake_alone(
    arguments: tuple[str, ...], code: int, named: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "corrupt.csv.gz").write_bytes(b"\x1f\x8b\x08\x00corrupt")
    (tmp_path / "BTCUSD_other.csv").write_text("when,price\n2024-01-01,1\n")
    desk = Desk(home=tmp_path / "home", world=tmp_path)
    done = desk.run(*(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert named in lines[0]
    assert "Traceback" not in done.stderr
    written = {log.parent.name for log in tmp_path.glob("home/lake/*/_delta_log")}
    assert written <= {"runs"}, "no fact was written, only the account of a failed run"


Frames = Mapping[str, pl.DataFrame]


class InMemory:
    """Facts that are in no lake: what `states.states` reads."""

    def __init__(self, facts: Frames) -> None:
        self.facts = facts

    def scan(self, table: Table) -> pl.LazyFrame:
        return self.facts[table.name].lazy()


def samples(facts: Frames, bundle: Bundle) -> tuple[TrainingSet, Windows]:
    """Return what a model would learn from, and what it would forecast from."""
    snapshot = InMemory(facts)
    background = Background.read(snapshot, choose_scorer(snapshot, None), identify(snapshot))
    first, *others = (states(kind, snapshot, BarSeries.parse(BARS), background) for kind in KINDS)
    rows = pl.concat([first, *(other.drop(CLOCKS) for other in others)], how="horizontal")
    cut = windows(rows, length=bundle.length, timeframe=HOUR, features=bundle.features)
    return label(cut, {BarSeries.parse(BARS).symbol: facts["bars"]}, horizon=bundle.horizon), cut


def until(data: TrainingSet, cut: Windows, at: datetime, bundle: Bundle) -> dict[str, np.ndarray]:
    """Return what of a training set was settled at an instant, and the last windows and forecast of then."""
    instant = np.datetime64(at.replace(tzinfo=None), "us")
    settled = data.label_at <= instant
    seen = cut.gather(np.flatnonzero(cut.at <= instant)[-500:])
    try:
        (expected,) = estimate(bundle, seen[-1], name="last")
        forecast = np.array([expected.p_up, expected.log_rv, *expected.quantiles.values()])
    except Missing:  # right behind a gap; then it has to be refused in either world
        forecast = np.array([])
    return {
        "windows of samples": data.windows.gather(np.flatnonzero(settled)),
        "labels": np.column_stack([data.log_rv[settled], data.log_return[settled]]),
        "windows": seen,
        "forecast": forecast,
    }


def instants(facts: Frames) -> list[datetime]:
    """Return random instants, and both edges of every gap in the bars."""
    bars = facts["bars"].sort("observed_at")
    first, last = bars["available_at"].min(), bars["available_at"].max()
    drawn = [first + (last - first) * share for share in np.random.default_rng(0).uniform(0.1, 1, 40)]
    edge = (pl.col("observed_at").diff() > HOUR) | (pl.col("observed_at").diff().shift(-1) > HOUR)
    edges = bars.filter(edge)["available_at"].to_list()
    return [*drawn, *edges]


def stamped_at_open(facts: Frames) -> Frames:
    """Take a bar's open for the instant at which it was known: a leak."""
    return {**facts, "bars": facts["bars"].with_columns(pl.col("available_at") - HOUR)}


def futures_seen(
    facts: Frames,
    moments: list[datetime],
    bundle: Bundle,
    tamper: Callable[..., Frames],
    reading: Callable[..., Frames],
) -> Iterator[str]:
    """Yield what changes with facts that became known later; `reading` stands between the facts and the features."""
    honest = samples(reading(facts), bundle)
    for number, at in enumerate(moments):
        changed = samples(reading(tamper(facts, at, number)), bundle)
        before, after = until(*honest, at, bundle), until(*changed, at, bundle)
        yield from (f"{name} as of {at}" for name in before if before[name].tobytes() != after[name].tobytes())


@pytest.mark.slow
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.prove)])
def test_no_sample_and_no_forecast_changes_with_what_became_known_later(
    every: int, signal: tuple[Desk, dict[str, Any]], tamper: Callable[..., Frames]
) -> None:
    desk, _ = signal
    lake = Lake(Workspace(desk.home).lake)
    facts = {name: lake.scan(table).collect() for name, table in FACTS.items()}
    bundle = current(Workspace(desk.home).models, "BTC-USDT")
    moments = instants(facts)
    assert len(moments) >= 50
    assert list(futures_seen(facts, moments[::every], bundle, tamper, reading=lambda known: known)) == []
    leaks = list(futures_seen(facts, moments[:2], bundle, tamper, reading=stamped_at_open))
    assert {leak.split(" as of ")[0] for leak in leaks} >= {"windows", "forecast"}, "the check catches a leak"


@pytest.mark.slow
def test_no_published_forecast_changes_with_what_became_known_later(
    signal: tuple[Desk, dict[str, Any]], tamper: Callable[..., Frames], tmp_path: Path
) -> None:
    desk, _ = signal
    lake = Lake(Workspace(desk.home).lake)
    facts = {name: lake.scan(table).collect() for name, table in FACTS.items()}
    at = instants(facts)[-1]
    forecasts = []
    for name, world in {"honest": facts, "tampered": tamper(facts, at, 1)}.items():
        other = Desk(home=tmp_path / name, world=tmp_path)
        for table in FACTS.values():
            Lake(Workspace(other.home).lake).append(table, world[table.name].drop("ingested_at"), now=utc_now())
        shutil.copytree(desk.home / "models", other.home / "models")
        other.do_here("build", "--bars", BARS)
        other.do_here("apply")
        other.do_here("publish", "--service", "forecast_1h", "--length", "48", "--at", at.isoformat())
        forecasts.append(other.do_here("forecast", "BTC-USDT", "--at", at.isoformat()))
    assert forecasts[0] == forecasts[1]
