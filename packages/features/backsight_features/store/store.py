"""The one door to features: history for training, windows, and the newest window online."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, overload

import polars as pl
from feast import FeatureStore, FeatureView
from feast.data_format import DeltaFormat
from feast.repo_operations import extract_objects_for_apply_delete

from backsight_features.building.record import symbols_built
from backsight_features.clocks import UTC_US, utc_now
from backsight_features.errors import BadInput, Missing
from backsight_features.online.gate import OnlineWindow, Unfit, admit
from backsight_features.online.packed import PackedWindow
from backsight_features.online.reader import unpacked, utc
from backsight_features.store.publishing import Published, PublishedWindow, prepared
from backsight_features.store.repository import changing, configuration, connect, definitions
from backsight_features.store.services import Service, look_up
from backsight_features.store.shelf import Shelf
from backsight_features.store.sources import NoTable, table
from backsight_features.windows import Windows, windows
from backsight_features.workspace import Workspace

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SLOTS: Final = 1_000_000
_MOST_NAMED: Final = 20
"""Symbols that an error lists."""


class Store:
    """A feature repo over the feature tables of a workspace.

    Parameters
    ----------
    repo : Path
        The folder of ``feature_store.yaml``.
    workspace : Workspace
        Its root stands for ``BACKSIGHT_HOME`` in the settings of the repo.
    """

    def __init__(self, repo: Path, workspace: Workspace) -> None:
        self._repo = repo
        self._workspace = workspace
        self._services: dict[str, Service] = {}

    def apply(self) -> tuple[str, ...]:
        """Write the definitions of the repo to the registry and prepare the online store; repeatable.

        Returns
        -------
        tuple of str
            Names of the services that there are now.
        """
        contents = definitions(self._repo, self._feast.project)
        registry, project = self._feast.registry, self._feast.project
        with changing(self._feast.config):
            added, removed, _, _ = extract_objects_for_apply_delete(project, registry, contents)
            self._feast.apply(added, objects_to_delete=removed, partial=False)
        self._services.clear()
        return tuple(sorted(service.name for service in registry.list_feature_services(project)))

    def history(self, entities: pl.DataFrame, service: str) -> pl.DataFrame:
        """Return the rows with the features as they were known at each row's instant.

        Parameters
        ----------
        entities : pl.DataFrame of shape (n, 2 or more)
            ``symbol``, ``event_timestamp`` (UTC, microseconds), and columns that ride along.
        service : str
            Whose features.

        Returns
        -------
        pl.DataFrame of shape (n, columns + F)
            In the order given; null where nothing was known, or nothing recent enough.

        Raises
        ------
        BadInput
            If one of the two columns is missing or of another type.
        """
        definition = self._service(service).definition
        for name, kind in {"symbol": pl.String, "event_timestamp": UTC_US}.items():
            if entities.schema.get(name) != kind:
                raise BadInput(f"column {name!r} of the rows is {entities.schema.get(name)}; it must be {kind}")
        job = self._feast.get_historical_features(entity_df=entities.to_pandas(), features=definition)
        found = pl.DataFrame(pl.from_arrow(job.to_arrow()))
        return found.with_columns(pl.col(name).cast(kind) for name, kind in entities.schema.items())

    def instants(
        self,
        service: str,
        symbol: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pl.DataFrame:
        """Return the bar grid: the instants at which a service has a state, in all of its views.

        Parameters
        ----------
        service : str
            Whose grid.
        symbol : str, optional
            All symbols unless given.
        start, end : datetime, optional
            Bounds of the instants, both included.

        Returns
        -------
        pl.DataFrame of shape (n, 3)
            ``symbol``, ``observed_at`` (the newest bar close known then), ``available_at`` (the instant), ordered by
            symbol and instant.

        Raises
        ------
        BadInput
            If no features have been built, or the symbol is none of those that have features.
        """
        grids = [self._grid(view, start, end) for view in self._service(service).views]
        grid = grids[0]
        for other in grids[1:]:
            # Tables are built one after the other; a state that is not in all of them yet is not there.
            grid = grid.join(other, on=grid.columns, how="semi")
        grid = grid.sort("symbol", "available_at")
        if symbol is None:
            return grid
        own = grid.filter(pl.col("symbol") == symbol)
        if own.is_empty() and start is None and end is None:
            raise _unknown({symbol}, grid)
        return own

    def windows(
        self,
        service: str,
        symbols: Sequence[str],
        at: pl.DataFrame | None = None,
        *,
        length: int,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Windows:
        """Return windows as they were known at their instants.

        Parameters
        ----------
        service : str
            Whose features.
        symbols : sequence of str
            Whose windows.
        at : pl.DataFrame of shape (n, 2), optional
            ``symbol`` and ``at`` (UTC, microseconds) of each window; else every instant of the grid in
            ``[start, end]``.
        length : int
            L, the number of slots.
        start, end : datetime, optional
            Bounds of the instants where `at` is not given; the slots may lie before.

        Raises
        ------
        BadInput
            If a symbol has no features, or as `windows.windows` says.
        """
        known = self._service(service)
        grid = self.instants(service)
        asked = set(symbols) | (set() if at is None else set(at["symbol"]))
        if asked != set(symbols):
            raise BadInput(f"windows of {', '.join(sorted(asked - set(symbols)))} asked for, but not among the symbols")
        if absent := asked - set(grid["symbol"]):
            raise _unknown(absent, grid)
        grid = grid.filter(pl.col("symbol").is_in(list(symbols)))
        if at is None:
            at = grid.select("symbol", at="available_at")
            at = at if start is None else at.filter(pl.col("at") >= start)
            at = at if end is None else at.filter(pl.col("at") <= end)
        grid = grid.filter(pl.col("available_at") <= pl.lit(at["at"].max(), UTC_US))
        return windows(
            self._states(grid, service),
            at,
            length=length,
            timeframe=known.contract.timeframe,
            features=known.contract.features,
        )

    def publish(self, service: str, *, length: int, at: datetime | None = None) -> Published:
        """Write the newest window of every symbol, as known at an instant, to the online store.

        Each window is written at once or not at all. What is online is never replaced by something older; something
        of the same instants with other content replaces it. Safe to repeat, and to break off.

        Only the end of the tables is read. A symbol of which nothing became known in the last L slots, while something
        became known of another, has no new window and is left as it is; `Published.silent` names those that were built.

        Parameters
        ----------
        service : str
            Whose features.
        length : int
            L, the number of slots.
        at : datetime, optional
            Tz-aware; now unless given. Nothing that became known later is published.

        Raises
        ------
        Busy
            If another process is publishing to an online store other than Redis.
        BadInput
            If nothing was known at the instant, or the length is not between 1 and 1,000,000.
        SourceError
            If the online store does not answer, or did not take what was written.
        """
        at = utc(at or utc_now())
        if not 1 <= length <= _MOST_SLOTS:
            raise BadInput(f"a window of length {length}; it must be from 1 to {_MOST_SLOTS}")
        known = self._service(service)
        contract = replace(known.contract, length=length)
        grid = self._tail(service, contract.timeframe * length, at)
        if grid.is_empty():
            raise BadInput(f"service {service!r} has no features known at {at:%Y-%m-%dT%H:%M:%SZ}; nothing to publish")
        asked = grid.select("symbol").unique().sort("symbol").with_columns(at=pl.lit(at, UTC_US))
        cut = windows(
            self._states(grid, service),
            asked,
            length=length,
            timeframe=contract.timeframe,
            features=contract.features,
        )
        ready = prepared(cut, contract)
        sources = [view.batch_source for view in known.views if isinstance(view.batch_source.file_format, DeltaFormat)]
        built = {symbol for source in sources for symbol in symbols_built(table(self._feast.config, source))}
        outcomes = self._shelf.publish(known.window_view, contract, ready)
        return Published(
            service=service,
            length=length,
            at=at,
            windows=tuple(
                PublishedWindow(
                    symbol=one.symbol,
                    outcome=outcome,
                    observed_at=one.window.observed_at,
                    available_at=one.window.available_at,
                )
                for one, outcome in zip(ready, outcomes, strict=True)
            ),
            silent=tuple(sorted(built - set(asked["symbol"]))),
        )

    @overload
    def online(
        self, service: str, symbols: str, *, at: datetime, max_age: timedelta | None = None, unfit: Unfit = "raise"
    ) -> OnlineWindow: ...

    @overload
    def online(
        self,
        service: str,
        symbols: list[str] | tuple[str, ...],
        *,
        at: datetime,
        max_age: timedelta | None = None,
        unfit: Unfit = "raise",
    ) -> tuple[OnlineWindow, ...]: ...

    def online(
        self,
        service: str,
        symbols: str | list[str] | tuple[str, ...],
        *,
        at: datetime,
        max_age: timedelta | None = None,
        unfit: Unfit = "raise",
    ) -> OnlineWindow | tuple[OnlineWindow, ...]:
        """Return the newest window of a symbol, or of each of many, if it may be used at an instant.

        What a service of its own reads without Feast: `online.Reader`, which hands out the same.

        Parameters
        ----------
        service : str
            Whose features.
        symbols : str, or list or tuple of str
            Whose window or windows.
        at : datetime
            The instant of use, tz-aware.
        max_age : timedelta, optional
            How old the close of the newest bar may be; two bars and five minutes unless given.
        unfit : str
            ``raise``: the first symbol that is not fit is an error. ``null``: what may not be used is NaN, and
            ``refused`` of a window says what and why (`online.gate.admit`).

        Raises
        ------
        Missing
            If nothing was published for a symbol; also with ``unfit="null"`` where nothing was for any of them, for
            then nobody knows the length.
        Stale, FutureStamped, NonFinite, HeaderMismatch
            If what was published must not be used; see `online.gate.admit`.
        SourceError, Busy
            If the online store does not answer now.
        """
        at = utc(at)
        known = self._service(service)
        asked = [symbols] if isinstance(symbols, str) else list(symbols)
        found = [
            unpacked(service, symbol, data)
            for symbol, data in zip(asked, self._shelf.read(known.window_view, asked), strict=True)
        ]
        held = [window for window in found if isinstance(window, PackedWindow)]
        newest = max(held, key=lambda window: window.order, default=None)
        contract = known.contract if newest is None else replace(known.contract, length=len(newest.values))
        try:
            fit = tuple(
                admit(window, contract, symbol=symbol, at=at, max_age=max_age, unfit=unfit)
                for symbol, window in zip(asked, found, strict=True)
            )
        except Missing as error:
            raise Missing(f"{error}; {self._hint(service)}") from None
        return fit[0] if isinstance(symbols, str) else fit

    @cached_property
    def _shelf(self) -> Shelf:
        return Shelf(self._feast, self._workspace.online)

    @cached_property
    def _feast(self) -> FeatureStore:
        return connect(configuration(self._repo, {**os.environ, **self._workspace.variables}))

    def _service(self, name: str) -> Service:
        """Return a service of the registry, looked up once: a registry that was read from a file does not change."""
        if name not in self._services:
            self._services[name] = look_up(self._feast, name)
        return self._services[name]

    def _grid(self, view: FeatureView, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        try:
            job = self._feast.provider.offline_store.pull_all_from_table_or_query(
                config=self._feast.config,
                data_source=view.batch_source,
                join_key_columns=["symbol"],
                feature_name_columns=["observed_at"],
                timestamp_field="available_at",
                start_date=start,
                end_date=end,
            )
            grid = pl.DataFrame(pl.from_arrow(job.to_arrow()))
        except NoTable as error:
            raise BadInput(f"{error}; run `backsight build`") from error
        return grid.select("symbol", pl.col("observed_at", "available_at").cast(UTC_US))

    def _states(self, grid: pl.DataFrame, service: str) -> pl.DataFrame:
        """Return the features at instants of the grid, through Feast's history."""
        return self.history(grid.rename({"available_at": "event_timestamp"}), service).rename(
            {"event_timestamp": "available_at"}
        )

    def _tail(self, service: str, span: timedelta, at: datetime) -> pl.DataFrame:
        """Return the part of the bar grid that the newest windows need, as known at an instant.

        No state becomes known before the close that it is about, so none of a window of this span became known before
        the window begins.
        """
        newest = pl.col("observed_at").max().over("symbol")
        reach = span + self._service(service).contract.max_age
        while True:
            start = at - reach - span if reach + span < at - _EPOCH else None
            grid = self.instants(service, start=start, end=at)
            if start is not None:
                grid = grid.filter(newest >= at - reach)
            if start is None or not grid.is_empty():
                return grid.filter(pl.col("observed_at") > newest - span)
            reach *= 8

    def _hint(self, service: str) -> str:
        try:
            symbols = self.instants(service)["symbol"].unique().sort()
        except BadInput:
            return "publish it first"
        return f"symbols with features: {_names(symbols)}"


def _unknown(symbols: set[str], grid: pl.DataFrame) -> BadInput:
    known = grid["symbol"].unique().sort()
    return BadInput(f"no features of {_names(sorted(symbols))}; there are {_names(known) or 'none'}")


def _names(symbols: Sequence[str] | pl.Series) -> str:
    more = len(symbols) - _MOST_NAMED
    return ", ".join(symbols[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
