"""Means with intervals that hold at all instants at once: one may look after every bar, and act on what is seen.

Looked at after every bar, a test at 5 % finds something sooner or later in nothing. With 95 % none of these intervals
ever leaves out the true mean, however often one looks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.proof import LEVEL, long_run_variance, widening

BLOCKS: Final = 10
"""Horizons of outcomes below which nothing is said."""
TIGHTEST: Final = 100
"""Horizons at which the intervals are as narrow as they can be made for one instant."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with an interval that holds at all instants at once.

    Attributes
    ----------
    what : str
    mean, low, high : float
    blocks : int
        Horizons of outcomes that it rests on.
    """

    what: str
    mean: float
    low: float
    high: float
    blocks: int

    @property
    def words(self) -> str:
        """The mean, its interval, and what it rests on."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] over {self.blocks} horizons"


def over_horizons(what: str, values: FloatArray, horizon: int) -> Interval | None:
    """Return the mean of values whose labels overlap: the mean over each horizon is one value.

    Parameters
    ----------
    what : str
    values : ndarray of shape (n,)
        In time order, one a bar.
    horizon : int
        Bars that a label reaches ahead.

    Returns
    -------
    Interval or None
        None where there are fewer than `BLOCKS` horizons.
    """
    whole = len(values) // horizon
    if whole < BLOCKS:
        return None
    blocks = values[: whole * horizon].reshape(whole, horizon).mean(axis=1)
    low, high = always(blocks)
    return Interval(what=what, mean=float(blocks.mean()), low=low, high=high, blocks=whole)


def always(values: FloatArray, *, level: float = LEVEL) -> tuple[float, float]:
    """Return bounds of a mean that, looked at after each value, hold all the time with probability 1 - level.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, theorem 2.2), narrowest
    after `TIGHTEST` values. In the place of the variance of independent values stands the long-run one (Newey and West
    1987), no smaller than that: neighbouring horizons share outcomes, and a volatility that stays away from its mean
    for weeks makes errors that do.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In time order, 2 or more.
    level : float
        Chance that the true mean is ever outside.

    Examples
    --------
    >>> low, high = always(np.tile([0.0, 1.0], 50))
    >>> round(low, 1), round(high, 1)
    (0.3, 0.7)
    """
    n = len(values)
    rho2 = (-2 * np.log(level) + np.log(-2 * np.log(level)) + 1) / TIGHTEST
    width = np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / level))
    lag = int(4 * (n / 100) ** (2 / 9))  # as many lags as Newey and West (1994) begin with
    variance = max(float(values.var()), long_run_variance(values, lag=lag))
    half = float(np.sqrt(variance) * widening(lag, n) * width)
    return float(values.mean()) - half, float(values.mean()) + half
