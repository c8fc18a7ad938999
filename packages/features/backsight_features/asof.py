"""As-of joins: for every row, the newest fact that was known at its instant.

One join of two sorted columns, so the cost grows with the number of rows and not with their product. What decides
between facts is never the order in which they happen to be stored:

1. the later event wins;
2. of one event, the row created later wins; a row without a created instant loses against one with it;
3. what still ties is decided by the values themselves, column by column, the greater one winning and null losing.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal

import numpy as np
import polars as pl

from backsight_features.errors import BadInput

TimeUnit = Literal["ms", "us", "ns"]

_RANGE: Final = 2**63 - 1
_LEAST: Final = -(2**63)
_MICROSECOND: Final = timedelta(microseconds=1)
_PER_MILLISECOND: Final[dict[TimeUnit, int]] = {"ms": 1, "us": 1_000, "ns": 1_000_000}


class Undecided(BadInput):
    """Two facts of one key share their instants, and no values were given to decide between them."""


def as_of(
    rows: pl.DataFrame,
    facts: pl.DataFrame,
    *,
    at: str,
    event: str,
    keys: Sequence[tuple[str, str]] = (),
    values: Sequence[str],
    created: str | None = None,
    ties: Sequence[str] | None = None,
    ttl: timedelta | None = None,
    as_known: bool = False,
) -> pl.DataFrame:
    """Return, for every row, the values of the newest fact of its key that was known at its instant.

    Parameters
    ----------
    rows : pl.DataFrame of shape (n, any)
        What is asked for; any order, duplicates allowed.
    facts : pl.DataFrame of shape (m, any)
        What happened; any order.
    at : str
        Column of `rows`: the instant asked for. Nothing is found where it is null.
    event : str
        Column of `facts`: the instant from which a fact is true. A fact at the very instant asked for is found.
    keys : sequence of (str, str)
        Pairs of a column of `rows` and the column of `facts` that must equal it; null equals nothing.
    values : sequence of str
        Columns of `facts` to return.
    created : str, optional
        Column of `facts`: the instant at which the row was written; decides between rows of one event.
    ties : sequence of str, optional
        Columns of `facts` whose values decide what the instants cannot; `values` unless given. With an empty
        sequence it is an error where they would have to.
    ttl : timedelta, optional
        A fact older than this is not returned (exactly as old still is), and no older fact stands in for it.
    as_known : bool
        Whether a fact counts only from the instant at which it was both true and written, so that what was written
        later cannot be seen earlier. Facts without a created instant are then never seen.

    Returns
    -------
    pl.DataFrame of shape (n, len(values))
        In the order of `rows`; null where nothing was known.

    Raises
    ------
    Undecided
        If `ties` is empty and instants do not decide.
    BadInput
        If a column is missing, an instant is no timestamp, or the types of a pair of keys cannot be compared.

    Notes
    -----
    Instants of any unit are compared exactly, in nanoseconds when one of the columns has them; without a zone they
    are read as UTC.

    Keys are numbered and instants counted from the first fact, so that one whole number says both: all keys lie one
    after the other on one line, and one join of two sorted columns answers every row.
    """
    ties = values if ties is None else ties
    _require(rows, [at, *(left for left, _ in keys)])
    _require(facts, [event, *(right for _, right in keys), *values, *ties, *([created] if created else [])])
    if len(set(values)) != len(values):
        raise BadInput(f"columns asked for twice: {sorted({v for v in values if values.count(v) > 1})}")
    unit = unit_of(rows.schema[at], *(facts.schema[name] for name in (event, created) if name))
    asked = rows.select(ticks(at, rows.schema[at], unit)).to_series()
    clocks = _clocks(facts, event, created, unit)

    left, right, count = _numbered(rows, facts, keys)
    held = clocks.with_columns(right).with_row_index("row").drop_nulls(["key", "event"])
    if as_known and created:
        held = _records(held.drop_nulls("created"), count, facts.select(ties))
    else:
        held = held.with_columns(known="event")
    line = _Line(held["known"], count)
    held = _ascending(held.with_columns(line.of_facts(held["key"], held["known"])).drop("event", "known"), "line")
    if not (as_known and created):
        held = _winners(held, "line", facts.select(ties))
    row = line.newest(held, line.of_rows(left, asked))
    if ttl:
        age = min(_whole(ttl, unit), _RANGE)
        # Compared as a difference on the side that cannot overflow: at >= event holds for every match.
        expired = clocks["event"].gather(row) < asked.clip(age - _RANGE - 1) - age
        row = pl.select(pl.when(~expired).then(row)).to_series()
    return facts.select(values).select(pl.all().gather(row))


def newest(
    facts: pl.DataFrame,
    *,
    event: str,
    keys: Sequence[str] = (),
    created: str | None = None,
    ties: Sequence[str] | None = None,
    unit: TimeUnit | None = None,
) -> pl.DataFrame:
    """Return the newest fact of every key, decided as `as_of` does, in the order of the keys.

    Parameters
    ----------
    facts : pl.DataFrame
        Has the columns below; every other column is a value.
    event, created : str
        Columns with the instant from which a fact is true, and when it was written.
    keys : sequence of str
        Columns of the key. Without any, the one newest fact is returned. A null is a key of its own here.
    ties : sequence of str, optional
        Columns whose values decide what the instants cannot; all values unless given. With an empty sequence it is
        an error where they would have to.
    unit : "us" or "ns", optional
        In which instants are compared; what it takes to compare these columns unless given.

    Raises
    ------
    Undecided
        If `ties` is empty and instants do not decide.
    BadInput
        If a column is missing or an instant is no timestamp.
    """
    _require(facts, [event, *keys, *(ties or []), *([created] if created else [])])
    if unit is None:
        unit = unit_of(*(facts.schema[name] for name in (event, created) if name))
    by = [f"key{i}" for i in range(len(keys))]
    held = [facts[key].alias(name) for key, name in zip(keys, by, strict=True)]
    clocks = _clocks(facts, event, created, unit).with_columns(held).with_row_index("row").drop_nulls("event")
    latest = clocks.filter(pl.col("event") == (pl.col("event").max().over(by) if by else pl.col("event").max()))
    latest = latest.sort(by).with_columns(group=pl.struct(by).rle_id()) if by else latest.with_columns(group=0)
    if ties is None:
        ties = [name for name in facts.columns if name not in {event, created, *keys}]
    return facts[_winners(latest, "group", facts.select(ties))["row"]]


class _Line:
    """One line on which every key has a stretch of its own, as wide as time is from the first fact to the last.

    Parameters
    ----------
    known : pl.Series of int
        From when the facts count; no nulls.
    count : int
        Number of keys.
    """

    def __init__(self, known: pl.Series, count: int) -> None:
        self._count = count
        self._first = 0 if known.is_empty() else int(known.min())  # type: ignore[arg-type]
        self._last = -1 if known.is_empty() else int(known.max())  # type: ignore[arg-type]
        self._width = self._last - self._first + 1
        # Where the stretches do not fit into a whole number, instants are counted and not measured.
        self._instants = known.unique().sort() if self._width * self._count > _RANGE else None
        if self._instants is not None:
            self._width = self._instants.len()

    def of_facts(self, key: pl.Series, known: pl.Series) -> pl.Series:
        """Return where the facts lie, as ``line``."""
        place = known - self._first if self._instants is None else self._instants.search_sorted(known).cast(pl.Int64)
        return (place if self._count == 1 else key * self._width + place).alias("line")

    def of_rows(self, key: pl.Series, asked: pl.Series) -> pl.Series:
        """Return where the rows lie; -1 where nothing can be known."""
        if self._instants is None:
            before = max(self._first - 1, _LEAST)
            place = asked.clip(before, max(self._last, before)) - self._first
        else:
            place = self._instants.search_sorted(asked, side="right").cast(pl.Int64) - 1
        if self._count > 1:
            place = pl.select(pl.when(place >= 0).then(key * self._width + place)).to_series()
        elif key.null_count():
            place = pl.select(pl.when(key.is_not_null()).then(place)).to_series()
        return place.fill_null(-1)

    def newest(self, held: pl.DataFrame, asked: pl.Series) -> pl.Series:
        """Return, for every place asked for, ``row`` of the last fact at or before it on its stretch.

        Parameters
        ----------
        held : pl.DataFrame
            ``key``, ``line``, which rises strictly, and ``row``.
        asked : pl.Series of shape (n,)
            As `of_rows` gave them.
        """
        order = _order(asked)
        rows = pl.DataFrame({"line": asked if order is None else asked.gather(order)}).set_sorted("line")
        facts = held.select("line", "row", *([pl.col("key") * self._width] if self._count > 1 else []))
        found = rows.join_asof(facts.set_sorted("line"), on="line", strategy="backward")
        if self._count > 1:
            # The last fact before may lie on the stretch of another key.
            found = found.with_columns(pl.when(pl.col("line") - pl.col("key") < self._width).then("row"))
        if order is None:
            return found["row"]
        scattered = np.empty(asked.len(), dtype=np.int64)
        scattered[order.to_numpy()] = found["row"].cast(pl.Int64).fill_null(-1).to_numpy()
        return pl.select(pl.when(pl.lit(pl.Series(scattered)) >= 0).then(pl.lit(pl.Series(scattered)))).to_series()


def _winners(held: pl.DataFrame, group: str, values: pl.DataFrame) -> pl.DataFrame:
    """Return one row per group, which does not fall: the one created last, then the one with the greatest values."""
    again = held[group] == held[group].shift(1)
    if not again.any():
        return held
    contested = (again | again.shift(-1)).fill_null(False)
    rivals = held.with_row_index("place").filter(contested)
    order = [group, *(["created"] if "created" in held.columns else [])]
    if values.width:
        ranks = _renamed(values[rivals["row"]])
        rivals = pl.concat([rivals, ranks], how="horizontal").sort([*order, *ranks.columns], nulls_last=False)
    elif rivals.select(order).is_duplicated().any():
        raise Undecided("facts of one key share their instants")
    else:
        rivals = rivals.sort(order, nulls_last=False)
    best = rivals.unique(group, keep="last")["place"]
    uncontested = pl.Series("place", np.flatnonzero(~contested.to_numpy()), dtype=best.dtype)
    return held[pl.concat([uncontested, best]).sort()]


def _records(held: pl.DataFrame, count: int, values: pl.DataFrame) -> pl.DataFrame:
    """Return the facts that were the newest when they became known, with that instant as ``known``.

    A fact is known from ``max(event, created)``. One that comes to be known after a newer one of its key never
    shows; what is left rises in (event, created) with ``known``, so that the last known is also the newest.
    """
    held = held.with_columns(_Line(held["event"], count).of_facts(held["key"], held["event"])).sort("line", "created")
    instants = ((held["line"].diff() != 0) | (held["created"].diff() != 0)).fill_null(True).cum_sum()
    held = _winners(held.with_columns(instants=instants), "instants", values)
    known = held.select(pl.max_horizontal("event", "created").alias("known")).to_series()
    held = held.with_columns(known, _Line(known, count).of_facts(held["key"], known)).sort("line", "instants")
    # Of a later key every fact ranks above all of an earlier one, so that the running maximum need not know of keys.
    held = held.filter(pl.col("instants") == pl.col("instants").cum_max())
    return held.filter(pl.col("line").diff(-1).fill_null(1) != 0)


def _numbered(
    rows: pl.DataFrame, facts: pl.DataFrame, keys: Sequence[tuple[str, str]]
) -> tuple[pl.Series, pl.Series, int]:
    """Return the key of every row and of every fact as a number from 0, and how many there are.

    The number is null where a key is null, or where it is that of a row and no fact has it.
    """
    ours: list[pl.Series] = []
    theirs: list[pl.Series] = []
    same = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    for asked, stored in keys:
        left, right = _comparable(rows[asked], facts[stored])
        if facts.height and not right.null_count() and (right == right.head(1)).all():
            same &= left == right.head(1)  # one value throughout, as in a table of one symbol, needs no number
        else:
            ours.append(left)
            theirs.append(right)
    if not ours:
        number, of_facts, count = pl.lit(0, pl.Int64), pl.repeat(0, facts.height, dtype=pl.Int64, eager=True), 1
    elif len(ours) == 1 and ours[0].dtype == pl.String:
        # Cast as one column, as only then the numbers are certain to be the same ones; those of the facts come first.
        numbers = pl.concat([theirs[0].alias("key"), ours[0].alias("key")]).cast(pl.Categorical(pl.Categories.random()))
        of_facts = numbers.head(facts.height).to_physical().cast(pl.Int64)
        of_rows = numbers.slice(facts.height).to_physical().cast(pl.Int64)
        count = 0 if of_facts.null_count() == len(of_facts) else int(of_facts.max()) + 1  # type: ignore[arg-type]
        same &= of_rows < count
        number = pl.lit(of_rows)
    else:
        by = [f"key{i}" for i in range(len(ours))]
        left_keys, right_keys = pl.DataFrame(ours, by), pl.DataFrame(theirs, by)
        known = right_keys.drop_nulls().unique().with_columns(key=pl.int_range(pl.len(), dtype=pl.Int64))
        of_facts = right_keys.join(known, on=by, how="left", maintain_order="left")["key"]
        count = known.height
        number = pl.lit(left_keys.join(known, on=by, how="left", maintain_order="left")["key"])
    return pl.select(pl.when(pl.lit(same)).then(number)).to_series(), of_facts.alias("key"), count


def _comparable(asked: pl.Series, stored: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a pair of key columns in one type; what that type cannot hold equals nothing and becomes null."""
    ours, theirs = _key(asked), _key(stored)
    if ours.dtype == theirs.dtype:
        return ours, theirs
    # A column of nulls has whatever type its reader made up, and equals nothing.
    if theirs.null_count() == theirs.len():
        return ours, pl.repeat(None, theirs.len(), dtype=ours.dtype, eager=True)
    if ours.null_count() == ours.len():
        return pl.repeat(None, ours.len(), dtype=theirs.dtype, eager=True), theirs
    # pandas turns an integer column with a gap into floats.
    if ours.dtype.is_float() and theirs.dtype.is_integer():
        ours = _whole_numbers(ours)
    elif ours.dtype.is_integer() and theirs.dtype.is_float():
        theirs = _whole_numbers(theirs)
    if ours.dtype.is_integer() and theirs.dtype.is_integer():
        return ours.cast(theirs.dtype, strict=False), theirs
    if ours.dtype.is_float() and theirs.dtype.is_float():
        return ours.cast(pl.Float64), theirs.cast(pl.Float64)
    raise BadInput(
        f"key {asked.name!r} is {asked.dtype}, but {stored.name!r} in the facts is {stored.dtype}; cast one of them"
    )


