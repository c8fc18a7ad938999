"""Hourly bars: a volatility with long and short memory, a daily rhythm, and the planted drift."""

from dataclasses import dataclass

import numpy as np

from backsight_ingest.sample.draws import FloatArray, IntArray, draws, wander

DAILY_VOLATILITY = 0.02
SLOW_HOURS, SLOW_SCALE = 240.0, 0.55
FAST_HOURS, FAST_SCALE = 10.0, 0.35
STEPS = 12
"""Five-minute steps in an hour, for high and low."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The part of the log variance that nothing published explains; arrays of shape (n,).

    Parameters
    ----------
    slow, fast : ndarray
        Autoregressions of variance 1.
    rhythm : ndarray
        The share of the hour of the day and of the weekend.
    """

    slow: FloatArray
    fast: FloatArray
    rhythm: FloatArray

    def level(self) -> FloatArray:
        """Return the log variance of an hour."""
        return log_level(self.slow, self.fast, self.rhythm)


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Hourly bars, arrays of shape (n,): prices in quote units, volume in base units, row u opens at hour u."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


def log_level(slow: FloatArray, fast: FloatArray, rhythm: FloatArray) -> FloatArray:
    """Return the log variance of an hour from its parts."""
    spread = (SLOW_SCALE**2 + FAST_SCALE**2) / 2.0
    return np.asarray(np.log(DAILY_VOLATILITY**2 / 24.0) - spread + SLOW_SCALE * slow + FAST_SCALE * fast + rhythm)


def base(seed: int, hour_of_week: IntArray) -> Base:
    """Return the base volatility of each hour.

    Parameters
    ----------
    seed : int
        Of the world.
    hour_of_week : ndarray of shape (n,)
        0 is Monday midnight UTC.
    """
    rng, n = draws(seed, "volatility"), len(hour_of_week)
    day = 0.35 * np.cos(2.0 * np.pi * (hour_of_week % 24 - 15) / 24.0)
    weekend = np.where(hour_of_week >= 120, -0.35, 0.0)
    return Base(slow=wander(rng, n, SLOW_HOURS), fast=wander(rng, n, FAST_HOURS), rhythm=day + weekend)


def noise(seed: int, n: int) -> FloatArray:
    """Return what each step of ``n`` hours has of its own, shape (n, STEPS); an hour's sum has variance 1."""
    return np.asarray(draws(seed, "returns").standard_normal((n, STEPS)) / np.sqrt(STEPS))


def bars(seed: int, drift: FloatArray, log_variance: FloatArray, noise: FloatArray, *, first_price: float) -> Bars:
    """Return the bars that follow from the hourly drift and log variance.

    Parameters
    ----------
    seed : int
        Of the world.
    drift : ndarray of shape (n,)
        Mean of the hourly log return in units of its volatility.
    log_variance : ndarray of shape (n,)
        Of the hourly log return.
    noise : ndarray of shape (n, STEPS)
        See `noise`.
    first_price : float
        Open of the first bar.
    """
    rng, n = draws(seed, "volume"), len(drift)
    steps = np.exp(log_variance / 2.0)[:, None] * (drift[:, None] / STEPS + noise)
    path = np.log(first_price) + np.cumsum(steps.ravel()).reshape(n, STEPS)
    opening = np.concatenate([[np.log(first_price)], path[:-1, -1]])
    inside = np.exp(np.column_stack([opening, path]))
    volume = np.exp(4.2 + 0.45 * (log_variance - log_variance.mean()) + 0.35 * rng.standard_normal(n))
    return Bars(
        open=inside[:, 0].round(2),
        high=inside.max(axis=1).round(2),
        low=inside.min(axis=1).round(2),
        close=inside[:, -1].round(2),
        volume=volume.round(6),
    )
