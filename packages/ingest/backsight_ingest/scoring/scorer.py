"""What judges texts."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A fixed function from a text to three probabilities: what else is scored with it must not matter."""

    @property
    def name(self) -> str:
        """Who scores."""

    @property
    def revision(self) -> str:
        """Pins everything that the scores depend on."""

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Return the probabilities of each text.

        Parameters
        ----------
        texts : sequence of str
            Normalised, see `backsight_features.texts`.

        Returns
        -------
        ndarray of shape (n, 3)
            Positive, negative, neutral; each row adds up to 1.
        """
