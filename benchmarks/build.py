"""Building features again after a little has come in, against building everything: the same run, the same lake.

Minute bars of one symbol, 20 articles a day with scores, and daily numbers. Each build is a process of its own; the
interpreter's start and its imports are not counted. What a build leaves is compared with what building everything
leaves by the tests, not here.

Usage: python benchmarks/build.py [--rows 500000 5000000]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.clocks import UTC_US
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, MACRO, NEWS, SCORES, Table
from backsight_features.snapshot import Snapshot
from backsight_features.texts import compose, text_id

START = datetime(2015, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SERIES = BarSeries.parse("bench:BTC-USD:1m")
AT_ONCE = 500_000


def facts(table: Table, columns: dict[str, object]) -> pl.DataFrame:
    """Return rows of a table; clocks as microseconds from `START`."""
    frame = pl.DataFrame(columns).with_columns(
        (pl.lit(START, UTC_US) + pl.col(name).cast(pl.Duration("us"))).alias(name)
        for name in ("observed_at", "available_at")
    )
    given = {"available_at_estimated": pl.lit(False), "source": pl.lit("bench")}
    missing = [pl.lit(None, kind).alias(name) for name, kind in table.columns.items() if name not in columns]
    named = {name: value for name, value in given.items() if name not in columns}
    return frame.with_columns(missing).with_columns(**named).select(table.columns.keys())


def bars(first: int, count: int, seed: int = 7) -> pl.DataFrame:
    """Return minute bars from the minute ``first`` after the start on, known four seconds after their close."""
    rng = np.random.default_rng([seed, first])
    close = 10_000 * np.exp(np.cumsum(rng.normal(scale=1e-4, size=count)))
    opened = np.append(close[:1], close[:-1])
    closes_at = (first + 1 + np.arange(count)) * 60_000_000
    return facts(
        BARS,
        {
            "venue": ["bench"] * count,
            "symbol": ["BTC-USD"] * count,
            "timeframe": ["1m"] * count,
            "open": opened,
            "high": np.maximum(opened, close) * 1.0001,
            "low": np.minimum(opened, close) * 0.9999,
            "close": close,
            "volume": rng.lognormal(size=count),
            "observed_at": closes_at,
            "available_at": closes_at + 4_000_000,
        },
    )


def articles(days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return 20 articles a day, and their scores."""
    rng = np.random.default_rng(3)
    said = np.sort(rng.integers(0, days * 86_400_000_000, 20 * days))
    body = "Bitcoin moved and this is what people who trade it had to say about that. " * 8
    news = facts(
        NEWS,
        {
            "id": [f"n{i}" for i in range(said.size)],
            "title": [f"Title {i}" for i in range(said.size)],
            "text": [f"{body}{i}" for i in range(said.size)],
            "observed_at": said,
            "available_at": said + 300_000_000,
        },
    )
    positive, negative, neutral = rng.dirichlet([1, 1, 1], said.size).T
    scores = facts(
        SCORES,
        {
            "text_id": news.select(text_id(compose(pl.col("title"), pl.col("text")))).to_series(),
            "scorer": ["bench"] * said.size,
            "revision": ["1"] * said.size,
            "p_positive": positive,
            "p_negative": negative,
            "p_neutral": neutral,
            "observed_at": said + 300_000_000,
            "available_at": said + 300_000_000,
        },
    )
    return news, scores


def numbers(days: int) -> pl.DataFrame:
    """Return a daily number of two series, out a day later."""
    day = np.arange(-400, days) * 86_400_000_000
    rng = np.random.default_rng(5)
    return pl.concat(
        facts(
            MACRO,
            {
                "series": [series] * day.size,
                "units": ["lin"] * day.size,
                "value": 20 + np.cumsum(rng.normal(size=day.size)),
                "observed_at": day,
                "available_at": day + 86_400_000_000,
            },
        )
        for series in ("FNG", "VIXCLS")
    )


def fill(home: Path, rows: int) -> None:
    """Write the lake that everything starts from, as pulls of half a million bars would."""
    lake, days = Lake(home / "lake"), rows // 1440
    for first in range(0, rows, AT_ONCE):
        lake.append(BARS, bars(first, min(AT_ONCE, rows - first)), now=START)
    news, scores = articles(days)
    lake.append(NEWS, news, now=START)
    lake.append(SCORES, scores, now=START)
    lake.append(MACRO, numbers(days), now=START)


def come_in(home: Path, what: str, rows: int) -> None:
    """Add what the builds after the first one are about; the month back is one of 30 days."""
    lake, month = Lake(home / "lake"), 30 * 1440
    if what == "a new bar":
        lake.append(BARS, bars(rows, 1), now=START)
    elif what == "a day of bars":
        lake.append(BARS, bars(rows + 1, 1440), now=START)
    elif what == "a correction, a month late":
        first = (rows - month) // AT_ONCE * AT_ONCE
        old = bars(first, min(AT_ONCE, rows - first))[rows - month - first]
        lake.append(BARS, old.with_columns(pl.col("close", "high") * 1.001), now=START)
    elif what == "a macro revision, a month late":
        old = numbers(rows // 1440)[rows // 1440 + 400 - 30]
        out = pl.col("available_at") + timedelta(hours=5)
        lake.append(MACRO, old.with_columns(pl.col("value") + 1, available_at=out), now=START)


def one(home: Path) -> None:
    """Build in this process and print what it took."""
    begin = time.perf_counter()
    built = build(Snapshot.take(Lake(home / "lake")), home / "features", [SERIES])
    seconds = time.perf_counter() - begin
    # Of this program alone; what getrusage says counts the process that started it too.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    print(
        json.dumps(
            {
                "seconds": seconds,
                "gb": peak / 2**20,
                "computed": sum(table.computed for table in built),
                "written": sum(table.written for table in built),
            }
        )
    )


def main() -> None:
    """Print a line per build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--one", type=Path, metavar="HOME", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return
    print(f"{'bars':>10} {'after':<32} {'seconds':>8} {'GB':>6} {'of full':>8} {'computed':>11} {'written':>11}")
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory() as name:
            home, full = Path(name), None
            fill(home, rows)
            for what in (
                "nothing yet",
                "nothing new",
                "a new bar",
                "a day of bars",
                "a correction, a month late",
                "a macro revision, a month late",
            ):
                come_in(home, what, rows)
                command = [sys.executable, __file__, "--one", name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                got = json.loads(done.stdout.splitlines()[-1])
                full = full or got["seconds"]
                print(
                    f"{rows:>10,} {what:<32} {got['seconds']:>8.2f} {got['gb']:>6.2f} {got['seconds'] / full:>8.4f} "
                    f"{got['computed']:>11,} {got['written']:>11,}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
