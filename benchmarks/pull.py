"""A dump into the lake, against polars reading the same file and writing it as Parquet: the same run, the same file.

Minute bars of one symbol as a csv file. A pull also checks every row, keeps what is bad, compares with what is stored
and commits; a second pull of the same file has nothing to do.

Usage: python benchmarks/pull.py [--rows 1000000]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2015, 1, 1, tzinfo=UTC)
LAYOUT = """
about = "Minute bars of a benchmark"
kind = "bars"
files = ["*.csv"]

[columns]
observed_at = "datetime"
open = "open"
high = "high"
low = "low"
close = "close"
volume = "volume"

[constants]
venue = "bench"
symbol = "BTC-USD"
timeframe = "1m"

[observed]
stamp = "open"
formats = ["%Y-%m-%d %H:%M:%S"]

[available]
lag = "15s"
"""


def write_csv(path: Path, rows: int) -> None:
    rng = np.random.default_rng(7)
    close = 10_000 * np.exp(np.cumsum(rng.normal(scale=1e-4, size=rows)))
    opened = np.append(close[:1], close[:-1])
    pl.DataFrame(
        {
            "datetime": pl.datetime_range(START, START + timedelta(minutes=rows - 1), "1m", eager=True).dt.strftime(
                "%Y-%m-%d %H:%M:%S"
            ),
            "open": opened,
            "high": np.maximum(opened, close) * 1.0001,
            "low": np.minimum(opened, close) * 0.9999,
            "close": close,
            "volume": rng.lognormal(size=rows),
        }
    ).write_csv(path, float_precision=4)


def bare(folder: Path) -> int:
    frame = pl.scan_csv(folder / "bars.csv", try_parse_dates=True)
    frame.sink_parquet(folder / "bars.parquet")
    return pl.scan_parquet(folder / "bars.parquet").select(pl.len()).collect().item()


def pull(folder: Path) -> int:
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_ingest.layouts import load
    from backsight_ingest.pull import pull as read

    lake, layout = Lake(folder / "lake"), load(str(folder / "bench.toml"))
    accounts, _ = read(lake, layout, [folder / "bars.csv"], settings={}, now=utc_now(), tell=lambda account: None)
    return sum(account.read for account in accounts)


ENGINES: dict[str, Callable[[Path], int]] = {"polars to Parquet": bare, "first pull": pull, "second pull": pull}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        begin = time.perf_counter()
        rows = ENGINES[chosen.one[0]](Path(chosen.one[1]))
        taken = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": taken, "gb": peak, "rows": rows}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_csv(folder / "bars.csv", chosen.rows)
        (folder / "bench.toml").write_text(LAYOUT)
        print(f"{chosen.rows:,} rows, {(folder / 'bars.csv').stat().st_size / 2**20:.0f} MB")
        print(f"{'engine':<18} {'seconds':>8} {'GB':>6} {'x polars':>9} {'rows read':>10}")
        first = None
        for engine in ENGINES:
            command = [sys.executable, __file__, "--one", engine, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            got = json.loads(done.stdout.splitlines()[-1])
            first = first or got["seconds"]
            ratio = got["seconds"] / first
            print(f"{engine:<18} {got['seconds']:>8.2f} {got['gb']:>6.2f} {ratio:>9.2f} {got['rows']:>10,}", flush=True)


if __name__ == "__main__":
    main()
