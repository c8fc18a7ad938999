"""How much of a good result is due to having looked for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import e, sqrt
from typing import Literal

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.proof import NORMAL

EULER = 0.5772156649015329
BLOCKS = 16
"""Even; 16 blocks make 12,870 ways to halve a history."""


@dataclass(frozen=True, kw_only=True)
class Deflated:
    """A Sharpe ratio, and what is left of it.

    Attributes
    ----------
    sharpe : float
        Per period, not per year.
    count : int
        Periods.
    trials : int
        Strategies tried until this one was shown.
    luck : float
        The Sharpe ratio that the best of so many strategies without skill is expected to reach.
    probability : float
        That the true Sharpe ratio is above zero, given what luck gives: the deflated Sharpe ratio. Above
        0.95 is a discovery.
    """

    sharpe: float
    count: int
    trials: int
    luck: float
    probability: float


def expected_luck(trials: int, deviation: float) -> float:
    """Return the expected largest of `trials` Sharpe ratios of strategies without skill.

    Bailey and López de Prado (2014), equation 1.

    >>> round(expected_luck(100, (0.5 / 250) ** 0.5), 4)  # their example
    0.1132
    """
    if trials < 2:
        return 0.0
    high, higher = NORMAL.inv_cdf(1 - 1 / trials), NORMAL.inv_cdf(1 - 1 / (trials * e))
    return deviation * ((1 - EULER) * high + EULER * higher)


def probabilistic_sharpe(sharpe: float, *, against: float, count: int, skewness: float, kurtosis: float) -> float:
    """Return the probability that the true Sharpe ratio is above another.

    Bailey and López de Prado (2012).

    Parameters
    ----------
    sharpe, against : float
        Per period.
    count : int
        Periods that the first was measured on.
    skewness, kurtosis : float
        Of the returns; the kurtosis of a normal is 3.
    """
    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    return NORMAL.cdf((sharpe - against) * sqrt(count - 1) / sqrt(spread))


def deflated_sharpe(returns: FloatArray, *, trials: int, deviation: float) -> Deflated:
    """Return the deflated Sharpe ratio of Bailey and López de Prado (2014).

    Parameters
    ----------
    returns : ndarray of shape (n,)
        Of the strategy that is shown, over periods that do not overlap.
    trials : int
        Strategies tried, this one included.
    deviation : float
        Standard deviation of the Sharpe ratios, per period, over the trials.
    """
    scale = float(returns.std())
    luck = expected_luck(trials, deviation)
    if scale == 0:
        return Deflated(sharpe=0.0, count=len(returns), trials=trials, luck=luck, probability=0.0)
    standard = (returns - returns.mean()) / scale
    ratio = float(returns.mean()) / scale
    return Deflated(
        sharpe=ratio,
        count=len(returns),
        trials=trials,
        luck=luck,
        probability=probabilistic_sharpe(
            ratio,
            against=luck,
            count=len(returns),
            skewness=float((standard**3).mean()),
            kurtosis=float((standard**4).mean()),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Overfitting:
    """What becomes of the winner of one half of a history in the other half.

    Attributes
    ----------
    probability : float
        How often it is worse than the median there. About one half where the choice means nothing.
    loss : float
        How often it is below zero there.
    logits : ndarray of shape (ways,)
        ``log(w / (1 - w))`` of its relative rank w there, for each way to halve the history.
    candidates : int
        How many were chosen from.
    """

    probability: float
    loss: float
    logits: FloatArray
    candidates: int


def backtest_overfitting(
    performance: Mapping[str, FloatArray], *, measure: Literal["mean", "sharpe"], blocks: int = BLOCKS
) -> Overfitting | None:
    """Return the probability of backtest overfitting by combinatorially symmetric cross-validation.

    Bailey, Borwein, López de Prado and Zhu (2017): time is cut into blocks; of every choice of half of them,
    the best candidate is looked up in the other half.

    Parameters
    ----------
    performance : mapping of str to ndarray of shape (n,)
        Of each candidate, more is better, in time order.
    measure : {"mean", "sharpe"}
        What is compared: the mean, or the mean over the deviation.
    blocks : int
        Even.

    Returns
    -------
    Overfitting or None
        None for fewer than two candidates, or fewer than two rows a block.
    """
    values = np.column_stack(list(performance.values()))
    size = len(values) // blocks
    if size < 2 or values.shape[1] < 2:
        return None
    cut = values[len(values) - size * blocks :].reshape(blocks, size, -1)
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(chosen), blocks))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    learnt = _measured(inside, cut, measure)
    judged = _measured(1.0 - inside, cut, measure)
    best = learnt.argmax(axis=1)
    winner = np.take_along_axis(judged, best[:, None], axis=1)
    # Candidates that do exactly as well share their rank.
    rank = 1.0 + (judged < winner).sum(axis=1) + 0.5 * ((judged == winner).sum(axis=1) - 1)
    relative = rank / (judged.shape[1] + 1.0)
    logits = np.log(relative / (1.0 - relative))
    return Overfitting(
        probability=float((logits <= 0).mean()),
        loss=float((winner < 0).mean()),
        logits=logits,
        candidates=judged.shape[1],
    )


def _measured(part: FloatArray, cut: FloatArray, measure: str) -> FloatArray:
    """Return what each candidate did over some blocks: part (ways, blocks), cut (blocks, size, k) to (ways, k)."""
    rows = part.sum(axis=1, keepdims=True) * cut.shape[1]
    mean = part @ cut.sum(axis=1) / rows
    if measure == "mean":
        return np.asarray(mean, dtype=np.float64)
    variance = np.maximum(part @ np.square(cut).sum(axis=1) / rows - np.square(mean), 0.0)
    return np.asarray(np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0), dtype=np.float64)
