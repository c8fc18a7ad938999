"""The straight line under the network: ridge regression in closed form, shrunk for overlapping labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import BoolArray, Float32Array, FloatArray
from backsight_model.baselines import base_rate
from backsight_model.quantiles import LEVELS, MIDDLE, ordered, steps, stretch, unordered

EXPLAINED = 0.05
"""Share of a label's variance that all features together are expected to explain, at best."""
RESIDUAL, LOGIT, QUANTILES = 0, 1, slice(2, 2 + len(LEVELS))
"""Where the outputs of a horizon lie."""
OUTPUTS = QUANTILES.stop


@dataclass(frozen=True, kw_only=True)
class Line:
    """Straight lines from the C columns of a window's newest row to the outputs of one horizon, or of K in turn.

    Attributes
    ----------
    weights : ndarray of shape (C, K (2 + Q))
        To the volatility residual, to the logit of P(up), and to the numbers that `quantiles.ordered` makes the
        quantiles of the scaled return of.
    bias : ndarray of shape (K (2 + Q),)
    """

    weights: FloatArray
    bias: FloatArray

    def predict(self, rows: Float32Array) -> FloatArray:
        """Return residual, logit and quantiles of each horizon, shape (n, K (2 + Q)), for scaled rows (n, C)."""
        raw = rows.astype(np.float64) @ self.weights + self.bias
        apart = raw.reshape(len(raw), -1, OUTPUTS)
        apart[:, :, QUANTILES] = ordered(apart[:, :, QUANTILES])
        return raw


def joined(lines: Sequence[Line]) -> Line:
    """Return the lines of several horizons as one."""
    return Line(
        weights=np.concatenate([line.weights for line in lines], axis=1),
        bias=np.concatenate([line.bias for line in lines]),
    )


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
        n, the number of labels that do not overlap: hours over horizon, not rows, and not once per symbol.
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


def distribution(
    rows: Float32Array, scaled: FloatArray, widening: FloatArray, *, strength: float
) -> tuple[FloatArray, FloatArray]:
    """Return weights (C, Q) and bias (Q,) of the quantiles of the scaled return, before they are put in order.

    One line moves all quantiles, and `widening` spreads them about the median; what remains has the quantiles of the
    training part. The steps between quantiles are multiplied by ``exp(rows @ widening)`` to the first order: they are
    a softplus, and cannot become negative.

    Parameters
    ----------
    rows : ndarray of shape (n, C)
        Scaled newest rows of the training windows.
    scaled : ndarray of shape (n,)
        Return over the deviation that HAR-X forecast.
    widening : ndarray of shape (C,)
        To the log of the deviation.
    strength : float
        The ridge penalty, from `penalty`.
    """
    values, shift = rows.astype(np.float64), ridge(rows, scaled, strength=strength)
    base = np.quantile((scaled - values @ shift) * np.exp(-values @ widening), LEVELS)
    weights = widening[:, None] * stretch(steps(base))
    weights[:, MIDDLE] = shift
    return weights, unordered(base)


def heads(
    rows: Float32Array, residual: FloatArray, up: BoolArray, scaled: FloatArray, *, unit: float, strength: float
) -> Line:
    """Return the straight lines of all outputs on the newest row of a window.

    Parameters
    ----------
    rows : ndarray of shape (n, C)
        Scaled newest rows of the training windows.
    residual : ndarray of shape (n,)
        Residual of log realised variance in units of its training deviation. Its head has no bias: the
        intercept is HAR-X's.
    up : ndarray of shape (n,)
        Whether the price rose.
    scaled : ndarray of shape (n,)
        Return over the deviation that HAR-X forecast.
    unit : float
        The training deviation of the residual.
    strength : float
        The ridge penalty, from `penalty`.
    """
    slope, bias = logistic(rows, up, strength=strength)
    volatility = ridge(rows, residual, strength=strength)
    spread, base = distribution(rows, scaled, 0.5 * unit * volatility, strength=strength)
    return Line(weights=np.column_stack([volatility, slope, spread]), bias=np.concatenate([[0.0, bias], base]))
