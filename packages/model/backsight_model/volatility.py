"""Forecasts of variance that econometricians would make from the returns alone: EWMA, GARCH, HAR in levels.

Each forecasts the mean of the realised variance of the next bars, at every sample, from what was known then.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from backsight_features.windows import Windows
from scipy.signal import lfilter

from backsight_model.arrays import FloatArray, IntArray, TimeArray
from backsight_model.baselines import LAST_BAR

DAY = timedelta(days=1)
DECAY = 0.94
"""Of RiskMetrics (J.P. Morgan 1996), for one day."""


@dataclass(frozen=True, kw_only=True)
class Returns:
    """The log returns of k bars in time order; a bar that is missing is no entry, and no time passes in it.

    Attributes
    ----------
    closes : ndarray of shape (k,), datetime64[us]
        When each bar closed.
    values : ndarray of shape (k,)
    step : timedelta
        Length of a bar.
    """

    closes: TimeArray
    values: FloatArray
    step: timedelta

    @property
    def slots(self) -> IntArray:
        """Place of each bar in its day, from 0: shape (k,). All 0 where bars are as long as days or longer."""
        return _slots(self.closes, self.step)

    @property
    def per_day(self) -> int:
        """How many places in a day there are."""
        return max(1, DAY // self.step)

    def place(self, closes: TimeArray) -> IntArray:
        """Return the place of the newest entry at each close: shape (n,); 0 where there is none yet."""
        return np.maximum(np.searchsorted(self.closes, closes, side="right") - 1, 0)


def bar_returns(windows: Windows) -> Returns:
    """Return the returns that the windows of one symbol show, each as it was first known; rows of others are not read.

    A bar that came only after its successor is left out: a filter that runs from bar to bar would know it
    before it was there. So is a later correction.
    """
    step = windows.timeframe // timedelta(microseconds=1)
    closes = np.full(len(windows.rows), np.iinfo(np.int64).min)
    ends = windows.observed_at.astype("datetime64[us]").astype(np.int64)
    for lag in range(windows.index.shape[1]):
        closes[windows.index[:, -1 - lag]] = ends - lag * step
    closes, known = closes[:-1], windows.row_available_at.astype("datetime64[us]").astype(np.int64)
    order = np.lexsort((known, closes))
    first = order[np.unique(closes[order], return_index=True)[1]]
    first = first[closes[first] > np.iinfo(np.int64).min]
    soonest = np.minimum.accumulate(known[first][::-1])[::-1]
    values = windows.rows[first, windows.features.index(LAST_BAR)].astype(np.float64)
    usable = (known[first] <= soonest) & np.isfinite(values)
    return Returns(closes=closes[first][usable].astype("datetime64[us]"), values=values[usable], step=windows.timeframe)


def ewma(returns: Returns, *, horizon: int) -> FloatArray:
    """Return the exponentially weighted variance after each bar, over the next `horizon` bars: shape (k,).

    RiskMetrics (J.P. Morgan 1996) forgets 6 % in a day: its lambda of .94 becomes ``.94 ** (bar / day)`` for a
    shorter bar, so that the same days count as much, and the variance of one bar is multiplied by the horizon::

        horizon * sum(lambda ** i * r[t - i] ** 2) / sum(lambda ** i)
    """
    decay = DECAY ** (returns.step / DAY)
    weighted = lfilter([1.0], [1.0, -decay], np.square(returns.values))
    weights = (1.0 - decay ** np.arange(1, len(weighted) + 1)) / (1.0 - decay)
    return np.asarray(horizon * weighted / weights, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Garch:
    """GJR-GARCH(1, 1) with t-distributed shocks, of returns without their rhythm within the day.

    With x the return over `scale` and over the season of its place in the day, the variance of the next x is
    ``omega + (alpha + gamma * (x < 0)) * x ** 2 + beta * variance`` (Glosten, Jagannathan and Runkle 1993;
    the season as in Andersen and Bollerslev 1997).

    Attributes
    ----------
    omega, alpha, gamma, beta : float
    scale : float
        Root mean square of the training returns without their season.
    season : ndarray of shape (s,)
        Root mean square of the training returns at each place in the day, over that of all.
    converged : bool
        Whether the optimiser said that it had arrived.
    """

    omega: float
    alpha: float
    gamma: float
    beta: float
    scale: float
    season: FloatArray
    converged: bool

    @property
    def persistence(self) -> float:
        """By how much a variance above its mean is still above it one bar later: half of the shocks are falls."""
        return self.alpha + 0.5 * self.gamma + self.beta

    def filtered(self, returns: Returns, *, start: float = 1.0) -> FloatArray:
        """Return the variance forecast for the bar after each bar, in units of `scale` without season: shape (k,).

        `start` is the variance of the first bar.
        """
        shocks = returns.values / (self.scale * self.season[returns.slots])
        news = self.omega + (self.alpha + self.gamma * (shocks < 0)) * np.square(shocks)
        return np.asarray(lfilter([1.0], [1.0, -self.beta], news, zi=[self.beta * start])[0], dtype=np.float64)

    def ahead(self, returns: Returns, *, horizon: int) -> FloatArray:
        """Return the variance over the `horizon` bars after each bar: shape (k,), squared log returns.

        The sum of the forecasts of 1 to `horizon` bars ahead, each of which goes on from the one before by
        ``omega + persistence * variance`` and has the season of its place in the day.
        """
        variance, slots = self.filtered(returns), returns.slots
        total = np.zeros_like(variance)
        for ahead in range(1, horizon + 1):
            total += np.square(self.season[(slots + ahead) % returns.per_day]) * variance
            variance = self.omega + self.persistence * variance
        return np.asarray(total * self.scale**2, dtype=np.float64)


def fit_garch(returns: Returns) -> Garch:
    """Return the model that makes some training returns likeliest; `arch` finds it (Sheppard 2024)."""
    from arch import arch_model  # takes a second, and most of this module does without

    slots, squares = returns.slots, np.square(returns.values)
    count = np.bincount(slots, minlength=returns.per_day)
    # One pseudo-count of the mean square: a place in the day that never moved would divide by zero.
    mean = (np.bincount(slots, weights=squares, minlength=returns.per_day) + squares.mean()) / (count + 1)
    season = np.sqrt(mean / squares.mean())
    plain = returns.values / season[slots]
    scale = float(np.sqrt(np.square(plain).mean()))
    model = arch_model(plain / scale, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    found = model.fit(disp="off", show_warning=False)
    omega, alpha, gamma, beta = (float(found.params[name]) for name in ("omega", "alpha[1]", "gamma[1]", "beta[1]"))
    return Garch(
        omega=omega,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        scale=scale,
        season=season,
        converged=bool(found.convergence_flag == 0),
    )


def har_levels(past: FloatArray, realised: FloatArray, *, train: IntArray) -> FloatArray:
    """Return the forecast of HAR on variances, not on their logs (Corsi 2009), at every sample: shape (n,).

    Least squares with an intercept. A forecast below all that training saw becomes the least that it saw
    (Bollerslev, Patton and Quaedvlieg 2016): a line can go below zero, a variance cannot.

    Parameters
    ----------
    past : ndarray of shape (n, k)
        Realised variances of the last day, week, month.
    realised : ndarray of shape (n,)
        What came; only that of `train` is read.
    train : ndarray of int
        Sample numbers.
    """
    unit = realised[train].mean()
    terms = np.column_stack([np.ones(len(past)), past / unit])
    weights = np.linalg.lstsq(terms[train], realised[train] / unit, rcond=None)[0]
    return np.asarray(np.maximum(unit * (terms @ weights), realised[train].min()), dtype=np.float64)


def _slots(closes: TimeArray, step: timedelta) -> IntArray:
    opened = closes.astype("datetime64[us]").astype(np.int64) // (step // timedelta(microseconds=1)) - 1
    return np.asarray(opened % max(1, DAY // step), dtype=np.int64)
