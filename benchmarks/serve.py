"""The service beside the same one written with the Feast SDK and ONNX Runtime, and an endpoint that does nothing.

    python benchmarks/serve.py [--seconds 5] [--rounds 3]

One worker each, a redis-server, windows of 168 x 40 and one bundle. wrk (Debian: apt-get install wrk) asks one server
at a time; they take turns, and the best round of each counts. The Feast service reads 40 array features, scales them as
the bundle says and runs the same ONNX file; it checks no age, keeps no log and asks for no key.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import online

SYMBOL = "S000-USD"
HOURS = 2_000
RUN = "import sys, uvicorn; uvicorn.run({app}, port=int(sys.argv[1]), log_level='error', access_log=False)"
OURS = "from backsight_model.serving.app import from_environment; " + RUN.format(app="from_environment()")
FEAST = "import serve; " + RUN.format(app="serve.feast_service(*sys.argv[2:])")


def write_bundle(models: Path, names: list[str]) -> Path:
    """Train a small network on noise, and put it into use."""
    import polars as pl
    from backsight_features.windows import windows
    from backsight_model import bundle, proof
    from backsight_model.manifest import Manifest, features_digest
    from backsight_model.settings import Settings
    from backsight_model.training import label
    from backsight_model.verdict import Verdict
    from backsight_model.walk import final

    rng = np.random.default_rng(0)
    moves = 0.005 * rng.standard_normal(HOURS)
    closes = pl.datetime_range(online.AT - (HOURS - 1) * online.HOUR, online.AT, "1h", time_unit="us", eager=True)
    clocks = {"observed_at": closes, "available_at": closes + timedelta(seconds=15)}
    states = pl.DataFrame(
        {"symbol": [SYMBOL] * HOURS, **clocks, **{name: rng.standard_normal(HOURS) - 9.0 for name in names}}
    ).with_columns(pl.col(names).cast(pl.Float32))
    bars = pl.DataFrame({**clocks, "close": 20_000.0 * np.exp(np.cumsum(moves))})
    cut = windows(states, length=online.LENGTH, timeframe=online.HOUR, features=names)
    data = label(cut, {SYMBOL: bars}, horizon=24)
    settings = Settings(epochs=1)
    fitted = final(data, embargo=timedelta(hours=24), settings=settings, seed=1)
    manifest = Manifest(
        series=[f"bench:{SYMBOL}:1h"], service="bench", features_sha256=features_digest(tuple(names)),
        length=online.LENGTH, horizon=24, seed=1, ingested_until="", first_at="", last_at="", lake_versions={},
        feature_versions={}, scorer="", code="", samples=len(data), sha256=data.sha256(),
    )  # fmt: skip
    better = proof.Comparison(
        model="LSTM", reference="HAR", count=9, loss=1, reference_loss=2, gain=1, low=0, high=2, p_value=0, detectable=1
    )
    verdict = Verdict(
        claims=proof.judge({"volatility": (better,)}),
        comparisons={"volatility": (), "direction": ()},
        directional=proof.Directional(accuracy=0.5, statistic=0, p_value=1, detectable=0.1),
    )
    folder = bundle.write(models, fitted, manifest=manifest, settings=settings, timeframe=online.HOUR, verdict=verdict)
    bundle.promote(models, folder)
    return folder


def feast_service(folder: str, where: str) -> Any:
    """Return the same service as somebody writes it with the Feast SDK."""
    from backsight_model.bundle import current
    from backsight_model.forecast import estimate
    from fastapi import FastAPI
    from feast import FeatureStore, RepoConfig

    config = RepoConfig(
        project="bench", provider="local", registry=f"{folder}/registry.db", entity_key_serialization_version=3,
        offline_store={"type": "backsight_features.store.asof.AsofOfflineStore", "root": folder},
        online_store={"type": "redis", "connection_string": where},
    )  # fmt: skip
    config.repo_path = Path(folder)
    store = FeatureStore(config=config)
    bundle = current(Path(folder).parent / "home" / "models", SYMBOL)
    refs = [f"arrays:{name}" for name in bundle.features]
    app = FastAPI()

    @app.get("/v1/forecast/{symbol}")
    def forecast(symbol: str) -> dict[str, Any]:
        found = store.get_online_features(refs, entity_rows=[{"symbol": symbol}]).to_dict()
        values = np.array([found[name][0] for name in bundle.features], dtype=np.float32).T
        return {"symbol": symbol} | estimate(bundle, np.ascontiguousarray(values), name=symbol)[0].to_json()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


@contextmanager
def listening(program: str, *arguments: str, environment: dict[str, str]) -> Iterator[tuple[int, float, float]]:
    """Start a service; yield its port, the seconds until it was ready, and its megabytes then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", program, str(port), *arguments]
    here = str(Path(__file__).resolve().parent)
    with subprocess.Popen(command, env=os.environ | environment | {"PYTHONPATH": here}) as process:
        try:
            while not answers(port):
                if process.poll() is not None:
                    sys.exit("a service ended before it answered; what it said is above")
                time.sleep(0.01)
            took = time.perf_counter() - begin
            for _ in range(200):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/forecast/{SYMBOL}").read()
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            memory = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
            yield port, took, memory
        finally:
            process.send_signal(signal.SIGTERM)


