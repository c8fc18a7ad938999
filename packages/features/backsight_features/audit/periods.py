"""Check ``period``: a value of a whole day, week or month that stands there from its beginning.

A feature that changes with the calendar only, and equals in each period an aggregate of another column over that
period, knows the rows of it that are still to come. One that changes with the calendar and is no aggregate of this
table may have been shifted by a whole period, which cannot be told: that is a warning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding
from backsight_features.audit.table import Table
from backsight_features.rolling import FloatArray, IntArray

CHECK: Final = "period"
_DAY: Final = 86_400_000_000
_WITHIN: Final = 0.001
"""Share of steps inside of periods that may change all the same."""
_BETWEEN: Final = 0.5
_LEAST: Final = 3
_ROWS: Final = 2.5
"""Rows that a period must hold on average."""
_HELD: Final = 0.8
_NEAR: Final = 1e-4
_STRAIGHT: Final = 0.99999
_STRAIGHT_PERIODS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The periods of one kind: ``number`` of each row, and where each begins, in order of symbol and time."""

    name: str
    number: IntArray
    starts: IntArray


def calendars(table: Table) -> tuple[Calendar, ...]:
    """Return the calendars whose periods hold several rows of the table and come several times."""
    days = table.at // _DAY
    months = table.at.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    kinds = {"day": days, "week": (days + 3) // 7, "month": months, "quarter": months // 3, "year": months // 12}
    found = []
    for name, number in kinds.items():
        starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1) | table.first)
        if len(starts) >= _LEAST and len(table) >= _ROWS * len(starts):
            found.append(Calendar(name=name, number=number, starts=starts))
    return tuple(found)


def periods(table: Table) -> Iterator[Finding]:
    """Yield the features that hold an aggregate of a period from its first row on."""
    kinds = calendars(table)
    if not kinds:
        return
    aggregates: dict[str, dict[tuple[str, str], FloatArray]] = {}
    for name in table.features:
        values = table.column(name)
        calendar = next((one for one in kinds if _steps_with(one, values, table)), None)
        if calendar is None or _of_the_calendar(calendar, values, table):
            continue
        if calendar.name not in aggregates:
            aggregates[calendar.name] = dict(_aggregates(table, calendar))
        of_period = values[_last_present(calendar, values)]
        match = _match(of_period, aggregates[calendar.name], name)
        if match is not None:
            yield _convicted(table, name, calendar, *match)
        elif not _of_the_last(of_period, aggregates[calendar.name], name):
            yield _doubted(table, name, calendar)


def _steps_with(calendar: Calendar, values: FloatArray, table: Table) -> bool:
    """Return whether a column changes where a period begins, and nowhere else."""
    step = values[1:] - values[:-1]
    between = np.zeros(len(step), bool)
    between[calendar.starts[1:] - 1] = True
    between |= table.first[1:]
    within, across = step[~between], step[between & ~table.first[1:]]
    within, across = within[np.isfinite(within)], across[np.isfinite(across)]
    if len(across) < _LEAST - 1 or len(within) < len(across):
        return False
    return bool((within != 0).mean() <= _WITHIN and (across != 0).mean() >= _BETWEEN)


def _last_present(calendar: Calendar, values: FloatArray) -> IntArray:
    """Return the row of each period that shows its value: its last one."""
    return np.append(calendar.starts[1:], len(values)) - 1


def _of_the_calendar(calendar: Calendar, values: FloatArray, table: Table) -> bool:
    """Return whether the value follows from the date: the number of a weekday or month, or a count of days."""
    of_period = values[_last_present(calendar, values)]
    finite = np.isfinite(of_period)
    if finite.sum() > 2 and len(np.unique(np.diff(of_period[finite]))) == 1:
        return True
    date = table.at[calendar.starts].astype("datetime64[us]")
    months = date.astype("datetime64[M]").astype(np.int64)
    keys = ((date.astype("datetime64[D]").astype(np.int64) + 3) % 7, months % 12, months)
    for key in keys:
        if len(np.unique(key)) >= len(of_period) / 2:
            continue
        order = np.lexsort((of_period, key))
        same = np.diff(key[order]) == 0
        if (np.abs(np.diff(of_period[order]))[same] <= 1e-9 * (1 + np.abs(of_period[order][1:][same]))).all():
            return True
    return False


