"""Red flags: results that are more likely a mistake than a discovery."""

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray
from backsight_model.training import TrainingSet
from backsight_model.verdict import Verdict
from backsight_model.walk import MODEL, Walk

COST = 0.001
"""Cost of a full turn from long to short on each side, as a share: 10 basis points."""
YEAR = np.timedelta64(365, "D")


def red_flags(data: TrainingSet, walked: Walk, verdict: Verdict) -> tuple[str, ...]:
    """Return what makes a careful reader doubt the result, one sentence each.

    Thresholds come from published flaws and from what honest forecasts of daily moves reach.
    """
    p_up, came_up = walked.p_up[MODEL], data.up[walked.samples]
    accuracy = verdict.directional.accuracy
    at = data.at[walked.samples]
    found = []
    if at.max() - at.min() >= YEAR and accuracy > 0.58:
        found.append(f"Accuracy of {accuracy:.1%} over a year or more: honest daily forecasts stay below 58 %.")
    clock = float((walked.clock_up == came_up).mean())
    if verdict.proven["direction"] and clock >= accuracy:
        found.append(f"Repeating the newest training label is right in {clock:.1%}, no worse than the model.")
    last = np.nan_to_num(data.newest("ret_log_24h")[walked.samples])
    likeness = correlation(p_up, last)
    if abs(likeness) > 0.8:
        found.append(f"P(up) correlates {likeness:+.2f} with the last day's move: the model repeats what was.")
    ratio = net_sharpe(p_up, data.log_return[walked.samples], horizon=data.horizon)
    if ratio > 3:
        found.append(f"Net Sharpe ratio of {ratio:.1f} on one asset: above 3 is rarely real.")
    if verdict.proven["direction"] and verdict.directional.p_value > 0.05:
        found.append(
            f"Log loss says skill in direction, the signs alone do not (p = {verdict.directional.p_value:.2f}): "
            "the gain lies in the size of the probabilities."
        )
    return tuple(found)


def net_sharpe(p_up: FloatArray, log_return: FloatArray, *, horizon: int) -> float:
    """Return the yearly Sharpe ratio, after cost, of holding the likelier side over each horizon.

    Mean over the `horizon` ways to cut hourly instants into days that do not overlap; 0 where there are
    too few.
    """
    ratios = []
    for offset in range(horizon):
        side = np.where(p_up[offset::horizon] > 0.5, 1.0, -1.0)
        earned = side * log_return[offset::horizon] - COST * np.abs(np.diff(side, prepend=0.0))
        if len(earned) > 2 and earned.std() > 0:
            ratios.append(float(earned.mean() / earned.std()) * np.sqrt(365 * 24 / horizon))
    return float(np.mean(ratios)) if ratios else 0.0


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Return the correlation of two series of shape (n,); 0 where either is constant."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def calibration(p_up: FloatArray, came_up: BoolArray, *, bins: int = 10) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean forecast, frequency and count in bins of equal count: three arrays of shape (<= bins,)."""
    edges = np.unique(np.quantile(p_up, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, p_up, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(place)
    some = count > 0
    forecast, came = np.bincount(place, weights=p_up), np.bincount(place, weights=came_up.astype(np.float64))
    return forecast[some] / count[some], came[some] / count[some], count[some].astype(np.float64)
