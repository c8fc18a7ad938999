"""Whether rows depend on what they must not: where a slice begins, the order of facts, facts that are there twice."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backsight_features.audit.findings import Finding
from backsight_features.audit.pipeline_future import COMPARED, Compute, differing, rows_until, shown
from backsight_features.bars import BarSeries
from backsight_features.frames import Frames
from backsight_features.schemas import BARS, Table

_ROUNDING: Final = 1e-6

_TWICE: Final = 20
"""Every so many facts one is there twice."""


def slices(
    compute: Compute, longer: Frames, series: BarSeries, at: datetime, bars: int, *, where: Callable[[str], str]
) -> Iterator[Finding]:
    """Yield the features whose last values before an instant depend on bars from beyond what they look back.

    Parameters
    ----------
    compute : callable
        What is audited.
    longer : Frames
        From `cut`, with more bars.
    series : BarSeries
        Whose rows.
    at : datetime
        The instant.
    bars : int
        How many before it are enough.
    where : callable
        From a feature to the table that it is in.
    """
    first = longer[BARS.name]["observed_at"].min()
    since = at - bars * series.grid.step
    if not isinstance(first, datetime) or first >= since:
        return
    last = pl.col("available_at") > at - COMPARED * series.grid.step
    # A bar of long ago may come in late: it makes a row.
    shorter = longer.having(bars=longer[BARS.name].filter((pl.col("observed_at") >= since) | last))
    whole, part = (rows_until(compute(facts), at).filter(last) for facts in (longer, shorter))
    for name, instant in differing(whole, part).items():
        row = pl.col("available_at") == instant
        rounding = name in whole.columns and _rounded(whole.filter(row)[name], part.filter(row)[name])
        values = [shown(rows.filter(row), name) for rows in (whole, part)]
        yield Finding(
            check="slice",
            name=name,
            where=f"{where(name)} of {series.symbol}",
            instant=instant,
            datum=f"{values[0]} with bars from {first:%Y-%m-%d %H:%M} on, {values[1]} with bars from "
            f"{since:%Y-%m-%d %H:%M} on",
            said=f"the value depends on bars from more than {bars} before it, which is beyond the lookback"
            + (", in its rounding only: a running sum, as it seems" if rounding else ""),
            severity="warning" if rounding else "error",
            right="a value depends on no more of the past than its lookback, so that a part is built as the whole is",
        )


def repeats(
    compute: Compute, facts: Frames, series: BarSeries, at: datetime, *, where: Callable[[str], str], seed: int
) -> Iterator[Finding]:
    """Yield the features that change when facts come in another order, or some of them twice.

    Parameters
    ----------
    compute, facts, series, at, where
        As in `pipeline_future.future`.
    seed : int
        Of the order.
    """
    honest = rows_until(compute(facts), at)
    shuffled = Frames({table.name: frame.sample(fraction=1, shuffle=True, seed=seed) for table, frame in facts.items()})
    twice = Frames({table.name: _twice(table, frame) for table, frame in facts.items()})
    for check, other, what in (
        ("order", shuffled, "the same facts are read in another order"),
        ("duplicates", twice, f"every {_TWICE}th fact is there twice, the second time written later"),
    ):
        for name, instant in differing(honest, rows_until(compute(other), at)).items():
            yield Finding(
                check=check,
                name=name,
                where=f"{where(name)} of {series.symbol}",
                instant=instant,
                datum=f"the row of {instant:%Y-%m-%d %H:%M:%S}",
                said=f"the value changes when {what}",
                right="a value follows from what was said and when it was known, each thing once",
            )


def _rounded(one: pl.Series, other: pl.Series) -> bool:
    """Return whether values differ by no more than what rounding does."""
    if not one.dtype.is_float() or len(one) != 1 or len(other) != 1:
        return False
    return bool(np.isclose(one.to_numpy(), other.to_numpy(), rtol=_ROUNDING, atol=0.0)[0])


def _twice(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    again = frame.gather_every(_TWICE).with_columns(pl.col("ingested_at") + pl.duration(days=1))
    return pl.concat([frame, again])
