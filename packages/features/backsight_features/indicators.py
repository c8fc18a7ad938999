"""Recursive indicators through TA-Lib, made independent of where a series begins.

An exponential average remembers everything, so its value depends on the first bar ever read. Here the slots of the
bar grid are cut into blocks of `BLOCK` at fixed instants (counted from 1970), and a block's values are computed from
that block and the one before it, which serves as warm-up. A memory of 1024 bars is as good as an endless one
(RSI-14 has forgotten all but 1e-33 of it), and a slice of a series gives, bit for bit, what the whole gives.

One NaN makes TA-Lib's results silently wrong, so each gap-free stretch is computed on its own.
"""

from typing import Final, NamedTuple

import numpy as np
import talib

from backsight_features.rolling import BoolArray, FloatArray

BLOCK: Final = 1024
"""Slots in a block."""

MEMORY: Final = 2 * BLOCK
"""Slots that a value may depend on: its block and the one before."""

_SHORTEST: Final = 15
"""Bars below which none of the indicators has a value."""


class Indicators(NamedTuple):
    """Indicators on the slots of the bar grid, NaN where a stretch is still too short.

    Parameters
    ----------
    macd_hist, rsi, atr, adx : FloatArray of shape (n,)
        MACD(12, 26, 9) histogram and ATR(14) in price units, RSI(14) and ADX(14) from 0 to 100.
    """

    macd_hist: FloatArray
    rsi: FloatArray
    atr: FloatArray
    adx: FloatArray


def indicators(high: FloatArray, low: FloatArray, close: FloatArray, first: int) -> Indicators:
    """Return the indicators of a series of bars.

    Parameters
    ----------
    high, low, close : FloatArray of shape (n,)
        On the bar grid, all three NaN where a bar is missing.
    first : int
        Number of the first slot, counted from the grid's origin; it decides where blocks lie.

    Returns
    -------
    Indicators
        A value is right if the input reaches back `MEMORY` slots or to the start of the series.
    """
    size = close.size
    values = Indicators(*(np.full(size, np.nan) for _ in Indicators._fields))
    present = ~np.isnan(close)
    for block in range(first // BLOCK, (first + size - 1) // BLOCK + 1):
        begin = block * BLOCK - first
        lower, upper = max(begin - BLOCK, 0), min(begin + BLOCK, size)
        for start, stop in _stretches(present[lower:upper]):
            left, right = lower + start, lower + stop
            keep = max(left, begin)
            if right - left < _SHORTEST or right <= keep:
                continue
            stretch = slice(left, right)
            for out, computed in zip(values, _compute(high[stretch], low[stretch], close[stretch]), strict=True):
                out[keep:right] = computed[keep - left :]
    return values


def _compute(high: FloatArray, low: FloatArray, close: FloatArray) -> Indicators:
    """Return the indicators of one gap-free stretch."""
    moved = np.maximum.accumulate(np.abs(np.diff(close, prepend=close[0]))) > 0
    rsi = talib.RSI(close, 14)
    return Indicators(
        macd_hist=talib.MACD(close, 12, 26, 9)[2],
        # Without any move so far RSI is 0 / 0, which TA-Lib calls 0: the value of a market in free fall.
        rsi=np.where(moved, rsi, np.nan),
        atr=talib.ATR(high, low, close, 14),
        adx=talib.ADX(high, low, close, 14),
    )


def _stretches(present: BoolArray) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(present.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
