"""Checks ``open-stamp`` and ``horizon``: features and labels against the price that was known at each row."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from backsight_features.audit.copies import ALIKE, SMOOTH, agreement, near_pairs, signs
from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import FloatArray, IntArray

OPEN_STAMP: Final = "open-stamp"
HORIZON: Final = "horizon"
_LEAST_PAIRS: Final = 150
_BROKEN: Final = 0.02
"""Share of rows that must break a bound for it to be no bound."""
_ROWS: Final = 2_000
_EQUAL: Final = 0.98
_SIGNS: Final = 0.999
_NEAR: Final = 1e-4
_FURTHER: Final = 48
_MOST: Final = 1_500


def open_stamps(table: Table) -> Iterator[Finding]:
    """Yield the features that hold the close, high, low or return of the bar that begins at their row."""
    price = table.price
    if price is None:
        return
    pairs = near_pairs(table.group)
    with np.errstate(divide="ignore", invalid="ignore"):
        back = np.log(price / table.later(price, -1))
    back = np.where(np.isfinite(back), back, np.nan)
    series = {"close": price, "return": back, "size of the return": np.abs(back)}
    orders = {}
    for what, values in series.items():
        following = table.later(values, 1)
        orders[what] = np.stack([signs(one[pairs[0]], one[pairs[1]]) for one in (following, values)])
    around = [one[table.some] for one in (price, *(table.later(price, rows) for rows in (1, -1, 2)))]
    for name in table.features:
        values = table.column(name)
        order = signs(values[pairs[0]], values[pairs[1]])
        found = None
        for what, of in orders.items():
            alike, counted = agreement(order, of)
            if counted[0] >= _LEAST_PAIRS and abs(alike[0]) >= ALIKE and abs(alike[1]) < SMOOTH:
                found = what
        found = found or _extreme(values[table.some], *around)
        if found is not None:
            yield _of_next_bar(table, name, values, found)


def _extreme(
    values: FloatArray, price: FloatArray, after: FloatArray, before: FloatArray, second: FloatArray
) -> str | None:
    """Return whether a feature bounds the price of its row and of the next, but neither that before nor the second."""
    with np.errstate(invalid="ignore"):
        present = np.isfinite(values + price + after + before + second)
        if present.sum() < _LEAST_PAIRS:
            return None
        values, price, after, before, second = (one[present] for one in (values, price, after, before, second))
        for what, sign in (("high", 1), ("low", -1)):
            slack = 1e-9 * np.abs(price)
            bounds = [(sign * (values - one) >= -slack).mean() for one in (price, after, before, second)]
            close = np.median(np.abs(values - price)) <= 5 * np.median(np.abs(after - price))
            if min(bounds[:2]) >= 0.999 and max(bounds[2:]) <= 1 - _BROKEN and close:
                return what
    return None


def _of_next_bar(table: Table, name: str, values: FloatArray, what: str) -> Finding:
    assert table.price is not None
    assert table.roles.price is not None
    row = int(np.flatnonzero(np.isfinite(values[:-1]) & ~table.first[1:])[0])
    return Finding(
        check=OPEN_STAMP,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}, made with {table.said(table.roles.price, row + 1)}",
        said=f"{name} is the {what} of the bar that begins at its row: it is stamped with the open of the bar.",
        right="stamp a bar with its close",
        rows=2,
    )


Reach = tuple[str, int, int]
"""What a label is of a price, and from and to which row, relative to its own."""


def reach(table: Table, price: FloatArray | None, *, starts: Sequence[int] = (0, -1, 1, -2, 2)) -> Reach | None:
    """Return what the label is of a price, beginning at one of the rows named; None if nothing is equal.

    Looked for are the price itself, its difference, simple and logarithmic return, their signs, and the realised
    variance and volatility, over up to twice the stated horizon and 48 rows more.
    """
    if price is None:
        return None
    most = min(2 * (table.horizon or 1) + _FURTHER, _MOST, len(table) // 2)
    rows = np.flatnonzero(np.isfinite(table.label) & np.isfinite(price))
    rows = rows[(rows >= 3) & (rows < len(table) - most - 3)]
    rows = rows[table.group[rows - 3] == table.group[rows]]
    rows = rows[table.group[rows + most + 2] == table.group[rows]]
    if len(rows) < 50:
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).astype(int)]
    label = table.label[rows]
    spread = label.std()
    if not spread:
        return None
    binary = table.classes and len(np.unique(label)) == 2
    for start in starts:
        sought = _sign if binary else partial(_equal, spread=spread)
        found = sought(label, price, rows, start, most)
        if found is not None:
            what, stop = found
            return what, start, stop
    return None


def priced(table: Table) -> Table:
    """Return the table with its price, where none was named and the label is the return of a column.

    A price that the label follows at its row is one that was known there. Where the label is the next value itself, a
    column that lags may pass for the price, so that the horizon has to be stated as one row.
    """
    if table.price is not None:
        return table
    for name in table.features:
        column = table.column(name)
        if not np.nanmin(column) > 0:
            continue
        found = reach(table, column, starts=(0,))
        if found is None or (found[0] == "price" and not found[2] == 1 == table.horizon):
            continue
        note = f"{name} is taken for the price: the label is its {found[0]} over {found[2]} rows."
        return replace(
            table,
            roles=replace(table.roles, price=name),
            price=column,
            features=tuple(one for one in table.features if one != name),
            notes=(*table.notes, note),
        )
    return table


def _equal(
    label: FloatArray, price: FloatArray, rows: IntArray, start: int, most: int, *, spread: float
) -> tuple[str, int] | None:
    base = price[rows + start]
    squares = _squares(price)
    for stop in range(start + 1, most + 1):
        end = price[rows + stop]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = end / base
            variance = squares[rows + stop] - squares[rows + start]
            forms = {
                "return": ratio - 1,
                "log return": np.log(ratio),
                "change": end - base,
                "log of the realised variance": np.log(variance),
                "realised variance": variance,
                "realised volatility": np.sqrt(variance),
            }
            if start == 0:
                forms["price"] = end
            for what, values in forms.items():
                if (np.abs(values - label) <= _NEAR * spread).mean() >= _EQUAL:
                    return what, stop
    return None


def _squares(price: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.diff(np.log(price), prepend=np.nan)
    return np.cumsum(np.where(np.isfinite(moves), moves, 0.0) ** 2)


def _sign(label: FloatArray, price: FloatArray, rows: IntArray, start: int, most: int) -> tuple[str, int] | None:
    up = label == label.max()
    for stop in range(start + 1, most + 1):
        rose = price[rows + stop] > price[rows + start]
        same = (rose == up).mean()
        if max(same, 1 - same) >= _SIGNS:
            return "direction", stop
    return None


def horizons(table: Table, found: Reach | None) -> Iterator[Finding]:
    """Yield a finding where the label is of another horizon than stated, or begins before its row."""
    if found is None:
        return
    what, start, stop = found
    stated, rows = table.horizon, stop - start
    early = start < 0
    if not early and (stated is None or stated == rows):
        return
    assert table.roles.price is not None
    row = int(np.flatnonzero(np.isfinite(table.label))[max(2, -start)])
    if early:
        said = f"the label {table.roles.label} is the {what} from {-start} rows before its row: part was known there."
        right = "let the label begin at the price of its own row"
    else:
        said = f"the label {table.roles.label} is the {what} over {rows} rows, and {stated} were stated."
        right = f"state a horizon of {rows} rows, or make the label over {stated}"
    return_to = f"; {table.said(table.roles.price, row + stop)}"
    yield Finding(
        check=HORIZON,
        name=table.roles.label,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(table.roles.label, row)}; {table.said(table.roles.price, row + start)}{return_to}",
        said=said,
        right=right,
        rows=2,
    )
