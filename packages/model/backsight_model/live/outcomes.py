"""What came of the forecasts that were handed out, as soon as it is known, beside what simple forecasters said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backsight_model.arrays import BoolArray, Float32Array, FloatArray, TimeArray
from backsight_model.baselines import HAR_TERMS
from backsight_model.bundle import Bundle
from backsight_model.forecast import INTERVAL
from backsight_model.target import ahead

_ENDS: Final = tuple(f"{level:g}" for level in INTERVAL)
_ANSWER: Final = pl.Struct(
    {"log_rv": pl.Float64, "p_up": pl.Float64, "quantiles": pl.Struct(dict.fromkeys(_ENDS, pl.Float64))}
)
"""What is read of a forecast as it was handed out."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Forecasts of one symbol whose outcome is known, n in time order, one per bar.

    Attributes
    ----------
    observed_at : ndarray of shape (n,), datetime64[us]
        Close of the newest bar that each saw.
    horizon : int
        Bars ahead.
    log_rv : dict of str to ndarray of shape (n,)
        Forecast log realised variance: of the ``model``, of ``HAR-X`` with the coefficients in its bundle, and of
        ``persistence``, the variance of the last 24 bars.
    p_up : ndarray of shape (n,)
        Forecast P(up) of the model.
    came_log_rv : ndarray of shape (n,)
    came_up : ndarray of shape (n,)
        What came.
    inside : ndarray of shape (n,)
        Whether the return that came lay between the quantiles of `forecast.INTERVAL`.
    open_at : ndarray of shape (m,), datetime64[us]
    open_log_rv : ndarray of shape (m,)
        Forecasts of the model whose outcome is not known yet.
    """

    observed_at: TimeArray
    horizon: int
    log_rv: dict[str, FloatArray]
    p_up: FloatArray
    came_log_rv: FloatArray
    came_up: BoolArray
    inside: BoolArray
    open_at: TimeArray
    open_log_rv: FloatArray

    @property
    def open(self) -> int:
        """How many outcomes are not known yet."""
        return len(self.open_at)


def outcomes(log: pl.DataFrame, bars: pl.DataFrame, bundles: Callable[[str], Bundle]) -> Outcomes:
    """Return what came of the forecasts of one symbol.

    Of a bar that several bundles forecast, the newest forecast counts.

    Parameters
    ----------
    log : pl.DataFrame
        `forecast_log.ForecastLog.frame`, of one symbol, and at least one row.
    bars : pl.DataFrame
        All stored versions of the bars of its series.
    bundles : callable
        Returns a bundle by its name.
    """
    rows = log.sort("observed_at", "at").unique("observed_at", keep="last", maintain_order=True)
    made = {name: bundles(name) for name in rows["bundle"].unique().to_list()}
    [horizon] = {one.horizon for one in made.values()}
    first = next(iter(made.values()))
    slots = rows["observed_at"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
    came = ahead(bars, slots, horizon=horizon, timeframe=first.timeframe)
    answers = rows["answer"].str.json_decode(_ANSWER).struct
    low, high = (answers.field("quantiles").struct.field(name).to_numpy() for name in _ENDS)
    known = ~np.isnat(came.label_at)
    harx, persistence = np.empty((2, len(rows)))
    for name, bundle in made.items():
        mine = (rows["bundle"] == name).to_numpy()
        harx[mine], persistence[mine] = _simple(bundle, newest(rows.filter(mine)))
    forecasts = {"model": answers.field("log_rv").to_numpy(), "HAR-X": harx, "persistence": persistence}
    return Outcomes(
        observed_at=slots[known],
        horizon=horizon,
        log_rv={name: values[known] for name, values in forecasts.items()},
        p_up=answers.field("p_up").to_numpy()[known],
        came_log_rv=came.log_rv[known],
        came_up=came.log_return[known] > 0,
        inside=((low <= came.log_return) & (came.log_return <= high))[known],
        open_at=slots[~known],
        open_log_rv=forecasts["model"][~known],
    )


def newest(rows: pl.DataFrame) -> Float32Array:
    """Return the newest slot of each logged window of one bundle, shape (n, F)."""
    return np.array([np.frombuffer(values, "<f4")[-width:] for values, width in rows.select("values", "width").rows()])


def _simple(bundle: Bundle, newest: Float32Array) -> tuple[FloatArray, FloatArray]:
    """Return what HAR-X and persistence say of log realised variance, shape (n,), given newest slots (n, F)."""
    day = newest[:, bundle.features.index(HAR_TERMS[0])].astype(np.float64)
    harx = bundle.harx.predict(bundle.scaler.transform(newest), bundle.features)
    return harx, day + float(np.log(bundle.horizon / 24))
