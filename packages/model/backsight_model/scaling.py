"""Feature-wise scaling that is fitted on training rows only and travels as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from backsight_model import treatments
from backsight_model.arrays import BoolArray, Float32Array, FloatArray
from backsight_model.treatments import DECLARED, Treatment, Treatments

_NORMAL_IQR: Final = 1.3489795003921634
"""Interquartile range of a normal distribution, in deviations."""
_KNOTS: Final = 257
"""Points of a training distribution that are kept, for ranks."""


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """A fitted scaling: bend, clip to the training range, standardise, null to 0, and say what was present.

    Attributes
    ----------
    features : tuple of str
        Names of the F features in the order of the columns.
    treatments : tuple of Treatment
        What is done to each.
    knots : dict of str to ndarray of shape (2, k)
        By feature of kind ``rank``: training values, increasing, and where each lies from -sqrt(3), the lowest, to
        sqrt(3), the highest.
    low, high : ndarray of shape (F,)
        Training quantiles to which a value is clipped first, so that one wild bar neither sets the
        scale nor leaves it; like the next two, of logarithms or ranks where the treatment is that.
    mean, scale : ndarray of shape (F,)
        Centre and deviation of the clipped training values, as the treatment says. A feature that was constant or
        never present in training has scale 0 and always comes out as 0: nothing was learnt about it, and all
        else comes out as if it were not there.
    weight : ndarray of shape (F,)
        By how much a scaled feature is shrunk: the root of the share of its variance that lies within
        blocks of four weeks. A level that moved a few times in a year looks like thousands of samples and
        is a handful; small inputs are what a penalty on weights holds back.
    """

    features: tuple[str, ...]
    treatments: tuple[Treatment, ...]
    knots: Mapping[str, FloatArray]
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    scale: FloatArray
    weight: FloatArray

    @property
    def width(self) -> int:
        """Number of columns that `transform` returns: one more than features and masks."""
        return len(self.features) + 1 + len(self.masked)

    @property
    def masked(self) -> list[int]:
        """Numbers of the features that have a mask."""
        return [number for number, treatment in enumerate(self.treatments) if treatment.mask]

    @property
    def learnt(self) -> BoolArray:
        """Whether something was learnt about each feature, shape (F,)."""
        return np.asarray(self.scale > 0)

    def transform(self, rows: Float32Array) -> Float32Array:
        """Return scaled rows with a presence column.

        Parameters
        ----------
        rows : ndarray of shape (..., F)
            Feature values, NaN where undefined. The gap row is all NaN.

        Returns
        -------
        ndarray of shape (..., F + 1 + M), float32
            Scaled values, 0 (the training centre) where undefined; then the share of the features that something was
            learnt about that were defined: 0 for a missing bar; then, for the M features with a mask, 1 where they were
            not.
        """
        if rows.shape[-1] != len(self.features):
            raise ValueError(f"rows have {rows.shape[-1]} columns, the scaler knows {len(self.features)} features")
        present = ~np.isnan(rows)
        inverse = np.divide(self.weight, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        bent = _bent(rows.astype(np.float64), self.features, self.treatments, self.knots)
        scaled = (np.clip(bent, self.low, self.high) - self.mean) * inverse
        share = (present & self.learnt).sum(axis=-1, keepdims=True) / max(1, self.learnt.sum())
        missing = ~present[..., self.masked]
        return np.concatenate([np.where(present, scaled, 0.0), share, missing], axis=-1).astype(np.float32)

    def inverse(self, scaled: Float32Array) -> FloatArray:
        """Return the feature values that scaled rows came from.

        Parameters
        ----------
        scaled : ndarray of shape (..., F + 1 + M)
            What `transform` returned.

        Returns
        -------
        ndarray of shape (..., F)
            Up to float32. What was clipped comes back as the bound it was clipped to, a feature without scale as its
            centre, and what was missing as NaN where a mask or an empty row says so, else as the centre.
        """
        count = len(self.features)
        spread = np.divide(self.scale, self.weight, out=np.zeros_like(self.scale), where=self.weight > 0)
        values = scaled[..., :count].astype(np.float64) * spread + self.mean
        for number, (name, treatment) in enumerate(zip(self.features, self.treatments, strict=True)):
            if treatment.kind == "log":
                values[..., number] = np.sign(values[..., number]) * np.expm1(np.abs(values[..., number]))
            elif treatment.kind == "rank" and self.knots[name].size:
                value, place = self.knots[name]
                values[..., number] = np.interp(values[..., number], place, value)
        missing = np.repeat(scaled[..., count : count + 1] == 0, count, axis=-1)
        missing[..., self.masked] |= scaled[..., count + 1 :] > 0
        return np.where(missing, np.nan, values)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and names; floats survive the round trip bit for bit."""
        return {
            "features": list(self.features),
            "treatments": [asdict(treatment) for treatment in self.treatments],
            "knots": {name: places.tolist() for name, places in self.knots.items()},
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
            treatments=tuple(Treatment(**treatment) for treatment in state["treatments"]),
            knots={name: np.asarray(places, dtype=np.float64) for name, places in state["knots"].items()},
            low=np.asarray(state["low"], dtype=np.float64),
            high=np.asarray(state["high"], dtype=np.float64),
            mean=np.asarray(state["mean"], dtype=np.float64),
            scale=np.asarray(state["scale"], dtype=np.float64),
            weight=np.asarray(state["weight"], dtype=np.float64),
        )


