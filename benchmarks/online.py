"""Windows online: what a read costs beside a bare Redis read of the same bytes, and beside Feast's own ways.

    python benchmarks/online.py [--rounds 30]

Starts a redis-server of its own. Every figure is the median of its best block; the blocks of all contestants take
turns, so that a noisy machine is noisy for all of them.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, WIDTH, MANY = 168, 40, 100
HOUR = timedelta(hours=1)
AT = datetime(2024, 6, 1, tzinfo=UTC)
SYMBOLS = [f"S{i:03d}-USD" for i in range(MANY)]
NAMES = [f"f{i:02d}" for i in range(WIDTH)]

LIGHT = """
import json, sys, time
begin = time.perf_counter()
{statement}
took = time.perf_counter() - begin
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([took, int(status["VmRSS"].split()[0]) / 1024]))
"""


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("needs redis-server (Debian: apt-get install redis-server)")
    settings = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *settings], cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            redis.Redis(host="127.0.0.1", port=int(port), retry=Retry(ConstantBackoff(0.05), 200)).ping()
            yield f"127.0.0.1:{port},db=0"
        finally:
            server.terminate()


def race(contestants: dict[str, Callable[[], Any]], *, rounds: int, block: int) -> dict[str, float]:
    """Return the median of the best block of each, in milliseconds."""
    best = dict.fromkeys(contestants, float("inf"))
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            times = []
            for _ in range(block):
                begin = time.perf_counter()
                run()
                times.append(time.perf_counter() - begin)
            best[name] = min(best[name], statistics.median(times) * 1e3)
    for name, took in best.items():
        print(f"  {name:<58} {took:9.3f} ms")
    return best


def ratio(what: str, value: float, target: str) -> None:
    print(f"  -> {what}: {value:.2f} (target {target})")


def feast_store(folder: Path, online: dict[str, str]) -> Any:
    """Return a Feast store with a view of one window field and a view of 40 arrays, both filled for all symbols."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Array, Bytes, Float32, String

    folder.mkdir(parents=True)
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        entity_key_serialization_version=3,
        offline_store={"type": "backsight_features.store.asof.AsofOfflineStore", "root": str(folder)},
        online_store=online,
    )
    config.repo_path = folder
    feast = FeatureStore(config=config)
    pd.DataFrame({"symbol": ["x"], "event_timestamp": [AT]}).to_parquet(folder / "nothing.parquet")
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "nothing.parquet"), timestamp_field="event_timestamp")
    key = Field(name="symbol", dtype=String)
    window = FeatureView(
        name="bench_window",
        entities=[symbol],
        schema=[key, Field(name="packed", dtype=Bytes), Field(name="contract", dtype=String)],
        source=source,
    )
    arrays = FeatureView(
        name="arrays",
        entities=[symbol],
        schema=[key, *(Field(name=name, dtype=Array(Float32)) for name in NAMES)],
        source=source,
    )
    feast.apply([symbol, window, arrays])
    return feast


def windows(seed: int) -> tuple[Any, list[Any]]:
    """Return a contract and a window of every symbol, ready to be stored."""
    from backsight_features.online.contract import Contract
    from backsight_features.online.packed import pack, unpack
    from backsight_features.store.shelf import Prepared

    random = np.random.default_rng(seed)
    contract = Contract(
        service="bench",
        features=tuple(NAMES),
        timeframe=HOUR,
        max_age=2 * HOUR,
        max_ages=dict.fromkeys(NAMES, timedelta(days=30)),
        length=LENGTH,
    )
    closed = np.datetime64("2024-06-01T00:00", "us") - np.timedelta64(30 - seed % 30, "m")
    known = closed - np.arange(LENGTH)[::-1] * np.timedelta64(1, "h") + np.timedelta64(15, "s")
    made = []
    for symbol in SYMBOLS:
        data = pack(
            random.normal(size=(LENGTH, WIDTH)).astype(np.float32),
            known,
            digest=contract.digest,
            contract=contract.checksum,
            observed_at=closed,
            timeframe=HOUR,
        )
        made.append(Prepared(symbol=symbol, data=data, window=unpack(data)))
    return contract, made


def frame(made: list[Any], contract: Any, at: datetime) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "symbol": [one.symbol for one in made],
            "event_timestamp": [at] * len(made),
            "packed": [one.data for one in made],
            "contract": [contract.text] * len(made),
        }
    )


