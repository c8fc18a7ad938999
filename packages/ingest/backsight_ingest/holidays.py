"""US federal holidays, on which statistics are not published."""

from datetime import date, timedelta
from functools import cache
from typing import Final

_FIRST_YEAR: Final = 1940
_LAST_YEAR: Final = 2100
_MONDAY: Final = 0
_THURSDAY: Final = 3


@cache
def federal_holidays() -> tuple[date, ...]:
    """Return the days from 1940 to 2100 on which US federal offices are closed, in order.

    By the rules of 5 U.S.C. 6103 as they are today, observed on the weekday beside a weekend. Earlier years had
    fewer holidays, which makes a rule of publication later there, never earlier.
    """
    return tuple(sorted(day for year in range(_FIRST_YEAR, _LAST_YEAR + 1) for day in _of(year)))


def _of(year: int) -> list[date]:
    fixed = [date(year, 1, 1), date(year, 6, 19), date(year, 7, 4), date(year, 11, 11), date(year, 12, 25)]
    floating = [
        _nth(year, 1, _MONDAY, 3),
        _nth(year, 2, _MONDAY, 3),
        _nth(year, 6, _MONDAY, 1) - timedelta(weeks=1),
        _nth(year, 9, _MONDAY, 1),
        _nth(year, 10, _MONDAY, 2),
        _nth(year, 11, _THURSDAY, 4),
    ]
    return [*map(_observed, fixed), *floating]


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _observed(day: date) -> date:
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))
