"""``backsight pull prices`` and ``pull books`` as a person or a scheduler calls them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.cli import cli
from backsight_features.errors import BadInput, SourceError
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, BOOKS, COVERAGE
from click.testing import CliRunner, Result

ENOUGH = ["--rate", "1000"]
BINANCE = ["--exchange", "binance", "--symbol", "BTC/USDT"]


@pytest.fixture
def now_world() -> Iterator[FakeWorld]:
    """Return a world in real time, as the command reads the real clock."""
    with FakeWorld(seed=7, now=None) as world:
        world.exchange.has_outages = False
        yield world


@pytest.fixture
def backsight(now_world: FakeWorld, tmp_path: Path) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["--home", str(tmp_path), "pull", *words, "--endpoint", now_world.url, *ENOUGH])

    return run


def test_prices_end_to_end(backsight: Callable[..., Result], now_world: FakeWorld, tmp_path: Path) -> None:
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=40)
    words = [*BINANCE, "--symbol", "ETH/USDT", "--timeframe", "1m", "--timeframe", "5m", "--since", f"{since:%FT%TZ}"]
    planned = backsight("prices", *words, "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    asked = json.loads(planned.stdout)["asked"]
    assert {each["job"] for each in asked} == {
        f"prices:binance:{symbol}:{length}" for symbol in ("BTC-USDT", "ETH-USDT") for length in ("1m", "5m")
    }
    assert now_world.log == []
    assert not (tmp_path / "lake").exists()

    done = backsight("prices", *words, "--json")
    assert done.exit_code == 0, done.output
    jobs = {each["origin"]: each for each in json.loads(done.stdout)["jobs"]}
    assert len(jobs) == 4
    lake = Lake(tmp_path / "lake")
    for name, job in jobs.items():
        _, _, symbol, length = name.split(":")
        bars = lake.scan(BARS).collect().filter(symbol=symbol, timeframe=length)
        step = timedelta(minutes=int(length[0]))
        truth = now_world.exchange.truth(
            "binance", symbol.replace("-", "/"), length, since, bars["observed_at"].max() - step / 2
        )
        assert bars.height == job["accepted"] == len([each for each in truth if each[0] >= since.timestamp() * 1000])
        assert bars.height >= 35 // (step // timedelta(minutes=1))

    again = backsight("prices", *words)
    assert again.exit_code == 0
    assert "prices:binance:ETH-USDT:5m" in again.stdout


def test_books_end_to_end(backsight: Callable[..., Result], tmp_path: Path) -> None:
    done = backsight("books", "--exchange", "bitstamp", "--symbol", "BTC/USD", "--every", "5m", "--json")
    assert done.exit_code == 0, done.output
    [job] = json.loads(done.stdout)["jobs"]
    assert (job["origin"], job["accepted"]) == ("books:bitstamp:BTC-USD", 1)
    lake = Lake(tmp_path / "lake")
    assert lake.scan(BOOKS).collect().height == 1
    assert lake.scan(COVERAGE).collect()["cadence_s"].to_list() == [300]


def test_what_is_lost_and_what_helps_is_said_and_helps(backsight: Callable[..., Result], tmp_path: Path) -> None:
    since = f"{datetime.now(UTC) - timedelta(hours=14):%FT%TZ}"
    words = ["--exchange", "kraken", "--symbol", "BTC/USD", "--timeframe", "1m", "--since", since]
    first = backsight("prices", *words)
    assert first.exit_code == 0, first.output
    assert "kraken gives only the last 720 bars; take older bars from its trades (--from-trades)" in first.stderr
    before = Lake(tmp_path / "lake").scan(BARS).collect().height
    second = backsight("prices", *words, "--from-trades")
    assert second.exit_code == 0, second.output
    assert Lake(tmp_path / "lake").scan(BARS).collect().height > before + 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prices", "--exchange", "binanse", "--symbol", "BTC/USDT"], "near it: binance"),
        (["prices", "--exchange", "binance", "--symbol", "BTC/USTD"], "near it: BTC/USDT"),
        (["prices", "--exchange", "binance", "--symbol", "BTCUSDT"], "write BTC/USDT"),
        (["prices", *BINANCE, "--timeframe", "7m"], "binance has no bars of '7m'"),
        (["prices", *BINANCE, "--from-trades"], "give --since as well"),
        (["prices", *BINANCE, "--from-trades", "--since", "2024-01-01"], "from the trades of kraken only"),
        (["books", *BINANCE, "--since", "2024-01-01"], "a book is what it is now"),
        (["books", *BINANCE, "--every", "often"], "'often' is not a length of time"),
    ],
)
def test_what_cannot_be_is_refused(backsight: Callable[..., Result], words: list[str], said: str) -> None:
    error = backsight(*words).exception
    assert isinstance(error, BadInput)
    assert said in str(error)


def test_a_job_that_fails_leaves_the_others_alone(backsight: Callable[..., Result], now_world: FakeWorld) -> None:
    now_world.fault("/binance/api/v3/klines", Fault.redirect_loop())
    words = ["prices", *BINANCE, "--timeframe", "1m", "--timeframe", "5m", "--since"]
    result = backsight(*words, f"{datetime.now(UTC) - timedelta(minutes=30):%FT%TZ}", "--json")
    assert isinstance(result.exception, SourceError)
    assert "redirects without end" in str(result.exception)
    assert [each["status"] for each in json.loads(result.stdout)["jobs"]] == ["failed", "ok"]


@pytest.mark.parametrize("verb", ["prices", "books"])
def test_help_shows_what_to_write(verb: str) -> None:
    result = CliRunner().invoke(cli, ["pull", verb, "--help"])
    assert result.exit_code == 0
    assert f"backsight pull {verb} --exchange binance --symbol BTC/USDT" in result.output
