"""Vintages of a published series: which number was known for which period, when."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from backsight_features.rolling import FloatArray, IntArray

NEVER: Final = np.iinfo(np.int64).min
"""Stands for the number of a period where there is none."""

_SHIFT: Final = 32
"""Bits that number the instants in a key; the bits above number the periods."""


def number(period: Literal["month", "day"]) -> pl.Expr:
    """Return the number of the calendar unit in which ``observed_at`` lies, counted from 1970."""
    start = pl.col("observed_at").dt
    counted = start.epoch("d") if period == "day" else (start.year().cast(pl.Int64) - 1970) * 12 + start.month() - 1
    return counted.cast(pl.Int64)


@dataclass(frozen=True, kw_only=True)
class Vintages:
    """The numbers of a series, made for asking what was known at each instant at which one came out.

    Periods are calendar units counted from 1970, so that "twelve months before" needs no list of the periods that
    exist, which would grow with what comes out later.

    Parameters
    ----------
    instants : IntArray of shape (n,)
        Distinct instants of publication, microseconds from 1970-01-01 UTC, ascending.
    newest : IntArray of shape (n,)
        Number of the newest period known at each, with a number or without.
    keys : IntArray of shape (m,)
        Period and instant of each vintage in one integer, ascending.
    values : FloatArray of shape (m,)
        The numbers, NaN where published as missing.
    """

    instants: IntArray
    newest: IntArray
    keys: IntArray
    values: FloatArray

    @classmethod
    def of(cls, vintages: pl.DataFrame, period: Literal["month", "day"]) -> "Vintages":
        """Return the vintages of one series.

        Parameters
        ----------
        vintages : pl.DataFrame
            ``observed_at``, ``available_at``, ``ingested_at``, ``value``. Of two at one instant the one ingested
            later counts.
        period : {"month", "day"}
            Calendar unit.
        """
        ordered = vintages.select("available_at", "ingested_at", "value", period=number(period)).sort(
            "period", "available_at", "ingested_at", "value"
        )
        available = ordered["available_at"].dt.epoch("us").to_numpy()
        periods = ordered["period"].to_numpy()
        instants, rank = np.unique(available, return_inverse=True)
        newest = np.full(instants.size, NEVER)
        np.maximum.at(newest, rank, periods)
        return cls(
            instants=instants,
            newest=np.maximum.accumulate(newest),
            keys=(periods << _SHIFT) + rank,
            values=ordered["value"].fill_null(np.nan).to_numpy(),
        )

    def known(self, back: IntArray) -> FloatArray:
        """Return the numbers of periods before the newest, as known at each instant.

        Parameters
        ----------
        back : IntArray of shape (k,) or (n, k)
            Periods before `newest`.

        Returns
        -------
        FloatArray of shape (n, k)
            NaN where the period was unknown or published as missing.
        """
        if self.keys.size == 0:
            return np.empty((0, back.shape[-1]))
        periods = self.newest[:, None] - back
        asked = (periods << _SHIFT) + np.arange(self.instants.size)[:, None]
        index = np.searchsorted(self.keys, asked, side="right") - 1
        return np.where((index >= 0) & (self.keys[index] >> _SHIFT == periods), self.values[index], np.nan)

    def released_at(self, periods: IntArray) -> FloatArray:
        """Return when each period first had a number, microseconds from 1970-01-01 UTC, NaN where it never had."""
        numbered = ~np.isnan(self.values)
        # Keys ascend by period, then instant: the first of a period is its first publication.
        released, first = np.unique(self.keys[numbered] >> _SHIFT, return_index=True)
        if released.size == 0:
            return np.full(periods.size, np.nan)
        instants = self.instants[(self.keys[numbered] & ((1 << _SHIFT) - 1))[first]]
        index = np.minimum(np.searchsorted(released, periods), released.size - 1)
        return np.where(released[index] == periods, instants[index].astype(np.float64), np.nan)
