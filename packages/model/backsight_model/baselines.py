"""What a model has to beat: forecasts that need no learning, and linear ones that need little."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray

HAR_TERMS = ("log_rv_24h", "log_rv_120h", "log_rv_528h")
LAST_DAY = "ret_log_24h"
LAST_BAR = "ret_log_1h"


@dataclass(frozen=True, kw_only=True)
class Har:
    """Heterogeneous autoregression of log realised variance (Corsi 2009), fitted by least squares.

    Attributes
    ----------
    coefficients : ndarray of shape (k + 1,)
        Intercept, then one weight per term.
    residual_variance : float
        Training variance of the residual: the mean of a log-normal lies half of it above its log.
    """

    coefficients: FloatArray
    residual_variance: float

    def predict(self, terms: FloatArray) -> FloatArray:
        """Return the forecast log realised variance, shape (n,), from `terms` of shape (n, k)."""
        return np.asarray(self.coefficients[0] + terms @ self.coefficients[1:], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers that survive the round trip bit for bit."""
        return {"coefficients": self.coefficients.tolist(), "residual_variance": self.residual_variance}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Har":
        """Return the model that `to_json` described."""
        return cls(
            coefficients=np.asarray(state["coefficients"], dtype=np.float64),
            residual_variance=float(state["residual_variance"]),
        )


def fit_har(terms: FloatArray, log_rv: FloatArray) -> Har:
    """Return the least-squares fit of `log_rv` (n,) on `terms` (n, k), training rows only."""
    design = np.column_stack([np.ones(len(terms)), terms])
    coefficients = np.asarray(np.linalg.lstsq(design, log_rv, rcond=None)[0], dtype=np.float64)
    return Har(coefficients=coefficients, residual_variance=float(np.var(log_rv - design @ coefficients)))


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
