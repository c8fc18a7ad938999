"""A lake that is kept: the same rows and watermarks in few files with a short log, whoever writes or is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features import delta
from backsight_features.cli import cli
from backsight_features.lake import Lake
from backsight_features.maintenance import Maintained, gather, maintain
from backsight_features.schemas import BARS, POSTS
from click.testing import CliRunner
from deltalake import DeltaTable

T0 = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT_ONCE = timedelta(0)
COMMITS = 9


def bar(number: int) -> pl.DataFrame:
    at = T0 + HOUR * number
    prices = dict.fromkeys(("open", "high", "low", "close"), float(number + 1))
    row = {"venue": "v", "symbol": "BTC-USD", "timeframe": "1h", **prices, "volume": 1.0, "quote_volume": None}
    clocks = {"observed_at": at, "available_at": at, "available_at_estimated": True, "source": "test"}
    return pl.DataFrame([row | clocks], schema=dict(BARS.columns))


def fill(lake: Lake, numbers: range) -> None:
    for number in numbers:
        lake.append(BARS, bar(number), now=NOW, app="job", watermark=number)


def closes(lake: Lake) -> list[float]:
    return lake.scan(BARS).sort("observed_at").collect()["close"].to_list()


def opened(lake: Lake, version: int | None = None) -> DeltaTable:
    table = delta.open(delta.join(lake.root, BARS.name), version=version)
    assert table is not None
    return table


def keep(lake: Lake, retention: timedelta | None = None) -> Maintained:
    (done,) = maintain(lake.root, retention=retention)
    assert done.table == BARS.name
    return done


def age(files: list[Path], days: int) -> None:
    """Make files as old as if they had been written days ago."""
    then = time.time() - days * 86_400
    for file in files:
        os.utime(file, (then, then))


def data(lake: Lake) -> list[Path]:
    return [file for file in Path(lake.root, BARS.name).rglob("*.parquet") if file.parent.name != "_delta_log"]


def log(lake: Lake) -> list[Path]:
    return [file for file in Path(lake.root, BARS.name, "_delta_log").iterdir() if file.name[0] != "_"]


def test_many_small_files_become_one_and_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "a lake")
    fill(lake, range(COMMITS))
    done = keep(lake)
    assert (done.files_before, done.files_after, done.gathered, done.removed) == (COMMITS, 1, COMMITS, 0)
    assert done.checkpoint == opened(lake).version()
    assert closes(lake) == [float(number + 1) for number in range(COMMITS)]
    version = opened(lake).version()
    again = keep(lake)
    assert (again.gathered, again.removed, again.checkpoint, again.forgotten) == (0, 0, None, 0)
    assert opened(lake).version() == version


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    before = sorted(tmp_path.rglob("*"))
    (told,) = maintain(lake.root, dry_run=True)
    assert (told.gathered, told.removed, told.checkpoint, told.files_after) == (COMMITS, 0, COMMITS, COMMITS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_without_tables_has_nothing_to_keep(tmp_path: Path, s3_root: str) -> None:
    (tmp_path / "lake" / "no table").mkdir(parents=True)
    for root in (tmp_path / "lake", tmp_path / "nowhere", s3_root):
        assert list(maintain(root)) == []


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_watermarks_outlive_all_that_is_cleaned_up(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = str(tmp_path) if where == "folder" else request.getfixturevalue("s3_root")
    lake = Lake(place)
    fill(lake, range(COMMITS))
    done = keep(lake, AT_ONCE)
    assert done.removed == COMMITS
    assert done.forgotten >= COMMITS
    assert lake.watermark(BARS, "job") == COMMITS - 1
    assert lake.append(BARS, bar(COMMITS), now=NOW, app="job", watermark=COMMITS - 1).accepted == 0
    fill(lake, range(COMMITS, COMMITS + 2))
    assert closes(lake) == [float(number + 1) for number in range(COMMITS + 2)]
    with pytest.raises(delta.Gone, match="cannot be read as of version 3 any more: its log does not go back so far"):
        opened(lake, version=3)


def test_the_log_is_forgotten_as_far_as_no_version_within_the_retention_needs_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(50))
    age([file for file in log(lake) if int(file.name[:20]) <= 45], days=8)
    assert keep(lake).forgotten == 40, "the checkpoint of version 39 is the last from before"
    assert sorted(int(file.name[:20]) for file in log(lake) if file.suffix == ".json")[0] == 39
    assert delta.scan(opened(lake, version=45)).collect().height == 45
    with pytest.raises(delta.Gone):
        opened(lake, version=38)


def test_files_go_a_week_after_they_were_replaced_however_old_they_are(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    past = opened(lake).version()
    killed, writing = (tmp_path / "bars" / "month=2024-03" / f"{name}.parquet" for name in ("killed", "writing"))
    for file in (killed, writing):
        file.write_bytes(b"not committed")
    age([file for file in data(lake) if file != writing], days=30)
    assert keep(lake).removed == 1
    assert not killed.exists(), "nobody will commit it"
    assert writing.exists(), "somebody may"
    assert keep(lake).removed == 0
    assert delta.scan(opened(lake, version=past)).collect().height == COMMITS


def test_a_longer_retention_is_kept_by_the_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    keep(lake, timedelta(days=30))
    version = opened(lake).version()
    told = opened(lake).metadata().configuration
    assert (
        told["delta.logRetentionDuration"] == told["delta.deletedFileRetentionDuration"] == "interval 2592000 seconds"
    )
    keep(lake, timedelta(days=30))
    assert opened(lake).version() == version


@pytest.mark.parametrize(("commits", "days", "kept"), [(701, 1, 1), (699, 1, 7), (750, 2, 7), (9, 0, 7)])
def test_of_a_table_with_a_commit_a_minute_a_day_is_kept(commits: int, days: int, kept: int, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(1))
    table = opened(lake)
    path = tmp_path / "bars" / "_delta_log"
    first = int(table.history(1)[0]["timestamp"])
    for version in range(2, commits):
        told = {"commitInfo": {"timestamp": first + version * days * 86_400_000 // (commits - 1), "operation": "WRITE"}}
        (path / f"{version:020d}.json").write_text(json.dumps(told))
    keep(lake)
    assert opened(lake).metadata().configuration["delta.logRetentionDuration"] == f"interval {kept * 86_400} seconds"


def test_a_lake_that_nobody_keeps_makes_checkpoints(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(45))
    assert [int(file.name[:20]) for file in sorted(log(lake)) if ".checkpoint." in file.name] == [19, 39]


def test_what_people_wrote_is_not_in_the_log(tmp_path: Path) -> None:
    words = "words of a person"
    row = dict.fromkeys(("site", "channel", "id"), "x") | {
        "title": words,
        "text": words,
        "url": words,
        "source": "test",
    }
    clocks = {"observed_at": T0, "available_at": T0, "available_at_estimated": False}
    Lake(tmp_path).append(POSTS, pl.DataFrame([row | clocks], schema=dict(POSTS.columns)), now=NOW)
    (done,) = maintain(tmp_path)
    assert done.checkpoint == 1
    log = tmp_path / "posts" / "_delta_log"
    told = [file.read_text() for file in log.glob("*.json")] + [str(pl.read_parquet(*log.glob("*.parquet")).rows())]
    assert len(told) == 3
    assert "observed_at" in told[-1]
    assert not any(words in text for text in told)


def test_writers_are_not_disturbed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    writer = threading.Thread(target=fill, args=(lake, range(COMMITS, COMMITS + 30)))
    writer.start()
    gathered = 0
    while writer.is_alive():
        gathered += keep(lake).gathered
    writer.join()
    assert gathered >= COMMITS
    assert closes(lake) == [float(number + 1) for number in range(COMMITS + 30)]
    assert lake.watermark(BARS, "job") == COMMITS + 29


def test_what_another_job_was_quicker_with_is_left_to_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    honest = delta.open

    def outrun(uri: str) -> DeltaTable | None:
        table = honest(uri)
        DeltaTable(uri).delete("close = 3.0")
        return table

    monkeypatch.setattr(delta, "open", outrun)
    done = keep(lake)
    monkeypatch.undo()
    assert f"from version {COMMITS} to {COMMITS + 1}" in done.left
    assert (done.gathered, done.removed) == (0, 0)
    assert keep(lake).gathered == COMMITS - 1
    assert closes(lake) == [float(number + 1) for number in range(COMMITS) if number != 2]


def test_a_build_gathers_its_files_once_they_are_many_and_says_in_each_commit_what_it_did(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    rows = pl.DataFrame({"n": [1]})
    table = delta.ensure(uri, rows.to_arrow().schema)
    for number in range(64):
        delta.append(table, rows, metadata={"by": f"build {number}"})
        gather(table, metadata={"by": f"build {number}"})
        table = DeltaTable(uri)
        assert table.history(1)[0]["by"] == f"build {number}"
        assert len(delta.paths(table)) == (number + 1 if number < 63 else 1)
    assert delta.scan(table).collect().height == 64


def test_the_verb_says_what_it_did(tmp_path: Path) -> None:
    fill(Lake(tmp_path / "lake"), range(COMMITS))
    run, asked = CliRunner(), ["--home", str(tmp_path), "maintain"]
    told = run.invoke(cli, [*asked, "--dry-run"], catch_exceptions=False)
    assert told.stdout.startswith(f"bars  {COMMITS} files, ")
    assert f"({COMMITS} files gathered, checkpoint of version {COMMITS})" in told.stdout
    (done,) = json.loads(run.invoke(cli, [*asked, "--json"], catch_exceptions=False).stdout)
    assert (done["table"], done["files_after"], done["gathered"]) == ("bars", 1, COMMITS)
    assert "bars  1 files, 0.0 MB  (nothing to do)" in run.invoke(cli, asked, catch_exceptions=False).stdout
    assert run.invoke(cli, [*asked, "--retention-days", "0"]).exit_code == 2, "a job may be writing right now"
    empty = run.invoke(cli, ["--home", str(tmp_path / "none"), "maintain"], catch_exceptions=False)
    assert empty.stdout.startswith("no tables in ")


# --- killed ---

PROGRAM = """
import sys
from datetime import timedelta
from deltalake import DeltaTable
from deltalake.table import TableOptimizer
from backsight_features.maintenance import maintain

