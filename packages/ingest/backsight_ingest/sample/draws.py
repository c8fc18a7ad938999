"""Random numbers by name, so that a change in one part of the world leaves all others as they were."""

import numpy as np
import numpy.typing as npt
import polars as pl

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
TimeArray = npt.NDArray[np.datetime64]


def draws(seed: int, stream: str) -> np.random.Generator:
    """Return the generator of one named stream of a seed."""
    return np.random.default_rng([seed, *stream.encode()])


def keep(hours: float) -> float:
    """Return what is left after one hour of something that decays with the time constant ``hours``."""
    return float(np.exp(-1.0 / hours))


def decayed(x: FloatArray, hours: float) -> FloatArray:
    """Return ``y[u] = keep * y[u-1] + x[u]``, from ``y = 0`` before the first.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Hourly impulses.
    hours : float
        Time constant of the decay.
    """
    left = keep(hours)
    padded = pl.Series(np.concatenate([[0.0], x]))
    return padded.ewm_mean(alpha=1.0 - left, adjust=False).to_numpy()[1:] / (1.0 - left)


def wander(rng: np.random.Generator, n: int, hours: float) -> FloatArray:
    """Return ``n`` hours of a first-order autoregression of mean 0, variance 1 and time constant ``hours``."""
    left = keep(hours)
    steps = rng.standard_normal(n) * np.sqrt(1.0 - left**2)
    steps[0] /= np.sqrt(1.0 - left**2)
    return decayed(steps, hours)
