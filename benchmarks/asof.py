"""As-of joins: this store against stock Feast and against bare engines, on the same data in the same run.

Minute rows, four features, Parquet; as many rows asked for as there are facts. Feast's stores run the whole of
``get_historical_features(...).to_arrow()``; the bare engines read the same file and join. Every figure comes from
processes of its own: the best of some retrievals after a first that warms up, and the peak memory of the process.
What is compared takes turns, so that a machine that is busy for a while is busy for all of them.

Usage: python benchmarks/asof.py [--largest 5000000] [--quick]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

FEATURES = ("a", "b", "c", "d")
OURS = "backsight_features.store.asof.AsofOfflineStore"
START = datetime(2020, 1, 1, tzinfo=UTC)
SIZES = (1_000, 3_000, 10_000, 100_000, 1_000_000, 5_000_000)
STOCK = {"feast duckdb": ("duckdb", 10_000), "feast dask": ("dask", 3_000)}
"""Feast's own stores and the largest size at which they end in reasonable time and memory."""
ENGINES = ("polars", "pandas", "duckdb")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is joined."""

    rows: int
    symbols: int = 1
    ttl_minutes: int = 0
    shuffled: bool = False
    """Whether the rows asked for come in random order."""

    def __str__(self) -> str:
        said = [f"{self.symbols} symbol{'s' if self.symbols > 1 else ''}"]
        said += [f"ttl {self.ttl_minutes} min"] if self.ttl_minutes else []
        said += ["random order"] if self.shuffled else []
        return ", ".join(said)


def make(folder: Path, case: Case) -> None:
    """Write facts and the rows asked for."""
    rng = np.random.default_rng(7)
    minutes = np.arange(case.rows) // case.symbols
    symbol = pl.Series([f"SYM{i:02d}-USD" for i in range(case.symbols)])
    pl.DataFrame(
        {
            "symbol": symbol.gather(np.arange(case.rows) % case.symbols),
            "event_timestamp": pl.Series(minutes * 60_000_000).cast(pl.Duration("us")) + START,
            **{name: rng.normal(size=case.rows) for name in FEATURES},
        }
    ).write_parquet(folder / "facts.parquet")
    seconds = rng.integers(0, minutes[-1] * 60 + 60, case.rows)
    if not case.shuffled:
        seconds.sort()
    pl.DataFrame(
        {
            "symbol": symbol.gather(rng.integers(0, case.symbols, case.rows)),
            "event_timestamp": pl.Series(seconds * 1_000_000).cast(pl.Duration("us")) + START,
        }
    ).write_parquet(folder / "rows.parquet")


def bare_polars(folder: Path, case: Case) -> Callable[[], int]:
    asked = pl.read_parquet(folder / "rows.parquet")
    within = timedelta(minutes=case.ttl_minutes) if case.ttl_minutes else None

    def join() -> int:
        rows = asked.sort("event_timestamp") if case.shuffled else asked
        facts = pl.read_parquet(folder / "facts.parquet")
        return rows.join_asof(facts, on="event_timestamp", by="symbol", tolerance=within, check_sortedness=False).height

    return join


def bare_pandas(folder: Path, case: Case) -> Callable[[], int]:
    import pandas as pd

    asked = pl.read_parquet(folder / "rows.parquet").to_pandas()
    within = pd.Timedelta(minutes=case.ttl_minutes) if case.ttl_minutes else None

    def join() -> int:
        rows = asked.sort_values("event_timestamp") if case.shuffled else asked
        facts = pd.read_parquet(folder / "facts.parquet")
        return len(pd.merge_asof(rows, facts, on="event_timestamp", by="symbol", tolerance=within))

    return join


def bare_duckdb(folder: Path, case: Case) -> Callable[[], int]:
    import duckdb

    asked = pl.read_parquet(folder / "rows.parquet").to_arrow()
    connection = duckdb.connect()
    connection.register("asked", asked)
    young = (
        f"f.event_timestamp >= a.event_timestamp - INTERVAL {case.ttl_minutes} MINUTE" if case.ttl_minutes else "true"
    )
    features = ", ".join(f"CASE WHEN {young} THEN f.{name} END AS {name}" for name in FEATURES)
    query = f"""
        SELECT a.*, {features} FROM asked a ASOF LEFT JOIN read_parquet('{folder / "facts.parquet"}') f
        ON a.symbol = f.symbol AND a.event_timestamp >= f.event_timestamp
    """
    return lambda: connection.sql(query).to_arrow_table().num_rows


def feast_store(folder: Path, kind: str, views: int, ttl: timedelta, memory: str | None = None):
    """Return a project of so many equal views, and what to ask of it."""
    import feast

    offline = {"type": kind}
    if kind == OURS:
        offline |= {"root": str(folder)} | ({"memory_limit": memory} if memory else {})
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / f"registry-{time.time_ns()}.db"),
            entity_key_serialization_version=3,
            offline_store=offline,
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            repo_path=folder,
        )
    )
    symbol = feast.Entity(name="symbol", join_keys=["symbol"], value_type=feast.ValueType.STRING)
    source = feast.FileSource(name="facts", path=str(folder / "facts.parquet"), timestamp_field="event_timestamp")
    schema = [feast.Field(name=name, dtype=feast.types.Float64) for name in FEATURES]
    named = [
        feast.FeatureView(name=f"view{i}", entities=[symbol], schema=schema, source=source, ttl=ttl)
        for i in range(views)
    ]
    store.apply([symbol, *named])
    return store, [f"view{i}:{name}" for i in range(views) for name in FEATURES]


def through_feast(folder: Path, case: Case, kind: str, memory: str | None = None) -> Callable[[], int]:
    store, features = feast_store(folder, kind, 1, timedelta(minutes=case.ttl_minutes), memory)
    asked = pl.read_parquet(folder / "rows.parquet").to_pandas()
    return lambda: store.get_historical_features(asked, features).to_arrow().num_rows


def to_pandas(folder: Path, case: Case) -> Callable[[], int]:
    store, features = feast_store(folder, OURS, 1, timedelta(minutes=case.ttl_minutes))
    asked = pl.read_parquet(folder / "rows.parquet").to_pandas()
    return lambda: len(store.get_historical_features(asked, features).to_df())


def small(folder: Path, kind: str) -> Callable[[], int]:
    """Ten rows of three views."""
    store, features = feast_store(folder, kind, 3, timedelta(0))
    asked = pl.read_parquet(folder / "rows.parquet").head(10).to_pandas()
    return lambda: store.get_historical_features(asked, features, full_feature_names=True).to_arrow().num_rows


def measure(engine: str, folder: Path, case: Case) -> dict[str, float]:
    kinds = {"backsight": OURS, **{name: kind for name, (kind, _) in STOCK.items()}}
    bare = {"polars": bare_polars, "pandas": bare_pandas, "duckdb": bare_duckdb}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name, _, more = engine.partition(" with ")
        if more == "10 rows":
            retrieve = small(folder, kinds[name])
        elif more == "to_df":
            retrieve = to_pandas(folder, case)
        elif more:
            retrieve = through_feast(folder, case, kinds[name], more)
        elif name in kinds:
            retrieve = through_feast(folder, case, kinds[name])
        else:
            retrieve = bare[name](folder, case)
        retrieve()
        seconds: list[float] = []
        while len(seconds) < 5 and sum(seconds) < 2:
            begin = time.perf_counter()
            got = retrieve()
            seconds.append(time.perf_counter() - begin)
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return {"returned": got, "seconds": min(seconds), "gb": int(peak) / 2**20}


def compare(case: Case, engines: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Print and return the figures of every engine; the first one is the measure."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def apart(*arguments: str) -> str:
            command = [sys.executable, __file__, "--folder", folder, "--case", json.dumps(asdict(case)), *arguments]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            return done.stdout

        apart("--make")
        for _ in range(rounds):
            for engine in engines:
                before = found.get(engine)
                if before and before["seconds"] > 4:
                    continue
                got = json.loads(apart("--one", engine).splitlines()[-1])
                if before:
                    got = {name: min(before[name], got[name]) for name in got}
                found[engine] = got
    for engine, got in found.items():
        ratio = got["seconds"] / found[engines[0]]["seconds"]
        figures = f"{got['seconds']:>9.4f} {got['gb']:>6.2f} {ratio:>12.2f}  {got['returned']:>9,}"
        print(f"{case.rows:>9,}  {case!s:<28} {engine:<24} {figures}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of rows")
    parser.add_argument("--quick", action="store_true", help="one symbol, no ttl, one round")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        case = Case(**json.loads(chosen.case))
        if chosen.make:
            make(chosen.folder, case)
        else:
            print(json.dumps(measure(chosen.one, chosen.folder, case)))
        return

    rounds = 1 if chosen.quick else 2
    sizes = [size for size in SIZES if size <= chosen.largest]
    print(f"{'rows':>9}  {'':<28} {'engine':<24} {'seconds':>9} {'GB':>6} {'x backsight':>12}  {'returned':>9}")
    plain = {}
    for size in sizes:
        stock = [name for name, (_, most) in STOCK.items() if size <= most]
        more = ["backsight with to_df"] if size >= 100_000 else []
        more += ["backsight with 500MB"] if size >= 5_000_000 else []
        plain[size] = compare(Case(rows=size), ["backsight", *more, *ENGINES, *stock], rounds)
    if not chosen.quick:
        for size in (size for size in sizes if size >= 100_000):
            for case in (
                Case(rows=size, shuffled=True),
                Case(rows=size, ttl_minutes=10),
                Case(rows=size, symbols=50),
                Case(rows=size, symbols=50, ttl_minutes=10, shuffled=True),
            ):
                compare(case, ["backsight", *ENGINES], rounds)
    calls = compare(Case(rows=1_000), ["backsight with 10 rows", "feast duckdb with 10 rows"], rounds)

    def seconds(size: int, engine: str = "backsight") -> float:
        return plain[size][engine]["seconds"]

    print()
    if 10_000 in plain:
        print(f"10,000 rows: {seconds(10_000, 'feast duckdb') / seconds(10_000):,.0f} times faster than feast duckdb")
    if 1_000_000 in plain:
        print(f"1,000,000 rows: {seconds(1_000_000) / seconds(1_000_000, 'polars'):.2f} times polars' join_asof")
    few, many = calls.values()
    print(f"10 rows of 3 views: {few['seconds'] / many['seconds']:.2f} of the time of feast duckdb")
    if sizes[-1] > 100_000:
        grown = math.log(seconds(sizes[-1]) / seconds(100_000)) / math.log(sizes[-1] / 100_000)
        print(
            f"{sizes[-1]:,} rows: {plain[sizes[-1]]['backsight']['gb']:.1f} GB; time grows from 100,000 rows with",
            end="",
        )
        print(f" rows to the power of {grown:.2f}")


if __name__ == "__main__":
    main()
