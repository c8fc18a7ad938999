"""The straight line under the network: ridge regression in closed form, shrunk for overlapping labels."""

from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import BoolArray, Float32Array, FloatArray
from backsight_model.baselines import base_rate

EXPLAINED = 0.05
"""Share of a label's variance that all features together are expected to explain, at best."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Straight lines from the C columns of a window's newest row to the two heads.

    Attributes
    ----------
    weights : ndarray of shape (C, 2)
        To the volatility residual, to the logit of P(up).
    bias : ndarray of shape (2,)
    """

    weights: FloatArray
    bias: FloatArray

    def predict(self, rows: Float32Array) -> FloatArray:
        """Return the heads' outputs, shape (n, 2), for scaled rows (n, C)."""
        return rows.astype(np.float64) @ self.weights + self.bias


def penalty(features: float, independent: float) -> float:
    """Return the ridge penalty per sample on standardised features.

    The best penalty for many small effects (Hoerl, Kennard and Baldwin 1975) is F (1 - R2) / (R2 n): the
    less the features explain and the fewer the independent labels, the stronger. Five percent explained
    is generous for a day ahead.

    Parameters
    ----------
    features : float
        F, the number of features; a slow one that is shrunk counts as the square of its weight.
    independent : float
        n, the number of labels that do not overlap: hours over horizon, not rows.
    """
    return features * (1.0 - EXPLAINED) / (EXPLAINED * independent)


def ridge(rows: Float32Array, target: FloatArray, *, strength: float) -> FloatArray:
    """Return the weights, shape (C,), of a centred `target` (n,) on scaled `rows` (n, C), in closed form."""
    values = rows.astype(np.float64)
    n, width = values.shape
    gram = values.T @ values / n + strength * np.eye(width)
    return np.asarray(np.linalg.solve(gram, values.T @ (target - target.mean()) / n), dtype=np.float64)


def logistic(rows: Float32Array, up: BoolArray, *, strength: float) -> tuple[FloatArray, float]:
    """Return weights (C,) and bias of a ridge logistic regression of `up` (n,) on scaled `rows` (n, C).

    `strength` is on the scale of `ridge`: near one half a probability moves 1/4 as much as its logit, so
    the same shrinkage takes a quarter of the penalty.
    """
    from sklearn.linear_model import LogisticRegression

    if up.all() or not up.any():
        rate = base_rate(up)
        return np.zeros(rows.shape[1]), float(np.log(rate / (1.0 - rate)))
    model = LogisticRegression(C=4.0 / (strength * len(up)), max_iter=500).fit(rows.astype(np.float64), up)
    return np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


def heads(rows: Float32Array, residual: FloatArray, up: BoolArray, *, strength: float) -> Line:
    """Return the straight lines of both heads on the newest row of a window.

    Parameters
    ----------
    rows : ndarray of shape (n, C)
        Scaled newest rows of the training windows.
    residual : ndarray of shape (n,)
        Residual of log realised variance in units of its training deviation. Its head has no bias: the
        intercept is HAR-X's.
    up : ndarray of shape (n,)
        Whether the price rose.
    strength : float
        The ridge penalty, from `penalty`.
    """
    slope, bias = logistic(rows, up, strength=strength)
    volatility = ridge(rows, residual, strength=strength)
    return Line(weights=np.column_stack([volatility, slope]), bias=np.array([0.0, bias]))
