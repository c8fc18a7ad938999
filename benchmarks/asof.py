"""As-of joins: this store against stock Feast and against the bare engine, on the same data in the same run.

One symbol, minute rows, four features; as many rows asked for as there are facts. Every figure comes from a process
of its own: the best of three retrievals after a first that warms up, and the peak memory of the process.

Usage: python benchmarks/asof.py [--largest 1000000]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

FEATURES = ("a", "b", "c", "d")
STOCK = {"feast dask": ("dask", 3_000), "feast duckdb": ("duckdb", 3_000)}
"""Stock stores and the largest size at which they end in reasonable time."""
OURS = "backsight_features.store.asof.AsofOfflineStore"
SIZES = (1_000, 3_000, 10_000, 100_000, 1_000_000)
START = datetime(2020, 1, 1, tzinfo=UTC)


def facts(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    at = pl.datetime_range(START, START + timedelta(minutes=rows - 1), "1m", time_unit="us", eager=True)
    return pl.DataFrame(
        {"symbol": ["BTC-USD"] * rows, "event_timestamp": at, **{name: rng.normal(size=rows) for name in FEATURES}}
    )


def asked(rows: int) -> pl.DataFrame:
    seconds = np.sort(np.random.default_rng(8).integers(0, rows * 60, rows))
    at = pl.Series(seconds * 1_000_000).cast(pl.Duration("us")) + START
    return pl.DataFrame({"symbol": ["BTC-USD"] * rows, "event_timestamp": at})


def bare(folder: Path, rows: int) -> Callable[[], int]:
    path = folder / "facts.parquet"
    facts(rows).write_parquet(path)
    left = asked(rows)
    return lambda: (
        left.join_asof(pl.read_parquet(path), on="event_timestamp", by="symbol", check_sortedness=False).height
    )


def feast_store(folder: Path, rows: int, kind: str) -> Callable[[], int]:
    import feast

    facts(rows).write_parquet(folder / "facts.parquet")
    offline = {"type": kind, "root": str(folder)} if kind == OURS else {"type": kind}
    config = feast.RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        entity_key_serialization_version=3,
        offline_store=offline,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        repo_path=folder,
    )
    store = feast.FeatureStore(config=config)
    symbol = feast.Entity(name="symbol", join_keys=["symbol"], value_type=feast.ValueType.STRING)
    view = feast.FeatureView(
        name="view",
        entities=[symbol],
        schema=[feast.Field(name=name, dtype=feast.types.Float64) for name in FEATURES],
        source=feast.FileSource(name="facts", path=str(folder / "facts.parquet"), timestamp_field="event_timestamp"),
        ttl=timedelta(0),
    )
    store.apply([symbol, view])
    entities = asked(rows).to_pandas()
    features = [f"view:{name}" for name in FEATURES]
    return lambda: store.get_historical_features(entity_df=entities, features=features).to_arrow().num_rows


def measure(engine: str, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder)
        retrieve = bare(path, rows) if engine == "bare polars" else feast_store(path, rows, kinds()[engine])
        retrieve()
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            got = retrieve()
            seconds.append(time.perf_counter() - begin)
    return {"returned": got, "seconds": min(seconds), "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def kinds() -> dict[str, str]:
    return {"backsight": OURS, **{name: kind for name, (kind, _) in STOCK.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "ROWS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one[0], int(chosen.one[1]))))
        return
    absent = [] if find_spec("ibis") else ["feast duckdb"]
    if absent:
        print("feast duckdb is left out: it needs ibis (pip install 'feast[duckdb]')")
    print(f"{'rows':>9}  {'engine':<12} {'seconds':>9} {'GB':>6} {'x backsight':>12}  returned")
    for rows in (size for size in SIZES if size <= chosen.largest):
        ours = None
        for engine in ("backsight", "bare polars", *STOCK):
            if engine in absent or (engine in STOCK and rows > STOCK[engine][1]):
                continue
            command = [sys.executable, __file__, "--one", engine, str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            got = json.loads(done.stdout.splitlines()[-1])
            ours = ours or got["seconds"]
            ratio = got["seconds"] / ours
            figures = f"{got['seconds']:>9.4f} {got['gb']:>6.2f} {ratio:>12.2f}  {got['returned']:,}"
            print(f"{rows:>9,}  {engine:<12} {figures}", flush=True)


if __name__ == "__main__":
    main()