stop, done = int(sys.argv[2]), 0

def counted(step):
    def waiting(*given, **named):
        # Wait to be killed before the step of that number.
        global done
        if named.get("dry_run", False) is False:
            if done == stop:
                print("ready", flush=True)
                sys.stdin.read()
            done += 1
        return step(*given, **named)
    return waiting

TableOptimizer.compact = counted(TableOptimizer.compact)
vacuum = DeltaTable.vacuum
DeltaTable.vacuum = lambda self, dry_run=True, **named: (
    vacuum(self, dry_run=True, **named) if dry_run else counted(vacuum)(self, dry_run=False, **named)
)
DeltaTable.create_checkpoint = counted(DeltaTable.create_checkpoint)
DeltaTable.cleanup_metadata = counted(DeltaTable.cleanup_metadata)
list(maintain(sys.argv[1], retention=timedelta(0)))
"""


@pytest.mark.parametrize("step", [0, pytest.param(1, marks=pytest.mark.prove), 2, 3])
def test_a_run_that_was_killed_is_made_good_by_the_next(step: int, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, range(COMMITS))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(step)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert closes(lake) == [float(number + 1) for number in range(COMMITS)]
    fill(lake, range(COMMITS, COMMITS + 1))
    keep(lake, AT_ONCE)
    done = keep(lake, AT_ONCE)
    assert (done.gathered, done.removed, done.checkpoint, done.forgotten) == (0, 0, None, 0)
    assert done.files_after <= 2
    assert closes(lake) == [float(number + 1) for number in range(COMMITS + 1)]
    assert lake.watermark(BARS, "job") == COMMITS


@pytest.mark.prove
def test_a_lake_outlives_any_kill_of_its_writers_and_its_maintenance(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_maintenance import *\n"
        "lake = Lake(sys.argv[1])\n"
        "reached = lake.watermark(BARS, 'job')\n"
        "print('ready', flush=True)\n"
        "for number in range(0 if reached is None else reached + 1, 10_000):\n"
        "    fill(lake, range(number, number + 1))\n"
        "    if number % 10 == 9: keep(lake, AT_ONCE)\n"
    )
    lake, rng = Lake(tmp_path), random.Random(7)
    reached = -1
    for _ in range(100):
        command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0, 0.8))
            process.kill()
        mark = lake.watermark(BARS, "job")
        reached = reached if mark is None else max(reached, mark)
        assert closes(lake) == [float(number + 1) for number in range(reached + 1)]
    assert reached > 100
    keep(lake, AT_ONCE)
    keep(lake, AT_ONCE)
    assert len(data(lake)) == len(delta.paths(opened(lake)))
    print(f"{reached + 1} commits, 100 kills: none lost, none doubled")