def answers(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/forecast/{SYMBOL}", timeout=30).status == 200)
    except OSError:
        return False


def load(port: int, path: str, *, clients: int, seconds: int) -> tuple[float, float]:
    """Return requests a second, and the median time of an answer in milliseconds."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if failed := re.search(r"Non-2xx.*|Socket errors.*", said):
        sys.exit(f"{path}: {failed[0].strip()}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    middle = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    assert rate
    assert middle
    return float(rate[1]), float(middle[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[middle[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("needs wrk (Debian: apt-get install wrk)")
    warnings.simplefilter("ignore")
    from backsight_model.baselines import HARX_TERMS, LAST_BAR, LAST_DAY

    fixed = [*HARX_TERMS, LAST_DAY, LAST_BAR]
    online.NAMES[: len(fixed)] = fixed
    from backsight_model.serving.app import Serving

    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        where = running.enter_context(online.redis_server(folder))
        write_bundle(folder / "home" / "models", online.NAMES)
        fill(folder / "repo", where)
        told = Serving(home=folder / "home", project="bench", at=online.AT, per_second=1e9).variables()
        ours = running.enter_context(listening(OURS, environment=told | {"BACKSIGHT_REDIS": where}))
        theirs = running.enter_context(listening(FEAST, str(folder / "repo"), where, environment={}))
        print(f"{'':24}{'ready s':>9}{'MB':>7}")
        for service, (_, took, memory) in {"backsight serve": ours, "Feast SDK + ONNX": theirs}.items():
            print(f"{service:24}{took:>9.2f}{memory:>7.0f}")
        path = f"/v1/forecast/{SYMBOL}"
        asked = {"does nothing": (ours[0], "/health"), "backsight serve": (ours[0], path)}
        asked["Feast SDK + ONNX"] = (theirs[0], path)
        for clients in (1, 8):
            compare(asked, clients=clients, rounds=chosen.rounds, seconds=chosen.seconds)


def fill(folder: Path, where: str) -> None:
    """Put the same windows online as one field of bytes and as 40 arrays."""
    import pandas as pd
    from backsight_features.store.shelf import Shelf

    feast = online.feast_store(folder, {"type": "redis", "connection_string": where})
    contract, made = online.windows(0)
    Shelf(feast, folder).publish(feast.get_feature_view("bench_window"), contract, made)
    columns = {name: [one.window.values[:, i] for one in made] for i, name in enumerate(online.NAMES)}
    known = [online.AT] * len(made)
    feast.write_to_online_store(
        "arrays", df=pd.DataFrame({"symbol": online.SYMBOLS, "event_timestamp": known} | columns)
    )


def compare(asked: dict[str, tuple[int, str]], *, clients: int, rounds: int, seconds: int) -> None:
    best = {name: (0.0, float("inf")) for name in asked}
    for _ in range(rounds):
        for name, (port, path) in asked.items():
            rate, middle = load(port, path, clients=clients, seconds=seconds)
            best[name] = max(best[name][0], rate), min(best[name][1], middle)
    print(f"\n{clients} at a time{'':12}{'requests/s':>12}{'p50 ms':>9}")
    for name, (rate, middle) in best.items():
        print(f"{name:24}{rate:>12.0f}{middle:>9.2f}")
    (_, idle), (ours, our_middle), (theirs, their_middle) = best.values()
    online.ratio("requests a second, of the Feast service's", ours / theirs, ">= 2.5")
    online.ratio("p50, of the Feast service's", our_middle / their_middle, "<= 0.5")
    online.ratio("p50, of an endpoint that does nothing", our_middle / idle, "<= 4")


if __name__ == "__main__":
    main()
