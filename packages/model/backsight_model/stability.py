"""Does a gain hold in every fold, in calm and in turbulent markets, and with every seed."""

from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import FloatArray, IntArray
from backsight_model.proof import LEVEL, NORMAL, long_run_variance, widening

TERCILES = ("calm", "middling", "turbulent")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The gain on a reference in one part of the tested instants.

    Attributes
    ----------
    name : str
    count : int
        Instants.
    skill, low, high : float
        Gain as a share of the reference's loss in this part, and its 95 % interval.
    """

    name: str
    count: int
    skill: float
    low: float
    high: float


def by_part(
    losses: FloatArray, reference: FloatArray, part: IntArray, names: tuple[str, ...], *, lag: int
) -> tuple[Part, ...]:
    """Return the gain in each part; parts without an instant are left out.

    The mean over a part is a ratio of sums over all instants, so that the serial dependence is that of the
    whole series and not of its pieces put end to end.

    Parameters
    ----------
    losses, reference : ndarray of shape (n,)
        Of the model and of what it is compared with, in time order.
    part : ndarray of shape (n,)
        Which of `names` an instant belongs to.
    names : tuple of str
    lag : int
        Lags counted, in rows.
    """
    found = []
    for number, name in enumerate(names):
        here = part == number
        count = int(here.sum())
        if count == 0:
            continue
        difference, level = reference - losses, float(reference[here].mean())
        gain = float(difference[here].mean())
        score = np.where(here, difference - gain, 0.0)
        error = float(np.sqrt(len(here) * long_run_variance(score, lag=lag))) / count * widening(lag, count)
        half = NORMAL.inv_cdf(1 - LEVEL / 2) * error
        scale = abs(level) or 1.0
        found.append(
            Part(name=name, count=count, skill=gain / scale, low=(gain - half) / scale, high=(gain + half) / scale)
        )
    return tuple(found)


def terciles(values: FloatArray) -> IntArray:
    """Return 0, 1 or 2 for the lowest, middle and highest third of `values`, shape (n,)."""
    return np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values, side="right").astype(np.int64)


def lag_correlation(forecast: FloatArray, moves: FloatArray, at: IntArray, lags: IntArray) -> FloatArray:
    """Return the correlation of a forecast with the move that began some bars later, for each lag.

    At lag 0 it is the move that was forecast, at minus the horizon the one that had just ended. A forecast
    that peaks there repeats what was.

    Parameters
    ----------
    forecast : ndarray of shape (n,)
    moves : ndarray of shape (n,)
        What came over the horizon from each instant.
    at : ndarray of shape (n,)
        Number of the bar of each instant, ascending.
    lags : ndarray of shape (k,)
        In bars.

    Returns
    -------
    ndarray of shape (k,)
        0 where either is constant, or fewer than 3 pairs exist.
    """
    found = np.zeros(len(lags))
    for place, lag in enumerate(lags):
        _, here, there = np.intersect1d(at + lag, at, assume_unique=True, return_indices=True)
        one, other = forecast[here], moves[there]
        if len(here) >= 3 and one.std() > 0 and other.std() > 0:
            found[place] = np.corrcoef(one, other)[0, 1]
    return found
