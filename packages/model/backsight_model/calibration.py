"""Are probabilities as frequent as they say, and do intervals hold what they promise."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray, IntArray, TimeArray
from backsight_model.instants import Instants
from backsight_model.proof import LEVEL, NORMAL, long_run_variance, widening

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often the price rose where P(up) was forecast, in k bins of equal count.

    Attributes
    ----------
    forecast, came : ndarray of shape (k,)
        Mean forecast and frequency.
    low, high : ndarray of shape (k,)
        95 % interval of the frequency (Wilson 1927), labels that overlap counted once.
    count : ndarray of shape (k,)
        Instants.
    error : float
        Mean distance of frequency and forecast, weighted by count.
    """

    forecast: FloatArray
    came: FloatArray
    low: FloatArray
    high: FloatArray
    count: IntArray
    error: float


def reliability(p_up: FloatArray, came_up: BoolArray, *, overlap: float, bins: int = 10) -> Reliability:
    """Return the reliability of P(up).

    Parameters
    ----------
    p_up, came_up : ndarray of shape (n,)
        Forecasts, and whether the price rose.
    overlap : float
        Samples that tell as much as one: the bars of a label's horizon, times the symbols of an instant.
    bins : int
        At most so many; fewer where forecasts repeat.
    """
    edges = np.unique(np.quantile(p_up, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, p_up, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(place)
    some = count > 0
    count = count[some]
    forecast = np.bincount(place, weights=p_up)[some] / count
    came = np.bincount(place, weights=came_up.astype(np.float64))[some] / count
    z, independent = NORMAL.inv_cdf(1 - LEVEL / 2), np.maximum(count / overlap, 1.0)
    center = (came + z**2 / (2 * independent)) / (1 + z**2 / independent)
    half = z / (1 + z**2 / independent) * np.sqrt(came * (1 - came) / independent + z**2 / (4 * independent**2))
    return Reliability(
        forecast=forecast,
        came=came,
        low=center - half,
        high=center + half,
        count=count,
        error=float(np.average(np.abs(came - forecast), weights=count)),
    )


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The probability integral transform of a density forecast: uniform where the density is right.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Forecast probability of less than what came.
    centre : float
        Mean of ``residual / deviation``: 0 where the forecast is centred, above where more came than was forecast.
    spread : float
        Its variance: 1 where the density is as wide as it should be, above where it is too narrow.
    centre_p, spread_p : float
        Two-sided p-values of a centre of 0 and a spread of 1.
    """

    values: FloatArray
    centre: float
    spread: float
    centre_p: float
    spread_p: float

    @property
    def words(self) -> str:
        """What is wrong with the density, from its two p-values."""
        faults = []
        if self.centre_p <= LEVEL:
            faults.append("too low" if self.centre > 0 else "too high")
        if self.spread_p <= LEVEL:
            faults.append("too narrow" if self.spread > 1 else "too wide")
        return " and ".join(faults) or "not contradicted"


def transform(residual: FloatArray, deviation: FloatArray, *, instants: Instants, lag: int) -> Transform:
    """Return the transform of a Gaussian forecast, with tests that allow for overlapping labels.

    Diebold, Gunther and Tay (1998). What is tested is its inverse normal, whose mean and variance are 0 and 1
    (Berkowitz 2001), with Newey-West errors for forecasts of several steps (Knüppel 2015).

    Parameters
    ----------
    residual : ndarray of shape (n,)
        What came minus the forecast's centre, in time order.
    deviation : ndarray of shape (n,)
        The forecast's standard deviation.
    instants : Instants
        Of the n forecasts; the mean over the symbols of an instant is what is tested.
    lag : int
        Lags counted, in instants.
    """
    from scipy.special import ndtr

    standard = residual / deviation
    averaged = instants.averaged(standard)
    centre = float(averaged.mean())
    squares = instants.averaged(np.square(standard - centre))
    return Transform(
        values=np.asarray(ndtr(standard), dtype=np.float64),
        centre=centre,
        spread=float(squares.mean()),
        centre_p=mean_is(averaged, 0.0, lag=lag),
        spread_p=mean_is(squares, 1.0, lag=lag),
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often what came lay in a central interval.

    Attributes
    ----------
    level : float
        What the interval promises.
    share : float
        How often it held.
    p_value : float
        Two-sided, of a share equal to the level.
    width : float
        Mean width, in the forecast's unit.
    count : int
        Instants.
    """

    level: float
    share: float
    p_value: float
    width: float
    count: int


def coverage(residual: FloatArray, radius: FloatArray, *, level: float, instants: Instants, lag: int) -> Coverage:
    """Return the unconditional coverage (Kupiec 1995) of ``forecast ± radius``, with a Newey-West error.

    Parameters
    ----------
    residual, radius : ndarray of shape (n,)
        What came minus the forecast, in time order, and half the interval's width.
    level : float
        What the interval promises.
    instants : Instants
        Of the n forecasts; the mean over the symbols of an instant is what is tested.
    lag : int
        Lags counted, in instants.
    """
    inside = instants.averaged(np.abs(residual) <= radius)
    return Coverage(
        level=level,
        share=float(inside.mean()),
        p_value=mean_is(inside, level, lag=lag),
        width=float(2 * radius.mean()),
        count=len(inside),
    )


def gaussian_radius(deviation: FloatArray, level: float) -> FloatArray:
    """Return half the width of the central interval of a Gaussian forecast, shape (n,)."""
    return NORMAL.inv_cdf(0.5 + level / 2) * deviation


def conformal_radius(
    residual: FloatArray,
    deviation: FloatArray,
    *,
    fold: IntArray,
    at: TimeArray,
    label_at: TimeArray,
    level: float,
) -> FloatArray:
    """Return half the width of split-conformal intervals, calibrated on the labels of past folds only.

    Vovk, Gammerman and Shafer (2005): the ``ceil((m + 1) level)``-th smallest of m past scores
    ``|residual| / deviation`` is exceeded by a new one with probability ``1 - level`` where old and new are
    exchangeable; where the world changes they are not, which the coverage shows.

    Parameters
    ----------
    residual, deviation : ndarray of shape (n,)
        In time order.
    fold : ndarray of shape (n,)
        From 1 and in time order.
    at, label_at : ndarray of shape (n,), datetime64[us]
        Instants of the forecasts, and from when on their labels were known: what was not known when a fold
        began calibrates nothing in it.
    level : float
        What the interval promises.

    Returns
    -------
    ndarray of shape (n,)
        NaN in the first fold, and wherever past labels are too few for the level.
    """
    radius = np.full(len(residual), np.nan)
    score = np.abs(residual) / deviation
    for number in np.unique(fold)[1:]:
        now = fold == number
        past = np.sort(score[label_at <= at[now].min()])
        place = ceil((len(past) + 1) * level)
        if 0 < place <= len(past):
            radius[now] = past[place - 1] * deviation[now]
    return radius


def mean_is(values: FloatArray, expected: float, *, lag: int) -> float:
    """Return the two-sided p-value of a mean, allowing for serial dependence as `proof.compare` does."""
    n = len(values)
    error = sqrt(long_run_variance(values, lag=lag) / n) * widening(lag, n)
    away = abs(float(values.mean()) - expected)
    if error == 0:
        return 1.0 if away == 0 else 0.0
    return 2.0 * (1.0 - NORMAL.cdf(away / error))


def intervals(
    residual: FloatArray,
    deviation: FloatArray,
    *,
    fold: IntArray,
    at: TimeArray,
    label_at: TimeArray,
    alone: Sequence[IntArray],
    lag: int,
    levels: Sequence[float] = LEVELS,
) -> tuple[tuple[Coverage, Coverage], ...]:
    """Return the coverage of Gaussian and conformal intervals on the same instants, one pair per level.

    Parameters
    ----------
    residual, deviation, fold, at, label_at
        See `conformal_radius`.
    alone : sequence of ndarray of int
        Places of the forecasts of each symbol: conformal intervals take their width from its own errors.
    lag : int
        Lags counted, in instants.
    levels : sequence of float
        What the intervals promise; a level that no fold had past labels enough for is left out.
    """
    found = []
    for level in levels:
        radius = np.full(len(residual), np.nan)
        for some in alone:
            radius[some] = conformal_radius(
                residual[some], deviation[some], fold=fold[some], at=at[some], label_at=label_at[some], level=level
            )
        both = np.isfinite(radius)
        if both.any():
            plain, instants = gaussian_radius(deviation, level), Instants.of(at[both])
            found.append(
                (
                    coverage(residual[both], plain[both], level=level, instants=instants, lag=lag),
                    coverage(residual[both], radius[both], level=level, instants=instants, lag=lag),
                )
            )
    return tuple(found)
