"""Check ``backfill``: gaps that were filled with what came after them."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import BoolArray, FloatArray, IntArray

CHECK: Final = "backfill"
_LEAST: Final = 5
"""Filled rows that show how they were filled, at least."""
_MOSTLY: Final = 0.9
_WARM_UP: Final = 3
"""Equal values at the start that may be chance."""
_RARE: Final = 0.02
"""Share of rows that repeat the one before them, up to which a feature changes at every row."""
_RUNS: Final = 25
_OFTEN: Final = 0.25
"""Share of rows that repeat the one before them, up to which standing still is the exception."""
_LINKED: Final = 0.4
_CERTAIN: Final = 4.5
_NEAR: Final = 1e-6


def backfills(table: Table) -> Iterator[Finding]:
    """Yield the features whose gaps hold what came after them."""
    gapped = [name for name in table.features if 0 < table.frame[name].null_count() < 0.9 * len(table)]
    gappy = {name: table.column(name) for name in gapped}
    sources = dict(list(gappy.items())[:20])
    if table.price is not None and table.roles.price is not None:
        sources[table.roles.price] = table.price
    for name in table.features:
        values = gappy[name] if name in gappy else table.column(name)
        found = _beside(table, name, values, sources) or _warmed_up(table, name, values) or _runs(table, name, values)
        if found is not None:
            yield found


def _beside(table: Table, name: str, values: FloatArray, sources: dict[str, FloatArray]) -> Finding | None:
    """Compare with a column that is the same but for its gaps, or the price, and see what fills them."""
    for source, raw in sources.items():
        if source == name or not _alike(values[table.some], raw[table.some]):
            continue
        if source == table.roles.price:
            repeated = np.concatenate([[False], values[1:] == values[:-1]]) | np.concatenate(
                [values[1:] == values[:-1], [False]]
            )
            raw = np.where(repeated & (values != raw), np.nan, raw)
        same = np.isfinite(raw) & np.isfinite(values)
        filled = ~np.isfinite(raw) & np.isfinite(values)
        if filled.sum() < _LEAST or same.sum() < filled.sum() / 4:
            continue
        scale = np.nanstd(raw)
        with np.errstate(invalid="ignore"):
            if not scale or (np.abs(values - raw)[same] <= _NEAR * scale).mean() < 0.99:
                continue
        before, after, share = _around(table, raw)
        told = filled & np.isfinite(before) & np.isfinite(after) & (np.abs(after - before) > 10 * _NEAR * scale)
        ways = {"the next value": after, "a line to the next value": before + share * (after - before)}
        for way, filling in ways.items():
            with np.errstate(invalid="ignore"):
                as_filled = told & (np.abs(values - filling) <= 10 * _NEAR * scale)
            if told.sum() >= _LEAST and as_filled.sum() >= _MOSTLY * told.sum():
                row = int(np.flatnonzero(as_filled)[0])
                return _told(table, name, row, row + int(_next(raw)[row]), f"gaps of {source} are filled with {way}")
    return None


def _alike(values: FloatArray, raw: FloatArray) -> bool:
    """Return whether two columns are mostly the same, up to rounding, where both have a value."""
    both = np.isfinite(values) & np.isfinite(raw)
    if not both.any():
        return False
    return bool((np.abs(values[both] - raw[both]) <= _NEAR * np.abs(raw[both])).mean() > 0.5)


def _around(table: Table, raw: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the value before each row, the one after it, and how far the row has come from one to the other."""
    n, present = len(raw), np.isfinite(raw)
    number = np.arange(n)
    last = np.maximum.accumulate(np.where(present, number, -1))
    following = n - 1 - np.maximum.accumulate(np.where(present[::-1], number, -1))[::-1]
    inside = (last >= 0) & (following < n)
    inside &= table.group[np.clip(last, 0, None)] == table.group[np.clip(following, None, n - 1)]
    before = np.where(inside, raw[np.clip(last, 0, None)], np.nan)
    after = np.where(inside, raw[np.clip(following, None, n - 1)], np.nan)
    return before, after, np.where(inside, (number - last) / np.maximum(following - last, 1), np.nan)


