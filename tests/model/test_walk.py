"""The walk finds what was planted, finds nothing in noise, and learns from the past only."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from backsight_features.windows import Windows
from backsight_model.linear import OUTPUTS
from backsight_model.quantiles import LEVELS
from backsight_model.settings import Settings
from backsight_model.splits import walk_forward
from backsight_model.training import TrainingSet, label
from backsight_model.verdict import Verdict, decide, losses
from backsight_model.walk import MODEL, Walk, learn, walk

DAY = timedelta(hours=24)
SMALL = Settings(members=1, epochs=2, units=4, projection=4)
World = Callable[..., TrainingSet]


def walked(data: TrainingSet, seed: int = 1) -> Walk:
    return walk(data, folds=2, embargo=DAY, settings=SMALL, seed=seed, done=lambda fold: None)


def judged(data: TrainingSet, made: Walk) -> Verdict:
    return decide(losses(data, made, service="all"))


@pytest.mark.slow
def test_a_planted_signal_is_found(world: World) -> None:
    data = world(5, hours=6000, drift=0.2, turbulence=0.7)
    verdict = judged(data, walked(data))
    assert verdict.proven == {"volatility": True, "direction": True, "return": True}
    assert verdict.word == "skill"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.prove)])
def test_noise_gives_no_skill(world: World, seed: int) -> None:
    data = world(seed, hours=5000)
    verdict = judged(data, walked(data))
    assert verdict.proven == {"volatility": False, "direction": False, "return": False}
    assert verdict.word == "no skill"


@pytest.fixture(scope="module")
def short(world: World) -> TrainingSet:
    return world(0, hours=1600, drift=0.2)


@pytest.fixture(scope="module")
def over_short(short: TrainingSet) -> Walk:
    return walked(short, seed=1)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(short: TrainingSet, over_short: Walk) -> None:
    one, same, other = over_short, walked(short, seed=1), walked(short, seed=2)
    for name in one.p_up:
        np.testing.assert_array_equal(one.p_up[name], same.p_up[name])
    for name in one.log_rv:
        np.testing.assert_array_equal(one.log_rv[name], same.log_rv[name])
    assert (one.p_up[MODEL] != other.p_up[MODEL]).any()


@pytest.mark.slow
def test_nothing_of_the_test_part_is_learnt(short: TrainingSet) -> None:
    fold = walk_forward(short.at, short.label_at, folds=2, embargo=DAY)[0]
    seen = np.unique(short.windows.index[fold.train])
    unseen = np.setdiff1d(np.arange(len(short.windows.rows) - 1), seen)
    rows, log_rv, log_return = short.windows.rows.copy(), short.log_rv.copy(), short.log_return.copy()
    rows[unseen] *= 1000
    others = np.setdiff1d(np.arange(len(short)), fold.train)
    log_rv[others], log_return[others] = 99.0, -log_return[others]
    changed = replace(short, windows=replace(short.windows, rows=rows), log_rv=log_rv, log_return=log_return)
    one, other = (learn(data, fold, settings=SMALL, seed=3) for data in (short, changed))
    assert one.scaler.to_json() == other.scaler.to_json()
    assert one.har.to_json() == other.har.to_json()
    assert one.harx.to_json() == other.harx.to_json()
    assert one.residual_scale == other.residual_scale
    np.testing.assert_array_equal(one.scaled_quantiles, other.scaled_quantiles)
    np.testing.assert_array_equal(one.line.weights, other.line.weights)
    for weight, same in zip(one.network.model.get_weights(), other.network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.slow
def test_every_forecaster_speaks_at_every_instant(short: TrainingSet, over_short: Walk) -> None:
    made = over_short
    econometric = {"persistence", "EWMA", "GARCH", "HAR", "log-HAR", "HAR-X"}
    assert set(made.log_rv) == set(made.below_mean) == {*econometric, "LightGBM", "linear", MODEL}
    assert set(made.p_up) == {"base rate", "persistence", "one-bar reversal", "LightGBM", "logistic", MODEL}
    assert set(made.quantiles) == {"persistence", "HAR-X", "linear", MODEL}
    for quantiles in made.quantiles.values():
        assert quantiles.shape == (len(made.samples), len(LEVELS))
        assert (np.diff(quantiles, axis=1) >= 0).all()
    for forecasts in (*made.log_rv.values(), *made.p_up.values()):
        assert forecasts.shape == made.samples.shape
        assert np.isfinite(forecasts).all()
    assert all(((forecasts > 0) & (forecasts < 1)).all() for forecasts in made.p_up.values())
    assert (np.diff(short.at[made.samples]) > np.timedelta64(0)).all()
    # One member is the network.
    np.testing.assert_allclose(made.by_seed["volatility"], made.log_rv[MODEL][None], atol=1e-5)
    np.testing.assert_allclose(made.by_seed["direction"], made.p_up[MODEL][None], atol=1e-5)
    np.testing.assert_allclose(made.by_seed["return"], made.quantiles[MODEL][None], atol=1e-6)


@pytest.mark.slow
def test_no_forecast_knows_what_came(short: TrainingSet) -> None:
    fold = walk_forward(short.at, short.label_at, folds=1, embargo=DAY)[0]
    half = fold.test[: len(fold.test) // 2]
    # All labels that were not learnt from, and every bar that came after the first half of the test block.
    rows, log_rv, log_return = short.windows.rows.copy(), short.log_rv.copy(), short.log_return.copy()
    others = np.setdiff1d(np.arange(len(short)), fold.train)
    log_rv[others], log_return[others] = 99.0, -np.abs(log_return[others])
    rows[short.windows.index[half[-1], -1] + 1 : -1] *= -7
    changed = replace(short, windows=replace(short.windows, rows=rows), log_rv=log_rv, log_return=log_return)
    one, other = (
        walk(data, folds=1, embargo=DAY, settings=SMALL, seed=3, done=lambda fold: None) for data in (short, changed)
    )
    for said in ("log_rv", "p_up", "quantiles", "below_mean"):
        same = getattr(other, said)
        for name, forecast in getattr(one, said).items():
            np.testing.assert_array_equal(forecast[: len(half)], same[name][: len(half)])
    for name, forecast in one.log_rv.items():
        assert (forecast != other.log_rv[name]).any(), f"{name} does not read the bars that came"
    np.testing.assert_array_equal(one.clock_up, other.clock_up)


@pytest.mark.slow
def test_bars_that_came_after_the_newest_label_of_any_horizon_teach_nothing(
    bars_and_states: Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]], cut: Callable[..., Windows]
) -> None:
    bars, states = bars_and_states(0, 1500)
    data = label(cut(states, 8), {"BTC-USD": bars}, horizon=6, further=(72,))
    fold = walk_forward(data.at, data.label_at, folds=2, embargo=3 * DAY)[0]
    newest = data.label_at[fold.train].max()
    assert newest == data.at[fold.train[-1]] + np.timedelta64(72, "h") <= fold.start - np.timedelta64(72, "h")
    later = pl.col("available_at").dt.replace_time_zone(None) > pl.lit(newest)
    tampered = bars.with_columns(pl.when(later).then(pl.col("close") ** 1.5).otherwise("close").alias("close"))
    other = label(cut(states, 8), {"BTC-USD": tampered}, horizon=6, further=(72,))
    assert all((one.log_rv != same.log_rv).any() for one, same in zip(data.views, other.views, strict=True))
    honest, changed = (learn(each, fold, settings=SMALL, seed=3) for each in (data, other))
    for one, same in zip(honest.views, changed.views, strict=True):
        assert one.harx.to_json() == same.harx.to_json()
        np.testing.assert_array_equal(one.line.weights, same.line.weights)
        np.testing.assert_array_equal(one.scaled_quantiles, same.scaled_quantiles)
    assert honest.network.model.output_shape == (None, 2 * OUTPUTS)
    for weight, same in zip(honest.network.model.get_weights(), changed.network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
