"""A table that somebody trains on, in order of time, with what its columns are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from backsight_features.audit.parts import Parts, parts_of
from backsight_features.clocks import UTC_US, from_us
from backsight_features.errors import BadInput
from backsight_features.rolling import BoolArray, FloatArray, IntArray

_CLASSES: Final = 10
"""So many distinct whole numbers at most are classes; more are a quantity."""
_MICROSECOND: Final = timedelta(microseconds=1)
_SAME_INSTANT: Final = 0.05
"""Share of rows that may repeat an instant before a table must have symbols."""
_SOME: Final = 20_000
_EPOCH_UNITS: Final = ((1e11, 1_000_000, 1), (1e14, 1_000, 1), (1e17, 1, 1), (np.inf, 1, 1_000))
"""Whole numbers below the first are instants in s, ms, us, ns: factor and divisor to microseconds."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What the columns of a table are.

    Attributes
    ----------
    time : str
        The instant as of which a row is used: all its features must have been known then.
    label : str
        What is learnt: what came after the instant.
    horizon : timedelta, optional
        How far after the instant a label reaches.
    split : str, optional
        Which rows are learnt from and which are judged: names with ``train``, ``valid`` or ``test``, or folds.
    prediction : str, optional
        What a model said of the label.
    price : str, optional
        The price that was known at the instant.
    symbol : str, optional
        Whose row it is, where several share an instant.
    ignore : sequence of str
        Columns that no model is given, such as other labels.
    """

    time: str
    label: str
    horizon: timedelta | None = None
    split: str | None = None
    prediction: str | None = None
    price: str | None = None
    symbol: str | None = None
    ignore: Sequence[str] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are named."""
        named = (self.time, self.label, self.split, self.prediction, self.price, self.symbol, *self.ignore)
        return tuple(dict.fromkeys(name for name in named if name is not None))


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows in order of symbol and time.

    Attributes
    ----------
    where : str
        What it is called.
    frame : pl.DataFrame of shape (n, any)
    roles : Roles
    features : tuple of str
        Numeric columns that have no other role, least constant ones.
    at : ndarray of shape (n,)
        Instants of the rows, microseconds from 1970, UTC.
    group : ndarray of shape (n,)
        Number of the symbol, rising.
    label : ndarray of shape (n,)
        NaN where it is null.
    price : ndarray of shape (n,) or None
    parts : Parts or None
        Which rows are learnt from and judged.
    notes : tuple of str
        What a reader must know of the reading.
    """

    where: str
    frame: pl.DataFrame
    roles: Roles
    features: tuple[str, ...]
    at: IntArray
    group: IntArray
    label: FloatArray
    price: FloatArray | None
    parts: Parts | None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.at)

    def column(self, name: str) -> FloatArray:
        """Return a numeric column of shape (n,); NaN where it is null or infinite."""
        return numbers(self.frame[name])

    def instant(self, row: int) -> datetime:
        """Return the instant of a row, UTC."""
        return from_us(int(self.at[row]))

    def said(self, name: str, row: int) -> str:
        """Return what a column holds in a row, for a person."""
        whose = f" of {self.frame[self.roles.symbol][row]}" if self.roles.symbol else ""
        return f"{name} is {number(self.frame[name][row])} at {when(self.instant(row))}{whose}"

    @cached_property
    def step(self) -> int:
        """The usual distance of two rows of a symbol, in microseconds; at least 1."""
        steps = np.diff(self.at)[self.group[1:] == self.group[:-1]]
        steps = steps[steps > 0]
        if not len(steps):
            return 1
        values, counts = np.unique(steps, return_counts=True)
        return int(values[counts.argmax()])

    @cached_property
    def horizon(self) -> int | None:
        """How many rows a label reaches ahead, as stated; at least 1."""
        if self.roles.horizon is None:
            return None
        return max(round(self.roles.horizon // _MICROSECOND / self.step), 1)

    @cached_property
    def classes(self) -> bool:
        """Whether the label is one of a few whole numbers."""
        present = self.label[np.isfinite(self.label)]
        return bool((present == np.round(present)).all()) and len(np.unique(present)) <= _CLASSES

    @cached_property
    def first(self) -> BoolArray:
        """Whether a row is the first of its symbol."""
        return np.concatenate([[True], self.group[1:] != self.group[:-1]])

    @cached_property
    def some(self) -> IntArray:
        """Numbers of rows, at most 20,000, evenly spread: what shows there is worth a look at all rows."""
        return np.linspace(0, len(self) - 1, min(_SOME, len(self))).astype(np.int64)

    def later(self, values: FloatArray, rows: int) -> FloatArray:
        """Return what stands so many rows later of the same symbol, or earlier if negative; NaN where nothing does."""
        moved = np.full(len(values), np.nan)
        n = len(values) - abs(rows)
        if n <= 0:
            return moved
        ours, theirs = (slice(0, n), slice(rows, None)) if rows >= 0 else (slice(-rows, None), slice(0, n))
        moved[ours] = np.where(self.group[ours] == self.group[theirs], values[theirs], np.nan)
        return moved


def table(data: pl.DataFrame, roles: Roles, *, where: str, split: pl.DataFrame | None = None) -> Table:
    """Return a table with its roles.

    Parameters
    ----------
    data : pl.DataFrame
        Rows in any order.
    roles : Roles
    where : str
        What to call it.
    split : pl.DataFrame, optional
        Which row is in which part, where the table does not say: the time, the symbol if there is one, and one column
        more.

    Raises
    ------
    BadInput
        If a column is absent or cannot be what it is said to be, or nothing is left to look at.
    """
    if split is not None:
        data, roles = _joined(data, roles, split)
    absent = [name for name in roles.columns if name not in data.columns]
    if absent:
        raise BadInput(f"{where} has no column {', '.join(map(repr, absent))}; it has {', '.join(data.columns)}")
    instants, notes = _instants(data[roles.time])
    order = [roles.symbol, roles.time] if roles.symbol else [roles.time]
    data = data.with_columns(instants)
    if not data.select(pl.struct(order).is_sorted() if roles.symbol else pl.col(roles.time).is_sorted()).item():
        data = data.sort(order, maintain_order=True)
    kept = data[roles.time].is_not_null()
    if not kept.all():
        notes.append(f"{(~kept).sum():,} rows without an instant were left out.")
        data = data.filter(kept)
    if data.height < 2:
        raise BadInput(f"{where} has {data.height} rows with an instant; an audit needs at least 2")
    at = data[roles.time].to_physical().to_numpy()
    group = data[roles.symbol].rle_id().cast(pl.Int64).to_numpy() if roles.symbol else np.zeros(len(at), np.int64)
    label = numbers(_coded(data[roles.label], "label"))
    if not np.isfinite(label).any():
        raise BadInput(f"{where}: the label {roles.label!r} holds no number")
    _one_row_an_instant(data, roles, at, group, where)
    features, unread = _features(data, roles)
    if unread:
        notes.append(f"Not read, as they hold no numbers or one only: {', '.join(unread)}.")
    return Table(
        where=where,
        frame=data,
        roles=roles,
        features=features,
        at=at,
        group=group,
        label=label,
        price=None if roles.price is None else numbers(_coded(data[roles.price], "price")),
        parts=None if roles.split is None else parts_of(data[roles.split], where=where),
        notes=tuple(notes),
    )


def read(path: Path) -> pl.DataFrame:
    """Return the table in a file.

    Raises
    ------
    BadInput
        If it is neither CSV nor Parquet.
    """
    names = path.name.lower()
    try:
        if names.endswith((".parquet", ".pq")):
            return pl.read_parquet(path)
        if names.endswith((".csv", ".csv.gz")):
            return pl.read_csv(path, try_parse_dates=True, infer_schema_length=10_000)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    raise BadInput(f"{path}: neither .csv, .csv.gz nor .parquet")


def numbers(column: pl.Series) -> FloatArray:
    """Return a numeric column as float64; NaN where it is null or infinite."""
    values = column.cast(pl.Float64).to_numpy().astype(np.float64, copy=False)
    if np.isinf(values).any():
        values = np.where(np.isinf(values), np.nan, values)
    return values


def number(value: object) -> str:
    """Return a value for a person.

    >>> number(0.123456789), number(None), number(3)
    ('0.123457', 'null', '3')
    """
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def when(at: datetime) -> str:
    """Return an instant for a person.

    >>> from datetime import UTC
    >>> when(datetime(2024, 3, 1, 12, tzinfo=UTC))
    '2024-03-01 12:00'
    """
    return at.strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")


def _instants(column: pl.Series) -> tuple[pl.Series, list[str]]:
    kind, name = column.dtype, column.name
    if kind == pl.String:
        try:
            column = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
        except pl.exceptions.PolarsError:
            try:
                column = column.str.to_datetime(time_unit="us", strict=True)
            except pl.exceptions.PolarsError:
                raise BadInput(
                    f"column {name!r} holds {column.drop_nulls().head(1).to_list()}; an instant is ISO 8601"
                ) from None
        kind = column.dtype
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), [f"Days of {name} are read as 00:00 UTC."]
    if isinstance(kind, pl.Datetime):
        column = column.dt.cast_time_unit("us")
        if kind.time_zone is None:
            return column.dt.replace_time_zone("UTC"), [f"Instants of {name} have no zone and are read as UTC."]
        return column.dt.convert_time_zone("UTC"), []
    if kind.is_integer():
        largest = column.abs().max() or 0
        factor, divisor = next((up, down) for bound, up, down in _EPOCH_UNITS if float(largest) < bound)  # type: ignore[arg-type]
        return (column.cast(pl.Int64) * factor // divisor).cast(UTC_US), []
    raise BadInput(f"column {name!r} is {kind}; an instant must be a timestamp, a date or ISO 8601")


def _coded(column: pl.Series, what: str) -> pl.Series:
    """Return a column as numbers; names of classes as their rank."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column
    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum) and column.n_unique() <= _CLASSES + 1:
        return column.cast(pl.String).rank("dense")
    raise BadInput(
        f"{what} {column.name!r} is {column.dtype}; it must hold numbers, or one of {_CLASSES} names at most"
    )


