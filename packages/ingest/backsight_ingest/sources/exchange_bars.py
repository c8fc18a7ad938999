"""The bars of one answer, on the grid of their length: which are there, which are not, and what is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from backsight_features.rolling import IntArray
from backsight_features.spans import Span
from numpy.typing import NDArray

COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
"""Those of ccxt, and of the layout named after it."""
READABLE: Final = pl.all_horizontal(pl.col(COLUMNS[1:]).cast(pl.Float64, strict=False).is_finite().fill_null(False))
"""Whether all values of a row are numbers."""
_MS: Final = 1000
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where bars of one length begin.

    Parameters
    ----------
    step : int
        Their length, in microseconds.
    phase : int
        Where one of them begins.
    """

    step: int
    phase: int = 0

    def floor(self, us: int) -> int:
        """Return the last beginning at or before an instant."""
        return us - (us - self.phase) % self.step

    def ceil(self, us: int) -> int:
        """Return the first beginning at or after an instant."""
        return us + (self.phase - us) % self.step


class Rows:
    """The rows of an answer.

    Parameters
    ----------
    said : sequence of list
        As ccxt gives them: open time in ms, and five values.
    grid : Grid
        Of what was asked for.
    """

    def __init__(self, said: Sequence[Sequence[Any]], grid: Grid) -> None:
        self._grid = grid
        self._cells = pl.DataFrame(
            {name: pl.Series([row[i] for row in said], dtype=pl.String, strict=False) for i, name in enumerate(COLUMNS)}
        )
        opens = self._cells["timestamp"].cast(pl.Int64, strict=False)
        self._dated = (opens.is_not_null() & opens.is_between(0, 2**53)).to_numpy()
        self._opens: IntArray = opens.fill_null(0).clip(0, 2**53).to_numpy() * _MS
        self._fits = self._dated & ((self._opens - grid.phase) % grid.step == 0)
        self._read = self._cells.select(READABLE).to_series().to_numpy()

    @property
    def off_grid(self) -> IntArray:
        """Where dated rows begin that are no bars of this length, in microseconds."""
        off: IntArray = self._opens[self._dated & ~self._fits]
        return off

    def opens(self, span: Span) -> IntArray:
        """Return where the bars of a span begin that are there, in order, each once."""
        return np.unique(self._opens[self._within(span)])

    def gaps(self, span: Span) -> list[Span]:
        """Return the parts of a span without a bar whose values are numbers."""
        step = self._grid.step
        there = np.unique(self._opens[self._within(span) & self._read])
        edges = np.concatenate([[span.start - step], there, [span.stop]])
        before = np.flatnonzero(np.diff(edges) > step)
        return [Span(int(edges[i]) + step, int(edges[i + 1])) for i in before]

    def records(self, span: Span, *, now: int) -> pl.DataFrame:
        """Return the bars of a span, and what is no bar of any: without a time, off the grid, or after ``now``."""
        return self._cells.filter(pl.Series(self._within(span) | ~self._fits | (self._opens > now)))

    def _within(self, span: Span) -> NDArray[np.bool_]:
        within: NDArray[np.bool_] = self._fits & (self._opens >= span.start) & (self._opens < span.stop)
        return within


def microseconds(length: timedelta) -> int:
    """Return a length in microseconds."""
    return length // _MICROSECOND
