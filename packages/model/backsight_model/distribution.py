"""Do the quantiles of the return hold what they promise, and does none cross another."""

from typing import Any

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray
from backsight_model.calibration import mean_is
from backsight_model.evidence import Caption
from backsight_model.instants import Instants
from backsight_model.quantiles import LEVELS, MIDDLE
from backsight_model.training import TrainingSet
from backsight_model.verdict import chance
from backsight_model.walk import MODEL, Walk

PAIRS = tuple((low, len(LEVELS) - 1 - low) for low in reversed(range(MIDDLE)))
"""Quantiles that bound a central interval, the narrowest first."""


def section(data: TrainingSet, walked: Walk, *, lag: int, caption: Caption) -> dict[str, Any]:
    """Return how often the return lay below each quantile and inside each central interval, by forecaster.

    Shares are tested against what was promised (Kupiec 1995) with an error that allows for overlapping labels.

    Parameters
    ----------
    data : TrainingSet
    walked : Walk
    lag : int
        Lags counted, in instants.
    caption : callable
        Completes a title.
    """
    came, instants = data.log_return[walked.samples], Instants.of(data.at[walked.samples])
    rows = [row(*each, came, instants=instants, lag=lag) for each in walked.quantiles.items()]
    model = next(one for one in rows if one["model"])
    wide = next(one for one in model["intervals"] if one["level"] == 0.8)
    crossed = f"at {model['crossings']:,}" if model["crossings"] else "at none"
    return {
        "caption": caption("Return: how often it lay below each quantile, and inside each central interval"),
        "levels": list(LEVELS),
        "rows": rows,
        "words": f"Quantiles of the model cross {crossed} of {len(came):,} forecasts. Its 80 % interval held "
        f"{wide['share']:.1%} ({chance(wide['p_value'])} of 80 %), {100 * wide['width']:.1f} points wide on average.",
    }


def row(name: str, forecast: FloatArray, came: FloatArray, *, instants: Instants, lag: int) -> dict[str, Any]:
    """Return how often a return, shape (n,), lay below the quantiles (n, Q) of a forecaster, and in its intervals.

    `instants` are those of the n forecasts: the mean over the symbols of an instant is what is tested.
    """
    below = came[:, None] < forecast
    return {
        "forecaster": name,
        "model": name == MODEL,
        "crossings": int((np.diff(forecast, axis=1) < 0).any(axis=1).sum()),
        "below": [_held(level, below[:, place], instants=instants, lag=lag) for place, level in enumerate(LEVELS)],
        "intervals": [
            _held(LEVELS[high] - LEVELS[low], below[:, high] & ~below[:, low], instants=instants, lag=lag)
            | {"width": float((forecast[:, high] - forecast[:, low]).mean())}
            for low, high in PAIRS
        ],
    }


def _held(level: float, held: BoolArray, *, instants: Instants, lag: int) -> dict[str, float]:
    shares = instants.averaged(held)
    level = round(level, 10)
    return {"level": level, "share": float(shares.mean()), "p_value": mean_is(shares, level, lag=lag)}
