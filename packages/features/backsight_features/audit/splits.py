"""Checks ``overlap``, ``shuffled`` and ``duplicates``: what judged rows share with those that are learnt from."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table, when
from backsight_features.clocks import from_us
from backsight_features.rolling import BoolArray, FloatArray

OVERLAP: Final = "overlap"
SHUFFLED: Final = "shuffled"
DUPLICATES: Final = "duplicates"
_MIXED: Final = 20
"""Times that judged rows must begin anew before a split is called shuffled."""
_SHORT: Final = 10.0
"""Rows in a row that are judged, on average, below which a split is shuffled."""
_DISTINCT: Final = 0.9
_LEAST_ALIKE: Final = 3
_MICROSECOND_NAMES: Final = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"))


def overlaps(table: Table, rows: int | None) -> Iterator[Finding]:
    """Yield a finding where a label that is learnt from reaches beyond the instant of a row that is judged, or back."""
    if table.parts is None or rows is None:
        return
    horizon = rows * table.step
    for learnt, judged in table.parts.rounds:
        after = _distance(table, learnt, judged)
        before = _distance(table, learnt, judged, backward=True)
        within = learnt & np.isfinite(table.label) & (np.minimum(after, before) < horizon)
        if not within.any():
            continue
        forward = within & (after < horizon)
        chosen = forward if forward.any() else within
        near = np.where(forward.any(), after, before)
        row = int(np.flatnonzero(chosen)[near[chosen].argmax()])
        other = int(table.at[row] + (after[row] if forward.any() else -before[row]))
        yield Finding(
            check=OVERLAP,
            name=table.parts.name,
            where=table.where,
            instant=table.instant(row),
            datum=f"{table.said(table.roles.label, row)} and learnt from; "
            f"it reaches {lasting(horizon)} ahead, and the row of "
            f"{when(from_us(other))} is judged",
            said=f"the labels of {within.sum():,} rows that are learnt from share time with labels that are judged.",
            right=f"leave {lasting(horizon)} of rows out before what is judged (purge), and after it (embargo)",
            rows=2,
        )
        return


def lasting(us: int) -> str:
    """Return a length of time for a person, in its largest whole unit.

    >>> lasting(86_400_000_000), lasting(5_400_000_000)
    ('1d', '90m')
    """
    return next((f"{us // size}{name}" for size, name in _MICROSECOND_NAMES if us % size == 0), f"{us / 1e6:g}s")


def _distance(table: Table, learnt: BoolArray, judged: BoolArray, *, backward: bool = False) -> FloatArray:
    """Return how far it is from each row to the next judged row of its symbol, or the last one; microseconds."""
    number = np.arange(len(table))
    if backward:
        nearest = np.maximum.accumulate(np.where(judged, number, -1))
        inside = nearest >= 0
    else:
        nearest = len(table) - 1 - np.maximum.accumulate(np.where(judged[::-1], number, -1))[::-1]
        inside = nearest < len(table)
    nearest = np.clip(nearest, 0, len(table) - 1)
    inside &= table.group[nearest] == table.group
    return np.where(inside, np.abs(table.at[nearest] - table.at), np.inf)


def shuffles(table: Table) -> Iterator[Finding]:
    """Yield a finding where rows that are judged lie in between those that are learnt from."""
    if table.parts is None:
        return
    for learnt, judged in table.parts.rounds:
        used = np.flatnonzero(learnt | judged)
        member = judged[used]
        begins = member & np.concatenate([[True], ~member[:-1] | (table.group[used][1:] != table.group[used][:-1])])
        runs = int(begins.sum())
        if runs < _MIXED * len(np.unique(table.group)) or member.sum() > _SHORT * runs:
            continue
        later = np.flatnonzero(member[:-1] & ~member[1:] & (table.group[used][1:] == table.group[used][:-1]))
        row, following = int(used[later[0]]), int(used[later[0] + 1])
        yield Finding(
            check=SHUFFLED,
            name=table.parts.name,
            where=table.where,
            instant=table.instant(row),
            datum=f"the row of {when(table.instant(row))} is judged, "
            f"that of {when(table.instant(following))} learnt from",
            said=f"judged rows lie between rows that are learnt from, {runs:,} times, on average "
            f"{member.sum() / runs:.1f} in a row: the split is shuffled.",
            right="split by time: learn from what was known before the first row that is judged",
            rows=2,
        )
        return


def duplicates(table: Table) -> Iterator[Finding]:
    """Yield a finding where the same row is learnt from and judged.

    Rows that repeat their neighbour are no copies: nothing moved.
    """
    if table.parts is None or not table.features:
        return
    hashes = table.frame.select(*table.features, table.roles.label).hash_rows().to_numpy()
    stale = np.zeros(len(table), bool)
    apart = np.diff(table.at) > 0
    stale[1:] |= (hashes[1:] == hashes[:-1]) & apart
    stale[:-1] |= (hashes[1:] == hashes[:-1]) & apart
    for learnt, judged in table.parts.rounds:
        fresh = learnt & ~stale
        if not fresh.any() or len(np.unique(hashes[fresh])) < _DISTINCT * fresh.sum() / 2:
            continue
        known = np.unique(hashes[learnt & ~stale])
        again = judged & ~stale & np.isin(hashes, known)
        if again.sum() < _LEAST_ALIKE:
            continue
        row = int(np.flatnonzero(again)[0])
        twin = int(np.flatnonzero(learnt & ~stale & (hashes == hashes[row]))[0])
        yield Finding(
            check=DUPLICATES,
            name=table.parts.name,
            where=table.where,
            instant=table.instant(row),
            datum=f"the row of {when(table.instant(row))} is judged; the one of {when(table.instant(twin))}, which is "
            f"learnt from, has the same {len(table.features)} features and label",
            said=f"{again.sum():,} rows that are judged are learnt from as well.",
            right="keep one of each before splitting, and keep it in one part",
            rows=2,
        )
        return