def _next(raw: FloatArray) -> IntArray:
    """Return how many rows it takes to the next value."""
    n, number = len(raw), np.arange(len(raw))
    return n - 1 - np.maximum.accumulate(np.where(np.isfinite(raw)[::-1], number, -1))[::-1] - number


def _warmed_up(table: Table, name: str, values: FloatArray) -> Finding | None:
    """Look at the start of each symbol: a feature that needs a past, and has a value before there was one."""
    equal = np.concatenate([[False], (values[1:] == values[:-1]) & ~table.first[1:]])
    if equal.mean() > _RARE + 64 * table.first.sum() / len(values) or table.frame[name].null_count() > 0.5 * len(
        values
    ):
        return None
    starts = np.flatnonzero(table.first)
    lengths = np.array([_run(equal, int(start)) for start in starts])
    elsewhere = equal.copy()
    for start, length in zip(starts, lengths, strict=True):
        elsewhere[start : start + length] = False
    longest = int(lengths.max())
    if longest < max(_WARM_UP, 2 * _longest(elsewhere)) or np.median(lengths) < _WARM_UP:
        return None
    row = int(starts[lengths.argmax()])
    if _special(values, values[row], longest):
        return None
    return _told(table, name, row, row + longest - 1, f"the first {longest} rows hold the value of row {longest}")


def _run(equal: BoolArray, start: int) -> int:
    """Return how many rows from one on are equal."""
    tail = equal[start + 1 : start + 5_000]
    return 1 + (int(tail.argmin()) if not tail.all() else len(tail))


def _longest(equal: BoolArray) -> int:
    """Return the length of the longest run of equal rows."""
    edges = np.diff(np.concatenate([[0], equal.astype(np.int8), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return 1 + int(lengths.max(initial=0))


def _special(values: FloatArray, value: float, run: int) -> bool:
    """Return whether a value is one that people fill gaps with: a whole number, the mean, the median or an extreme."""
    rest = values[np.isfinite(values)]
    spread = rest.std()
    usual = (rest[run:].mean(), rest.mean(), np.median(rest), np.median(rest[run:]), rest.min(), rest.max())
    return value == round(value) or any(abs(value - one) <= 1e-6 * spread for one in usual)


def _runs(table: Table, name: str, values: FloatArray) -> Finding | None:
    """Look at runs of equal values: the step *into* a run must not go with what the price, or the label, does in it."""
    equal = np.concatenate([[False], (values[1:] == values[:-1]) & ~table.first[1:]])
    edges = np.diff(np.concatenate([equal.astype(np.int8), [0]]), prepend=0)
    starts = np.flatnonzero(edges == 1) - 1
    ends = np.flatnonzero(edges[1:] == -1)
    starts, ends = starts[: len(ends)], ends[: len(starts)]
    usable = (starts > 0) & ~table.first[starts] if len(starts) else np.zeros(0, bool)
    starts, ends = starts[usable], ends[usable]
    if len(starts) < _RUNS or equal.mean() > _OFTEN:
        return None
    # A value that comes again is one that the feature rests at, such as a bound, and how long depends on what comes.
    _, member, count = np.unique(values[starts], return_inverse=True, return_counts=True)
    starts, ends = starts[count[member] == 1], ends[count[member] == 1]
    step = values[starts] - values[starts - 1]
    if table.price is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            came = np.log(table.price[ends] / table.price[starts])
    else:
        came = table.label[starts]
    both = np.isfinite(step) & np.isfinite(came) & (step != 0)
    if both.sum() < _RUNS:
        return None
    correlation = _rank_correlation(step[both], came[both])
    if abs(correlation) < _LINKED or abs(correlation) * np.sqrt(both.sum()) < _CERTAIN:
        return None
    which = int(np.flatnonzero(both)[np.abs(step[both]).argmax()])
    said = f"where {name} stands still, the step into the run goes with what came during it by {correlation:+.2f}"
    return _told(table, name, int(starts[which]), int(ends[which]), said)


def _rank_correlation(one: FloatArray, other: FloatArray) -> float:
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _told(table: Table, name: str, row: int, later: int, said: str) -> Finding:
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}, which came only at {table.said(name, min(later, len(table) - 1))}",
        said=f"{name} is filled from behind: {said}.",
        right="leave a gap a gap, or fill it with what was known before it",
        rows=max(later - row, 0) + 1,
    )
