"""Check ``later-rows``: features that know later rows.

What is new in a feature at a row is what neither its own last rows, nor the clock, nor what was known of price and
label explains (`innovations`). If it goes with what came after the row by more than an honest forecast can, it was made
of it: noisy copies, centred windows, returns, ranges and volatility of the rows ahead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.innovations import (
    Profile,
    gathered,
    lagged,
    levelled,
    partial,
    pasts,
    profile,
    residual,
    slots,
    stretches,
    tamed,
    unslotted,
)
from backsight_features.audit.table import Table
from backsight_features.rolling import FloatArray, IntArray

CHECK: Final = "later-rows"
EXPLAINED: Final = 0.1
"""Share of what is new in a feature that later returns may explain. A forecast of this strength has the sign of the
next return right in 60 % of the rows; honest ones stay below 58 %."""
LINKED: Final = 0.33
"""Correlation of what is new in a feature with a single later change of the label."""
LEVEL: Final = 0.5
"""Correlation of a feature with its own label, beyond what was known of the label."""
CERTAIN: Final = 6.5
"""Standard errors: below one in a billion by chance, for any number of features and lags."""
LEADS: Final = 64
_MOST_LEADS: Final = 400
_PAST: Final = 12
_PRICE_LIKE: Final = 20.0
"""Ratio of the largest to the smallest value from which on a positive feature is read as a logarithm."""
_NOTHING_NEW: Final = 1e-7
_PERSISTENT: Final = 0.45
"""Autocorrelation at one row that labels which do not overlap stay below, and labels which do exceed."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Something that comes after a row.

    Attributes
    ----------
    what : str
        For a person: ``return``.
    series : ndarray of shape (m,)
        Tamed; at each row what became known there.
    first : int
        Rows from which on it is later than the row.
    label : bool
        Whether it comes from the label, whose changes overlap.
    """

    what: str
    series: FloatArray
    first: int
    label: bool


@dataclass(frozen=True, kw_only=True)
class Look:
    """What features are compared with, on stretches of shape (m,).

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Numbers of the rows, -1 between stretches.
    group : ndarray of shape (m,)
    slot : tuple of ndarray of shape (m,)
        Numbers of the clock.
    ahead : tuple of Ahead
    known : tuple of ndarray
        What was known at each row of price and label.
    beyond : tuple of (str, ndarray)
        What lies ahead in one number, beyond what was known of it: the label, the return over the next rows.
    last : int
        Rows to look ahead.
    """

    rows: IntArray
    group: IntArray
    slot: tuple[IntArray, ...]
    ahead: tuple[Ahead, ...]
    known: tuple[FloatArray, ...]
    beyond: tuple[tuple[str, FloatArray], ...]
    last: int

    def of(self, values: FloatArray) -> FloatArray:
        """Return a column of the table on the stretches, without its symbol's and its slot's mean."""
        present = values[np.isfinite(values)]
        if len(present) and present.min() > 0 and present.max() > _PRICE_LIKE * present.min():
            values = np.log(values)
        return levelled(gathered(values, self.rows), group=self.group, slot=self.slot)


def look(table: Table, stated: int | None) -> Look:
    """Return what the features of a table are compared with; ``stated`` is the horizon in rows, if it is known."""
    last = min(max(LEADS, 2 * (stated or 1)), _MOST_LEADS)
    rows = stretches(table.group, gap=last)
    group = np.where(rows >= 0, table.group[rows], table.group[0])
    slot = tuple(number[rows] for number in slots(table.at, table.step))
    bare = Look(rows=rows, group=group, slot=slot, ahead=(), known=(), beyond=(), last=last)
    label = bare.of(table.label)
    ahead: list[Ahead] = []
    known: list[FloatArray] = []
    whole: list[tuple[str, FloatArray]] = []
    if table.price is not None:
        prices, known, level = _of_price(bare, table.price)
        ahead += prices
        whole += [(f"return over the next {rows} rows", lagged(level, -rows) - level) for rows in (6, 24)]
    persistence = _autocorrelation(label)
    horizon = stated or (1 if abs(persistence) < _PERSISTENT else None)
    if horizon is not None:
        whole.append((f"label {table.roles.label}", label))
        known += [lagged(label, horizon), *(lagged(label, horizon + i) - lagged(label, horizon) for i in (1, 2, 3, 6))]
    overlapping = persistence >= _PERSISTENT
    change = label - lagged(label, 1) if overlapping else label
    ahead.append(Ahead(what=f"label {table.roles.label}", series=tamed(change), first=int(overlapping), label=True))
    return Look(
        rows=rows,
        group=group,
        slot=slot,
        ahead=tuple(ahead),
        known=tuple(known),
        beyond=tuple((what, residual(series, known)) for what, series in whole),
        last=last,
    )


def later_rows(table: Table, seen: Look) -> Iterator[Finding]:
    """Yield the features that go with what came later by more than an honest forecast can."""
    for name in table.features:
        found = _judged(table, seen, name, seen.of(table.column(name)))
        if found is not None:
            yield found


def _judged(table: Table, seen: Look, name: str, values: FloatArray) -> Finding | None:
    change = values - lagged(values, 1)
    new = residual(change, [*pasts(values, _PAST), *seen.known])
    spread = np.nanstd(change) if np.isfinite(change).any() else 0.0
    if np.isfinite(new).any() and np.nanstd(new) > _NOTHING_NEW * spread:
        new = tamed(unslotted(new, seen.slot))
        for ahead in seen.ahead:
            found = profile(new, ahead.series, first=ahead.first, last=seen.last)
            if _exceeds(found, ahead):
                return _led(table, seen, name, new, ahead, found)
    if not np.nanstd(values) > 0:
        return None
    beyond = residual(values, list(seen.known))
    if np.isfinite(beyond).any() and np.nanstd(beyond) > _NOTHING_NEW * np.nanstd(values):
        for what, whole in seen.beyond:
            correlation, z = partial(beyond, whole, lags=2 * seen.last)
            if abs(correlation) >= LEVEL and abs(z) >= CERTAIN:
                return _levelled(table, seen, name, beyond, whole, what, correlation)
    return None


def _exceeds(found: Profile, ahead: Ahead) -> bool:
    peak = found.peak
    single = abs(found.correlation[peak]) >= LINKED and abs(found.z[peak]) >= CERTAIN
    # Changes of a label overlap, so that one link shows at several leads; their sum would count it twice.
    return single or (not ahead.label and found.share >= EXPLAINED and found.surprise >= CERTAIN)


def _led(table: Table, seen: Look, name: str, new: FloatArray, ahead: Ahead, found: Profile) -> Finding:
    lead = int(found.lead[found.peak])
    n = len(new)
    together = np.abs(new[: n - lead] * ahead.series[lead:])
    row = int(seen.rows[together.argmax()])
    later = min(row + lead, len(table) - 1)
    column = table.roles.label if ahead.label else table.roles.price
    assert column is not None
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}; {table.said(column, later)}",
        said=f"what is new in {name} goes with the {ahead.what} {lead} rows later by "
        f"{found.correlation[found.peak]:+.2f}"
        + ("" if ahead.label else f", and later rows explain {max(found.share, 0):.0%} of it")
        + ": more than an honest forecast can.",
        right=f"make {name} of rows up to its own: no centred window, no shift to the front, no fill from behind",
        rows=lead + 1,
    )


def _levelled(
    table: Table, seen: Look, name: str, beyond: FloatArray, whole: FloatArray, what: str, correlation: float
) -> Finding:
    row = int(seen.rows[np.abs(tamed(beyond) * tamed(whole)).argmax()])
    of = table.roles.label if what.startswith("label") or table.roles.price is None else table.roles.price
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}; {table.said(of, row)}",
        said=f"{name} goes with the {what} by {correlation:+.2f}, beyond what was known: more than an honest forecast "
        "can.",
        right=f"make {name} of rows up to its own",
        rows=2,
    )


def _of_price(bare: Look, price: FloatArray) -> tuple[list[Ahead], list[FloatArray], FloatArray]:
    """Return what the price did at each row, what was known of it, and the price, as a logarithm if it can be."""
    positive = np.where(price > 0, price, np.nan)
    level = gathered(
        np.log(positive) if np.isfinite(positive).mean() > 0.99 * np.isfinite(price).mean() else price, bare.rows
    )
    move = levelled(level - lagged(level, 1), group=bare.group, slot=bare.slot)
    size = np.abs(move)
    size = size - np.nanmean(size)
    recent = [np.nan_to_num(_trailing(size, rows)) for rows in (6, 24, 120)]
    moves = [lagged(move, i) for i in range(_PAST)]
    sizes = [lagged(size, i) for i in range(_PAST)]
    new_move = residual(move, moves[1:])
    new_size = residual(size, [*sizes[1:], *(lagged(one, 1) for one in recent)])
    level = levelled(level, group=bare.group, slot=bare.slot)
    known = [level, *moves, *sizes, *recent]
    return (
        [
            Ahead(what="return", series=tamed(unslotted(new_move, bare.slot)), first=1, label=False),
            Ahead(what="size of the return", series=tamed(unslotted(new_size, bare.slot)), first=1, label=False),
        ],
        [np.nan_to_num(one) for one in known],
        level,
    )


def _trailing(values: FloatArray, rows: int) -> FloatArray:
    total = np.cumsum(np.nan_to_num(values))
    return (total - np.nan_to_num(lagged(total, rows))) / rows


def _autocorrelation(values: FloatArray) -> float:
    before = lagged(values, 1)
    both = np.isfinite(values) & np.isfinite(before)
    if both.sum() < 3 or not values[both].std() or not before[both].std():
        return 0.0
    return float(np.corrcoef(values[both], before[both])[0, 1])
