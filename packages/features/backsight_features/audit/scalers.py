"""Check ``scaler``: statistics that were fitted on all rows, those that are judged as well.

A scaler that was fitted on the training part leaves *there* a mean of 0 and a deviation of 1, to the last digit. If all
rows together have them instead, all rows were in the fit.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import BoolArray, FloatArray

CHECK: Final = "scaler"
_MEAN: Final = 1e-5
_SPREAD: Final = 2e-5
"""How close to 0 and to 1, given that values are stored as float32 or with six digits."""
_EXTREME: Final = 1e-6
_DISTINCT: Final = 50
_LEAST: Final = 50
_FILLED: Final = 5
_SHOWN: Final = 3
"""Times that a value must come in some of the rows to be counted in all of them."""
_FIT: Final = 1e-6


def scalers(table: Table) -> Iterator[Finding]:
    """Yield the features that were scaled, ranked, filled or detrended with all rows."""
    if table.parts is None:
        return
    learnt, judged = table.parts.rounds[0]
    for name in table.features:
        values = table.column(name)
        if len(np.unique(values[table.some])) < _DISTINCT:
            continue
        used = np.isfinite(values)
        every, train = values[used], values[used & learnt]
        if len(train) < _LEAST or (used & judged).sum() < _LEAST:
            continue
        said = (
            _scaled(every, train)
            or _filled(every, train)
            or _ranked(every, train)
            or _detrended(table, values, used, used & learnt)
        )
        if said:
            yield _told(table, name, values, judged & used, said)


def _scaled(every: FloatArray, train: FloatArray) -> str | None:
    """Return what was standardised with all rows and not with those of the training part."""
    if _standard(every) and not _standard(train):
        return "its mean is 0 and its standard deviation 1 over all rows, and not over those that are learnt from"
    quarters = np.quantile(every, [0.25, 0.5, 0.75])
    if abs(quarters[1]) < _MEAN and abs(quarters[2] - quarters[0] - 1) < _SPREAD:
        theirs = np.quantile(train, [0.25, 0.5, 0.75])
        if abs(theirs[1]) >= _MEAN or abs(theirs[2] - theirs[0] - 1) >= _SPREAD:
            return (
                "its median is 0 and its quartiles are 1 apart over all rows, and not over those that are learnt from"
            )
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if _spans(every, low, high) and not _spans(train, low, high):
            return f"it spans {low:g} to {high:g} over all rows, and not over those that are learnt from"
    if _largest(every) and not _largest(train) and every.min() < 0 < every.max():
        return "its largest size is 1 over all rows, and not over those that are learnt from"
    return None


def _standard(values: FloatArray) -> bool:
    n = len(values)
    spread = values.std()
    near = min(abs(spread - 1), abs(spread * np.sqrt(n / (n - 1)) - 1))
    return bool(abs(values.mean()) < _MEAN and near < _SPREAD)


def _spans(values: FloatArray, low: float, high: float) -> bool:
    """Return whether a column reaches from one number to another, and reaches each of them once or twice only."""
    if abs(values.min() - low) > _EXTREME or abs(values.max() - high) > _EXTREME:
        return False
    return bool((values <= values.min()).sum() <= 2 and (values >= values.max()).sum() <= 2)


def _largest(values: FloatArray) -> bool:
    size = np.abs(values)
    return bool(abs(size.max() - 1) <= _EXTREME and (size >= size.max()).sum() == 1)


def _filled(every: FloatArray, train: FloatArray) -> str | None:
    """Return whether one value stands in many rows, and is the mean or median of all the others."""
    few = every[:: max(len(every) // 20_000, 1)]
    if np.unique(few, return_counts=True)[1].max() < _SHOWN:
        return None
    distinct, count = np.unique(every, return_counts=True)
    most = int(count.argmax())
    usual = np.delete(count, most)
    if count[most] < _FILLED or count[most] < 4 * usual.max() or count[most] > 0.5 * len(every):
        return None
    value = distinct[most]
    if value == round(value):
        return None  # a number that stands there by itself: no trade, no post
    others, theirs = every[every != value], train[train != value]
    spread = others.std()
    for what, of in (("mean", np.mean), ("median", np.median)):
        # The median of an odd number of rows is one of them, and stands among the filled ones.
        near = min(abs(value - of(one)) for one in (others, np.append(others, value)))
        if near <= _FIT * spread and abs(value - of(theirs)) > 10 * _FIT * spread:
            return (
                f"{count[most]} rows hold {value:.6g}, the {what} of all others, and not of those that are learnt from"
            )
    return None


def _ranked(every: FloatArray, train: FloatArray) -> str | None:
    """Return whether the values are the ranks of all rows, as evenly spaced as a ruler."""
    n = len(every)
    quarters = np.quantile(every[:: max(n // 20_000, 1)], [0, 0.25, 0.5, 0.75, 1])
    if np.abs(np.diff(quarters) * 4 - np.ptp(quarters)).max() > 0.1 * np.ptp(quarters):
        return None  # not even roughly a ruler
    ordered = np.sort(every)
    steps = np.diff(ordered)
    width = ordered[-1] - ordered[0]
    if not width or np.abs(steps * (n - 1) / width - 1).max() > 1e-2:
        return None
    if np.array_equal(ordered, every) or np.array_equal(ordered[::-1], every):
        return None  # a counter of rows
    share = len(train) / n
    return None if share > 0.999 else "its values are the ranks of all rows: evenly spaced, the judged ones among them"


def _detrended(table: Table, values: FloatArray, used: BoolArray, learnt: BoolArray) -> str | None:
    """Return whether a straight line through all rows was taken away."""
    if len(np.unique(table.group)) > 1 or not _flat(values, used):
        return None
    return (
        None if _flat(values, learnt) else "it has no trend and no mean over all rows, and has over those learnt from"
    )


def _flat(values: FloatArray, used: BoolArray) -> bool:
    x = np.flatnonzero(used).astype(np.float64)
    y, x = values[used], x - x.mean()
    spread = y.std()
    slope = x @ y / np.sqrt((x @ x) * (y @ y)) if spread else 1.0
    return bool(spread and abs(y.mean()) < _FIT * spread and abs(slope) < _FIT)


def _told(table: Table, name: str, values: FloatArray, judged: BoolArray, said: str) -> Finding:
    at = np.flatnonzero(judged)
    row = int(at[np.abs(values[at]).argmax()])
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}, a row that is judged and was in the fit",
        said=f"{name} was fitted on all rows: {said}.",
        right="fit it on the rows that are learnt from, and apply it to the others",
        rows=int(np.isfinite(values).sum()),
    )
