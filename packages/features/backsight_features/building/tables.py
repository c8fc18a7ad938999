"""Feature tables as they are stored: what is in them, and how rows come to be those that were computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
from deltalake import DeltaTable

from backsight_features import delta
from backsight_features.building.record import Records, metadata, records
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BadInput
from backsight_features.maintenance import gather
from backsight_features.rolling import BoolArray, IntArray
from backsight_features.spans import FOREVER, Span

_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What makes the rows of a symbol in a span those that were computed.

    Parameters
    ----------
    symbol : str
        Whose rows.
    rows : pl.DataFrame
        All that were computed between the first and the last one that differs from what is stored.
    new : pl.DataFrame
        Those of them of whose instants nothing is stored.
    replaces : bool
        Whether rows that are stored change or go; else writing the new ones is enough.
    first, last : int
        The instants of the first and the last row that differs, microseconds from 1970-01-01 UTC.
    """

    symbol: str
    rows: pl.DataFrame
    new: pl.DataFrame
    replaces: bool
    first: int
    last: int

    @classmethod
    def of(cls, symbol: str, computed: pl.DataFrame, stored: pl.DataFrame) -> Self | None:
        """Return what makes stored rows the computed ones; None where they are.

        Parameters
        ----------
        symbol : str
            Whose rows both are.
        computed, stored : pl.DataFrame
            With the same columns, ascending by ``available_at``, one row each.
        """
        ours, theirs = (frame["available_at"].dt.epoch("us").to_numpy() for frame in (computed, stored))
        known, kept = np.isin(ours, theirs, assume_unique=True), np.isin(theirs, ours, assume_unique=True)
        differ = _differ(computed.filter(pl.Series(known)), stored.filter(pl.Series(kept)))
        touched = np.concatenate([ours[~known], ours[known][differ], theirs[~kept]])
        if not touched.size:
            return None
        first, last = int(touched.min()), int(touched.max())
        return cls(
            symbol=symbol,
            rows=computed.filter(Span(first, last + 1).holds("available_at")),
            new=computed.filter(pl.Series(~known)),
            replaces=bool(differ.any()) or not kept.all(),
            first=first,
            last=last,
        )

    @property
    def where(self) -> str:
        """The rows that it replaces, as an SQL condition."""
        symbol = self.symbol.replace("'", "''")
        first, last = (f"'{from_us(at):%Y-%m-%dT%H:%M:%S.%f}Z'" for at in (self.first, self.last))
        return f"(symbol = '{symbol}' AND available_at >= {first} AND available_at <= {last})"


def _differ(one: pl.DataFrame, other: pl.DataFrame) -> BoolArray:
    """Return which rows of two frames of the same instants are not the same, to the last bit."""
    differ = np.zeros(one.height, dtype=np.bool_)
    for name in one.columns:
        if name != "symbol":
            differ |= _bits(one[name]) != _bits(other[name])
    return differ


def _bits(column: pl.Series) -> IntArray:
    # Of features NaN is never stored; it stands for null here.
    values = column.to_physical().to_numpy()
    return values.view(np.int32 if column.dtype == pl.Float32 else np.int64)


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """A feature table, opened for one build.

    Parameters
    ----------
    name : str
        ``market_1h``.
    handle : DeltaTable
        At the version that the build starts from.
    columns : pl.Schema
        What the table is to have.
    records : mapping of str to Record
        What its rows follow from, by bar series.
    is_other : bool
        Whether it has other columns, so that it can only be replaced as a whole.
    """

    name: str
    handle: DeltaTable
    columns: pl.Schema
    records: Records
    is_other: bool

    @classmethod
    def open(cls, folder: str | Path, name: str, columns: pl.Schema) -> Self:
        """Return a table, made empty where there was none."""
        handle = delta.ensure(delta.join(folder, name), pl.DataFrame(schema=columns).to_arrow().schema)
        return cls(
            name=name,
            handle=handle,
            columns=columns,
            records=records(handle),
            is_other=_is_other(handle, columns),
        )

    def rows(self, symbol: str, span: Span) -> pl.DataFrame:
        """Return the stored rows of a symbol in a span, ascending; none where the table has other columns."""
        if self.is_other:
            return pl.DataFrame(schema=self.columns)
        return self._own(symbol).filter(span.holds("available_at")).sort("available_at").collect()

    def clocks(self, symbol: str, closed_after: int) -> pl.DataFrame:
        """Return ``observed_at`` and ``available_at`` of the rows of a symbol whose newest bar closed after an instant.

        Parameters
        ----------
        symbol : str
            Whose rows.
        closed_after : int
            Microseconds from 1970-01-01 UTC.
        """
        later = Span(closed_after + 1, FOREVER).holds("observed_at")
        return self._own(symbol).filter(later).select("observed_at", "available_at").sort("available_at").collect()

    def newest_close(self, symbol: str, before: int) -> int:
        """Return the newest close known to a symbol's rows before an instant, ``-FOREVER`` where there are none."""
        # The last row before is mostly near; to look for it everywhere would read the whole table.
        for days in (1, 30, 1000):
            newest = self._newest_close(symbol, Span(before - days * _DAY_US, before))
            if newest is not None:
                return newest
        newest = self._newest_close(symbol, Span(-FOREVER, before))
        return -FOREVER if newest is None else newest

    def write(self, patches: Sequence[Patch], built: Records) -> None:
        """Apply patches and leave records, in one commit; none where neither says anything new.

        Raises
        ------
        delta.Outrun
            If another build was quicker; nothing was written.
        """
        told = metadata(built)
        none = pl.DataFrame(schema=self.columns)
        if self.is_other:
            delta.replace(self.handle, pl.concat([none, *(patch.rows for patch in patches)]), metadata=told)
        elif any(patch.replaces for patch in patches):
            where = " OR ".join(patch.where for patch in patches)
            delta.replace(
                self.handle, pl.concat([none, *(patch.rows for patch in patches)]), where=where, metadata=told
            )
        elif patches or built != self.records:
            # A commit without rows still says that they follow from the lake as it is now.
            delta.append(self.handle, pl.concat([none, *(patch.new for patch in patches)]), metadata=told)
        else:
            return
        gather(self.handle, metadata=told)

    def _own(self, symbol: str) -> pl.LazyFrame:
        return delta.scan(self.handle).filter(pl.col("symbol") == symbol)

    def _newest_close(self, symbol: str, span: Span) -> int | None:
        rows = self._own(symbol).filter(span.holds("available_at"))
        newest = rows.select(pl.col("observed_at").max()).collect().item()
        return None if newest is None else to_us(newest)


def check_columns(folder: str | Path, name: str, columns: pl.Schema, built: Sequence[str]) -> None:
    """Refuse a table of other columns that has symbols beside those that are built: it would be half old, half new.

    Raises
    ------
    BadInput
        The message names the symbols.
    """
    handle = delta.open(delta.join(folder, name))
    if handle is None or not _is_other(handle, columns):
        return
    symbols = delta.scan(handle).select(pl.col("symbol").unique().sort()).collect()["symbol"]
    if others := [symbol for symbol in symbols if symbol not in built]:
        names = ", ".join(others)
        raise BadInput(f"{name} has other features than this version computes; build {names} in the same call")


def _is_other(handle: DeltaTable, columns: pl.Schema) -> bool:
    return delta.scan(handle).collect_schema() != columns
