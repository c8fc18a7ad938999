"""`audit dataset` on a large table: seconds and the most memory, of a process of its own that reads a Parquet file.

The table has a price, a label over a day, a purged split and features as people make them: lags, means, volatilities,
z-scores and autoregressive series, two of which are leaks. As a yardstick the same file is read and each column's mean
taken, by polars.

Usage: python benchmarks/audit.py [--rows 1000000] [--columns 50]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

HORIZON = 24


def write(path: Path, rows: int, columns: int) -> None:
    """Write the table, as another process, so that its memory is not counted."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    first = datetime(1980, 1, 1, tzinfo=UTC)
    at = pl.datetime_range(first, first + timedelta(minutes=rows - 1), "1m", time_unit="us", eager=True)
    close = pl.Series(100 * np.exp(np.cumsum(rng.standard_t(5, rows) * 1e-4)))
    frame = pl.DataFrame({"time": at, "close": close})
    log = pl.col("close").log()
    made = {"label": log.shift(-HORIZON) - log, "leak_copy": log.shift(-HORIZON) - log}
    made["leak_centred"] = log.diff().rolling_mean(25, center=True)
    for i in range((columns - 6) // 4 + 1):
        span = 5 + 7 * i
        made[f"ret_{span}"] = log.diff(span)
        made[f"vol_{span}"] = log.diff().rolling_std(span)
        made[f"z_{span}"] = (pl.col("close") - pl.col("close").rolling_mean(span)) / pl.col("close").rolling_std(span)
        made[f"noise_{i}"] = pl.Series(rng.standard_normal(rows)).ewm_mean(half_life=1 + i)
    cut = int(0.7 * rows)
    parts = ["train"] * (cut - HORIZON) + [None] * HORIZON + ["test"] * (rows - cut)
    frame = frame.with_columns(**made)
    frame.select(frame.columns[: columns - 1]).with_columns(part=pl.Series(parts)).write_parquet(path)


def audited(path: Path) -> dict[str, object]:
    from backsight_features.audit.dataset import audit_dataset
    from backsight_features.audit.table import Roles

    roles = Roles(time="time", label="label", horizon=timedelta(minutes=HORIZON), split="part", price="close")
    begin = time.perf_counter()
    found = audit_dataset(path, roles)
    return {"seconds": time.perf_counter() - begin, "found": [f"{one.check} {one.name}" for one in found.told]}


def means(path: Path) -> dict[str, object]:
    import polars as pl

    begin = time.perf_counter()
    pl.read_parquet(path).select(pl.col(pl.Float64).mean())
    return {"seconds": time.perf_counter() - begin, "found": []}


def most() -> float:
    """Return the most memory that this process held, in gigabytes."""
    [held] = [
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(held) / 2**20


def main() -> None:
    """Print a line per contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one == "write":
        write(chosen.path, chosen.rows, chosen.columns)
        return
    if chosen.one:
        done = audited(chosen.path) if chosen.one == "audit dataset" else means(chosen.path)
        print(json.dumps(done | {"memory": most(), "cpu": time.process_time()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        sizes = ["--rows", str(chosen.rows), "--columns", str(chosen.columns), "--path", str(path)]
        subprocess.run([sys.executable, __file__, "--one", "write", *sizes], check=True)
        print(f"{chosen.rows:,} rows, {chosen.columns} columns, {path.stat().st_size / 2**20:,.0f} MB of Parquet")
        for one in ("audit dataset", "read and mean"):
            command = [sys.executable, __file__, "--one", one, *sizes]
            done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            figures = f"{done['seconds']:.1f} s ({done['cpu']:.1f} s of CPU), {done['memory']:.2f} GB"
            print(f"{one:<14} {figures}  {', '.join(done['found'])}", flush=True)


if __name__ == "__main__":
    main()
