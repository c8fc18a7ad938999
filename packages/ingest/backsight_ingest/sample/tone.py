"""What a mood sounds like: the tone of the texts that are written in it."""

from functools import cache
from typing import Final

import numpy as np

from backsight_ingest.sample.draws import FloatArray

CANDOUR: Final = 1.8
"""How much of a mood is said: a text is positive, neutral or negative with odds ``exp(c m) : 1 : exp(-c m)``."""


def tone(mood: FloatArray) -> FloatArray:
    """Return the mean polarity of texts written in a mood, scaled to variance 1 over a normal mood.

    Parameters
    ----------
    mood : ndarray
        Of variance 1.
    """
    return np.asarray(_polarity(mood) / _spread())


def _polarity(mood: FloatArray) -> FloatArray:
    return np.asarray(2.0 * np.sinh(CANDOUR * mood) / (1.0 + 2.0 * np.cosh(CANDOUR * mood)))


@cache
def _spread() -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(np.sqrt(np.sum(weights * _polarity(nodes) ** 2) / weights.sum()))
