"""Tests of forecasting skill that stay honest when labels overlap and claims are many."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray, IntArray, TimeArray
from backsight_model.instants import Instants

NORMAL = NormalDist()
LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One paired comparison of losses on the same instants; positive means the model is better.

    Attributes
    ----------
    model, reference : str
        Names of the two forecasters.
    count : int
        Number of instants.
    loss, reference_loss : float
        Mean losses.
    gain : float
        Mean of reference loss minus model loss.
    low, high : float
        Two-sided 95 % confidence interval of `gain`.
    p_value : float
        One-sided: how often a model no better than the reference would gain this much.
    detectable : float
        Smallest true gain that this sample would have shown at the 5 % level in 80 % of the cases.
    """

    model: str
    reference: str
    count: int
    loss: float
    reference_loss: float
    gain: float
    low: float
    high: float
    p_value: float
    detectable: float

    @property
    def skill(self) -> float:
        """Gain as a share of the reference loss."""
        return self.gain / abs(self.reference_loss) if self.reference_loss else 0.0


@dataclass(frozen=True, kw_only=True)
class Directional:
    """Do forecast signs go with the signs that came.

    Attributes
    ----------
    accuracy : float
        Share of signs that were right.
    statistic : float
        t statistic of the association, robust to overlap; 0 where all forecasts have one sign.
    p_value : float
        One-sided.
    detectable : float
        Smallest excess accuracy over chance (as a share) that this sample would have shown at the 5 %
        level in 80 % of the cases.
    """

    accuracy: float
    statistic: float
    p_value: float
    detectable: float


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence about skill that the data may support.

    Attributes
    ----------
    name : str
        Short key: ``volatility``, ``direction``, ``volatility: full beats price-only``…
    comparisons : tuple of Comparison
        All of them must hold for the claim to hold.
    p_value : float
        Largest p-value of the comparisons: a claim that needs all of several tests to reject needs no
        correction inside itself (intersection-union test, Berger 1982).
    adjusted : float
        `p_value` corrected for the number of claims made together.
    """

    name: str
    comparisons: tuple[Comparison, ...]
    p_value: float
    adjusted: float

    @property
    def proven(self) -> bool:
        """Whether the claim holds at the 5 % level after the correction."""
        return self.adjusted <= LEVEL

    @property
    def hardest(self) -> Comparison:
        """The comparison with the largest p-value, which decides the claim."""
        return max(self.comparisons, key=lambda comparison: comparison.p_value)


def long_run_variance(values: FloatArray, *, lag: int) -> float:
    """Return the variance of sqrt(n) times the mean of a serially dependent series.

    Newey and West (1987), Bartlett weights.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In time order.
    lag : int
        Newest lag counted. Labels that reach h bars ahead are dependent over h - 1 lags at least;
        Bartlett weights shrink them, so that `lag` has to be a multiple of h (4 h keeps the size).
    """
    deviation = values - values.mean()
    n = len(deviation)
    variance = float(deviation @ deviation) / n
    for step in range(1, min(lag, n - 1) + 1):
        weight = 1.0 - step / (lag + 1.0)
        variance += 2.0 * weight * float(deviation[step:] @ deviation[:-step]) / n
    return max(variance, 0.0)


def widening(lag: int, n: int) -> float:
    """Return how much larger than normal a critical value has to be at this ratio of lag to sample.

    Kiefer and Vogelsang (2005), table 1, Bartlett, 99 %: the long-run variance is itself estimated from
    few independent stretches, and the plain normal rejects too often.
    """
    b = min(1.0, (lag + 1.0) / n)
    return (2.3263 + 4.1618 * b + 0.5368 * b**2 - 0.9060 * b**3) / 2.3263


def compare(losses: FloatArray, reference_losses: FloatArray, *, lag: int, model: str, reference: str) -> Comparison:
    """Return the Diebold-Mariano comparison (1995) of two series of losses on the same instants.

    Parameters
    ----------
    losses, reference_losses : ndarray of shape (n,)
        In time order, one per instant.
    lag : int
        Lags counted in the long-run variance, in rows; at least 4 times the label's horizon.
    model, reference : str
        Names for the report.

    Raises
    ------
    ValueError
        Where the two differ in length or hold less than 3 instants.
    """
    if losses.shape != reference_losses.shape or len(losses) < 3:
        raise ValueError(f"losses of shape {losses.shape} and {reference_losses.shape}: need the same 3 or more")
    difference = reference_losses - losses
    n = len(difference)
    gain = float(difference.mean())
    error = float(np.sqrt(long_run_variance(difference, lag=lag) / n)) * widening(lag, n)
    certain = 0.0 if gain > 0 else 1.0
    half = NORMAL.inv_cdf(0.975) * error
    return Comparison(
        model=model,
        reference=reference,
        count=n,
        loss=float(losses.mean()),
        reference_loss=float(reference_losses.mean()),
        gain=gain,
        low=gain - half,
        high=gain + half,
        p_value=1.0 - NORMAL.cdf(gain / error) if error > 0 else certain,
        detectable=(NORMAL.inv_cdf(1 - LEVEL) + NORMAL.inv_cdf(POWER)) * error,
    )


def pesaran_timmermann(forecast_up: BoolArray, came_up: BoolArray, *, lag: int) -> Directional:
    """Return the test of directional association that allows for serial dependence.

    The slope of the sign that came on the sign forecast, with a Newey-West error (Pesaran and
    Timmermann 2009): unlike a count of hits it gives nothing for betting on the commoner side.

    Parameters
    ----------
    forecast_up, came_up : ndarray of shape (n,)
        In time order.
    lag : int
        Lags counted, in rows; at least 4 times the label's horizon.
    """
    n = len(forecast_up)
    alone = np.zeros(n, dtype=np.int64)
    return pesaran_timmermann_of_several(
        forecast_up, came_up, at=np.arange(n).astype("datetime64[us]"), which=alone, lag=lag
    )


def pesaran_timmermann_of_several(
    forecast_up: BoolArray, came_up: BoolArray, *, at: TimeArray, which: IntArray, lag: int
) -> Directional:
    """Return the same test for forecasts of several symbols, which rise and fall together.

    Signs are held against how often each symbol's own were forecast and came, so that nothing is given for betting on
    the symbol that rises more often; one slope for all. What enters its error is summed over the symbols of an instant
    before Newey and West look at it (Driscoll and Kraay 1998): symbols that move as one count as one.

    Parameters
    ----------
    forecast_up, came_up : ndarray of shape (n,)
    at : ndarray of shape (n,), datetime64[us]
        Instant of each.
    which : ndarray of shape (n,)
        Number of the symbol of each, from 0.
    lag : int
        Lags counted, in instants; at least 4 times the label's horizon.
    """
    instants = Instants.of(at)
    n, k = len(which), len(instants)
    hits = instants.averaged(forecast_up == came_up)
    error = float(np.sqrt(long_run_variance(hits, lag=lag) / k)) * widening(lag, k)
    detectable = (NORMAL.inv_cdf(1 - LEVEL) + NORMAL.inv_cdf(POWER)) * error
    count = np.bincount(which)
    x, y = (sign - (np.bincount(which, weights=sign) / count)[which] for sign in (forecast_up, came_up))
    spread = float(x @ x) / n
    statistic = 0.0
    if spread > 0:
        slope = float(x @ y) / n / spread
        score = instants.summed(x * (y - slope * x)) * (k / n)
        score_error = float(np.sqrt(long_run_variance(score, lag=lag) / k)) * widening(lag, k)
        if score_error > 0:
            statistic = slope * spread / score_error
        elif slope > 0:
            statistic = float("inf")
    return Directional(
        accuracy=float(hits.mean()),
        statistic=statistic,
        p_value=1.0 - NORMAL.cdf(statistic) if statistic else 1.0,
        detectable=detectable,
    )


def judge(claims: Mapping[str, tuple[Comparison, ...]]) -> tuple[Claim, ...]:
    """Return the claims with p-values corrected for how many are made together.

    Holm (1979): with no skill anywhere, the chance that any claim of the report is called proven is at
    most 5 %, however the claims depend on each other.
    """
    raw = {name: max(comparison.p_value for comparison in comparisons) for name, comparisons in claims.items()}
    adjusted = holm(raw)
    return tuple(
        Claim(name=name, comparisons=comparisons, p_value=raw[name], adjusted=adjusted[name])
        for name, comparisons in claims.items()
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for how many claims are made together (Holm 1979).

    >>> holm({"one": 0.01, "other": 0.04, "third": 0.5})
    {'one': 0.03, 'other': 0.08, 'third': 0.5}
    """
    adjusted: dict[str, float] = {}
    floor = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = floor
    return adjusted
