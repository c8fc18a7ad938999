"""What a model has to beat: forecasts that need no learning, and linear ones that need little."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backsight_model.arrays import BoolArray, Float32Array, FloatArray

HAR_TERMS = ("log_rv_24h", "log_rv_120h", "log_rv_528h")
LAST_DAY = "ret_log_24h"
LAST_BAR = "ret_log_1h"
HAR_STRENGTH = 0.02
"""A touch of ridge: the terms of HAR are alike, and a year holds some hundred days that do not overlap."""


HARX_TERMS = (
    *HAR_TERMS,
    "rsv_neg_24h",
    "parkinson_24h",
    "range_1h",
    "volume_z_168h",
    "hour_sin",
    "hour_cos",
    "dow_sin",
    "dow_cos",
)
"""HAR, downside variance and range (Patton and Sheppard 2015), volume, and the calendar: the price and the clock."""


@dataclass(frozen=True, kw_only=True)
class Har:
    """Linear forecast of log realised variance from the newest row of scaled features (Corsi 2009).

    Attributes
    ----------
    terms : tuple of str
        Names of its k features.
    intercept : float
    weights : ndarray of shape (k,)
        Per unit of the scaled features.
    residual_variance : float
        Training variance of the residual: the mean of a log-normal lies half of it above its log.
    """

    terms: tuple[str, ...]
    intercept: float
    weights: FloatArray
    residual_variance: float

    def predict(self, rows: Float32Array, features: tuple[str, ...]) -> FloatArray:
        """Return forecasts of shape (n,) from scaled rows (n, C) whose first columns are `features`."""
        columns = [features.index(term) for term in self.terms]
        return np.asarray(self.intercept + rows[:, columns].astype(np.float64) @ self.weights, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; floats survive the round trip bit for bit."""
        return {
            "terms": list(self.terms),
            "intercept": self.intercept,
            "weights": self.weights.tolist(),
            "residual_variance": self.residual_variance,
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Har":
        """Return the forecaster that `to_json` described."""
        return cls(
            terms=tuple(state["terms"]),
            intercept=float(state["intercept"]),
            weights=np.asarray(state["weights"], dtype=np.float64),
            residual_variance=float(state["residual_variance"]),
        )


def fit_har(
    rows: Float32Array, log_rv: FloatArray, *, terms: tuple[str, ...], features: tuple[str, ...], strength: float = 0.0
) -> Har:
    """Return the least-squares fit on training rows.

    Parameters
    ----------
    rows : ndarray of shape (n, C)
        Scaled newest rows; the first columns are `features`.
    log_rv : ndarray of shape (n,)
        What came.
    terms : tuple of str
        Features to use; those that `features` lacks are left out.
    strength : float
        Ridge penalty per sample.
    """
    used = tuple(term for term in terms if term in features)
    values = rows[:, [features.index(term) for term in used]].astype(np.float64)
    center, level = values.mean(axis=0), float(log_rv.mean())
    apart = values - center
    gram = apart.T @ apart / len(apart) + strength * np.eye(len(used))
    weights = np.linalg.lstsq(gram, apart.T @ (log_rv - level) / len(apart), rcond=None)[0].astype(np.float64)
    residual = log_rv - level - apart @ weights
    return Har(
        terms=used, intercept=level - float(center @ weights), weights=weights, residual_variance=float(residual.var())
    )


def base_rate(up: BoolArray) -> float:
    """Return how often the price rose in training, with one pseudo-count each way."""
    return float((up.sum() + 1.0) / (len(up) + 2.0))


def frequency_given(sign: BoolArray, up: BoolArray, *, on: BoolArray) -> FloatArray:
    """Return P(up) given a sign, with frequencies from training, for new signs.

    Parameters
    ----------
    sign, up : ndarray of shape (n,)
        The sign known at each training instant and what came.
    on : ndarray of shape (m,)
        Signs known at the instants to forecast.

    Returns
    -------
    ndarray of shape (m,)
        Frequencies, one pseudo-count each way, so that none is 0 or 1.
    """
    return np.where(on, base_rate(up[sign]), base_rate(up[~sign]))
