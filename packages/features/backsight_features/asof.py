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

import polars as pl

from backsight_features.errors import BadInput

TimeUnit = Literal["ms", "us", "ns"]

_NEVER: Final = -(2**63)
_RANGE: Final = 2**63 - 1
_MICROSECOND: Final = timedelta(microseconds=1)
_PER_MILLISECOND: Final[dict[TimeUnit, int]] = {"ms": 1, "us": 1_000, "ns": 1_000_000}


def as_of(
    rows: pl.DataFrame,
    facts: pl.DataFrame,
    *,
    at: str,
    event: str,
    keys: Sequence[tuple[str, str]] = (),
    values: Sequence[str],
    created: str | None = None,
    ties: Sequence[str] = (),
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
    ties : sequence of str
        Columns of `facts` whose values decide what the instants cannot; `values` unless given.
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
    BadInput
        If a column is missing, an instant is no timestamp, or the types of a pair of keys cannot be compared.

    Notes
    -----
    Instants of any unit are compared exactly, in nanoseconds when one of the columns has them; without a zone they
    are read as UTC.
    """
    _require(rows, [at, *(left for left, _ in keys)])
    _require(facts, [event, *(right for _, right in keys), *values, *ties, *([created] if created else [])])
    if len(set(values)) != len(values):
        raise BadInput(f"columns asked for twice: {sorted({v for v in values if values.count(v) > 1})}")
    unit = _unit(rows[at], facts[event], *([facts[created]] if created else []))

    ours, theirs = _comparable(rows, facts, keys)
    left = pl.DataFrame([*ours, _ticks(rows[at], unit).fill_null(_NEVER).alias("at")])
    right = pl.DataFrame([*theirs, *_clocks(facts, event, created, unit)])
    by = [f"key{i}" for i in range(len(keys))]

    right = right.with_row_index("row").drop_nulls(["event", *by])
    ranks = facts.select(ties or values)
    if as_known and created:
        right = _records(right.drop_nulls("created"), by, ranks)
    else:
        right = _winners(right, [*by, "event"], ranks).with_columns(known="event")
    right = _ascending(right.select(*by, "known", "event", "row"), "known")

    left = _ascending(left.with_row_index("asked"), "at")
    found = left.join_asof(
        right,
        left_on="at",
        right_on="known",
        by=by or None,
        strategy="backward",
        check_sortedness=False,  # polars cannot check it within groups, and says so with a warning
    )
    if ttl:
        age = min(_whole(ttl, unit), _RANGE)
        # Compared as a difference on the side that cannot overflow: at >= event holds for every match.
        expired = pl.col("event") < pl.max_horizontal("at", pl.lit(_NEVER + age)) - age
        found = found.with_columns(pl.when(~expired).then("row").alias("row"))
    if not found["asked"].is_sorted():
        found = found.sort("asked")
    return facts.select(values).select(pl.all().gather(found["row"]))


def newest(facts: pl.DataFrame, *, event: str, keys: Sequence[str] = (), created: str | None = None) -> pl.DataFrame:
    """Return the newest fact of every key, decided as `as_of` does, in the order of the keys.

    Parameters
    ----------
    facts : pl.DataFrame
        Has the columns below; every other column is a value.
    event, created : str
        Columns with the instant from which a fact is true, and when it was written.
    keys : sequence of str
        Columns of the key. Without any, the one newest fact is returned. A null is a key of its own here.

    Raises
    ------
    BadInput
        If a column is missing or an instant is no timestamp.
    """
    _require(facts, [event, *keys, *([created] if created else [])])
    unit = _unit(facts[event], *([facts[created]] if created else []))
    by = [f"key{i}" for i in range(len(keys))]
    held = [facts[key].alias(name) for key, name in zip(keys, by, strict=True)]
    clocks = pl.DataFrame([*held, *_clocks(facts, event, created, unit)])
    clocks = clocks.with_row_index("row").drop_nulls("event")
    latest = clocks.filter(pl.col("event") == (pl.col("event").max().over(by) if by else pl.col("event").max()))
    values = [name for name in facts.columns if name not in {event, created, *keys}]
    chosen = _winners(latest, by, facts.select(values))
    return facts[chosen.sort(*by, "row")["row"]]


def tied(facts: pl.DataFrame, *, event: str, keys: Sequence[str] = (), created: str | None = None) -> bool:
    """Return whether two facts of one key share their instants, so that only their values can decide."""
    clocks = [*keys, event, *([created] if created else [])]
    return bool(facts.select(clocks).is_duplicated().any())


def _winners(right: pl.DataFrame, by: Sequence[str], values: pl.DataFrame) -> pl.DataFrame:
    """Return one row per group: the one created last, then the one with the greatest values."""
    if not by:
        contested = pl.repeat(right.height > 1, right.height, dtype=pl.Boolean, eager=True)
    elif right["event"].is_sorted() and right.height and not (right["event"].diff() == 0).any():
        return right
    else:
        contested = right.select(by).is_duplicated()
    if not contested.any():
        return right
    order = [name for name in ("event", "created") if name in right.columns]
    rivals = right.filter(contested)
    rivals = pl.concat([rivals, _renamed(values[rivals["row"]])], how="horizontal")
    ranks = [name for name in rivals.columns if name.startswith("value")]
    best = rivals.sort([*order, *ranks], nulls_last=False)
    best = best.unique(by, keep="last", maintain_order=True) if by else best.tail(1)
    return pl.concat([right.filter(~contested), best.select(right.columns)])


def _records(right: pl.DataFrame, by: Sequence[str], values: pl.DataFrame) -> pl.DataFrame:
    """Return the facts that were the newest when they became known, with that instant as ``known``.

    A fact is known from ``max(event, created)``. One that comes to be known after a newer one of its key never
    shows; what is left rises in (event, created) with ``known``, so that the last known is also the newest.
    """
    right = _winners(right, [*by, "event", "created"], values)
    right = right.with_columns(known=pl.max_horizontal("event", "created"))
    right = right.with_columns(rank=pl.struct("event", "created").rank("dense"))
    right = right.sort("known", "rank")
    best = pl.col("rank").cum_max()
    right = right.filter(pl.col("rank") == (best.over(by) if by else best))
    return right.unique([*by, "known"], keep="last", maintain_order=True)


def _comparable(
    rows: pl.DataFrame, facts: pl.DataFrame, keys: Sequence[tuple[str, str]]
) -> tuple[list[pl.Series], list[pl.Series]]:
    """Return the key columns of both sides as key0, key1, … of one type each."""
    left: list[pl.Series] = []
    right: list[pl.Series] = []
    for i, (asked, stored) in enumerate(keys):
        ours, theirs = _key(rows[asked]), _key(facts[stored])
        if ours.dtype == pl.Null:
            ours = ours.cast(theirs.dtype)
        elif theirs.dtype == pl.Null:
            theirs = theirs.cast(ours.dtype)
        elif ours.dtype != theirs.dtype:
            if not (ours.dtype.is_integer() and theirs.dtype.is_integer()):
                raise BadInput(
                    f"key {asked!r} is {rows.schema[asked]}, but {stored!r} in the facts is "
                    f"{facts.schema[stored]}; cast one of them"
                )
            ours, theirs = ours.cast(pl.Int128), theirs.cast(pl.Int128)
        left.append(ours.alias(f"key{i}"))
        right.append(theirs.alias(f"key{i}"))
    return left, right


def _key(column: pl.Series) -> pl.Series:
    """Return a key in the type it is compared in: text for categories, integers for whole floats, UTC instants."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_float():
        # pandas turns an integer column with a gap into floats.
        whole = column.fill_nan(None).cast(pl.Int64, strict=False)
        if (whole.cast(column.dtype) == column.fill_nan(None)).all():
            return whole
    if isinstance(column.dtype, pl.Datetime):
        zone = column.dtype.time_zone
        return column.dt.replace_time_zone("UTC") if zone is None else column.dt.convert_time_zone("UTC")
    return column


def _clocks(facts: pl.DataFrame, event: str, created: str | None, unit: TimeUnit) -> list[pl.Series]:
    clocks = [_ticks(facts[event], unit, fact=True).alias("event")]
    if created:
        clocks.append(_ticks(facts[created], unit, fact=True).alias("created"))
    return clocks


def _ticks(column: pl.Series, unit: TimeUnit, *, fact: bool = False) -> pl.Series:
    """Return an instant as a whole number of `unit` since 1970, UTC; what the unit cannot hold is moved to its end.

    There a fact comes to lie after every instant asked for, so that the rounding hides facts and never shows one.
    """
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if not isinstance(column.dtype, pl.Datetime):
        raise BadInput(f"column {column.name!r} is {column.dtype}; an instant must be a timestamp")
    scale = _PER_MILLISECOND[unit] // _PER_MILLISECOND[column.dtype.time_unit]
    end = _RANGE // scale
    low, high = (1 - end, end) if fact else (-end, end - 1)
    return column.to_physical().clip(low, high) * scale


def _unit(*clocks: pl.Series) -> TimeUnit:
    return "ns" if any(getattr(clock.dtype, "time_unit", None) == "ns" for clock in clocks) else "us"


def _whole(span: timedelta, unit: TimeUnit) -> int:
    return span // _MICROSECOND * (_PER_MILLISECOND[unit] // _PER_MILLISECOND["us"])


def _ascending(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame if frame[column].is_sorted() else frame.sort(column, maintain_order=True)


def _renamed(values: pl.DataFrame) -> pl.DataFrame:
    return values.rename({name: f"value{i}" for i, name in enumerate(values.columns)})


def _require(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise BadInput(f"no column {', '.join(map(repr, absent))}; there are {', '.join(frame.columns)}")
