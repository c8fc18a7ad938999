"""Made-up worlds in which it is known what can be forecast."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.windows import Windows, windows
from backsight_model.training import TrainingSet, label

HOUR = timedelta(hours=1)
START = np.datetime64("2023-01-01T00:00:00", "us")
DELAY = np.timedelta64(15, "s")


def slow(rng: np.random.Generator, n: int, half_life: float) -> np.ndarray:
    """A series of unit variance that forgets half of itself in `half_life` hours."""
    keep = 0.5 ** (1 / half_life)
    kernel = keep ** np.arange(int(12 * half_life) + 1)
    shocks = rng.standard_normal(n + len(kernel) - 1)
    return np.sqrt(1 - keep**2) * np.convolve(shocks, kernel, mode="valid")


def total_over(cumulative: np.ndarray, hours: int) -> np.ndarray:
    out = np.full(len(cumulative) - 1, np.nan)
    out[hours - 1 :] = cumulative[hours:] - cumulative[:-hours]
    return out


def make_bars(seed: int, hours: int, drift: float, turbulence: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return hourly bars and feature states; `sentiment_24h` moves drift and volatility as strongly as asked."""
    rng = np.random.default_rng(seed)
    sentiment = slow(rng, hours, 24)
    known = np.concatenate([[0.0], sentiment[:-1]])
    deviation = 0.006 * np.exp(0.5 * slow(rng, hours, 96) + turbulence * known)
    moves = deviation * (rng.standard_normal(hours) + drift * known)
    nothing = {f"nothing_{half}h": slow(rng, hours, half) for half in (3, 10, 30, 100)}
    return facts_of(moves, {**nothing, "sentiment_24h": sentiment + 0.2 * rng.standard_normal(hours)})


def facts_of(moves: np.ndarray, features: dict[str, np.ndarray]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return hourly bars of given log returns and their feature states: what every baseline reads, and `features`."""
    sums, squares = np.concatenate([[0.0], np.cumsum(moves)]), np.concatenate([[0.0], np.cumsum(moves**2)])
    close_at = START + np.arange(1, len(moves) + 1) * np.timedelta64(1, "h")
    clocks = {
        "observed_at": pl.Series(close_at).dt.replace_time_zone("UTC"),
        "available_at": pl.Series(close_at + DELAY).dt.replace_time_zone("UTC"),
    }
    values = {
        "ret_log_1h": moves,
        "ret_log_24h": total_over(sums, 24),
        **{f"log_rv_{span}h": np.log(total_over(squares, span)) for span in (24, 120, 528)},
        **features,
    }
    states = pl.DataFrame({"symbol": ["BTC-USD"] * len(moves), **clocks, **values})
    bars = pl.DataFrame({**clocks, "close": 20_000.0 * np.exp(sums[1:])})
    return bars, states.with_columns(pl.col(list(values)).cast(pl.Float32).fill_nan(None))


def make_windows(states: pl.DataFrame, length: int) -> Windows:
    names = [name for name in states.columns if name not in ("symbol", "observed_at", "available_at")]
    return windows(states, length=length, timeframe=HOUR, features=names)


@pytest.fixture(scope="session")
def world() -> Callable[..., TrainingSet]:
    """Return a function that makes a labelled training set with a known signal in it."""

    def make(
        seed: int,
        *,
        hours: int = 3000,
        drift: float = 0.0,
        turbulence: float = 0.0,
        length: int = 24,
        horizon: int = 24,
        further: tuple[int, ...] = (),
    ) -> TrainingSet:
        bars, states = make_bars(seed, hours, drift, turbulence)
        return label(make_windows(states, length), {"BTC-USD": bars}, horizon=horizon, further=further)

    return make


@pytest.fixture(scope="session")
def made_of() -> Callable[..., TrainingSet]:
    """Return a function that makes a labelled training set of given log returns and features, by name."""

    def make(moves: np.ndarray, features: dict[str, np.ndarray], *, length: int = 24, horizon: int = 24) -> TrainingSet:
        bars, states = facts_of(moves, features)
        return label(make_windows(states, length), {"BTC-USD": bars}, horizon=horizon)

    return make


@pytest.fixture(scope="session")
def bars_and_states() -> Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]:
    """Return a function that makes the facts of a world without signal: bars, and the states known from them."""
    return lambda seed, hours: make_bars(seed, hours, 0.0, 0.0)


@pytest.fixture(scope="session")
def cut() -> Callable[[pl.DataFrame, int], Windows]:
    """Return a function that cuts windows from states."""
    return make_windows


def beside(name: str) -> ModuleType:
    """Return a module that lies beside this one, which is no package; what it needs is imported only now."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def straight_bundle() -> Callable[..., Path]:
    """Return a function that writes a bundle without training a network."""
    written: Callable[..., Path] = beside("straight").write_bundle
    return written


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Any]:
    """Return a redis-server that may go and come back."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (Debian: apt-get install redis-server)")
    server = beside("own_redis").Redis(tmp_path)
    yield server
    server.stop()
