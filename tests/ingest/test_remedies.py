"""What to do about a job: commands that can be pasted, and that run that very job."""

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backsight_features.cli import cli
from backsight_ingest.gaps import KEEPERS, TimeLine
from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.faults import Transient
from backsight_ingest.remedies import VARIABLES, Remedy, pull_command, remedies
from backsight_ingest.sources import fred, news_newsapi
from backsight_ingest.sources.exchange_traits import TRAITS
from backsight_ingest.status import Ran, Status, survey
from click.testing import CliRunner

BTC = "prices:toy:BTC-USD:1h"
KEY = 32 * "a"
SET = {name: KEY for names in VARIABLES.values() for name in names}

COMMANDS = {
    "prices:kraken:BTC-USD:1h": "pull prices --exchange kraken --symbol BTC/USD --timeframe 1h",
    "prices:binance-usdt:BTC-USDT:1m": "pull prices --exchange binance --symbol BTC/USDT:USDT --timeframe 1m",
    "books:binance:ETH-USDT": "pull books --exchange binance --symbol ETH/USDT",
    "reddit:bitcoin": "pull reddit --subreddit bitcoin",
    "macro:CPIAUCSL": "pull macro --series CPIAUCSL",
    "macro:DGS10:keyless": "pull macro --series DGS10 --keyless",
    "news:a.org/rss/all": "pull news --feed https://a.org/rss/all",
    "news:gdelt:(bitcoin OR ether) sourcelang:english": "pull news --gdelt '(bitcoin OR ether) sourcelang:english'",
    "news:newsapi:bitcoin": "pull news --newsapi bitcoin",
}


@pytest.mark.parametrize(("job", "command"), COMMANDS.items())
def test_the_command_of_a_job_runs_that_job(
    job: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pull_command(job) == f"backsight {command}"
    for name in SET:
        monkeypatch.setenv(name, KEY)
    words = [*shlex.split(command), "--dry-run", "--json", "--endpoint", "http://127.0.0.1:9"]
    done = CliRunner().invoke(cli, ["--home", str(tmp_path), *words])
    assert done.exit_code == 0, done.output
    asked = json.loads(done.stdout)["asked"]
    assert {each["job"] for each in asked} == {job}
    assert not list(tmp_path.iterdir())


def test_every_kind_of_job_has_a_command() -> None:
    assert {job.partition(":")[0] for job in COMMANDS} == set(KEEPERS)


def test_what_a_name_leaves_out_is_left_to_the_person() -> None:
    assert pull_command("news:a.org/rss?0123abcd") == "backsight pull news --feed 'https://a.org/rss?…'"


def test_books_are_looked_at_as_often_as_before() -> None:
    nothing = Coverage(begun=None, reached=None, stretches=())
    line = TimeLine(job="books:kraken:BTC-USD", cadence=timedelta(minutes=5), coverage=nothing)
    assert pull_command(line.job, line) == "backsight pull books --exchange kraken --symbol BTC/USD --every 300s"


def status(desk: Any, at: float) -> Status:
    (found,) = survey(desk.lake, now=desk.time(at))
    return found


def test_what_failed_is_run_again_once_its_key_is_there(desk: Any) -> None:
    run = Ran(started_at=desk.time(0), finished_at=desk.time(0), outcome="failed", error="no key")
    needed = {
        "macro:CPIAUCSL": [fred.VARIABLE],
        "reddit:bitcoin": ["REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET"],
        "news:newsapi:bitcoin": [news_newsapi.VARIABLE],
    }
    for job, variables in needed.items():
        failing = Status(job=job, line=None, behind=None, waiting=(), runs=(run,), findings=("failed",))
        assert remedies(failing, SET) == [Remedy(why="no key", command=pull_command(job))]
        (lacking,) = remedies(failing, {})
        assert lacking.command == f"export {' '.join(f'{name}=…' for name in variables)}"
    for job in ("macro:DGS10:keyless", "news:gdelt:bitcoin", BTC):
        keyless = Status(job=job, line=None, behind=None, waiting=(), runs=(run,), findings=("failed",))
        assert remedies(keyless, {})[0].command == pull_command(job)


def test_what_is_stale_says_whether_nobody_asked_or_nothing_came(desk: Any) -> None:
    job = desk.job(BTC)
    desk.pull(job, 4.5)
    (nobody,) = remedies(status(desk, 9), SET)
    assert nobody == Remedy(why="the last run, of 2024-05-01 04:30, ended ok", command=pull_command(BTC))
    (long_ago,) = remedies(status(desk, 9 + 32 * 24), SET)
    assert long_ago == Remedy(why="no run in the last 32 days", command=pull_command(BTC))
    job.missing = {4, 5, 6, 7}
    desk.pull(job, 8.1)
    nothing, later = remedies(status(desk, 8.1), SET)
    (again, *_) = remedies(status(desk, 99), SET)
    assert again.command == pull_command(BTC)
    gaps = f"backsight gaps --job {BTC}"
    assert nothing.why == "nothing is there since 2024-05-01 04:00, though asked for until 2024-05-01 08:00"
    assert later.why == "not there yet: 4h; runs ask for it again, from 2024-05-01 09:06 on"
    assert (nothing.command, later.command) == (gaps, gaps)


def test_what_is_lost_names_the_way_out_if_there_is_one(desk: Any) -> None:
    job = desk.job("prices:kraken:BTC-USD:1h")
    job.lost = {2}
    desk.pull(job, 4.5)
    (lost,) = remedies(status(desk, 4.5), SET)
    assert lost == Remedy(
        why="lost from 2024-05-01 02:00 to 2024-05-01 03:00: gone", command=f"backsight gaps --job {job.name}"
    )


def test_old_bars_of_kraken_come_from_its_trades(desk: Any) -> None:
    job = desk.job("prices:kraken:BTC-USD:1h")
    job.gone, job.lost = f"kraken gives only the last 720 bars; {TRAITS['kraken'].elsewhere}", {1, 2}
    desk.pull(job, 4.5)
    (lost,) = remedies(status(desk, 4.5), SET)
    assert lost.command == f"{pull_command(job.name)} --since 2024-05-01T01:00:00Z --from-trades"


def test_what_waits_can_be_seen(desk: Any) -> None:
    job = desk.job(BTC)
    job.closes = {1: "NaN", 2: "n/a"}
    desk.pull(job, 4.5)
    (waits,) = remedies(status(desk, 4.5), SET)
    assert waits.why == "in quarantine: 2, most of them: close: '…' is not a number"
    assert waits.command == f"backsight quarantine show --job {BTC}"


def test_files_that_failed_are_in_the_accounts(desk: Any) -> None:
    run = Ran(started_at=desk.time(0), finished_at=desk.time(0), outcome="failed", error="a.csv: not one row")
    files = Status(job="dump:my layout.toml", line=None, behind=None, waiting=(), runs=(run,), findings=("failed",))
    assert remedies(files, {}) == [
        Remedy(why="a.csv: not one row", command="backsight runs --job 'dump:my layout.toml'")
    ]


def test_an_error_is_told_once(desk: Any) -> None:
    job = desk.job(BTC)
    desk.pull(job, 4.5)
    job.error = Transient("toy: status 503")
    desk.pull(job, 9.5)
    found = status(desk, 9.5)
    assert found.findings == ("failed", "stale")
    assert [each.why for each in remedies(found, SET)] == ["toy: status 503"]