def reads(
    title: str,
    feast: Any,
    shelf: Any,
    where: Any,
    bare: dict[int, Callable[[], Any]],
    rounds: int,
    targets: dict[int, str],
) -> None:
    from backsight_features.online import connect
    from backsight_features.online.gate import admit
    from backsight_features.online.packed import unpack

    contract, made = windows(0)
    view = feast.get_feature_view("bench_window")
    shelf.publish(view, contract, made)
    import pandas as pd

    arrays = pd.DataFrame(
        {"symbol": SYMBOLS, "event_timestamp": [AT] * MANY}
        | {name: [one.window.values[:, i] for one in made] for i, name in enumerate(NAMES)}
    )
    feast.write_to_online_store("arrays", df=arrays)
    reader = connect(where, project="bench")
    expected = made[0].window.values.tobytes()

    def light(count: int) -> Callable[[], Any]:
        if count == 1:
            return lambda: reader.window("bench", SYMBOLS[0], at=AT)
        return lambda: reader.windows("bench", SYMBOLS, at=AT)

    def sdk_packed(count: int) -> Any:
        rows = [{"symbol": symbol} for symbol in SYMBOLS[:count]]
        found = feast.get_online_features(["bench_window:packed"], entity_rows=rows).to_dict()["packed"]
        return [
            admit(unpack(data), contract, symbol=symbol, at=AT) for symbol, data in zip(SYMBOLS, found, strict=False)
        ]

    refs = [f"arrays:{name}" for name in NAMES]

    def sdk_arrays(count: int) -> Any:
        rows = [{"symbol": symbol} for symbol in SYMBOLS[:count]]
        found = feast.get_online_features(refs, entity_rows=rows).to_dict()
        return np.array([found[name] for name in NAMES], dtype=np.float32)

    assert light(1)().values.tobytes() == expected
    assert sdk_packed(1)[0].values.tobytes() == expected
    assert sdk_arrays(1)[:, 0].T.tobytes() == expected
    assert [one.values.tobytes() for one in light(MANY)()] == [one.window.values.tobytes() for one in made]

    print(f"\n{title}: one window of {LENGTH} x {WIDTH} float32, gate included where there is one")
    best = race(
        {
            "bare read of the bytes + np.frombuffer": bare[1],
            "light reader": light(1),
            "Feast SDK, packed field + unpack + gate": lambda: sdk_packed(1),
            f"Feast SDK, {WIDTH} Array(Float32), to_dict": lambda: sdk_arrays(1),
        },
        rounds=rounds,
        block=100,
    )
    bare_ms, light_ms, packed_ms, arrays_ms = best.values()
    ratio("light reader / bare", light_ms / bare_ms, targets[1])
    ratio(f"Feast SDK {WIDTH} arrays / light reader", arrays_ms / light_ms, ">= 8")
    ratio("Feast SDK packed / light reader", packed_ms / light_ms, "none")

    print(f"{title}: {MANY} windows at once")
    best = race(
        {
            "bare reads in one round trip + np.frombuffer": bare[MANY],
            "light reader": light(MANY),
            "Feast SDK, packed field + unpack + gate": lambda: sdk_packed(MANY),
            f"Feast SDK, {WIDTH} Array(Float32), to_dict": lambda: sdk_arrays(MANY),
        },
        rounds=max(8, rounds // 2),
        block=5,
    )
    bare_ms, light_ms, packed_ms, arrays_ms = best.values()
    ratio("light reader / bare", light_ms / bare_ms, targets[MANY])
    ratio(f"Feast SDK {WIDTH} arrays / light reader", arrays_ms / light_ms, "none")
    ratio("Feast SDK packed / light reader", packed_ms / light_ms, "none")
    reader.close()


def writes(title: str, feast: Any, shelf: Any, rounds: int) -> None:
    view = feast.get_feature_view("bench_window")
    turns = iter(range(1, 10_000))
    feast_turns = iter(range(1, 10_000))

    def ours() -> None:
        # Other values each time, at an instant that never goes back: all of them are written.
        contract, made = prepared_windows[next(turns) % 2]
        outcomes = shelf.publish(view, contract, made)
        assert set(outcomes) <= {"written", "corrected"}, outcomes

    def feasts() -> None:
        contract, made = prepared_windows[2]
        feast.write_to_online_store("bench_window", df=frame(made, contract, AT + timedelta(seconds=next(feast_turns))))

    prepared_windows = [windows(30), windows(60), windows(90)]
    print(f"\n{title}: {MANY} windows of {LENGTH} x {WIDTH} written")
    best = race(
        {"publish (compare and set)": ours, "Feast write_to_online_store(df)": feasts},
        rounds=max(3, rounds // 4),
        block=3,
    )
    ours_ms, feast_ms = best.values()
    ratio("publish / Feast", ours_ms / feast_ms, "none")


VIEWS = """
from datetime import timedelta
from feast import Entity, ValueType
from backsight_features.feature import Feature
from backsight_features.store.definitions import service, state_view, window_view
symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
rest = {"description": "", "unit": "1", "lookback": None, "max_age": timedelta(days=1)}
made = [Feature(name=f"f{i:02d}", **rest) for i in range(40)]
market_1h = state_view("market_1h", made, symbol, bar="1h")
price_1h = service("price_1h", [market_1h], bar="1h")
price_1h_window = window_view(price_1h, symbol)
"""


def histories(folder: Path, rounds: int) -> None:
    """Publish from tables that begin longer and longer ago; the last 100 hours came by a build of their own."""
    import polars as pl
    from backsight_features.store import Store
    from backsight_features.workspace import Workspace
    from deltalake import write_deltalake

    stores, at = {}, {}
    for hours in (1_000, 10_000, 50_000):
        home, repo = folder / str(hours), folder / str(hours) / "repo"
        repo.mkdir(parents=True)
        (repo / "views.py").write_text(VIEWS)
        (repo / "feature_store.yaml").write_text(
            f"project: bench\nprovider: local\nentity_key_serialization_version: 3\nregistry: {home}/registry.db\n"
            f"offline_store:\n  type: backsight_features.store.asof.AsofOfflineStore\n  root: {home}\n"
            f"online_store:\n  type: sqlite\n  path: {home}/online.db\n"
        )
        closes = pl.datetime_range(AT - (hours - 1) * HOUR, AT, "1h", time_unit="us", eager=True)
        random = np.random.default_rng(0)
        rows = pl.concat(
            pl.DataFrame({"symbol": [symbol] * hours, "observed_at": closes})
            .with_columns(available_at=pl.col("observed_at") + timedelta(seconds=15))
            .with_columns(pl.Series(name, random.normal(size=hours), pl.Float32) for name in NAMES)
            for symbol in SYMBOLS[:5]
        )
        recent = pl.col("observed_at") > AT - 100 * HOUR
        for part in (rows.filter(~recent), rows.filter(recent)):
            write_deltalake(str(home / "features" / "market_1h"), part, mode="append", target_file_size=16 << 20)
        stores[hours] = Store(repo, Workspace(root=home))
        stores[hours].apply()
        at[hours] = iter(range(1, 10_000))

    def publish(hours: int) -> None:
        instant = AT - 40 * HOUR + next(at[hours]) * timedelta(minutes=1)
        stores[hours].publish("price_1h", length=48, at=instant)

    print("\nPublishing 5 symbols, 48 x 40, from tables of different length")
    best = race(
        {f"{hours:,} hours of history": lambda hours=hours: publish(hours) for hours in stores},
        rounds=max(8, rounds // 2),
        block=3,
    )
    times = list(best.values())
    ratio("50 times the history costs, times", times[-1] / times[0], "about 1")


def imports() -> None:
    print("\nStarting a process")
    figures = {}
    for name, statement in {
        "numpy alone": "import numpy",
        "light reader": "from backsight_features.online import connect",
        "light reader + Redis client": "from backsight_features.online import connect; "
        "connect('127.0.0.1:1', project='x')",
        "import feast": "import feast",
    }.items():
        runs = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", LIGHT.format(statement=statement)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(3)
        ]
        took, memory = min(runs)
        figures[name] = (took, memory)
        print(f"  {name:<58} {took:7.3f} s {memory:7.0f} MB")
    ratio(
        "seconds to import the light reader with its Redis client", figures["light reader + Redis client"][0], "< 0.5"
    )
    ratio("import feast / light reader, seconds", figures["import feast"][0] / figures["light reader"][0], "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    os.environ.setdefault("FEAST_USAGE", "False")
    imports()

    import redis
    from backsight_features.online.feast_format import entity_key, hash_field
    from backsight_features.store.shelf import Shelf

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redis_server(folder) as where:
            feast = feast_store(folder / "redis", {"type": "redis", "connection_string": where})
            shelf = Shelf(feast, folder / "redis")
            host, port = where.partition(",")[0].split(":")
            client = redis.Redis(host=host, port=int(port))
            field = hash_field("bench_window", "packed")
            keys = [entity_key(symbol) + b"bench" for symbol in SYMBOLS]

            def one() -> Any:
                return np.frombuffer(client.hget(keys[0], field), np.uint8)

            def many() -> Any:
                with client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hget(key, field)
                    return [np.frombuffer(data, np.uint8) for data in pipe.execute()]

            reads("Redis", feast, shelf, where, {1: one, MANY: many}, rounds, {1: "<= 1.5", MANY: "<= 2"})
            writes("Redis", feast, shelf, rounds)
        sqlite_reads(folder, rounds)
        histories(folder / "histories", rounds)


def sqlite_reads(folder: Path, rounds: int) -> None:
    import sqlite3

    from backsight_features.online.feast_format import entity_key
    from backsight_features.store.shelf import Shelf

    path = folder / "sqlite" / "online.db"
    feast = feast_store(folder / "sqlite", {"type": "sqlite", "path": str(path)})
    shelf = Shelf(feast, folder / "sqlite")
    database = sqlite3.connect(path)
    select = "SELECT value FROM bench_bench_window WHERE feature_name = 'packed' AND entity_key IN ({})"
    keys = [entity_key(symbol) for symbol in SYMBOLS]

    def read(count: int) -> Any:
        query = select.format(", ".join("?" * count))
        return [np.frombuffer(data, np.uint8) for (data,) in database.execute(query, keys[:count])]

    # No target: without a network, what the gate does is most of what there is.
    targets = {1: "none", MANY: "none"}
    reads("SQLite", feast, shelf, path, {1: lambda: read(1), MANY: lambda: read(MANY)}, rounds, targets)
    writes("SQLite", feast, shelf, rounds)


if __name__ == "__main__":
    main()