def fit_scaler(
    rows: Float32Array, features: tuple[str, ...], *, declared: Treatments = DECLARED, block: int = 672
) -> Scaler:
    """Return the scaler of training rows.

    Parameters
    ----------
    rows : ndarray of shape (k, F)
        Training rows only, in time order; NaN where undefined.
    features : tuple of str
        Names of the columns.
    declared : tuple of (str, Treatment)
        What is done to which features.
    block : int
        Rows of four weeks; fewer where there are less than four blocks.
    """
    chosen = tuple(treatments.of(name, declared) for name in features)
    raw = rows.astype(np.float64)
    seen = ~np.isnan(raw).all(axis=0)
    knots = {name: _knots(raw[:, number]) for number, name in enumerate(features) if chosen[number].kind == "rank"}
    values = _bent(raw, features, chosen, knots)
    width = values.shape[1]
    low, high, mean, scale = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    robust = np.array([treatment.kind == "robust" for treatment in chosen])
    tails = np.array([treatment.tail for treatment in chosen])
    for tail in np.unique(tails[seen]):
        alike = seen & (tails == tail)
        low[alike], high[alike] = np.nanquantile(values[:, alike], [tail, 1 - tail], axis=0)
    for alike, centre in ((seen & ~robust, _moments), (seen & robust, _quartiles)):
        if alike.any():
            mean[alike], scale[alike] = centre(np.clip(values[:, alike], low[alike], high[alike]))
    # Rounding leaves a constant with a spread of a few ulp, which would be blown up to noise.
    scale[scale <= 1e-9 * np.maximum(1.0, np.abs(mean))] = 0.0
    weight = _within(np.where(np.isnan(values), mean, np.clip(values, low, high)), block)
    # What is never there, or never moves, is no feature: to count it would make the penalty on the others stronger.
    weight[scale == 0.0] = 0.0
    return Scaler(
        features=features, treatments=chosen, knots=knots, low=low, high=high, mean=mean, scale=scale, weight=weight
    )


def _moments(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def _quartiles(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    lower, middle, upper = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    return middle, (upper - lower) / _NORMAL_IQR


def _knots(values: FloatArray) -> FloatArray:
    """Return values of a training distribution and their places; of values that repeat, the middle of their places."""
    known = values[~np.isnan(values)]
    if not known.size:
        return np.empty((2, 0))
    share = np.linspace(0.0, 1.0, _KNOTS)
    value, first, count = np.unique(np.quantile(known, share), return_index=True, return_counts=True)
    place = (share[first] + share[first + count - 1]) / 2
    return np.stack([value, np.sqrt(3.0) * (2.0 * place - 1.0)])


def _bent(
    values: FloatArray, features: tuple[str, ...], chosen: tuple[Treatment, ...], knots: Mapping[str, FloatArray]
) -> FloatArray:
    """Return values (..., F) with logarithms and ranks in the place of what is treated so; `values` is written over."""
    for number, (name, treatment) in enumerate(zip(features, chosen, strict=True)):
        column = values[..., number]
        if treatment.kind == "log":
            values[..., number] = np.sign(column) * np.log1p(np.abs(column))
        elif treatment.kind == "rank":
            value, place = knots[name]
            values[..., number] = np.interp(column, value, place) if value.size else np.nan
    return values


def _within(values: FloatArray, block: int) -> FloatArray:
    """Return the root of the share of each column's variance that lies within blocks of rows."""
    size = max(1, min(block, len(values) // 4))
    blocks = values[: len(values) // size * size].reshape(-1, size, values.shape[1])
    between, total = blocks.mean(axis=1).var(axis=0), blocks.var(axis=(0, 1))
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(np.sqrt(np.clip(1.0 - share, 0.0, 1.0)), dtype=np.float64)
