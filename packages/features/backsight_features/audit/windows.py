"""Check ``later-rows``, second look: means over windows that are centred on their row, of other columns of the table.

A mean over the rows from a before to b after its own moves by ``(s[t + b] - s[t - a - 1]) / n`` from row to row. That
is compared exactly, for each column, each feature and each length. A window that merely ends later than a column is no
proof: that column may be the lag of another. One that lies even on both sides of it is, unless another column explains
it as a window that ends at its row.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import BoolArray, FloatArray, IntArray

CHECK: Final = "later-rows"
_LENGTHS: Final = (*range(5, 50), 60, 61, 72, 73, 90, 91, 96, 97, 120, 121, 168, 169)
_SHAPES: Final = np.array(
    [(n - 1, 0) for n in _LENGTHS]
    + [((n - 1) // 2, n // 2) for n in _LENGTHS]
    + [(n // 2, (n - 1) // 2) for n in _LENGTHS]
)
"""Rows before and after of each window: those that end at their row, and those that lie even on both sides of it."""
_ROWS: Final = 256
_FEW: Final = 16
_NEAR: Final = 1e-3
"""Of the standard deviation of the change of a feature: what rounding may have changed."""
_HELD: Final = 0.98
_MOST_COLUMNS: Final = 200


def centred_windows(table: Table) -> Iterator[Finding]:
    """Yield the features that are means of another column over windows which reach as far after their row as before."""
    length = max(_LENGTHS)
    rows = _inner_rows(table, length + 1)
    if len(rows) < 50:
        return
    names = table.features[:_MOST_COLUMNS]
    columns = {name: table.column(name) for name in names}
    sources = dict(columns)
    if table.price is not None and table.roles.price is not None:
        sources.setdefault(table.roles.price, table.price)
        with np.errstate(divide="ignore", invalid="ignore"):
            sources["return"] = np.diff(np.log(table.price), prepend=np.nan)
    around = np.arange(-length - 1, length + 1)
    stacked = np.stack([one[rows[:, None] + around] for one in sources.values()])
    for name, values in columns.items():
        change = values[rows] - values[rows - 1]
        present = np.isfinite(change)
        spread = change[present].std() if present.sum() > 50 else 0.0
        if not spread or (change[present] == 0).mean() > 0.5:
            continue
        found = _matching(change, stacked, spread, skip=list(sources).index(name))
        if found is not None:
            source, before, after = found
            yield _told(table, name, list(sources)[source], before, after, int(rows[len(rows) // 2]))


def _inner_rows(table: Table, reach: int) -> IntArray:
    """Return some rows that have so many of their symbol before and after them."""
    inner: IntArray = np.arange(reach, max(len(table) - reach, reach))
    inner = inner[table.group[inner - reach] == table.group[inner + reach]]
    some: IntArray = inner[np.linspace(0, len(inner) - 1, min(_ROWS, len(inner))).astype(int)]
    return some


def _matching(change: FloatArray, stacked: FloatArray, spread: float, skip: int) -> tuple[int, int, int] | None:
    """Return the column whose centred window explains a change, and its rows before and after.

    None if nothing does, or a window that ends at its row.
    """
    few = np.linspace(0, len(change) - 1, _FEW).astype(int)
    held = _held(change[few], stacked[:, few], spread)
    held[skip] = False
    found = None
    for source, shape in zip(*np.nonzero(held), strict=True):
        if _held(change, stacked[[source]], spread, _SHAPES[[shape]]).all():
            before, after = (int(one) for one in _SHAPES[shape])
            if not after:
                return None
            found = found or (int(source), before, after)
    return found


def _held(change: FloatArray, stacked: FloatArray, spread: float, shapes: IntArray = _SHAPES) -> BoolArray:
    """Return which windows of which columns move as a feature does, of shape (columns, shapes)."""
    here = stacked.shape[2] // 2
    before, after = shapes.T
    moved = (stacked[:, :, here + after] - stacked[:, :, here - before - 1]) / (before + after + 1)
    present = np.isfinite(moved) & np.isfinite(change)[None, :, None]
    near = present & (np.abs(np.where(present, moved, 0) - np.nan_to_num(change)[None, :, None]) <= _NEAR * spread)
    return np.asarray(near.sum(axis=1) >= np.maximum(_HELD * present.sum(axis=1), 0.5 * len(change)))


def _told(table: Table, name: str, source: str, before: int, after: int, row: int) -> Finding:
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}: a mean that reaches to {table.said(source, row + after)}"
        if source in table.frame.columns
        else f"{table.said(name, row)}: a mean that reaches to the {source} {after} rows later",
        said=f"{name} is the mean of {source} over {before} rows before its own and {after} after it.",
        right=f"a mean over the {before + after + 1} rows that end at its own",
        rows=before + after + 1,
    )