def _features(data: pl.DataFrame, roles: Roles) -> tuple[tuple[str, ...], list[str]]:
    named, features, unread = set(roles.columns) - {roles.price}, [], []
    for column in data:
        if column.name in named:
            continue
        numeric = column.dtype.is_numeric() or column.dtype == pl.Boolean
        if numeric and column.drop_nulls().len() and column.min() != column.max():
            if column.name != roles.price:
                features.append(column.name)
        elif column.name != roles.price:
            unread.append(column.name)
    return tuple(features), unread


def _one_row_an_instant(data: pl.DataFrame, roles: Roles, at: IntArray, group: IntArray, where: str) -> None:
    """Refuse a table of several symbols whose column is not named; exact copies of rows are no other symbol."""
    again = np.flatnonzero((np.diff(at) == 0) & (np.diff(group) == 0))
    if len(again) <= _SAME_INSTANT * len(at):
        return
    names = [name for name in data.columns if name != roles.split]
    hashes = data.select(names).hash_rows().to_numpy()
    other = again[hashes[again] != hashes[again + 1]]
    if len(other) > _SAME_INSTANT * len(at):
        shown = when(from_us(int(at[other[0]])))
        wanted = "another --symbol" if roles.symbol else "the column that tells them apart with --symbol"
        raise BadInput(f"{where} has {len(other):,} rows that repeat an instant, as {shown}; name {wanted}")


def _joined(data: pl.DataFrame, roles: Roles, split: pl.DataFrame) -> tuple[pl.DataFrame, Roles]:
    keys = [name for name in (roles.time, roles.symbol) if name is not None]
    others = [name for name in split.columns if name not in keys]
    if len(others) != 1 or any(name not in split.columns for name in keys):
        raise BadInput(f"a split must have {', '.join(keys)} and one column more; it has {', '.join(split.columns)}")
    [name] = others
    for key in keys:
        if key not in data.columns:
            raise BadInput(f"there is no column {key!r}; there are {', '.join(data.columns)}")
    data = data.with_columns(_instants(data[roles.time])[0])
    split = split.with_columns(_instants(split[roles.time])[0]).unique(keys, keep="last")
    joined = data.drop(name, strict=False).join(split, on=keys, how="left", maintain_order="left")
    changed = Roles(**{**{one: getattr(roles, one) for one in roles.__dataclass_fields__}, "split": name})
    return joined, changed
