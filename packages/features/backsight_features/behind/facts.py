"""Facts with the part that they had in a value, in one form for all tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from backsight_features.clocks import UTC_US

READ: Final = "read"
ROW: Final = "row"
PASSED: Final = "passed over"

SCHEMA: Final = pl.Schema(
    {
        "table": pl.String(),
        "source": pl.String(),
        "fact": pl.String(),
        "says": pl.String(),
        "observed_at": UTC_US,
        "available_at": UTC_US,
        "available_at_estimated": pl.Boolean(),
        "ingested_at": UTC_US,
        "part": pl.String(),
        "reason": pl.String(),
    }
)
"""A version of a fact: what it is about, what it says, its clocks, its part and the reason for it.

``part`` is `READ`, `ROW` (it only makes that there is a row at the instant) or `PASSED`."""


@dataclass(frozen=True, kw_only=True)
class Behind:
    """Facts that were read, and others that nearly were.

    Parameters
    ----------
    listed : pl.DataFrame
        With the columns of `SCHEMA`; those that were read are all there.
    read : dict of str to pl.DataFrame
        By table, the rows of the lake that were read or make the row.
    notes : list of str
        What else a person should know.
    """

    listed: pl.DataFrame
    read: dict[str, pl.DataFrame]
    notes: list[str] = field(default_factory=list)


def told(rows: pl.DataFrame, table: str, fact: pl.Expr, says: pl.Expr) -> pl.DataFrame:
    """Return rows that have ``part`` and ``reason`` in the form of `SCHEMA`."""
    return rows.select(
        table=pl.lit(table),
        source="source",
        fact=fact.cast(pl.String),
        says=says.cast(pl.String),
        observed_at="observed_at",
        available_at="available_at",
        available_at_estimated="available_at_estimated",
        ingested_at="ingested_at",
        part="part",
        reason="reason",
    ).cast(SCHEMA)


def raw(rows: pl.DataFrame, like: pl.DataFrame, parts: Sequence[str] = (READ, ROW)) -> pl.DataFrame:
    """Return the rows of some parts as they are in the lake: with the columns of ``like``."""
    return rows.filter(pl.col("part").is_in(list(parts))).select(like.columns)


def after(at: datetime, asked: datetime) -> pl.Expr:
    """Return why a fact that was not available at a row's instant was not seen, in words."""
    told = pl.format("available {}, after the ", stamp(pl.col("available_at")))
    late = pl.col("available_at") > asked
    return (
        pl.when(late)
        .then(told + pl.lit("instant"))
        .otherwise(told + pl.lit(f"row of {at:%Y-%m-%d %H:%M:%S}: counts from the next row on"))
    )


def stamp(column: pl.Expr) -> pl.Expr:
    """Return instants in words."""
    return column.dt.strftime("%Y-%m-%d %H:%M:%S")
