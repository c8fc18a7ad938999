"""Windows: the last L slots of the bar grid, as they were known at an instant.

A forecaster that reads a sequence needs the last L states of one symbol. A window is L slots, one bar apart, that
end at the newest bar close known at its instant. A slot holds the newest state that was known at the instant and is
about that close; a slot without one is a gap, all NaN. Training and publishing cut their windows with the same
function, so that what is served is what was learnt from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from backsight_features.clocks import UTC_US
from backsight_features.errors import BadInput
from backsight_features.online.packed import newest_available_at

_CHUNK: Final = 1 << 20
_MICROSECOND: Final = timedelta(microseconds=1)
_STAMP: Final = "datetime64[us]"
_UNKNOWN: Final = np.iinfo(np.int64).min
"""NaT, as an integer."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """n windows of L slots over N rows of F features; the windows share the rows instead of copying them.

    Parameters
    ----------
    rows : float32 ndarray of shape (N + 1, F)
        One row per state; the last row is all NaN and stands for a gap. NaN is also a feature that is undefined.
    index : int32 ndarray of shape (n, L)
        The row of every slot, oldest first; N where the slot is a gap.
    at : datetime64[us] ndarray of shape (n,)
        The instant of each window, UTC. Nothing in it was known later.
    observed_at : datetime64[us] ndarray of shape (n,)
        The close of the newest slot; NaT where nothing was known yet, and then every slot is a gap.
    available_at : datetime64[us] ndarray of shape (n,)
        When the last of its rows became known.
    symbol : object ndarray of shape (n,)
        The symbol of each window.
    row_available_at : datetime64[us] ndarray of shape (N,)
        When each row became known.
    features : tuple of str
        The names of the F columns.
    timeframe : timedelta
        From one slot to the next.
    """

    rows: npt.NDArray[np.float32]
    index: npt.NDArray[np.int32]
    at: npt.NDArray[np.datetime64]
    observed_at: npt.NDArray[np.datetime64]
    available_at: npt.NDArray[np.datetime64]
    symbol: npt.NDArray[np.object_]
    row_available_at: npt.NDArray[np.datetime64]
    features: tuple[str, ...]
    timeframe: timedelta

    def __len__(self) -> int:
        return len(self.index)

    def gather(
        self, which: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice = slice(None)
    ) -> npt.NDArray[np.float32]:
        """Return the values of some windows.

        Parameters
        ----------
        which : int ndarray of shape (k,), bool ndarray of shape (n,), or slice
            The windows wanted.

        Returns
        -------
        float32 ndarray of shape (k, L, F)
        """
        return self.rows[self.index[which]]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Whether a slot holds a state: bool ndarray of shape (n, L)."""
        return self.index < len(self.row_available_at)

    def slot_available_at(
        self, which: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice = slice(None)
    ) -> npt.NDArray[np.datetime64]:
        """Return when the state of each slot of some windows became known; NaT where the slot is a gap.

        Parameters
        ----------
        which : int ndarray of shape (k,), bool ndarray of shape (n,), or slice
            The windows wanted.

        Returns
        -------
        datetime64[us] ndarray of shape (k, L)
        """
        return np.append(self.row_available_at, np.datetime64("NaT", "us"))[self.index[which]]

    def ages(
        self, which: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice = slice(None)
    ) -> npt.NDArray[np.timedelta64]:
        """Return how long before its instant the newest defined value of each feature became known.

        Parameters
        ----------
        which : int ndarray of shape (k,), bool ndarray of shape (n,), or slice
            The windows wanted.

        Returns
        -------
        timedelta64[us] ndarray of shape (k, F)
            NaT where a window has no defined value of the feature.
        """
        index, at = self.index[which], self.at[which]
        slots = np.append(self.row_available_at, np.datetime64("NaT", "us"))
        ages = np.empty((len(index), len(self.features)), dtype="timedelta64[us]")
        # A part at a time: k x L x F is never held.
        step = max(1, _CHUNK // max(1, index.shape[1] * len(self.features)))
        for begin in range(0, len(index), step):
            part = slice(begin, begin + step)
            known = newest_available_at(self.rows[index[part]], slots[index[part]])
            ages[part] = at[part, None] - known
        return ages


def windows(
    states: pl.DataFrame,
    at: pl.DataFrame | None = None,
    *,
    length: int,
    timeframe: timedelta,
    features: Sequence[str],
) -> Windows:
    """Return the window of every instant.

    Parameters
    ----------
    states : pl.DataFrame of shape (N, 3 + F)
        ``symbol``, ``observed_at`` (the newest bar close known), ``available_at`` (the instant of the state), and the
        features. Any order; at most one row per (symbol, available_at).
    at : pl.DataFrame of shape (n, 2), optional
        ``symbol`` and ``at``; any order, duplicates allowed. Without it, one window at every state's instant, ordered
        by symbol and instant.
    length : int
        L, the number of slots.
    timeframe : timedelta
        From one slot to the next.
    features : sequence of str
        The columns wanted, in this order.

    Raises
    ------
    BadInput
        If a column is missing, a close lies off the grid of its symbol, two states share their instant, or the length
        is not positive.

    Notes
    -----
    Memory is N x F floats and n x L integers; n x L x F is never held.
    """
    if length < 1:
        raise BadInput(f"a window of length {length}; at least 1 slot is needed")
    states = _table(states, ["symbol", "observed_at", "available_at"], features)
    states = states.sort("symbol", "observed_at", "available_at")
    twice = states.select(pl.struct("symbol", "available_at").is_duplicated()).to_series()
    if twice.any():
        symbol, _, known = states.filter(twice).row(0)[:3]
        raise BadInput(f"symbol {symbol!r} has two states at {known:%Y-%m-%dT%H:%M:%S.%fZ}; there can be one")
    if at is None:
        at = states.select("symbol", at="available_at").sort("symbol", "at")
    at = _table(at, ["symbol", "at"], [])

    gap = states.height
    index = np.full((at.height, length), gap, dtype=np.int32)
    observed = np.full(at.height, "NaT", dtype=_STAMP)
    asked = _us(at["at"])
    stamps, closes = _us(states["available_at"]), _us(states["observed_at"])
    where = _positions(at)
    for symbol, rows in _positions(states).items():
        wanted = where.get(symbol)
        if wanted is not None:
            series = _Series(closes[rows], stamps[rows], timeframe // _MICROSECOND, symbol)
            ends = series.newest(asked[wanted])
            known = ends != _UNKNOWN
            observed[wanted[known]] = (ends[known] * series.step + series.phase).astype(_STAMP)
            series.fill(index, wanted[known], ends[known], asked[wanted[known]], offset=int(rows[0]))

    values = np.full((gap + 1, len(features)), np.nan, dtype=np.float32)
    if features:
        values[:gap] = states.select(
            pl.col(name).cast(pl.Float32).fill_nan(None).fill_null(np.nan) for name in features
        ).to_numpy()
    return Windows(
        rows=values,
        index=index,
        at=asked.astype(_STAMP),
        observed_at=observed,
        available_at=_latest(np.append(stamps, _UNKNOWN), index).astype(_STAMP),
        symbol=at["symbol"].to_numpy().astype(object),
        row_available_at=stamps.astype(_STAMP),
        features=tuple(features),
        timeframe=timeframe,
    )


class _Series:
    """The states of one symbol, ordered by close and then by when they became known; slots are counted from 1970."""

    def __init__(self, closes: npt.NDArray[np.int64], stamps: npt.NDArray[np.int64], step: int, symbol: str) -> None:
        self.step = step
        self.phase = int(closes[0] % step)
        off = closes % step != self.phase
        if off.any():
            close = closes[off][0].astype(_STAMP)
            raise BadInput(f"symbol {symbol!r} has a bar close at {close}Z, off its grid of {step / 6e7:g} minutes")
        self._stamps = stamps
        self._slots = closes // step
        self._first = int(self._slots[0])
        # The last state of every slot on the whole grid; -1 where the slot has none.
        self._last = np.full(int(self._slots[-1]) - self._first + 1, -1, dtype=np.int64)
        self._last[self._slots - self._first] = np.arange(len(closes))
        order = np.argsort(stamps, kind="stable")
        self._known = stamps[order]
        self._newest = np.maximum.accumulate(self._slots[order])

    def newest(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the newest slot known at each instant; `_UNKNOWN` before the first."""
        position = np.searchsorted(self._known, at, side="right") - 1
        return np.where(position >= 0, self._newest[position], _UNKNOWN)

    def fill(
        self,
        index: npt.NDArray[np.int32],
        which: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        at: npt.NDArray[np.int64],
        *,
        offset: int,
    ) -> None:
        """Write the state of every slot of the windows that end at `ends` into rows `which` of the index."""
        length = index.shape[1]
        lags = np.arange(length - 1, -1, -1, dtype=np.int64)
        step = max(1, _CHUNK // length)
        for begin in range(0, len(which), step):
            part = slice(begin, begin + step)
            slots = ends[part, None] - lags - self._first
            state = np.where(slots >= 0, self._last[np.maximum(slots, 0)], -1)
            until = np.broadcast_to(at[part, None], state.shape)
            # Step back over the states of a slot that became known later; as many times as a slot was corrected.
            late = np.flatnonzero((state >= 0) & (self._stamps[state] > until))
            while len(late):
                held = state.flat[late]
                before = np.maximum(held - 1, 0)
                same = (held > 0) & (self._slots[before] == self._slots[held])
                state.flat[late] = np.where(same, before, -1)
                late = late[same]
                late = late[self._stamps[state.flat[late]] > until.flat[late]]
            found = np.where(state >= 0, state + offset, index[which[part]])
            index[which[part]] = found.astype(np.int32)


def _latest(stamps: npt.NDArray[np.int64], index: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    latest = np.full(len(index), _UNKNOWN, dtype=np.int64)
    for slot in range(index.shape[1]):
        np.maximum(latest, stamps[index[:, slot]], out=latest)
    return latest


def _positions(frame: pl.DataFrame) -> dict[str, npt.NDArray[np.int64]]:
    """Return the row numbers of every symbol, rising."""
    parts = frame.with_row_index("row").group_by("symbol", maintain_order=True).agg("row")
    return {symbol: np.asarray(rows, dtype=np.int64) for symbol, rows in zip(*parts, strict=True)}


def _table(frame: pl.DataFrame, names: Sequence[str], features: Sequence[str]) -> pl.DataFrame:
    absent = [name for name in [*names, *features] if name not in frame.columns]
    if absent:
        raise BadInput(f"no column {', '.join(map(repr, absent))}; there are {', '.join(frame.columns)}")
    for name in names:
        kind = pl.String if name == "symbol" else UTC_US
        if frame.schema[name] != kind:
            raise BadInput(f"column {name!r} is {frame.schema[name]}; it must be {kind}")
        if frame[name].null_count():
            raise BadInput(f"column {name!r} has {frame[name].null_count()} nulls; every row needs one")
    return frame.select(*names, *features)


def _us(column: pl.Series) -> npt.NDArray[np.int64]:
    return column.to_physical().to_numpy().astype(np.int64)
