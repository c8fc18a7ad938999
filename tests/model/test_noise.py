"""No skill where there is none: worlds in which every claim would be false, and real bars with labels of other days."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from backsight_features.bars import BarSeries
from backsight_features.cli import cli
from backsight_features.lake import Lake
from backsight_features.workspace import Workspace
from backsight_model.provenance import provenance
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet, collect
from backsight_model.verdict import TARGETS, Verdict, decide, losses
from backsight_model.walk import walk
from click.testing import CliRunner

pytestmark = pytest.mark.prove

ROOT = Path(__file__).resolve().parents[2]
HORIZON, WARM_UP = 24, 600
USUAL, SHOCK, KEPT = 0.02, 0.08, 0.90
"""Of the variance of a move, as shares: what it always is, what the last move and what the last variance add to it."""
FREEDOM, SCALE = 5, 0.006
"""Of the t shocks, and the usual deviation of a move."""
Expected = Callable[[np.ndarray], np.ndarray]
SERIES = BarSeries.parse("binance:BTC-USDT:1h")


def shocks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return t shocks of unit variance."""
    return rng.standard_t(FREEDOM, shape) * np.sqrt((FREEDOM - 2) / FREEDOM)


def garch(rng: np.random.Generator, hours: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the moves of a GARCH(1, 1), and the variance of the move that follows each, in units of the usual one."""
    drawn = shocks(rng, hours)
    moves, variance = np.empty(hours), np.ones(hours + 1)
    for hour in range(hours):
        moves[hour] = np.sqrt(variance[hour]) * drawn[hour]
        variance[hour + 1] = USUAL + SHOCK * moves[hour] ** 2 + KEPT * variance[hour]
    return moves, variance[1:]


@pytest.fixture(scope="module")
def expected() -> Expected:
    """Return a function from the variance of the next move to the expected log of the sum of the next squared moves.

    The variance of the next move is all that the past says of what comes; of 10,000 ways to go on, the mean.
    """
    rng = np.random.default_rng(0)
    log_variance = np.linspace(-2.0, 5.0, 57)
    variance = np.repeat(np.exp(log_variance)[:, None], 10_000, axis=1)
    total = np.zeros_like(variance)
    for _ in range(HORIZON):
        squared = variance * shocks(rng, *variance.shape) ** 2
        total += squared
        variance = USUAL + SHOCK * squared + KEPT * variance
    mean = np.log(total).mean(axis=1)
    return lambda variance: np.interp(np.log(variance), log_variance, mean)


def noise(seed: int, hours: int, expected: Expected, made_of: Callable[..., TrainingSet]) -> TrainingSet:
    """Return a world in which the sign of a move is a toss, and a baseline knows all of its variance that can be known.

    HAR-X reads `range_1h`, in whose place the best forecast of log realised variance stands: intraday prices that give
    the variance away. So neither target holds anything for the model to find, but for what HAR-X loses by having to
    learn its weights.
    """
    rng = np.random.default_rng(seed)
    moves, variance = (values[WARM_UP:] for values in garch(rng, WARM_UP + hours))
    wandering = {f"wandering_{number}": 0.1 * rng.standard_normal(hours).cumsum() for number in range(2)}
    nothing = {f"nothing_{number}": rng.standard_normal(hours) for number in range(4)}
    return made_of(SCALE * moves, {"range_1h": expected(variance), **wandering, **nothing}, horizon=HORIZON)


def judged(data: TrainingSet, *, settings: Settings, seed: int) -> Verdict:
    day = timedelta(hours=data.horizon)
    made = walk(data, folds=2, embargo=day, settings=settings, seed=seed, done=lambda fold: None)
    return decide(losses(data, made, service="all"))


def test_no_forecast_is_better_than_the_one_that_the_baseline_is_given(
    expected: Expected, made_of: Callable[..., TrainingSet]
) -> None:
    data = noise(1, 60_000, expected, made_of)
    error = data.log_rv - data.newest("range_1h") - 2 * np.log(SCALE)
    assert abs(error.mean()) < 0.02
    for name in data.windows.features:
        assert abs(np.corrcoef(error, data.newest(name))[0, 1]) < 0.03, name


def test_noise_rarely_gives_skill(expected: Expected, made_of: Callable[..., TrainingSet]) -> None:
    claimed = dict.fromkeys(TARGETS, 0)
    skilled = 0
    for seed in range(100):
        verdict = judged(noise(seed, 5_000, expected, made_of), settings=Settings(members=1, epochs=4), seed=seed)
        skilled += verdict.skill
        for target, proven in verdict.proven.items():
            claimed[target] += proven
    print(f"{skilled} of 100 noise worlds claimed skill: {claimed}")
    assert skilled <= 5


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Return a year and a half of real hours."""
    from backsight_features.store import Store

    workspace = Workspace(root=tmp_path_factory.mktemp("home"))
    file = shared_data / "ohlcv" / "binance_BTCUSDT_1h_2017-2024.csv.gz"
    if not file.is_file():
        pytest.skip(f"needs {file}, which is not part of the project")
    for asked in (("pull", "dump", "--layout", "binance-1h", str(file)), ("build", "--bars", str(SERIES))):
        done = CliRunner().invoke(cli, ["--home", str(workspace.root), *asked, "--json"], catch_exceptions=False)
        assert json.loads(done.output.splitlines()[-1])
    store = Store(ROOT / "feature_repo", workspace)
    store.apply()
    origin = provenance(workspace.features, Lake(workspace.lake), [SERIES])
    return collect(
        store,
        origin.facts,
        [SERIES],
        service="price_1h",
        length=48,
        horizon=HORIZON,
        first_at=datetime(2021, 1, 1, tzinfo=UTC),
        last_at=datetime(2022, 7, 1, tzinfo=UTC),
    )


def shuffled(data: TrainingSet, seed: int) -> TrainingSet:
    """Return the samples with the labels of other times.

    Labels move in stretches of five to ten days, so that they overlap and cluster as before; stretches of unequal
    length take them to other hours and weekdays as well, which a clock would know.
    """
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.integers(120, 240, len(data) // 120))
    parts = np.split(np.arange(len(data)), edges[edges < len(data)])
    order = np.concatenate([parts[number] for number in rng.permutation(len(parts))])
    return replace(data, log_rv=data.log_rv[order], log_return=data.log_return[order])


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_of_real_bars_give_no_skill(real: TrainingSet, seed: int) -> None:
    assert len(real) > 12_000
    verdict = judged(shuffled(real, seed), settings=Settings(), seed=seed)
    print(*verdict.sentences, sep="\n")
    assert verdict.word == "no skill"
    assert not any(verdict.proven.values())
