"""Variance forecasts: each formula against a plain loop or its library, and none that knows the future."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from arch import arch_model
from backsight_features.windows import Windows
from backsight_model.training import TrainingSet
from backsight_model.volatility import DECAY, Garch, Returns, bar_returns, ewma, fit_garch, har_levels

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = np.datetime64("2024-01-01T00:00:00", "us")


def returns_of(values: np.ndarray, step: timedelta = HOUR) -> Returns:
    closes = START + np.arange(1, len(values) + 1) * np.timedelta64(step // timedelta(microseconds=1), "us")
    return Returns(closes=closes, values=values, step=step)


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Returns whose variance follows a GJR-GARCH with known parameters."""
    rng = np.random.default_rng(seed)
    variance, made = 1.0, np.empty(count)
    for bar in range(count):
        made[bar] = np.sqrt(variance) * rng.standard_normal()
        variance = 0.05 + (0.05 + 0.1 * (made[bar] < 0)) * made[bar] ** 2 + 0.85 * variance
    return 0.01 * made


@pytest.mark.parametrize(("step", "decay"), [(DAY, 0.94), (timedelta(hours=12), 0.94**0.5), (HOUR, 0.94 ** (1 / 24))])
def test_ewma_is_the_weighted_mean_of_the_squares_times_the_horizon(step: timedelta, decay: float) -> None:
    values = clustered(20)
    forecast = ewma(returns_of(values, step), horizon=6)
    for bar in range(20):
        weights = [decay**age for age in range(bar + 1)]
        squares = [values[bar - age] ** 2 for age in range(bar + 1)]
        wanted = 6 * sum(w * s for w, s in zip(weights, squares, strict=True)) / sum(weights)
        assert forecast[bar] == pytest.approx(wanted, rel=1e-12)
    assert DECAY == 0.94


@pytest.fixture(scope="module")
def fitted() -> tuple[Returns, Garch]:
    returns = returns_of(clustered(3000))
    return returns, fit_garch(returns)


def test_the_filter_is_that_of_arch(fitted: tuple[Returns, Garch]) -> None:
    returns, garch = fitted
    shocks = returns.values / (garch.scale * garch.season[returns.slots])
    model = arch_model(shocks, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    fixed = model.fix([garch.omega, garch.alpha, garch.gamma, garch.beta, 5.0])
    theirs = np.square(np.asarray(fixed.conditional_volatility))
    # Of the variance before the first bar arch makes a guess of its own: start from where it starts.
    ours = garch.filtered(returns, start=theirs[0])
    np.testing.assert_allclose(ours[:-1], theirs[1:], rtol=1e-9)
    steps = np.asarray(fixed.forecast(horizon=24, reindex=False).variance)[-1]
    season = np.square(garch.season[(returns.slots[-1] + np.arange(1, 25)) % 24])
    assert garch.ahead(returns, horizon=24)[-1] == pytest.approx(garch.scale**2 * season @ steps, rel=1e-6)


def test_what_was_put_in_comes_out(fitted: tuple[Returns, Garch]) -> None:
    _, garch = fitted
    assert garch.converged
    assert garch.alpha + garch.gamma / 2 == pytest.approx(0.1, abs=0.03)
    assert garch.beta == pytest.approx(0.85, abs=0.05)
    assert garch.persistence == pytest.approx(0.95, abs=0.03)
    assert garch.scale == pytest.approx(0.01, rel=0.15)


def test_a_rhythm_of_the_day_is_found_and_forecast() -> None:
    values = clustered(24 * 200)
    loud = np.arange(len(values)) % 24 == 5
    garch = fit_garch(returns_of(np.where(loud, 3 * values, values)))
    assert np.argmax(garch.season) == 5
    assert garch.season[5] / np.median(garch.season) == pytest.approx(3.0, rel=0.2)
    next_bar = garch.ahead(returns_of(np.where(loud, 3 * values, values)), horizon=1)
    assert np.median(next_bar[4::24]) > 5 * np.median(next_bar[5::24])


def test_har_in_levels_is_least_squares_with_a_floor() -> None:
    past = np.array([[1.0], [2.0], [3.0], [4.0], [-9.0]])
    realised = np.array([3.0, 5.0, 7.0, 9.0, np.nan])
    forecast = har_levels(past, realised, train=np.arange(4))
    np.testing.assert_allclose(forecast, [3.0, 5.0, 7.0, 9.0, 3.0])


def test_returns_are_those_first_known_in_time(
    cut: Callable[..., Windows], bars_and_states: Callable[..., tuple]
) -> None:
    _, states = bars_and_states(3, 700)
    whole = cut(states, 24)
    returns = bar_returns(whole)
    np.testing.assert_array_equal(returns.values, states["ret_log_1h"].to_numpy().astype(np.float64))
    assert returns.place(whole.observed_at).tolist() == list(range(700))
    # Bar 300 came after bar 301: what goes from bar to bar must do without it.
    known = whole.row_available_at.copy()
    known[300] += np.timedelta64(2, "h")
    late = bar_returns(replace(whole, row_available_at=known))
    np.testing.assert_array_equal(late.values, np.delete(returns.values, 300))
    np.testing.assert_array_equal(late.closes, np.delete(returns.closes, 300))


def test_no_forecast_changes_when_the_future_does(world: Callable[..., TrainingSet]) -> None:
    data = world(0, hours=1500)
    returns = bar_returns(data.windows)
    garch = fit_garch(replace(returns, closes=returns.closes[:500], values=returns.values[:500]))
    values = returns.values.copy()
    values[700:] *= -7.0
    other = replace(returns, values=values)
    for forecast in (lambda of: ewma(of, horizon=24), lambda of: garch.ahead(of, horizon=24)):
        np.testing.assert_array_equal(forecast(returns)[:700], forecast(other)[:700])
        assert (forecast(returns)[700:] != forecast(other)[700:]).any()
