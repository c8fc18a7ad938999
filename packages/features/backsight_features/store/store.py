"""The one door to features: history for training, windows, and the newest window online."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException
from feast.repo_operations import extract_objects_for_apply_delete

from backsight_features.clocks import UTC_US, utc_now
from backsight_features.errors import BadInput, HeaderMismatch, Missing
from backsight_features.store import shelf
from backsight_features.store.definitions import max_age_of, patience, timeframe_of, window_view_name
from backsight_features.store.online import OnlineWindow, admit
from backsight_features.store.packed import PackedWindow, digest, unpack, utc
from backsight_features.store.repository import configuration, definitions
from backsight_features.store.shelf import Outcome
from backsight_features.store.sources import NoTable
from backsight_features.windows import Windows, windows
from backsight_features.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class PublishedWindow:
    """What became of the window of one symbol.

    Parameters
    ----------
    symbol : str
        Whose window.
    outcome : str
        ``written``; ``corrected``, in place of one of the same instants with other content; ``unchanged``; or
        ``kept``, because what is online is newer.
    observed_at, available_at : datetime
        Of the window that was made: the close of its newest slot, and when its last state became known.
    """

    symbol: str
    outcome: Outcome
    observed_at: datetime
    available_at: datetime


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a call of `Store.publish` did.

    Parameters
    ----------
    service : str
        Whose features.
    length : int
        L, the slots of each window.
    at : datetime
        The instant as of which the windows were made.
    windows : tuple of PublishedWindow
        One per symbol, ordered by symbol.
    """

    service: str
    length: int
    at: datetime
    windows: tuple[PublishedWindow, ...]


@dataclass(frozen=True, kw_only=True)
class _Service:
    """A service of the registry, with what is derived from it."""

    definition: FeatureService
    features: tuple[str, ...]
    timeframe: timedelta
    max_ages: dict[str, timedelta]
    views: tuple[FeatureView, ...]
    window_view: FeatureView


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
        self._services: dict[str, _Service] = {}

    def apply(self) -> tuple[str, ...]:
        """Write the definitions of the repo to the registry and prepare the online store; repeatable.

        Returns
        -------
        tuple of str
            Names of the services that there are now.
        """
        contents = definitions(self._repo, self._feast.project)
        registry, project = self._feast.registry, self._feast.project
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
            timeframe=known.timeframe,
            features=known.features,
        )

    def publish(self, service: str, *, length: int, at: datetime | None = None) -> Published:
        """Write the newest window of every symbol, as known at an instant, to the online store.

        One window is written at once or not at all. What is online is never replaced by something older; something
        of the same instants with other content replaces it. Safe to repeat, and to break off.

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
            If another process is publishing.
        BadInput
            If nothing was known at the instant.
        """
        at = _aware(at or utc_now())
        known = self._service(service)
        grid = self.instants(service, end=at)
        if grid.is_empty():
            raise BadInput(f"service {service!r} has no features known at {at:%Y-%m-%dT%H:%M:%SZ}; nothing to publish")
        newest = pl.col("observed_at").max().over("symbol")
        grid = grid.filter(pl.col("observed_at") > newest - length * known.timeframe)
        asked = grid.select("symbol").unique().sort("symbol").with_columns(at=pl.lit(at, UTC_US))
        cut = windows(
            self._states(grid, service), asked, length=length, timeframe=known.timeframe, features=known.features
        )
        stamps = np.append(cut.row_available_at, np.datetime64("NaT"))
        done = []
        with shelf.writing(self._workspace.online):
            for i, symbol in enumerate(cut.symbol):
                window = PackedWindow(
                    digest=digest(cut.features),
                    values=cut.rows[cut.index[i]],
                    slot_available_at=stamps[cut.index[i]],
                    available_at=cut.available_at[i],
                    observed_at=cut.observed_at[i],
                    timeframe=cut.timeframe,
                )
                done.append(
                    PublishedWindow(
                        symbol=symbol,
                        outcome=shelf.put(self._feast, known.window_view, symbol, window),
                        observed_at=utc(window.observed_at),
                        available_at=utc(window.available_at),
                    )
                )
        return Published(service=service, length=length, at=at, windows=tuple(done))

    def online(self, service: str, symbol: str, *, at: datetime, max_age: timedelta | None = None) -> OnlineWindow:
        """Return the newest window of a symbol, if it may be used at an instant.

        Parameters
        ----------
        service, symbol : str
            Whose window.
        at : datetime
            The instant of use, tz-aware.
        max_age : timedelta, optional
            How old the close of the newest bar may be; two bars and five minutes unless given.

        Raises
        ------
        Missing
            If nothing was published for the symbol.
        Stale, FutureStamped, NonFinite, HeaderMismatch
            If what was published must not be used; see `online.admit`.
        """
        at = _aware(at)
        known = self._service(service)
        data = shelf.read(self._feast, known.window_view, symbol)
        if data is None:
            raise Missing(f"no {service} window of {symbol!r} is online; {self._hint(known)}")
        try:
            window = unpack(data)
        except HeaderMismatch as error:
            raise HeaderMismatch(f"{service} window of {symbol!r}: {error}") from error
        return admit(
            window,
            service=service,
            symbol=symbol,
            features=known.features,
            timeframe=known.timeframe,
            at=at,
            max_age=patience(known.timeframe) if max_age is None else max_age,
            max_ages=known.max_ages,
        )

    @cached_property
    def _feast(self) -> FeatureStore:
        config = configuration(self._repo, {**os.environ, "BACKSIGHT_HOME": str(self._workspace.root.absolute())})
        return FeatureStore(repo_path=str(config.repo_path), config=config)

    def _service(self, name: str) -> _Service:
        """Return a service of the registry, looked up once: a registry that was read from a file does not change."""
        if name not in self._services:
            self._services[name] = self._look_up(name)
        return self._services[name]

    def _look_up(self, name: str) -> _Service:
        feast = self._feast
        try:
            definition = feast.get_feature_service(name)
            view = feast.get_feature_view(window_view_name(name))
        except (FeatureServiceNotFoundException, FeatureViewNotFoundException):
            names = sorted(service.name for service in feast.list_feature_services())
            what = f"there are {', '.join(names)}" if names else "the registry is empty; run `backsight apply`"
            raise BadInput(f"no service {name!r} with a window view; {what}") from None
        step = timeframe_of(definition)
        if step is None:
            raise BadInput(f"service {name!r} names no timeframe; give it a tag such as timeframe: 1h")
        fields = [field for projection in definition.feature_view_projections for field in projection.features]
        return _Service(
            definition=definition,
            features=tuple(field.name for field in fields),
            timeframe=step,
            max_ages={field.name: age for field in fields if (age := max_age_of(field))},
            views=tuple(feast.get_feature_view(part.name) for part in definition.feature_view_projections),
            window_view=view,
        )

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

    def _hint(self, service: _Service) -> str:
        try:
            symbols = self.instants(service.definition.name)["symbol"].unique().sort()
        except BadInput:
            return "publish it first"
        return f"symbols with features: {', '.join(symbols)}"


def _unknown(symbols: set[str], grid: pl.DataFrame) -> BadInput:
    known = grid["symbol"].unique().sort()
    return BadInput(f"no features of {', '.join(sorted(symbols))}; there are {', '.join(known) or 'none'}")


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise BadInput(f"instant {at} has no time zone; give it UTC")
    return at.astimezone(UTC)
