"""One feature view of a retrieval: its source, its columns under their stored names, and what it knew at an instant."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID

from backsight_features.asof import Undecided, as_of
from backsight_features.errors import BadInput
from backsight_features.store import sources
from backsight_features.store.entities import Entities

_MICROSECOND: Final = timedelta(microseconds=1)


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
        """
        try:
            rows = sources.scan(self._config, self._view.batch_source)
        except BadInput as error:
            raise type(error)(f"feature view {self._view.name!r}: {error}") from error
        self._require(rows, [self.event, *self.keys.values(), *([self.created] if self.created else [])])
        return rows

    def known_at(self, asked: Entities, features: Sequence[str], *, as_known: bool) -> pl.DataFrame:
        """Return the features, under their stored names, that were known at the instants asked for.

        Parameters
        ----------
        asked : Entities
            The n rows.
        features : sequence of str
            Names of the view.
        as_known : bool
            Whether a row counts only from when it was written (`as_of`).

        Returns
        -------
        pl.DataFrame of shape (n, len(features))
        """
        name = self._view.name
        absent = [key for key in self.keys if key not in asked.table.column_names]
        if absent:
            raise BadInput(
                f"feature view {name!r}: the entity rows lack the join key {', '.join(map(repr, absent))}; "
                f"they have {', '.join(asked.table.column_names)}"
            )
        rows = pl.DataFrame(pl.from_arrow(asked.table.select([*self.keys, asked.at])))
        wanted = [self._column(feature) for feature in features]
        features_of_view = [self._column(field.name) for field in self._view.features]

        def join(ties: Sequence[str]) -> pl.DataFrame:
            return as_of(
                rows,
                self._read(rows[asked.at], [*wanted, *ties]),
                at=asked.at,
                event=self.event,
                keys=list(self.keys.items()),
                values=wanted,
                created=self.created,
                ties=ties,
                ttl=self._view.ttl or None,
                as_known=as_known,
            )

        try:
            return join([])
        except Undecided:
            # Which row wins must not depend on the features asked for, so all of them decide.
            return join(features_of_view)
        except BadInput as error:
            raise BadInput(f"feature view {name!r}: {error}") from error

    def _column(self, name: str) -> str:
        """Return the stored name of a column that the view may have renamed."""
        return self._stored.get(name, name)

    def _read(self, instants: pl.Series, features: Sequence[str]) -> pl.DataFrame:
        """Return the rows that some instant can see."""
        rows = self.scan()
        self._require(rows, features)
        clocks = [self.event, *([self.created] if self.created else [])]
        wanted = list(dict.fromkeys([*self.keys.values(), *clocks, *features]))
        first, last = instants.min(), instants.max()
        start = end = None
        if isinstance(first, datetime) and isinstance(last, datetime):
            # One microsecond of slack on both sides: a datetime drops the nanoseconds.
            end = _shift(last, _MICROSECOND)
            start = _shift(first, -self._view.ttl - _MICROSECOND) if self._view.ttl else None
        kind = rows.collect_schema()[self.event]
        return rows.select(wanted).filter(sources.within(kind, self.event, start, end)).collect()

    def _require(self, rows: pl.LazyFrame, names: Sequence[str]) -> None:
        held = rows.collect_schema().names()
        absent = [name for name in names if name not in held]
        if absent:
            where = sources.location(self._config, self._view.batch_source)
            raise BadInput(
                f"feature view {self._view.name!r}: no column {', '.join(map(repr, absent))} in {where}; "
                f"there are {', '.join(held)}"
            )


def _shift(at: datetime, span: timedelta) -> datetime | None:
    """Return the shifted instant, or None where the calendar ends before it."""
    try:
        return at + span
    except OverflowError:
        return None
