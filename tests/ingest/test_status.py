"""How jobs are: fresh, late or stale, failing, with what is missing, and the exit code that a monitor sees."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.clocks import UTC_US, utc_now
from backsight_features.errors import BadInput, Busy, NeedsAttention
from backsight_features.schemas import RUNS
from backsight_ingest.accounts import Account, account_row
from backsight_ingest.gaps import chooser
from backsight_ingest.layouts import load
from backsight_ingest.live.faults import Transient
from backsight_ingest.pull import pull
from backsight_ingest.status import FINDINGS, LOOKBACK, Status, survey
from backsight_ingest.status_cli import _FINDINGS
from click.testing import CliRunner

BTC, ETH = "prices:toy:BTC-USD:1h", "prices:toy:ETH-USD:1h"
HOUR = timedelta(hours=1)


def look(desk: Any, at: float, *, every: timedelta = timedelta(0)) -> Status:
    (found,) = survey(desk.lake, now=desk.time(at), every=every)
    return found


@pytest.mark.parametrize(
    ("at", "every", "state"),
    [
        (4.0, 0 * HOUR, "ok"),
        (6.01, 0 * HOUR, "ok"),
        (6.02, 0 * HOUR, "late"),
        (7.01, 0 * HOUR, "late"),
        (7.02, 0 * HOUR, "stale"),
        (9.01, 4 * HOUR, "ok"),
        (9.02, 4 * HOUR, "late"),
        (13.02, 4 * HOUR, "stale"),
        (7.02, HOUR / 60, "stale"),
        (3.5, 0 * HOUR, "ok"),
    ],
)
def test_what_was_reached_gets_late_and_then_stale(desk: Any, at: float, every: timedelta, state: str) -> None:
    desk.pull(desk.job(), 4.5)
    found = look(desk, at, every=every)
    assert found.state == state
    assert found.behind == (at - 4) * HOUR


def test_to_have_asked_for_what_is_not_there_makes_no_job_fresh(desk: Any) -> None:
    job = desk.job()
    desk.pull(job, 4.5)
    job.missing = {4, 5, 6, 7}
    assert desk.pull(job, 8.1).status == "ok"
    found = look(desk, 8.1)
    assert found.findings == ("stale", "gaps")
    assert found.behind == 4.1 * HOUR


def test_all_that_is_the_matter_is_found_the_worst_first(desk: Any) -> None:
    job = desk.job()
    job.missing, job.lost, job.closes = {1}, {2}, {0: "NaN", 3: "n/a"}
    desk.pull(job, 4.5)
    job.error = Transient("toy: status 503")
    desk.pull(job, 5.1)
    found = look(desk, 7.5)
    assert found.findings == ("failed", "stale", "lost", "gaps", "quarantine")
    assert found.waiting == (("close: '…' is not a number", 2),)
    assert [(run.outcome, run.error) for run in found.runs] == [("failed", "toy: status 503"), ("ok", "")]
    assert found.runs[0].started_at == desk.time(5.1)
    job.error, job.missing = None, set()
    desk.pull(job, 7.5)
    assert look(desk, 7.5).findings == ("lost", "quarantine")


def test_the_job_in_the_worst_state_comes_first(desk: Any) -> None:
    failing, stale, fine = (desk.job(f"prices:toy:{base}-USD:1h") for base in ("ZEC", "XRP", "ADA"))
    desk.pull(stale, 2.5)
    desk.pull(fine, 8.5)
    desk.pull(failing, 7.5)
    failing.error = Transient("toy: status 503")
    desk.pull(failing, 8.6)
    found = survey(desk.lake, now=desk.time(8.7))
    assert [(each.job, each.state) for each in found] == [
        (failing.name, "failed"),
        (stale.name, "stale"),
        (fine.name, "ok"),
    ]
    assert [each.job for each in survey(desk.lake, now=desk.time(8.7), wanted=chooser(["*:ADA-*"]))] == [fine.name]


def test_a_run_that_left_the_job_to_another_is_no_failure(desk: Any) -> None:
    desk.pull(desk.job(), 4.5)
    busy = Account(origin=BTC, status="failed", error=Busy(f"{BTC}: another run of this job is going on"))
    desk.lake.append(RUNS, account_row(busy, "pull prices", "toy", "r", desk.time(5)), now=desk.time(5))
    found = look(desk, 5.1)
    assert found.state == "ok"
    assert found.runs[0].outcome == "busy"


def test_a_job_that_never_got_a_page_is_failed_or_stale(desk: Any) -> None:
    job = desk.job()
    job.error = Transient("toy: status 503")
    desk.pull(job, 4.5)
    assert look(desk, 4.5).findings == ("failed",)
    job.error, job.plan = None, lambda *_, **__: load_nothing()
    desk.pull(job, 4.6)
    assert look(desk, 4.6).findings == ("stale",)
    assert look(desk, 4.6).line is None


def load_nothing() -> Any:
    from backsight_ingest.live.job import Plan

    return Plan()


def test_runs_beyond_the_last_month_are_not_looked_at(desk: Any) -> None:
    desk.pull(desk.job(), 4.5)
    later = desk.time(4.5) + LOOKBACK
    (found,) = survey(desk.lake, now=later)
    assert (found.runs, found.state) == ((), "stale")
    (found,) = survey(desk.lake, now=later - timedelta(seconds=1))
    assert len(found.runs) == 1


def test_files_count_as_a_job_of_their_layout_and_stay_failed_until_they_are_read(desk: Any) -> None:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    good = "timestamp,open,high,low,close,volume\n1714521600000,1,2,1,2,5\n"
    paths = [desk.home.parent / f"{name}-BTC-USD-1h.csv" for name in ("a", "b")]

    def read(*texts: str) -> Status:
        for path, text in zip(paths, texts, strict=False):
            path.write_text(text)
        pull(desk.lake, load("ccxt"), paths[: len(texts)], settings={"venue": "toy"}, now=now, tell=lambda _: None)
        (found,) = survey(desk.lake, now=utc_now())
        return found

    found = read(12 * "no,bar\n", good)
    assert (found.job, found.state, found.behind, found.line) == ("dump:ccxt", "failed", None, None)
    assert str(paths[0]) in found.runs[0].error
    assert read(good.replace("5\n", "x\n")).findings == ("quarantine",)
    assert read(good.replace("5\n", "6\n")).waiting == (("volume: '…' is not a number", 1),)


@pytest.fixture
def run(desk: Any) -> Any:
    """Return a run of ``backsight status`` on a job that was pulled half an hour ago."""

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["--home", str(desk.home), "status", *arguments])

    return run


def hours_ago(desk: Any, hours: float) -> float:
    """Return the present less some hours, as the desk counts."""
    now: datetime = utc_now()
    return (now - desk.time(0)) / HOUR - hours


def test_an_empty_lake_is_not_well(run: Any, desk: Any) -> None:
    done = run()
    assert isinstance(done.exception, NeedsAttention)
    assert str(done.exception) == f"nothing was ever pulled into {desk.home / 'lake'}"


def test_the_exit_code_tells_a_monitor(run: Any, desk: Any) -> None:
    job = desk.job()
    job.closes = {int(hours_ago(desk, 3)): "NaN"}
    desk.pull(job, hours_ago(desk, 0))
    assert run().exit_code == 0
    assert run("--fail-on", "quarantine").exception.exit_code == 6
    assert run("--fail-on", "failed,stale,gaps,lost,late").exit_code == 0
    desk.pull(desk.job(ETH), hours_ago(desk, 9))
    stale = run().exception
    assert isinstance(stale, NeedsAttention)
    assert stale.exit_code == 6
    assert str(stale) == f"1 of 2 jobs need attention: {ETH} (stale)"
    assert run("--every", "12h").exit_code == 0
    assert run("--job", BTC).exit_code == 0
    assert run("--without", ETH).exit_code == 0
    assert str(run("--without", "prices:*").exception) == "--without leaves no job"
    assert run("--fail-on", "none").exit_code == 0
    for wrong in (["--fail-on", "stail"], ["--job", "prices:kraken:*"], ["--every", "soon"]):
        assert isinstance(run(*wrong).exception, BadInput)
    assert _FINDINGS == FINDINGS


def test_the_table_fits_a_terminal_and_says_what_to_do(run: Any, desk: Any) -> None:
    job = desk.job("prices:kraken:BTC-USDT:1h")
    end = int(hours_ago(desk, 1))
    job.missing, job.lost, job.closes = {end - 3}, {end - 2}, {end - 4: "NaN"}
    desk.pull(job, hours_ago(desk, 1))
    job.error = Transient("toy: status 503 " + 500 * "x")
    for _ in range(3):
        desk.pull(job, hours_ago(desk, 0))
    lines = run().stdout.splitlines()
    assert lines[0].split() == ["job", "state", "behind", "whole", "holes", "lost", "waiting", "last", "run"]
    cells = lines[1].split()
    assert cells[:2] + cells[-9:-1] == [
        job.name, "failed", "50.00", "%", "1h", "1h", "1", "failed", "3x", cells[-2],
    ]  # fmt: skip
    assert max(map(len, lines[:2])) <= 100
    assert lines[3].startswith(f"{job.name}: toy: status 503 xxx")
    assert len(lines[3]) < 400
    again = f"  backsight --home {desk.home} pull prices --exchange kraken --symbol BTC/USDT --timeframe 1h"
    assert lines[4:] == [again]
    all_of_it = run("--job", job.name).stdout
    for verb in ("pull prices", "gaps --job", "quarantine show --job"):
        assert f"\n  backsight --home {desk.home} {verb}" in all_of_it


def test_scripts_get_all_of_it(run: Any, desk: Any) -> None:
    job = desk.job()
    job.missing = {int(hours_ago(desk, 3))}
    desk.pull(job, hours_ago(desk, 0))
    (document,) = json.loads(run("--json").stdout)["jobs"]
    assert (document["job"], document["state"], document["findings"]) == (BTC, "gaps", ["gaps"])
    assert 0 <= document["behind_s"] < 3600
    assert (document["line"]["hole_s"], document["line"]["lost_s"], document["line"]["share"]) == (3600, 0, 0.75)
    assert [each["outcome"] for each in document["runs"]] == ["ok"]
    assert document["waiting"] == []
    assert document["todo"][0]["command"] == f"backsight --home {desk.home} gaps --job {BTC}"


def test_of_half_a_million_runs_only_the_last_are_kept(desk: Any) -> None:
    size, jobs = 500_000, 50
    minutes = pl.int_range(size, eager=True)
    ran = pl.DataFrame({"at": minutes}).select(
        run=pl.format("{}", "at"),
        origin=pl.format("prices:toy:S{}-USD:1m", pl.col("at") % jobs),
        verb=pl.lit("pull prices"),
        source=pl.lit("toy"),
        started_at=(desk.time(0) + pl.duration(minutes="at")).cast(UTC_US),
        finished_at=(desk.time(0) + pl.duration(minutes="at", seconds=2)).cast(UTC_US),
        status=pl.when(pl.col("at") % 3 == 0).then(pl.lit("failed: toy: status 503")).otherwise(pl.lit("ok")),
        **dict.fromkeys(("read", "accepted", "duplicate", "quarantined"), pl.lit(0, pl.Int64)),
    )
    desk.lake.append(RUNS, ran, now=desk.time(0))
    found = {each.job: each for each in survey(desk.lake, now=desk.time(size / 60))}
    assert len(found) == jobs
    last = found["prices:toy:S49-USD:1m"].runs
    assert [run.started_at for run in last] == [desk.time((size - 1 - n * jobs) / 60) for n in range(5)]
    assert [run.outcome for run in last] == ["failed" if (size - 1 - n * jobs) % 3 == 0 else "ok" for n in range(5)]
