"""Dumps: from the text of a file's rows to facts with their clocks, and the rows that are no facts with a reason.

A frame goes in and two come out; no file is opened, no clock is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US, timeframe
from backsight_features.errors import Drifted
from backsight_features.schemas import Table, validate

from backsight_ingest.heads import sources
from backsight_ingest.layout import Layout, Version
from backsight_ingest.readings import Reading, cell, in_one_chunk

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_FEWEST_BARS: Final = 12
"""Bars that tell how far apart they lie."""
_OFF_GRID: Final = "is no multiple of"
_OURS: Final = frozenset({"@row", "@origin", "@seen", "@fact"})
"""Columns beside those of the file."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rows of a batch are.

    Parameters
    ----------
    good : pl.DataFrame
        The columns of the table, and ``@fact``, the fact's number in the file.
    bad : pl.DataFrame
        ``row`` (the fact's number), ``origin``, ``reason`` and ``original``, the cells as JSON.
    """

    good: pl.DataFrame
    bad: pl.DataFrame

    @property
    def read(self) -> int:
        """How many facts the rows hold, good and bad."""
        return self.good.height + self.bad.height


def facts(
    layout: Layout,
    rows: pl.DataFrame,
    variables: Mapping[str, str],
    *,
    now: datetime,
) -> Facts:
    """Return the facts that the rows of a dump hold.

    A row of a layout with n versions holds up to n facts; fact k of row r has the number (r - 1) * n + k, from 1.

    Parameters
    ----------
    layout : Layout
        How the rows are read.
    rows : pl.DataFrame
        A text column per column of the file, and ``@row`` and ``@origin``; see `records.Batch`. Where the
        layout has a sidecar, ``@seen`` too: its time, as text.
    variables : mapping of str to str
        What ``{name}`` stands for.
    now : datetime
        Nothing can have happened after it.

    Raises
    ------
    Drifted
        If a column is missing or not declared.
    BadInput
        If a constant, or a series without a rule of publication, cannot be used.
    """
    table = layout.table
    names = [name for name in rows.columns if name not in _OURS]
    chosen = sources(layout, variables, names)
    held: list[pl.DataFrame] = []
    good: list[pl.DataFrame] = []
    bad: list[pl.DataFrame] = []
    for k, (version, found) in enumerate(zip(layout.versions, chosen, strict=True)):
        number = (pl.col("@row") - 1) * len(layout.versions) + k + 1
        held.append(_holding(version, layout, rows).with_columns(number.alias("@fact")))
        if held[-1].is_empty() and good:
            continue  # casting no rows takes as long as casting some thousands
        read = Reading(layout, version, found, variables, now).read(held[-1])
        read, unread = _apart(read, pl.col("@reason") != "", pl.col("@reason"))
        read, late = _not_yet(layout, read, now)
        read, off = _off_grid(layout, read)
        read, invalid = validate(table, read)
        good.append(read.select(*table.columns, "@fact"))
        bad += [each.select("@fact", "reason") for each in (unread, late, off, invalid)]
    agreed, contradicting = _contradictions(table, pl.concat(good))
    reasons = pl.concat([*bad, contradicting.select("@fact", "reason")])
    wrong = in_one_chunk(pl.concat(held).join(reasons, on="@fact", how="inner")).sort("@fact")
    cells = pl.struct(name for name in wrong.columns if name not in {*_OURS, "reason"} - {"@seen"})
    return Facts(
        good=agreed,
        bad=wrong.select(row="@fact", origin="@origin", reason="reason", original=cells.struct.json_encode()),
    )


def check_timeframe(found: Facts) -> None:
    """Refuse bars of another length than the layout declares.

    Raises
    ------
    Drifted
        If most bars do not lie on the grid of their timeframe, or their commonest distance is another.
    """
    if found.read < _FEWEST_BARS:
        return
    off = found.bad.filter(pl.col("reason").str.contains(_OFF_GRID, literal=True)).height
    name = str(found.good["timeframe"][0]) if found.good.height else ""
    steps = found.good["observed_at"].unique().sort().diff().drop_nulls().mode()
    if off > found.good.height or (name and timeframe(name) not in steps.to_list()):
        raise Drifted(f"most bars do not lie {name or 'their timeframe'} apart; is the timeframe right?")


def _holding(version: Version, layout: Layout, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that hold a version."""
    if version.present:
        rows = rows.filter(cell(version.present, layout).is_not_null())
    if version.absent:
        rows = rows.filter(cell(version.absent, layout).is_null())
    return rows


def _apart(rows: pl.DataFrame, wrong: pl.Expr, reason: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off the rows in which something is wrong, with the reason."""
    found = rows.select(wrong).to_series()
    if not found.any():
        return rows, rows.clear().with_columns(reason=pl.lit("", pl.String))
    return rows.filter(~found), in_one_chunk(rows.filter(found)).with_columns(reason=reason)


def _stamped() -> pl.Expr:
    return pl.col("observed_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def _not_yet(layout: Layout, read: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off what is stamped after now; a text that is was published by now, whatever its clock says."""
    after = pl.col("observed_at") > now
    if layout.kind in ("news", "posts"):
        seen_now = pl.lit(now, UTC_US)
        read = read.with_columns(
            observed_at=pl.when(after).then(seen_now).otherwise("observed_at"),
            available_at=pl.when(after).then(seen_now).otherwise("available_at"),
            available_at_estimated=pl.col("available_at_estimated") | after,
        )
        after = pl.lit(False)
    return _apart(read, after, pl.format("observed_at: {} lies in the future", _stamped()))


def _off_grid(layout: Layout, read: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off bars that do not close on the grid of their length; days and weeks begin where their venue says."""
    off = pl.lit(False)
    if layout.kind == "bars" and read.height and (length := timeframe(read["timeframe"][0])) < _DAY:
        off = pl.col("observed_at").dt.epoch("us") % (length // _MICROSECOND) != 0
    return _apart(read, off, pl.format("observed_at: {} " + _OFF_GRID + " {}", _stamped(), pl.col("timeframe")))


def _contradictions(table: Table, good: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off rows that say different things of one fact as known at one instant: nothing says which is right."""
    says = pl.struct(table.content).n_unique().over(*table.key, "available_at")
    wrong = pl.lit(False) if table.apart(good) else says > 1
    reason = f"another row says something else of the same {', '.join(table.key)} at the same instant"
    return _apart(good, wrong, pl.lit(reason))
