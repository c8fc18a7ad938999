"""One feature view of a retrieval: its source, its columns under their stored names, and what it knew at an instant."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID

from backsight_features.errors import BadInput, SourceError
from backsight_features.store import sources
from backsight_features.store.entities import Entities
from backsight_features.store.memory import arranged, spilled
from backsight_features.store.slices import SlicedJoin

_MICROSECOND: Final = timedelta(microseconds=1)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Let errors say what was read.

    Raises
    ------
    BadInput
        What was raised, with the name before it.
    SourceError
        If files cannot be read.
    """
    try:
        yield
    except BadInput as error:
        raise type(error)(f"{what}: {error}") from error
    except (pl.exceptions.PolarsError, DeltaError, OSError) as error:
        # delta-rs adds the frames of its own stack, without names.
        cause = str(error).partition("\n   0: <unknown>")[0]
        raise SourceError(f"{what} cannot be read: {' '.join(cause.split())}") from error


class ViewRows:
    """The stored rows of a feature view.

    Parameters
    ----------
    config : RepoConfig
        Says where relative paths start.
    view : FeatureView
        With the projection under which it was asked for.

    Raises
    ------
    BadInput
        If the view has no batch source.
    """

    def __init__(self, config: RepoConfig, view: FeatureView) -> None:
        if view.batch_source is None:
            raise BadInput(f"feature view {view.name!r} has no batch source to read")
        self._config = config
        self._view = view
        self._stored: dict[str, str] = {new: old for old, new in (view.batch_source.field_mapping or {}).items()}
        source = view.batch_source
        self.event: str = self._column(source.timestamp_field)
        self.created: str | None = (
            self._column(source.created_timestamp_column) if source.created_timestamp_column else None
        )
        renamed = view.projection.join_key_map
        self.keys: Mapping[str, str] = {
            renamed.get(key.name, key.name): self._column(key.name)
            for key in view.entity_columns
            if key.name != DUMMY_ENTITY_ID
        }

    def scan(self) -> pl.LazyFrame:
        """Return the rows, unread.

        Raises
        ------
        BadInput
            If there is nothing to read, or a column of the keys or instants is absent.
        SourceError
            If what there is cannot be read.
        """
        with reading(f"feature view {self._view.name!r}"):
            rows = sources.scan(self._config, self._view.batch_source)
            self._require(rows, [self.event, *self.keys.values(), *([self.created] if self.created else [])])
            return rows

    def known_at(self, asked: Entities, features: Sequence[str], *, as_known: bool, memory: int) -> pa.Table:
        """Return the features, under their stored names, that were known at the instants asked for.

        Parameters
        ----------
        asked : Entities
            The n rows.
        features : sequence of str
            Names of the view.
        as_known : bool
            Whether a row counts only from when it was written (`as_of`).
        memory : int
            Bytes to work in. Where they do not do, the join runs in slices of time, and the result is in files.

        Returns
        -------
        pa.Table of shape (n, len(features))

        Raises
        ------
        BadInput
            If a source, a column or a key cannot be used, or there is no room for temporary files.
        SourceError
            If files cannot be read.
        """
        name = self._view.name
        absent = [key for key in self.keys if key not in asked.table.column_names]
        if absent:
            raise BadInput(
                f"feature view {name!r}: the entity rows lack the join key {', '.join(map(repr, absent))}; "
                f"they have {', '.join(asked.table.column_names)}"
            )
        rows = pl.DataFrame(pl.from_arrow(asked.table.select([*self.keys, asked.at])))
        # Opened once: all that is read of a Delta table is of one version.
        stored = self.scan()
        values = [self._column(feature) for feature in features]
        read = partial(self._read, stored, rows[asked.at].min(), rows[asked.at].max())
        with reading(f"feature view {name!r}"):
            self._require(stored, values)
            held = stored.collect_schema()
            # Which row wins must not depend on the features asked for, so all that are stored decide.
            ties = [column for field in self._view.features if (column := self._column(field.name)) in held]
            join = SlicedJoin(
                rows,
                read,
                held,
                at=asked.at,
                event=self.event,
                keys=list(self.keys.items()),
                values=values,
                created=self.created,
                ties=ties,
                ttl=self._view.ttl or None,
                as_known=as_known,
            )
            if rows.is_empty():
                return sources.plain(stored.select(values).head(0).collect())
            # Of a view with a ttl only a part is seen; files of other times are not even opened to be counted.
            seen = read([self.event], None, None) if self._view.ttl else stored
            if join.fits(memory, seen.select(pl.col(self.event).is_not_null().sum()).collect().item()):
                return sources.plain(join.whole())
            parts = [spilled(sources.plain(part)) for part in join.slices(memory)]
            return pa.concat_tables(parts) if join.order is None else arranged(parts, join.order)

    def _column(self, name: str) -> str:
        """Return the stored name of a column that the view may have renamed."""
        return self._stored.get(name, name)

    def _read(
        self,
        stored: pl.LazyFrame,
        first: object,
        last: object,
        features: Sequence[str],
        since: datetime | None,
        until: datetime | None,
    ) -> pl.LazyFrame:
        """Return columns of the rows that an instant in ``[first, last]`` can see, true in ``[since, until]``."""
        start = end = None
        if isinstance(first, datetime) and isinstance(last, datetime):
            # One microsecond of slack on both sides: a datetime drops the nanoseconds.
            end = _shift(last, _MICROSECOND)
            start = _shift(first, -self._view.ttl - _MICROSECOND) if self._view.ttl else None
        self._require(stored, features)
        kind = stored.collect_schema()[self.event]
        visible = sources.within(kind, self.event, start, end) & sources.within(kind, self.event, since, until)
        return stored.filter(visible).select(features)

    def _require(self, rows: pl.LazyFrame, names: Sequence[str]) -> None:
        held = rows.collect_schema().names()
        absent = [name for name in names if name not in held]
        if absent:
            where = sources.location(self._config, self._view.batch_source)
            raise BadInput(f"no column {', '.join(map(repr, absent))} in {where}; there are {', '.join(held)}")


def _shift(at: datetime, span: timedelta) -> datetime | None:
    """Return the shifted instant, or None where the calendar ends before it."""
    try:
        return at + span
    except OverflowError:
        return None
