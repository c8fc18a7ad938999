"""Labels: the one place of the project that reads the future."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from backsight_features.errors import BadInput

from backsight_model.arrays import FloatArray, IntArray, TimeArray

_AT_ONCE = 1 << 22
"""Bars that are looked up at a time, whatever the horizon."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What happened over the next `horizon` bars, and from when on that was known.

    Attributes
    ----------
    log_rv : ndarray of shape (n,)
        Log of the sum of squared one-bar log returns; NaN where there is no label.
    log_return : ndarray of shape (n,)
        Log return from the slot's close to the close `horizon` bars later; NaN where there is no label.
    label_at : ndarray of shape (n,), datetime64[us]
        Instant from which the label could be computed: when the last of its bars to arrive became
        available. NaT where there is no label.
    """

    log_rv: FloatArray
    log_return: FloatArray
    label_at: TimeArray

    def some(self, which: IntArray) -> "Outcomes":
        """Return what happened at some of the slots."""
        return Outcomes(log_rv=self.log_rv[which], log_return=self.log_return[which], label_at=self.label_at[which])


def ahead(bars: pl.DataFrame, slots: TimeArray, *, horizon: int, timeframe: timedelta) -> Outcomes:
    """Return what came in the `horizon` bars AFTER each slot: reads the future, for labels and nowhere else.

    A label needs every bar from the slot to its horizon: one missing bar, and there is none, as there
    is none where no price moved (the log of a zero variance).
    A bar that was corrected counts as it was known at `label_at`, so that a correction which comes
    later changes no label.

    Parameters
    ----------
    bars : DataFrame with `observed_at` (bar close), `available_at`, `close`
        All stored versions of the bars of one series; of two of one slot and instant the later row counts.
    slots : ndarray of shape (n,), datetime64[us]
        Close of the newest bar known at the instant of each sample.
    horizon : int
        Number of bars ahead, at least 1.
    timeframe : timedelta
        Length of one bar.

    Returns
    -------
    Outcomes
        Arrays of shape (n,), NaN and NaT where there is no label.
    """
    if horizon < 1:
        raise ValueError(f"horizon is {horizon} bars, it must be at least 1")
    n = len(slots)
    log_rv, log_return = np.full(n, np.nan), np.full(n, np.nan)
    label_at = np.full(n, np.datetime64("NaT"), dtype="datetime64[us]")
    ordered = bars.sort("observed_at", "available_at", maintain_order=True)
    if n == 0 or ordered.is_empty():
        return Outcomes(log_rv=log_rv, log_return=log_return, label_at=label_at)
    observed, available = _microseconds(ordered["observed_at"]), _microseconds(ordered["available_at"])
    close = ordered["close"].cast(pl.Float64).to_numpy()

    keys, first, version_key = np.unique(observed, return_index=True, return_inverse=True)
    # One sorted integer per version, (slot, rank of its arrival), finds the newest version known in time.
    arrivals = np.unique(available)
    width = len(arrivals) + 1
    version = version_key * width + np.searchsorted(arrivals, available)
    lags = timeframe // timedelta(microseconds=1) * np.arange(horizon + 1)
    closes = slots.astype("datetime64[us]").astype(np.int64)
    at_once = max(1, _AT_ONCE // len(lags))
    for begin in range(0, n, at_once):
        wanted = closes[begin : begin + at_once, None] + lags
        position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        whole = np.flatnonzero((keys[position] == wanted).all(axis=1))
        position = position[whole]
        known = available[first][position].max(axis=1, initial=np.iinfo(np.int64).min)
        rank = np.searchsorted(arrivals, known, side="right") - 1
        chosen = np.searchsorted(version, position * width + rank[:, None], side="right") - 1

        steps = np.diff(np.log(close[chosen]), axis=1)
        variance = np.square(steps).sum(axis=1)
        moved = np.isfinite(variance) & (variance > 0)
        there = begin + whole[moved]
        log_rv[there] = np.log(variance[moved])
        log_return[there] = steps[moved].sum(axis=1)
        label_at[there] = known[moved].astype("datetime64[us]")
    return Outcomes(log_rv=log_rv, log_return=log_return, label_at=label_at)


def bars_ahead(horizon: timedelta, step: timedelta) -> int:
    """Return a horizon in bars of a length.

    Raises
    ------
    BadInput
        If it is no whole number of bars.

    Examples
    --------
    >>> bars_ahead(timedelta(days=1), timedelta(hours=1))
    24
    """
    bars, rest = divmod(horizon, step)
    if rest or bars < 1:
        raise BadInput(f"horizon {horizon} is no whole number of bars of {step}")
    return bars


def _microseconds(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()
