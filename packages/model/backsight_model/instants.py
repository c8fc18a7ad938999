"""Several symbols at one instant: they move together, so that what they teach or prove of an instant counts once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backsight_model.arrays import FloatArray, IntArray, TimeArray


@dataclass(frozen=True, kw_only=True)
class Instants:
    """The k distinct instants of m samples.

    Attributes
    ----------
    at : ndarray of shape (k,), datetime64[us]
        In time order; the instants as they are where no two samples share one.
    place : ndarray of shape (m,)
        Which of them each sample is of.
    """

    at: TimeArray
    place: IntArray

    @classmethod
    def of(cls, at: TimeArray) -> "Instants":
        """Return the distinct instants of some samples."""
        distinct, place = np.unique(at, return_inverse=True)
        if len(distinct) == len(at):
            return cls(at=at, place=np.arange(len(at)))
        return cls(at=distinct, place=place)

    def __len__(self) -> int:
        """Return the number of distinct instants."""
        return len(self.at)

    @property
    def shared(self) -> float:
        """How many samples an instant has on average: so many rows of a sample tell as much as one."""
        return len(self.place) / len(self.at)

    def averaged(self, values: npt.NDArray[np.floating | np.bool_]) -> FloatArray:
        """Return the mean over the samples of each instant: (..., m) to (..., k).

        >>> of_two = Instants.of(np.array(["2024-01-01", "2024-01-01", "2024-01-02"], dtype="datetime64[us]"))
        >>> of_two.averaged(np.array([1.0, 3.0, 5.0])).tolist()
        [2.0, 5.0]
        """
        return self.summed(values) if self.shared == 1 else self.summed(values) / np.bincount(self.place)

    def summed(self, values: npt.NDArray[np.floating | np.bool_]) -> FloatArray:
        """Return the sum over the samples of each instant: (..., m) to (..., k)."""
        if self.shared == 1:
            return values.astype(np.float64)
        order = np.argsort(self.place, kind="stable")
        begins = np.searchsorted(self.place[order], np.arange(len(self.at)))
        return np.add.reduceat(values[..., order].astype(np.float64), begins, axis=-1)

    def first(self, values: IntArray) -> IntArray:
        """Return what the first sample of each instant has: (m,) to (k,)."""
        first: IntArray = values[np.unique(self.place, return_index=True)[1]]
        return first
