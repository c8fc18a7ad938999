"""The entity rows of a retrieval: a pandas frame, a query, or every instant of a range at which something changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from backsight_features.errors import BadInput
from backsight_features.store import sources
from backsight_features.store.query import run

_EVENT = "event_timestamp"


@dataclass(frozen=True, kw_only=True)
class Entities:
    """Rows to which features are joined.

    Parameters
    ----------
    table : pa.Table
        The rows as given, in their order; an instant without a zone is UTC.
    at : str
        The column that holds the instant of each row.
    """

    table: pa.Table
    at: str


def from_frame(frame: object) -> Entities:
    """Return the rows of a pandas frame. Its instant is ``event_timestamp``, or its only timestamp column.

    Raises
    ------
    BadInput
        If it is no pandas frame, a column name occurs twice, or a column cannot be read.
    """
    if not isinstance(frame, pd.DataFrame):
        kind = f"{type(frame).__module__.split('.')[0]} {type(frame).__name__}"
        raise BadInput(f"the entity rows are a {kind}; they must be a pandas DataFrame or a query")
    _refuse_repeated([str(name) for name in frame.columns])
    at = infer_event_timestamp_from_entity_df(dict(zip(frame.columns, frame.dtypes, strict=True)))
    if not pd.api.types.is_datetime64_any_dtype(frame[at]):
        if pd.api.types.is_numeric_dtype(frame[at]):
            raise BadInput(f"column {at!r} of the entity rows is {frame[at].dtype}; an instant must be a timestamp")
        try:
            frame = frame.assign(**{at: pd.to_datetime(frame[at], utc=True)})
        except (ValueError, TypeError) as error:
            raise BadInput(f"column {at!r} of the entity rows holds no timestamps: {error}") from error
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(f"the entity rows cannot be read: {' '.join(map(str, error.args))}") from error
    return Entities(table=_in_utc(table, at), at=at)


def from_query(query: str, tables: Callable[[str], pl.LazyFrame], names: Sequence[str], memory: int) -> Entities:
    """Return the rows of a query, run by DuckDB in memory.

    Parameters
    ----------
    query : str
        One SELECT. It may read files (``read_parquet('…')``) and the tables named here. Nothing is downloaded for it.
    tables : callable
        Gives the rows of a name.
    names : sequence of str
        The tables that there are: the feature views asked for.
    memory : int
        Bytes that the query may work in.

    Raises
    ------
    BadInput
        If the query is no SELECT, or fails, or a column name occurs twice.
    """
    # As in SQL, a name may be written in any case.
    known = {name: tables(name).collect().to_arrow() for name in names if name.lower() in query.lower()}
    table = run(query, known, memory)
    _refuse_repeated(table.column_names)
    types = {field.name: field.type.to_pandas_dtype() for field in table.schema if pa.types.is_timestamp(field.type)}
    schema = {name: types.get(name, object) for name in table.column_names}
    at = infer_event_timestamp_from_entity_df(schema)
    return Entities(table=_in_utc(table, at), at=at)


def from_range(
    views: Sequence[FeatureView],
    rows: Callable[[FeatureView], tuple[pl.LazyFrame, str, dict[str, str]]],
    start: datetime,
    end: datetime,
) -> Entities:
    """Return one row per key and instant in ``[start, end]`` at which a row of one of the views became true.

    Parameters
    ----------
    views : sequence of FeatureView
        Whose instants are wanted.
    rows : callable
        Gives the rows of a view, the column of their instant, and the column of each join key.
    start, end : datetime
        Tz-aware, both included.
    """
    parts = []
    for view in views:
        frame, event, keys = rows(view)
        kind = frame.collect_schema()[event]
        instant = pl.col(event).cast(pl.Datetime("us")) if kind == pl.Date else pl.col(event)
        zoned = getattr(kind, "time_zone", None) is not None
        instant = instant.dt.convert_time_zone("UTC") if zoned else instant.dt.replace_time_zone("UTC")
        held = [pl.col(column).alias(key) for key, column in keys.items() if key != DUMMY_ENTITY_ID]
        inside = frame.filter(sources.within(kind, event, start, end))
        parts.append(inside.select(*held, instant.alias(_EVENT)).unique())
    # The finest unit of all: rounded down, a row would not know of the very change that it stands for.
    fine = any(getattr(part.collect_schema()[_EVENT], "time_unit", None) == "ns" for part in parts)
    parts = [part.with_columns(pl.col(_EVENT).dt.cast_time_unit("ns" if fine else "us")) for part in parts]
    union = pl.concat(parts, how="diagonal_relaxed").unique().collect()
    keys_first = [name for name in union.columns if name != _EVENT]
    union = union.select(*keys_first, _EVENT).sort(_EVENT, *keys_first)
    return Entities(table=union.to_arrow(compat_level=pl.CompatLevel.oldest()), at=_EVENT)


def _refuse_repeated(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"the entity rows have more than one column named {', '.join(twice)}")


def _in_utc(table: pa.Table, at: str) -> pa.Table:
    index = table.schema.get_field_index(at)
    kind = table.schema.field(at).type
    if not pa.types.is_timestamp(kind):
        raise BadInput(f"column {at!r} of the entity rows is {kind}; an instant must be a timestamp")
    # Arrow reads an instant without a zone as UTC, and keeps the instant of one with another zone.
    return table.set_column(index, at, table[at].cast(pa.timestamp(kind.unit, "UTC")))
