"""Order-book features of a million looks: one a minute at one market, on the grid of hourly bars.

A first build of all tables, with and without the looks; then one after an hour more of both, and one after a look that
was corrected a month ago. What a build leaves is compared with what building everything leaves by the tests, not here.

Usage: python benchmarks/book.py [--looks 1000000]
"""

import argparse
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, BOOKS
from backsight_features.snapshot import Snapshot
from build import START, bars, facts

SERIES = BarSeries.parse("bench:BTC-USD:1h")
AT_ONCE = 250_000


def looks(first: int, count: int) -> pl.DataFrame:
    """Return a look at the book at each minute from the minute ``first`` after the start on."""
    rng = np.random.default_rng([11, first])
    at = (first + np.arange(count)) * 60_000_000 + rng.integers(0, 5_000_000, count)
    spread = rng.uniform(0.5, 5.0, count)
    return facts(
        BOOKS,
        {
            "venue": ["bench"] * count,
            "symbol": ["BTC-USD"] * count,
            "bid": 10_000 - spread / 2,
            "ask": 10_000 + spread / 2,
            **{name: rng.lognormal(size=count) for name in ("bid_size", "ask_size", "bid_depth", "ask_depth")},
            "reach_bp": np.full(count, 50.0),
            "observed_at": at,
            "available_at": at,
        },
    )


def hours(first: int, count: int) -> pl.DataFrame:
    """Return hourly bars: every sixtieth of the minute bars of `build`."""
    minutes = bars(first * 60, count * 60)
    return minutes.gather_every(60, offset=59).with_columns(timeframe=pl.lit("1h"))


def timed(home: Path, what: str) -> None:
    """Build, and print what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    built = build(Snapshot.take(Lake(home / "lake")), home / "features", [SERIES])
    book = next(one for one in built if one.table == "book_1h")
    took = time.perf_counter() - wall, time.process_time() - processor
    print(f"{what:<36} {took[0]:>8.2f} {took[1]:>10.2f} {book.computed:>10,} {book.written:>9,}", flush=True)


def main() -> None:
    """Print a line per build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=1_000_000)
    count = parser.parse_args().looks
    print(f"{'build after':<36} {'seconds':>8} {'processor':>10} {'computed':>10} {'written':>9}")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        lake = Lake(home / "lake")
        lake.append(BARS, hours(0, count // 60), now=START)
        timed(home, f"{count // 60:,} hourly bars, no look")
        for first in range(0, count, AT_ONCE):
            lake.append(BOOKS, looks(first, min(AT_ONCE, count - first)), now=START)
        timed(home, f"{count:,} looks")
        lake.append(BARS, hours(count // 60, 1), now=START)
        lake.append(BOOKS, looks(count, 60), now=START)
        timed(home, "an hour more")
        old = looks(count - 30 * 1440, 1).with_columns(
            pl.col("bid_depth") * 2, available_at=pl.col("available_at") + timedelta(minutes=5)
        )
        lake.append(BOOKS, old, now=START)
        timed(home, "a look that was corrected then")


if __name__ == "__main__":
    main()
