"""What the lake costs beside bare `write_deltalake`: the same rows, the same kind of table, in turn in one run.

`append`: ten thousand minute bars into five million, compared with what is stored; and the same batch once more.
`import`: two million bars in batches. `texts`: a few posts among a million. `minutes`: a commit a minute, each of which
opens the table, with `backsight maintain` every hour and without: whether the last take longer than the first.

Usage: python benchmarks/lake.py [append|import|texts|minutes ...] [--rows 5000000] [--commits 300]
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from backsight_features import delta
from backsight_features.clocks import UTC_US
from backsight_features.lake import Lake
from backsight_features.maintenance import maintain
from backsight_features.schemas import BARS, POSTS
from deltalake import DeltaTable, write_deltalake

START = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOLS = 10
BATCH = 10_000
IMPORTED = 200_000
ROUNDS = 15
EDGE = 20
HOURLY = 60
NEGLECTED = 300
WHAT = ["append", "import", "texts", "minutes"]


def bars(first: int, minutes: int, symbols: int = SYMBOLS) -> pl.DataFrame:
    """Return minute bars of some symbols from some minute on."""
    rng = np.random.default_rng(first)
    at = pl.datetime_range(
        START + timedelta(minutes=first), START + timedelta(minutes=first + minutes - 1), "1m", eager=True
    )
    parts = []
    for number in range(symbols):
        close = 100 * np.exp(np.cumsum(rng.normal(scale=1e-4, size=minutes)))
        prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
        names = {"venue": "bench", "symbol": f"S{number}-USD", "timeframe": "1m", "source": "bench"}
        volumes = {"volume": rng.lognormal(size=minutes), "quote_volume": None}
        clocks = {"observed_at": at, "available_at": at + timedelta(seconds=15), "available_at_estimated": True}
        parts.append(pl.DataFrame({**names, **prices, **volumes, **clocks}, schema_overrides=dict(BARS.columns)))
    return pl.concat(parts).select(BARS.columns.keys())


def stamped(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows as the lake stores them, for a bare append."""
    return rows.with_columns(ingested_at=pl.lit(NOW, UTC_US), month=pl.col("observed_at").dt.strftime("%Y-%m"))


def taken(work: Callable[[], object]) -> float:
    """Return the milliseconds that something takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def bare(uri: str, rows: pl.DataFrame) -> None:
    write_deltalake(uri, stamped(rows).to_arrow(), mode="append", partition_by="month", target_file_size=16 << 20)


def report(name: str, milliseconds: list[float], beside: list[float] | None = None) -> None:
    median = statistics.median(milliseconds)
    ratio = "" if beside is None else f"{median / statistics.median(beside):>8.2f} x bare"
    print(f"{name:<44} {median:>9.1f} ms {max(milliseconds):>9.1f} ms at worst {ratio}", flush=True)


def append(folder: Path, rows: int) -> None:
    """Print what an append into many bars takes."""
    lake, beside = Lake(folder / "lake"), str(folder / "bare" / "bars")
    lake.append(BARS, bars(0, 1), now=NOW)
    minutes = rows // SYMBOLS
    stored = stamped(bars(0, minutes))
    write_deltalake(delta.join(folder, "lake", "bars"), stored.to_arrow(), mode="overwrite", target_file_size=16 << 20)
    shutil.copytree(folder / "lake", folder / "bare")
    print(f"\n{BATCH:,} rows into {rows:,}, {ROUNDS} rounds in turn")
    step = BATCH // SYMBOLS
    spent: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        later, within = bars(minutes + number * step, step), bars(number * 7 * step, step)
        found = {
            "bare append": taken(lambda rows=later: bare(beside, rows)),
            "append of new bars": taken(
                lambda rows=later, n=number: lake.append(BARS, rows, now=NOW, app="job", watermark=n)
            ),
            "replay, known by its watermark": taken(
                lambda rows=later, n=number: lake.append(BARS, rows, now=NOW, app="job", watermark=n)
            ),
            "replay, compared": taken(lambda rows=later: lake.append(BARS, rows, now=NOW)),
            "old bars once more, all duplicates": taken(lambda rows=within: lake.append(BARS, rows, now=NOW)),
            "corrections of old bars": taken(
                lambda rows=within: lake.append(BARS, rows.with_columns(pl.col("volume") + 1), now=NOW)
            ),
        }
        for name, each in found.items():
            spent.setdefault(name, []).append(each)
    for name, each in spent.items():
        report(name, each, spent["bare append"])


def bulk(folder: Path) -> None:
    """Print what an import in batches takes."""
    lake, beside = Lake(folder / "imported"), str(folder / "beside" / "bars")
    print(f"\nbatches of {IMPORTED:,} rows, one after the other, ten each in turn")
    whole = bars(0, 10 * IMPORTED, symbols=1)
    ours, theirs = [], []
    for number in range(10):
        rows = whole[number * IMPORTED : (number + 1) * IMPORTED]
        theirs.append(taken(lambda rows=rows: bare(beside, rows)))
        ours.append(taken(lambda rows=rows, n=number: lake.append(BARS, rows, now=NOW, app="job", watermark=n)))
    report("bare append", theirs, theirs)
    report("append", ours, theirs)


def posts(first: int, number: int) -> pl.DataFrame:
    """Return posts of forty words, their ids in the order of time as Reddit's are."""
    words = np.random.default_rng(first).integers(10_000, 99_999, (number, 40)).astype(str)
    ids = [f"1{np.base_repr(10**7 + each, 36).lower()}" for each in range(first, first + number)]
    at = [START + timedelta(seconds=30 * each) for each in range(first, first + number)]
    texts = [" ".join(each) for each in words]
    names = {"site": "reddit", "channel": "bench", "id": ids, "title": texts, "text": texts, "url": None}
    clocks = {"observed_at": at, "available_at": at, "available_at_estimated": False, "source": "bench"}
    return pl.DataFrame({**names, **clocks}, schema_overrides=dict(POSTS.columns)).select(POSTS.columns.keys())


