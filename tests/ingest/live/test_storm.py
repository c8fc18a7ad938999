"""``kill -9`` at random moments over the jobs of all sources: what they leave is what an undisturbed run leaves."""

import random
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, QUARANTINE, RUNS
from backsight_ingest.live import coverage

SCRIPT = Path(__file__).parent / "storm.py"
NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
INSTANTS = (NOW, NOW + timedelta(hours=7), NOW + timedelta(hours=13))
KILLS = 45
"""At each instant, in each of the storms."""

STORMS = 2


def world(seed: int) -> FakeWorld:
    """Return a world with an outage that is filled in later, one that is not, and bars that are none."""
    made = FakeWorld(seed=seed, now=NOW)
    made.exchange.gap("binance", NOW - timedelta(hours=9), NOW - timedelta(hours=8), filled_at=NOW + timedelta(hours=3))
    made.exchange.gap("kraken", NOW - timedelta(hours=30), NOW - timedelta(hours=26))
    return made


def start(home: Path, made: FakeWorld, now: datetime) -> "subprocess.Popen[str]":
    made.now = now
    command = [sys.executable, str(SCRIPT), str(home), made.url, now.isoformat()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(home: Path, made: FakeWorld, now: datetime) -> float:
    """Run the jobs of an instant to their end, and return the seconds that they took."""
    with start(home, made, now) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun = time.monotonic()
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return time.monotonic() - begun


def killed(home: Path, made: FakeWorld, now: datetime, after: float) -> bool:
    """Start the jobs of an instant and kill them some seconds later; return whether they were still running."""
    with start(home, made, now) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        assert process.returncode == 0, process.communicate()[1]
        return False


def content(home: Path) -> Mapping[str, object]:
    """Return the facts, what was set aside, and what every job has asked for."""
    lake = Lake(home / "lake")
    tables = (*FACTS.values(), QUARANTINE)
    found: dict[str, object] = {
        table.name: lake.scan(table).drop("ingested_at").sort(pl.all()).collect().to_dicts() for table in tables
    }
    for job in lake.scan(RUNS).select(pl.col("origin").unique().sort()).collect()["origin"]:
        kind = job.partition(":")[0]
        if kind == "books":
            continue  # a run looks once; where the clock stands still, another run looks a microsecond later
        table = {"prices": "bars", "reddit": "posts"}.get(kind, kind)
        seen = coverage.read(lake, job, FACTS[table])
        found[job] = (seen.begun, seen.reached, [(each.span, each.status) for each in seen.stretches])
    return found


def storm(folder: Path, seed: int) -> tuple[int, int]:
    """Return how often the jobs were killed, and how many facts they left."""
    dice = random.Random(seed)
    with world(seed) as made:
        taken = [finish(folder / "whole", made, now) for now in INSTANTS]
        kills = 0
        for now, seconds in zip(INSTANTS, taken, strict=True):
            left = KILLS
            while left:
                # A run that goes on where a killed one ended takes less time, so many of the moments are early ones.
                if killed(folder / "stormy", made, now, dice.uniform(0, seconds * dice.choice((0.1, 0.4, 1)))):
                    kills += 1
                left -= 1
            finish(folder / "stormy", made, now)
    expected, found = content(folder / "whole"), content(folder / "stormy")
    assert expected.keys() == found.keys()
    for name in expected:
        assert found[name] == expected[name], name
    facts = 0
    lake = Lake(folder / "stormy" / "lake")
    for table in FACTS.values():
        rows = lake.scan(table).collect()
        assert not rows.select(*table.key, *table.content, "available_at").is_duplicated().any(), table.name
        facts += rows.height
    runs = lake.scan(RUNS).collect()
    assert (runs["read"] == runs["accepted"] + runs["duplicate"] + runs["quarantined"]).all()
    return kills, facts


@pytest.mark.prove
def test_what_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(STORMS) as pool:
        done = list(pool.map(lambda seed: storm(tmp_path / str(seed), seed), range(7, 7 + STORMS)))
    kills = sum(killed for killed, _ in done)
    print(
        f"killed {kills} times over all jobs; {sum(facts for _, facts in done):,} facts as without, 0 lost, 0 doubled"
    )
    assert kills >= 100 * STORMS