def _aggregates(table: Table, calendar: Calendar) -> Iterator[tuple[tuple[str, str], FloatArray]]:
    """Yield aggregates of all columns that vary within the periods, by column and name; one value a period."""
    columns: dict[str, Callable[[], FloatArray]] = {
        name: lambda name=name: table.column(name)  # type: ignore[misc]
        for name in table.features
    }
    columns[table.roles.label] = lambda: table.label
    if table.price is not None and table.roles.price is not None:
        price = table.price
        columns[table.roles.price] = lambda: price
        columns["return"] = lambda: np.where(table.first, np.nan, np.diff(np.log(price), prepend=np.nan))
    starts = calendar.starts
    last = np.append(starts[1:], len(table)) - 1
    for name, of in columns.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            values = of()
        if _steps_with(calendar, values, table):
            continue
        present = np.isfinite(values)
        filled = np.where(present, values, 0.0)
        count = np.add.reduceat(present.astype(np.float64), starts)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.add.reduceat(filled, starts) / count
            deviation = np.where(present, values - np.repeat(mean, np.diff(np.append(starts, len(values)))), 0.0)
            variance = np.add.reduceat(deviation * deviation, starts)
            yield (name, "mean"), mean
            yield (name, "sum"), mean * count
            yield (name, "standard deviation"), np.sqrt(variance / (count - 1))
            yield (name, "standard deviation of all"), np.sqrt(variance / count)
        yield (name, "smallest value"), np.minimum.reduceat(np.where(present, values, np.inf), starts)
        yield (name, "largest value"), np.maximum.reduceat(np.where(present, values, -np.inf), starts)
        yield (name, "last value"), values[last]
        yield (name, "change"), values[last] - values[starts]
        if values[np.isfinite(values)].min() > 0:
            yield (name, "relative change"), values[last] / values[starts]
            yield (name, "log of the change"), np.log(values[last] / values[starts])


def _match(of_period: FloatArray, aggregates: dict[tuple[str, str], FloatArray], own: str) -> tuple[str, str] | None:
    """Return the column and the aggregate of it that a feature equals, scaled or not."""
    for (column, what), values in aggregates.items():
        if column == own:
            continue
        both = np.isfinite(values) & np.isfinite(of_period)
        if both.sum() < _LEAST:
            continue
        one, other = of_period[both], values[both]
        spread = other.std()
        if not spread or not one.std():
            continue
        equal = (np.abs(one - other) <= _NEAR * spread).mean() >= _HELD
        straight = both.sum() > _STRAIGHT_PERIODS and _straight(one[1:], other[1:])
        if equal or straight:
            return column, what
    return None


def _of_the_last(of_period: FloatArray, aggregates: dict[tuple[str, str], FloatArray], own: str) -> bool:
    """Return whether a feature holds an aggregate of the period before, which is over, or whole numbers."""
    shown = of_period[np.isfinite(of_period)]
    if np.array_equal(shown, np.round(shown)):
        return True
    earlier = {key: values[:-1] for key, values in aggregates.items()}
    return _match(of_period[1:], earlier, own) is not None


def _straight(one: FloatArray, other: FloatArray) -> bool:
    """Return whether two series lie on a line; the first period is left out, of which rows may be missing."""
    if not one.std() or not other.std():
        return False
    return bool(abs(np.corrcoef(one, other)[0, 1]) >= _STRAIGHT)


def _convicted(table: Table, name: str, calendar: Calendar, column: str, what: str) -> Finding:
    sizes = np.diff(np.append(calendar.starts, len(table)))
    period = int(sizes.argmax())
    row = int(calendar.starts[period])
    last = row + int(sizes[period]) - 1
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(name, row)}: the {what} of {column} over the {calendar.name}, up to "
        + (table.said(column, last) if column in table.frame.columns else f"the {column} of its last row"),
        said=f"{name} holds the {what} of {column} over each whole {calendar.name}, from the first row of the "
        f"{calendar.name} on.",
        right=f"give each row the {what} of the last {calendar.name} that was over, or of the rows up to its own",
        rows=int(sizes[period]),
    )


def _doubted(table: Table, name: str, calendar: Calendar) -> Finding:
    row = int(calendar.starts[len(calendar.starts) // 2])
    return Finding(
        check=CHECK,
        name=name,
        where=table.where,
        instant=table.instant(row),
        datum=table.said(name, row),
        said=f"{name} changes where a {calendar.name} begins and nowhere else: the value of that {calendar.name} "
        "would not be known yet.",
        right="let it change when its value was published; if it is of an earlier period, all is well",
        severity="warning",
        rows=1,
    )
