"""What a series of returns is worth: ratios with their uncertainty, drawdown, and how much was luck of timing."""

import numpy as np

from backsight_model.arrays import FloatArray

RESAMPLES = 1000
Interval = tuple[float, float]


def sharpe(returns: FloatArray, *, per_year: float) -> float:
    """Return the yearly Sharpe ratio of returns above cash that pays nothing; 0 where they never vary.

    Sharpe (1994): mean over deviation, times the root of the number of bars a year.
    """
    deviation = float(returns.std())
    return float(returns.mean()) / deviation * float(np.sqrt(per_year)) if deviation > 0 else 0.0


def sortino(returns: FloatArray, *, per_year: float) -> float:
    """Return the yearly Sortino ratio: the same over the root mean square of the losses alone; 0 without a loss.

    Sortino and Price (1994), with nothing as the least return that is acceptable.
    """
    downside = float(np.sqrt(np.square(np.minimum(returns, 0.0)).mean()))
    return float(returns.mean()) / downside * float(np.sqrt(per_year)) if downside > 0 else 0.0


def equity(returns: FloatArray) -> FloatArray:
    """Return what 1 grows to when every bar's return is kept in: shape (n,); what is lost whole stays lost."""
    return np.asarray(np.cumprod(np.maximum(1.0 + returns, 0.0)), dtype=np.float64)


def drawdown(returns: FloatArray) -> FloatArray:
    """Return how far the equity is below its highest so far, as a share: shape (n,), from 0 to 1.

    >>> drawdown(np.array([0.5, -0.5, 1.0])).tolist()
    [0.0, 0.5, 0.0]
    """
    curve = equity(returns)
    return np.asarray(1.0 - curve / np.maximum(np.maximum.accumulate(curve), 1.0), dtype=np.float64)


def intervals(returns: FloatArray, *, per_year: float, block: int, seed: int) -> tuple[Interval, Interval]:
    """Return 95 % intervals of the Sharpe and the Sortino ratio.

    Circular block bootstrap (Politis and Romano 1992): returns are drawn in blocks, since positions and
    volatility last for many bars. Sums over blocks come from cumulated sums, so that a resample costs as
    many look-ups as it has blocks.

    Parameters
    ----------
    returns : ndarray of shape (n,)
        Per bar, in time order.
    per_year : float
        Bars a year.
    block : int
        Bars drawn together; cut to n.
    seed : int
    """
    n = len(returns)
    block = min(block, n)
    moments = np.stack([returns, np.square(returns), np.square(np.minimum(returns, 0.0))])
    around = np.concatenate([np.zeros((3, 1)), np.cumsum(np.hstack([moments, moments[:, :block]]), axis=1)], axis=1)
    starts = np.random.default_rng(seed).integers(n, size=(RESAMPLES, -(-n // block)))
    mean, square, downside = (around[:, starts + block] - around[:, starts]).mean(axis=2) / block
    spread = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    ratios = (_over(mean, spread), _over(mean, np.sqrt(np.maximum(downside, 0.0))))
    low_high = [np.quantile(ratio * np.sqrt(per_year), [0.025, 0.975]) for ratio in ratios]
    return (float(low_high[0][0]), float(low_high[0][1])), (float(low_high[1][0]), float(low_high[1][1]))


def shifted(held: FloatArray, returns: FloatArray, *, apart: int) -> FloatArray:
    """Return the mean return per bar of the same positions at other times: one number per circular shift.

    A shift keeps what was held, for how long, and how much was traded, and takes away only that it was held
    at the right time. All shifts are worked out at once, as a correlation by way of the Fourier transform.

    Parameters
    ----------
    held, returns : ndarray of shape (n,)
        Position over each bar, and the asset's return over it.
    apart : int
        Shifts by fewer bars, in either direction, are left out: they still hold much of what was forecast.

    Returns
    -------
    ndarray of shape (max(n - 2 * apart + 1, 0),)

    Examples
    --------
    >>> shifted(np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0, 4.0]), apart=1).round(6).tolist()
    [0.75, 1.0, 0.25]
    """
    n = len(held)
    means = np.fft.irfft(np.fft.rfft(returns) * np.conj(np.fft.rfft(held)), n) / n
    return np.asarray(means[apart : n - apart + 1], dtype=np.float64)


def rank(value: float, others: FloatArray) -> float:
    """Return the p-value of a value among others that arose without skill; ties count against it.

    >>> rank(3.0, np.array([1.0, 2.0, 3.0]))
    0.5
    """
    noise = 1e-12 * float(np.abs(others).max(initial=abs(value)))
    return float((1 + (others >= value - noise).sum()) / (1 + len(others)))


def _over(mean: FloatArray, spread: FloatArray) -> FloatArray:
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)