def texts(folder: Path, rows: int) -> None:
    """Print what a few posts take among many: their key has no time, so that any file might hold them."""
    lake, beside = Lake(folder / "texts"), Lake(folder / "few")
    for start in range(0, rows, IMPORTED):
        lake.append(POSTS, posts(start, IMPORTED), now=NOW)
    beside.append(POSTS, posts(0, 10), now=NOW)
    print(f"\nfive posts among {rows:,}, in turn with five among ten")
    spent: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        new, edited = posts(rows + 5 * number, 5), posts(rows // 2 + 5 * number, 5).with_columns(text=pl.lit("edited"))
        old = pl.concat([posts(place * (rows // 5), 1) for place in range(5)])
        cases = {
            "new, among ten": (beside, new),
            "new": (lake, new),
            "edited": (lake, edited),
            "from all over": (lake, old),
        }
        for name, (where, each) in cases.items():
            spent.setdefault(name, []).append(taken(lambda where=where, each=each: where.append(POSTS, each, now=NOW)))
    for name, each in spent.items():
        report(name, each)


def minutes(folder: Path, commits: int, kept: bool) -> None:
    """Print what commits take, a row of ten symbols each, and whether the last take longer than the first."""
    fate = "kept" if kept else "neglected"
    old, young = Lake(folder / fate), Lake(folder / f"{fate}-young")
    for lake in (old, young):
        lake.append(BARS, bars(0, 1000), now=NOW)
    print(f"\n{commits:,} commits of {SYMBOLS} bars, {f'maintained every {HOURLY}' if kept else 'never maintained'}")
    spent, keeping, first = [], [], []
    for number in range(commits):
        rows = bars(1000 + number, 1)
        spent.append(taken(lambda rows=rows, n=number: old.append(BARS, rows, now=NOW, app="job", watermark=n)))
        if number >= commits - EDGE:
            # The first commits of another lake, in turn with the last of this one: the machine is the same for both.
            first.append(taken(lambda rows=rows, n=number: young.append(BARS, rows, now=NOW, app="job", watermark=n)))
        if kept and (number + 1) % HOURLY == 0:
            keeping.append(taken(lambda: list(maintain(old.root))))
    block = max(commits // 10, EDGE)
    for start in range(0, commits, block):
        report(f"commits {start:,} to {min(start + block, commits):,}", spent[start : start + block])
    if keeping:
        report("a maintenance", keeping)
    report(f"the first {EDGE} of another lake, in turn with", first)
    report(f"the last {EDGE}", spent[-EDGE:])
    files = len(delta.paths(DeltaTable(delta.join(old.root, "bars"))))
    print(f"last over first: {statistics.median(spent[-EDGE:]) / statistics.median(first):.2f}; {files:,} files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)}; all if none is named")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--commits", type=int, default=300)
    chosen = parser.parse_args()
    chosen.what = chosen.what or WHAT
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "append" in chosen.what:
            append(folder, chosen.rows)
        if "import" in chosen.what:
            bulk(folder)
        if "texts" in chosen.what:
            texts(folder, chosen.rows // 5)
        if "minutes" in chosen.what:
            minutes(folder, chosen.commits, kept=True)
            minutes(folder, min(chosen.commits, NEGLECTED), kept=False)


if __name__ == "__main__":
    main()