def _key(column: pl.Series) -> pl.Series:
    """Return a key in the type it is compared in: text for categories, null for NaN, instants in UTC."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_float():
        return column.fill_nan(None)
    if isinstance(column.dtype, pl.Datetime):
        zone = column.dtype.time_zone
        return column.dt.replace_time_zone("UTC") if zone is None else column.dt.convert_time_zone("UTC")
    return column


def _whole_numbers(column: pl.Series) -> pl.Series:
    """Return floats as integers if they are all whole, else as they are."""
    whole = column.cast(pl.Int64, strict=False)
    return whole if (whole.cast(column.dtype) == column).all() else column


def unit_of(*clocks: pl.DataType) -> TimeUnit:
    """Return the unit in which columns of these types are compared: nanoseconds if one has them."""
    return "ns" if any(getattr(clock, "time_unit", None) == "ns" for clock in clocks) else "us"


def ticks(column: str, kind: pl.DataType, unit: TimeUnit, *, fact: bool = False) -> pl.Expr:
    """Return an instant as a whole number of `unit` since 1970, UTC; what the unit cannot hold is moved to its end.

    There a fact comes to lie after every instant asked for, so that the rounding hides facts and never shows one.

    Raises
    ------
    BadInput
        If the column is no timestamp.
    """
    instant = pl.col(column)
    if kind == pl.Date:
        kind = pl.Datetime("us")
        instant = instant.cast(kind)
    if not isinstance(kind, pl.Datetime):
        raise BadInput(f"column {column!r} is {kind}; an instant must be a timestamp")
    scale = _PER_MILLISECOND[unit] // _PER_MILLISECOND[kind.time_unit]
    if scale == 1:
        return instant.to_physical()
    end = _RANGE // scale
    low, high = (1 - end, end) if fact else (-end, end - 1)
    return instant.to_physical().clip(low, high) * scale


def _clocks(facts: pl.DataFrame, event: str, created: str | None, unit: TimeUnit) -> pl.DataFrame:
    clocks = [ticks(event, facts.schema[event], unit, fact=True).alias("event")]
    if created:
        clocks.append(ticks(created, facts.schema[created], unit, fact=True).alias("created"))
    return facts.select(clocks)


def _whole(span: timedelta, unit: TimeUnit) -> int:
    return span // _MICROSECOND * (_PER_MILLISECOND[unit] // _PER_MILLISECOND["us"])


def _ascending(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    order = _order(frame[column])
    return frame if order is None else frame[order]


def _order(numbers: pl.Series) -> pl.Series | None:
    """Return the places of the numbers from the least to the greatest; None where they lie so."""
    return None if numbers.is_sorted() else pl.Series(np.argsort(numbers.to_numpy()))


def _renamed(values: pl.DataFrame) -> pl.DataFrame:
    return values.rename({name: f"value{i}" for i, name in enumerate(values.columns)})


def _require(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    absent = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if absent:
        raise BadInput(f"no column {', '.join(map(repr, absent))}; there are {', '.join(frame.columns)}")
