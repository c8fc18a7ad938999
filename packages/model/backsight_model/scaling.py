"""Feature-wise scaling that is fitted on training rows only and travels as JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backsight_model.arrays import Float32Array, FloatArray


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """A fitted scaling: clip to the training range, standardise, null to 0, and say what was present.

    Attributes
    ----------
    features : tuple of str
        Names of the F features in the order of the columns.
    low, high : ndarray of shape (F,)
        Training quantiles to which a value is clipped first, so that one wild bar neither sets the
        scale nor leaves it.
    mean, scale : ndarray of shape (F,)
        Mean and standard deviation of the clipped training values. A feature that was constant or
        never present in training has scale 0 and always comes out as 0: nothing was learnt about it.
    weight : ndarray of shape (F,)
        By how much a scaled feature is shrunk: the root of the share of its variance that lies within
        blocks of four weeks. A level that moved a few times in a year looks like thousands of samples and
        is a handful; small inputs are what a penalty on weights holds back.
    """

    features: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    scale: FloatArray
    weight: FloatArray

    @property
    def width(self) -> int:
        """Number of columns that `transform` returns: one more than there are features."""
        return len(self.features) + 1

    def transform(self, rows: Float32Array) -> Float32Array:
        """Return scaled rows with a presence column.

        Parameters
        ----------
        rows : ndarray of shape (..., F)
            Feature values, NaN where undefined. The gap row is all NaN.

        Returns
        -------
        ndarray of shape (..., F + 1), float32
            Scaled values, 0 (the training mean) where undefined; the last column is the share of
            features that were defined: 0 for a missing bar.
        """
        if rows.shape[-1] != len(self.features):
            raise ValueError(f"rows have {rows.shape[-1]} columns, the scaler knows {len(self.features)} features")
        present = ~np.isnan(rows)
        inverse = np.divide(self.weight, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        scaled = (np.clip(rows.astype(np.float64), self.low, self.high) - self.mean) * inverse
        share = present.mean(axis=-1, keepdims=True)
        return np.concatenate([np.where(present, scaled, 0.0), share], axis=-1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and names; floats survive the round trip bit for bit."""
        return {
            "features": list(self.features),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weight": self.weight.tolist(),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Scaler":
        """Return the scaler that `to_json` described."""
        return cls(
            features=tuple(state["features"]),
            low=np.asarray(state["low"], dtype=np.float64),
            high=np.asarray(state["high"], dtype=np.float64),
            mean=np.asarray(state["mean"], dtype=np.float64),
            scale=np.asarray(state["scale"], dtype=np.float64),
            weight=np.asarray(state["weight"], dtype=np.float64),
        )


def fit_scaler(rows: Float32Array, features: tuple[str, ...], *, tail: float = 0.005, block: int = 672) -> Scaler:
    """Return the scaler of training rows.

    Parameters
    ----------
    rows : ndarray of shape (k, F)
        Training rows only, in time order; NaN where undefined.
    features : tuple of str
        Names of the columns.
    tail : float
        Share of the values clipped on each side.
    block : int
        Rows of four weeks; fewer where there are less than four blocks.
    """
    values = rows.astype(np.float64)
    seen = ~np.isnan(values).all(axis=0)
    width = values.shape[1]
    low, high, mean, scale = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    if seen.any():
        low[seen], high[seen] = np.nanquantile(values[:, seen], [tail, 1 - tail], axis=0)
        clipped = np.clip(values[:, seen], low[seen], high[seen])
        mean[seen] = np.nanmean(clipped, axis=0)
        scale[seen] = np.nanstd(clipped, axis=0)
        # Rounding leaves a constant with a spread of a few ulp, which would be blown up to noise.
        scale[scale <= 1e-9 * np.maximum(1.0, np.abs(mean))] = 0.0
    weight = _within(np.where(np.isnan(values), mean, np.clip(values, low, high)), block)
    return Scaler(features=features, low=low, high=high, mean=mean, scale=scale, weight=weight)


def _within(values: FloatArray, block: int) -> FloatArray:
    """Return the root of the share of each column's variance that lies within blocks of rows."""
    size = max(1, min(block, len(values) // 4))
    blocks = values[: len(values) // size * size].reshape(-1, size, values.shape[1])
    between, total = blocks.mean(axis=1).var(axis=0), blocks.var(axis=(0, 1))
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(np.sqrt(np.clip(1.0 - share, 0.0, 1.0)), dtype=np.float64)
