"""What judges sentences."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A fixed function from a sentence to three probabilities: what else is scored with it must not matter."""

    @property
    def name(self) -> str:
        """Who scores."""

    @property
    def revision(self) -> str:
        """Pins everything that the scores of sentences depend on."""

    def score(self, sentences: Sequence[str]) -> FloatArray:
        """Return the probabilities of each sentence.

        Parameters
        ----------
        sentences : sequence of str
            Prepared, see `preparation`; n of them.

        Returns
        -------
        ndarray of shape (n, 3)
            Positive, negative, neutral; each row adds up to 1.
        """
