"""The whole way, through the command line: raw files in, a judged forecast out."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BACKSIGHT = Path(sys.executable).parent / "backsight"
BARS = "binance:BTC-USDT:1h"
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

    def pull(self) -> list[dict[str, Any]]:
        """Pull all dumps of the world and return the account of each file."""
        pulled = [self.do("pull", "dump", "--layout", name, str(self.world / folder)) for name, folder in DUMPS]
        return [account for accounts in pulled for account in accounts["files"]]


def travel(folder: Path, *flags: str) -> tuple[Desk, dict[str, Any]]:
    """Go the whole way on a sample world and return what `train` said."""
    # A blank in the name: nothing on the way may trip over it.
    desk = Desk(home=folder / "a home", world=folder / "a world")
    made = desk.run("sample", str(desk.world), "--seed", "7", *flags)
    assert made.returncode == 0, made.stderr
    desk.pull()
    desk.do("score", "--scorer", "lexicon-standin")
    desk.do("build", "--bars", BARS)
    desk.do("apply")
    judged = desk.do("train", "--bars", BARS, "--service", "forecast_1h", "--compare", "price_1h")
    desk.do("publish", "--service", "forecast_1h", "--length", "48", "--at", END)
    return desk, judged


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, dict[str, Any]]:
    return travel(tmp_path_factory.mktemp("signal"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, dict[str, Any]]:
    return travel(tmp_path_factory.mktemp("noise"), "--no-signal")


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
    assert judged["verdict"] == "skill"
    assert judged["proven"] == {"volatility": True, "direction": True}
    proven = claims(judged)
    assert proven["volatility: forecast_1h over price_1h"]
    assert proven["direction: forecast_1h over price_1h"]
    page = Path(judged["report_html"]).read_text()
    assert "Verdict: skill in volatility and direction." in page
    assert "lexicon-standin" in page, "the stand-in is named as such"


@pytest.mark.slow
def test_the_same_world_without_the_relation_is_told_apart(noise: tuple[Desk, dict[str, Any]]) -> None:
    desk, judged = noise
    assert judged["verdict"] == "no skill"
    assert not any(claims(judged).values())
    forecast = desk.do("forecast", "BTC-USDT", "--at", END)
    assert forecast["skill"] is False
    assert "no proven skill" in desk.run("forecast", "BTC-USDT", "--at", END).stdout


@pytest.mark.slow
def test_a_forecast_comes_from_the_newest_window_or_not_at_all(signal: tuple[Desk, dict[str, Any]]) -> None:
    desk, _ = signal
    forecast = desk.do("forecast", "BTC-USDT", "--at", END)
    assert forecast["observed_at"] == "2024-06-30T00:00:00+00:00"
    assert 0 < forecast["p_up"] < 1
    assert 0.05 < forecast["volatility"] < 5
    assert forecast["skill"] is True

    refusals = {
        ("BTC-USDT",): "BTC-USDT",  # now: years after the last bar
        ("BTC-USDT", "--at", "2024-06-29T00:00:00Z"): "BTC-USDT",  # before what is online
        ("DOGE-USD", "--at", END): "DOGE-USD",
    }
    for arguments, named in refusals.items():
        refused = desk.run("forecast", *arguments)
        assert refused.returncode == 5, arguments
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert named in refused.stderr
        assert refused.stdout == ""


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

