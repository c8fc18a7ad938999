"""Statistics over trailing windows, each window reduced on its own.

A window of n is put together from windows of 1, 2, 4, 8 … by one fixed tree (log2 n vectorised passes), so that a
value depends on nothing but what is in its window, to the last bit: no running sum carries rounding errors along a
series, and a slice of a series gives what the whole gives.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Moments(NamedTuple):
    """Moments of the values that are present in each window.

    Parameters
    ----------
    present : FloatArray of shape (n,)
        How many values are present.
    mean : FloatArray of shape (n,)
        Their mean; 0 where there is none.
    deviation : FloatArray of shape (n,)
        Sum of the squared deviations from the mean, exactly 0 where all values are equal.
    """

    present: FloatArray
    mean: FloatArray
    deviation: FloatArray


def total(values: FloatArray, length: int, *, decay: float = 1.0) -> FloatArray:
    """Return the sum over each window.

    Parameters
    ----------
    values : FloatArray of shape (n,)
        Finite; 0 where nothing is.
    length : int
        Slots in a window; the window at i covers ``i - length + 1 … i``. What lies before the start counts as 0.
    decay : float
        Weight of a value one slot older than another, relative to it.

    Returns
    -------
    FloatArray of shape (n,)

    Examples
    --------
    >>> total(np.array([1.0, 2.0, 3.0, 4.0]), 3)
    array([1., 3., 6., 9.])
    >>> total(np.array([1.0, 2.0, 3.0, 4.0]), 3, decay=0.5)
    array([1.  , 2.5 , 4.25, 6.  ])
    """

    def join(older: FloatArray, newer: FloatArray, width: int) -> FloatArray:
        # decay ** width with Python's pow: one number, the same for every window.
        return older * decay**width + newer

    return _reduce(values, length, join, empty=0.0)


def moments(values: FloatArray, length: int) -> Moments:
    """Return count, mean and squared deviation over each window.

    Merged pairwise (Chan, Golub, LeVeque 1979), which does not cancel where the mean is large beside the deviation.

    Parameters
    ----------
    values : FloatArray of shape (n,)
        NaN where nothing is.
    length : int
        Slots in a window, as in `total`.
    """
    present = ~np.isnan(values)
    block = np.stack([present.astype(np.float64), np.where(present, values, 0.0), np.zeros_like(values)])

    def join(older: FloatArray, newer: FloatArray, _: int) -> FloatArray:
        count = older[0] + newer[0]
        share = np.divide(newer[0], count, out=np.zeros_like(count), where=count > 0)
        step = newer[1] - older[1]
        return np.stack(
            [count, older[1] + step * share, older[2] + newer[2] + step * step * (older[0] * share)],
        )

    count, mean, deviation = _reduce(block, length, join, empty=0.0)
    return Moments(count, mean, deviation)


def delayed(values: FloatArray, slots: int, empty: float = np.nan) -> FloatArray:
    """Return the values moved ``slots`` later along the last axis, ``empty`` where they have not begun."""
    moved = np.full_like(values, empty)
    if slots < values.shape[-1]:
        moved[..., slots:] = values[..., : values.shape[-1] - slots]
    return moved


def _reduce(
    values: FloatArray, length: int, join: Callable[[FloatArray, FloatArray, int], FloatArray], empty: float
) -> FloatArray:
    """Reduce the window of ``length`` at each slot; ``join(older, newer, width of newer)`` joins neighbours."""
    block, width = values, 1
    window, covered = None, 0
    while True:
        if length & width:
            older = delayed(block, covered, empty)
            window = older if window is None else join(older, window, covered)
            covered += width
        if covered == length:
            return older if window is None else window
        block = join(delayed(block, width, empty), block, width)
        width *= 2
