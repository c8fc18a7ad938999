"""A distribution as quantiles that never cross: how the network says them, and what they lose."""

from typing import Final

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.proof import NORMAL

LEVELS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Levels of the quantiles that are forecast."""
MIDDLE: Final = LEVELS.index(0.5)
GAUSSIAN: Final = np.array([NORMAL.inv_cdf(level) for level in LEVELS])
"""Quantiles of a normal distribution of unit variance."""
_STEP, _LEVEL = np.indices((len(LEVELS), len(LEVELS)))
STEPS: Final[FloatArray] = (
    ((_STEP > MIDDLE) & (_STEP <= _LEVEL)).astype(np.float64) - ((_STEP < MIDDLE) & (_STEP >= _LEVEL))
)  # fmt: skip
"""Which quantiles a step moves, and where to: shape (Q, Q), steps by quantiles."""
_SMALLEST: Final = 1e-6
"""Step between training quantiles that are equal."""


def ordered(raw: FloatArray) -> FloatArray:
    """Return quantiles that never cross, from Q numbers that may be anything: shape (..., Q).

    The middle number is the median; the softplus of each other one is a step from one quantile to the next, away
    from the median.

    >>> (np.diff(ordered(np.array([3.0, -9.0, 0.0, 1.5, 2.0, -4.0, 0.0]))) > 0).all()
    np.True_
    """
    return np.asarray(raw[..., MIDDLE, None] + np.logaddexp(0.0, raw) @ STEPS, dtype=np.float64)


def steps(quantiles: FloatArray) -> FloatArray:
    """Return how far each quantile lies from its neighbour on the side of the median: shape (Q,); 1 at the median."""
    apart = np.maximum(np.diff(quantiles), _SMALLEST)
    return np.concatenate([apart[:MIDDLE], [1.0], apart[MIDDLE:]])


def unordered(quantiles: FloatArray) -> FloatArray:
    """Return the numbers that `ordered` makes given quantiles of, shape (Q,); equal ones come out a little apart."""
    apart = steps(quantiles)
    raw = apart + np.log(-np.expm1(-apart))  # the inverse of softplus
    raw[MIDDLE] = quantiles[MIDDLE]
    return raw


def stretch(apart: FloatArray) -> FloatArray:
    """Return by how much the numbers that make steps must grow for the steps to double, to the first order: (Q,)."""
    return np.asarray(apart / -np.expm1(-apart), dtype=np.float64)


_IS_MIDDLE: Final = np.arange(len(LEVELS)) == MIDDLE
MOVES: Final[FloatArray] = np.stack([_IS_MIDDLE, np.where(_IS_MIDDLE, 0.0, stretch(steps(GAUSSIAN)))])
"""What moves all quantiles by one, and what doubles the steps of a Gaussian: shape (2, Q), before they are in order."""


def pinball(quantiles: FloatArray, came: FloatArray) -> FloatArray:
    """Return the mean pinball loss over the levels (Koenker and Bassett 1978).

    A quantile of level q loses q for each unit that what came lies above it, and 1 - q for each unit below. Twice
    its mean over all levels is the continuous ranked probability score.

    Parameters
    ----------
    quantiles : ndarray of shape (..., n, Q)
        Of levels `LEVELS`.
    came : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (..., n)
        In the unit of `came`.
    """
    above, level = came[:, None] - quantiles, np.array(LEVELS)
    return np.asarray(np.maximum(level * above, (level - 1.0) * above).mean(axis=-1), dtype=np.float64)
