"""Check ``target``: the label, or the label of a row whose outcome was not known yet, in a feature.

Pairs of rows that lie close to each other are drawn. A feature that is a copy of the label so many rows later, scaled,
bent or cut into two, puts each pair in the same order (or each in the opposite one) as the label does. An honest
feature does not, however strongly the label goes with its own past: rows a few steps apart differ by what is new.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import FloatArray, IntArray

CHECK: Final = "target"
ALIKE: Final = 0.998
"""Share of pairs in one order, less the share in the other, from which on a feature is a copy."""
SMOOTH: Final = 0.98
"""A label that puts pairs in the same order as its own honest past by more than this cannot tell a copy."""
SHIFTS: Final = 64
_PAIRS: Final = 4_096
_APART: Final = 16
_LEAST: Final = 150
_LEAST_ROWS_OF_VALUE: Final = 5
_SHARE_OF_VALUES: Final = 0.2


def copies(table: Table, horizon: int | None) -> Iterator[Finding]:
    """Yield the features that are copies of a label that was not known at their row."""
    known = -(horizon or 1)
    pairs = near_pairs(table.group)
    shifts = np.arange(known - SHIFTS, SHIFTS + 1)
    label = _at_shifts(table, table.label, pairs, shifts)
    honest = shifts <= known
    if _smooth(table, label, pairs, shifts, known):
        return
    for name in table.features:
        values = table.column(name)
        order = signs(values[pairs[0]], values[pairs[1]])
        alike, counted = agreement(order, label)
        suspect = np.where(honest | (counted < _LEAST), 0.0, np.abs(alike))
        best = int(suspect.argmax())
        if suspect[best] >= ALIKE and np.abs(alike[honest]).max() < SMOOTH:
            yield _copied(table, name, values, int(shifts[best]), -known)
        elif (found := _encoded(table, name, values)) is not None:
            yield found


def near_pairs(group: IntArray) -> IntArray:
    """Return pairs of rows of one symbol that lie up to 16 rows apart, of shape (2, pairs); the same in each run."""
    random = np.random.default_rng(0)
    ours = random.integers(0, len(group), _PAIRS)
    theirs = ours + random.integers(1, _APART + 1, _PAIRS)
    inside = theirs < len(group)
    ours, theirs = ours[inside], theirs[inside]
    return np.stack([ours, theirs])[:, group[ours] == group[theirs]]


def agreement(order: FloatArray, others: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return how far pairs are in the same order (Goodman and Kruskal's gamma), and how many have an order at all.

    Parameters
    ----------
    order : ndarray of shape (pairs,)
        Sign of the difference in each pair; NaN where there is none.
    others : ndarray of shape (k, pairs), float32
        The same of k other series; 0 where there is none.
    """
    known = np.where(np.isfinite(order), order, 0).astype(np.float32)
    surplus, counted = others @ known, np.abs(others) @ np.abs(known)
    return np.divide(surplus, counted, out=np.zeros(len(others)), where=counted > 0), counted.astype(np.int64)


def _at_shifts(table: Table, values: FloatArray, pairs: IntArray, shifts: IntArray) -> FloatArray:
    """Return the signs of the differences of pairs so many rows later, shape (shifts, pairs); 0 where there is none."""
    moved = pairs[None] + shifts[:, None, None]
    inside = (moved >= 0) & (moved < len(values))
    moved = np.where(inside, moved, 0)
    inside &= table.group[moved] == table.group[pairs][None]
    found = np.where(inside, values[moved], np.nan)
    return signs(found[:, 0], found[:, 1])


def signs(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """Return the sign of each difference, float32; 0 where there is none."""
    return np.nan_to_num(np.sign(theirs - ours)).astype(np.float32)


def _smooth(table: Table, label: FloatArray, pairs: IntArray, shifts: IntArray, known: int) -> bool:
    """Return whether the label repeats what was honestly known of it so closely that a copy cannot be told."""
    now = label[np.flatnonzero(shifts == 0)[0]]
    alike, _ = agreement(now, label[shifts <= known])
    return bool(np.abs(alike).max(initial=0) >= SMOOTH)


def _copied(table: Table, name: str, values: FloatArray, shift: int, horizon: int) -> Finding:
    later = table.later(table.label, shift)
    present = np.flatnonzero(np.isfinite(values) & np.isfinite(later) & (later != np.nanmedian(later)))
    row = int(present[0])
    label = table.roles.label
    if shift == 0:
        said = f"{name} is a copy of the label {label} of the same row, as it is, scaled or bent."
    elif shift > 0:
        said = f"{name} is a copy of the label {label} {shift} rows later, as it is, scaled or bent."
    else:
        said = (
            f"{name} is a copy of the label {label} {-shift} rows earlier, whose outcome is known only "
            f"{horizon} rows after its own row."
        )
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}, made of {table.said(label, row + shift)}",
        said=said,
        right=f"leave {name} out, or make it of labels of {horizon} rows earlier, and before",
    )


def _encoded(table: Table, name: str, values: FloatArray) -> Finding | None:
    """Return a finding where each value of a feature is the mean label of the rows that have it (target encoding)."""
    if len(np.unique(values[table.some])) > _SHARE_OF_VALUES * len(table.some):
        return None
    present = np.isfinite(values) & np.isfinite(table.label)
    distinct, member, count = np.unique(values[present], return_inverse=True, return_counts=True)
    if not 3 <= len(distinct) <= _SHARE_OF_VALUES * present.sum() or np.median(count) < _LEAST_ROWS_OF_VALUE:
        return None
    mean = np.bincount(member, table.label[present]) / count
    spread = mean.std()
    if not spread or (np.abs(mean - distinct) > 1e-4 * spread).mean() > 0.05:
        return None
    row = int(np.flatnonzero(present)[0])
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}: the mean of {table.roles.label} over all rows with this value, later ones too",
        said=f"each of the {len(distinct)} values of {name} is the mean label of all rows that have it.",
        right="make the mean of the labels that were known before each row, or of the training part only",
        rows=int(count.min()),
    )
