"""Releases: from what FRED says held within a period to what was published in it.

FRED cuts the days on which a value held to the period asked for. So a value that held before the period seems to have
been published on its first day: naively put together, pieces of a long history hold several releases for each true
one. Here each piece begins with the last day of the piece before it. What held on that day is known; what begins on a
later day was published on that day, whatever its value.
"""

from datetime import date, timedelta

import polars as pl


def releases(held: pl.DataFrame, *, after: date, until: date) -> pl.DataFrame:
    """Return what was published after one day and up to another.

    Parameters
    ----------
    held : pl.DataFrame
        All that held from the first of the two days to the second, both included: ``date``, ``realtime_start``,
        ``realtime_end`` and ``value``, as text.
    after, until : date
        The period.

    Returns
    -------
    pl.DataFrame
        ``date``, ``realtime_start`` and ``value``, by date and day of publication. The value is ``.`` where one was
        withdrawn, also where FRED says so by leaving the period out from some day on.
    """
    days = pl.col("realtime_start", "realtime_end").str.to_date("%Y-%m-%d", strict=False).name.suffix("_day")
    held = held.with_columns(days).sort("date", "realtime_start", maintain_order=True)
    following = pl.col("realtime_end_day") + timedelta(days=1)
    next_start = pl.col("realtime_start_day").shift(-1).over("date")
    left_out = held.filter((following <= until) & ~(next_start <= following).fill_null(False)).with_columns(
        realtime_start=following.dt.to_string("%Y-%m-%d"), value=pl.lit(".")
    )
    # A row without a day is kept, to be set aside with what it says.
    published = held.filter((pl.col("realtime_start_day") > after).fill_null(True))
    said = pl.concat([published, left_out]).select("date", "realtime_start", "value")
    return said.sort("date", "realtime_start", maintain_order=True)
