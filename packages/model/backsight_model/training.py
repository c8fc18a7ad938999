"""Training sets: windows of one symbol or of several, and what came after each."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from backsight_features.bars import BarSeries, read
from backsight_features.building.record import code_version
from backsight_features.clocks import from_us, parse_instant
from backsight_features.errors import BadInput
from backsight_features.snapshot import Snapshot
from backsight_features.windows import Windows

from backsight_model.arrays import BoolArray, FloatArray, IntArray, TimeArray
from backsight_model.baselines import HAR_TERMS, LAST_BAR, LAST_DAY
from backsight_model.manifest import Manifest, features_digest
from backsight_model.target import Outcomes, ahead

if TYPE_CHECKING:
    from backsight_features.store import Store

    from backsight_model.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """n samples, ordered by instant and then by symbol: what was known at an instant, and what came.

    Attributes
    ----------
    windows : Windows
        The n windows, and the rows they use.
    log_rv : ndarray of shape (n,)
        Log realised variance over the next `horizon` bars.
    log_return : ndarray of shape (n,)
        Log return over the next `horizon` bars.
    label_at : ndarray of shape (n,), datetime64[us]
        Instant from which the labels of all horizons were known: what splits time for one horizon splits it for all.
    horizon : int
        Number of bars that the main label reaches ahead.
    left_out : dict of str to int
        How many instants gave no sample, by reason in words.
    further : dict of int to Outcomes
        What came over further horizons, by the number of bars ahead, each of shape (n,).
    """

    windows: Windows
    log_rv: FloatArray
    log_return: FloatArray
    label_at: TimeArray
    horizon: int
    left_out: dict[str, int]
    further: Mapping[int, Outcomes] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.log_rv)

    @property
    def horizons(self) -> tuple[int, ...]:
        """The number of bars ahead of every label, the main one first."""
        return (self.horizon, *self.further)

    @property
    def views(self) -> tuple["TrainingSet", ...]:
        """A training set of each horizon alone, the main one first; they share the windows."""
        return (
            replace(self, further={}),
            *(
                replace(self, horizon=bars, log_rv=came.log_rv, log_return=came.log_return, further={})
                for bars, came in self.further.items()
            ),
        )

    @property
    def by_symbol(self) -> dict[str, IntArray]:
        """Numbers of the samples of each symbol, in time order."""
        symbol = self.windows.symbol
        return {name: np.flatnonzero(symbol == name) for name in sorted(set(symbol))}

    @property
    def at(self) -> TimeArray:
        """Instant of each sample, shape (n,)."""
        return self.windows.at

    @property
    def up(self) -> BoolArray:
        """Whether the price rose over the horizon, shape (n,)."""
        return self.log_return > 0

    @property
    def last_log_rv(self) -> FloatArray:
        """Log realised variance of the last 24 bars, brought to the length of the horizon: shape (n,)."""
        return self.newest(HAR_TERMS[0]) + float(np.log(self.horizon / 24))

    @property
    def last_day_up(self) -> BoolArray:
        """Whether the price rose over the last 24 bars, shape (n,)."""
        return self.newest(LAST_DAY) > 0

    @property
    def last_bar_down(self) -> BoolArray:
        """Whether the price fell in the last bar, shape (n,)."""
        return self.newest(LAST_BAR) < 0

    def newest(self, feature: str) -> FloatArray:
        """Return a feature in the newest slot of each window, shape (n,)."""
        column = self.windows.features.index(feature)
        values: FloatArray = self.windows.rows[self.windows.index[:, -1], column].astype(np.float64)
        return values

    def some(self, which: IntArray) -> "TrainingSet":
        """Return some of the samples, which share the rows with the others."""
        windows = self.windows
        return replace(
            self,
            windows=replace(
                windows,
                index=windows.index[which],
                at=windows.at[which],
                observed_at=windows.observed_at[which],
                available_at=windows.available_at[which],
                symbol=windows.symbol[which],
            ),
            log_rv=self.log_rv[which],
            log_return=self.log_return[which],
            label_at=self.label_at[which],
            further={bars: came.some(which) for bars, came in self.further.items()},
        )

    def first(self, count: int) -> "TrainingSet":
        """Return the first `count` samples and the rows they use; the others count as left out."""
        kept = self.some(np.arange(count))
        return replace(
            kept,
            windows=_compact(kept.windows),
            left_out=self.left_out | {"held back for the final period": len(self) - count},
        )

    def sha256(self) -> str:
        """Return the digest of everything that a model learns from: values, places, instants and labels."""
        header = (self.windows.features, self.windows.timeframe, *self.horizons)
        digest = hashlib.sha256(repr(header).encode())
        rows = np.where(np.isnan(self.windows.rows), np.float32(np.nan), self.windows.rows)
        further: list[Any] = [part for came in self.further.values() for part in (came.log_rv, came.log_return)]
        names, code = np.unique(self.windows.symbol, return_inverse=True)
        if len(names) > 1:
            digest.update(repr(names.tolist()).encode())
            further.append(code)
        for part in (rows, self.windows.index, self.at, self.log_rv, self.log_return, self.label_at, *further):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def label(
    windows: Windows, bars: Mapping[str, pl.DataFrame], *, horizon: int, further: Sequence[int] = ()
) -> TrainingSet:
    """Return the samples that some windows and the bars that followed them make.

    An instant gives no sample where its newest slot has no state, a HAR term was not yet defined, or not
    every bar up to the horizon exists; each is counted.

    Parameters
    ----------
    windows : Windows
    bars : dict of str to DataFrame with `observed_at`, `available_at`, `close`
        All stored versions of the bars of the series, by symbol.
    horizon : int
        Bars ahead.
    further : sequence of int
        Further horizons; a sample has the labels of all.

    Raises
    ------
    BadInput
        Where a horizon is named twice, a feature that the baselines need is absent, or no sample of a symbol remains.
    """
    absent = [name for name in (*HAR_TERMS, LAST_DAY, LAST_BAR) if name not in windows.features]
    if absent:
        raise BadInput(f"features {', '.join(absent)} are absent; the service needs them for its baselines")
    if len({horizon, *further}) <= len(further):
        raise BadInput(f"horizons of {', '.join(map(str, (horizon, *further)))} bars: name each of them once")
    outcomes = {reach: _outcomes(windows, bars, reach) for reach in (horizon, *further)}
    # NaT, where any label is missing, is what comes out.
    label_at = np.max([came.label_at for came in outcomes.values()], axis=0)
    gap = len(windows.rows) - 1
    newest = windows.index[:, -1]
    no_bar = newest == gap
    columns = [windows.features.index(name) for name in HAR_TERMS]
    no_history = ~no_bar & np.isnan(windows.rows[newest][:, columns]).any(axis=1)
    no_label = ~no_bar & ~no_history & np.isnat(label_at)
    usable = ~(no_bar | no_history | no_label)
    for symbol in bars:
        mine = windows.symbol == symbol
        if not (usable & mine).any():
            raise BadInput(
                f"{mine.sum()} instants of {symbol} and no sample: {(no_bar & mine).sum()} without a bar, "
                f"{(no_history & mine).sum()} without history for {HAR_TERMS[-1]}, {(no_label & mine).sum()} without "
                f"all {max(outcomes)} bars ahead"
            )
    keep = np.flatnonzero(usable)
    code = np.unique(windows.symbol[keep], return_inverse=True)[1]
    keep = keep[np.lexsort((code, windows.at[keep]))]
    whole = TrainingSet(
        windows=windows,
        log_rv=outcomes[horizon].log_rv,
        log_return=outcomes[horizon].log_return,
        label_at=label_at,
        horizon=horizon,
        further={reach: outcomes[reach] for reach in further},
        left_out={
            "no bar at the instant": int(no_bar.sum()),
            "history too short or broken": int(no_history.sum()),
            "a bar ahead is missing": int(no_label.sum()),
        },
    ).some(keep)
    return replace(whole, windows=_compact(whole.windows))


def _outcomes(windows: Windows, bars: Mapping[str, pl.DataFrame], horizon: int) -> Outcomes:
    """Return what came after every window, each by the bars of its own symbol."""
    n = len(windows)
    log_rv, log_return = np.full(n, np.nan), np.full(n, np.nan)
    label_at = np.full(n, np.datetime64("NaT"), dtype="datetime64[us]")
    for symbol, of_symbol in bars.items():
        mine = np.flatnonzero(windows.symbol == symbol)
        came = ahead(of_symbol, windows.observed_at[mine], horizon=horizon, timeframe=windows.timeframe)
        log_rv[mine], log_return[mine], label_at[mine] = came.log_rv, came.log_return, came.label_at
    return Outcomes(log_rv=log_rv, log_return=log_return, label_at=label_at)


def together(series: Sequence[BarSeries]) -> tuple[BarSeries, ...]:
    """Return the bars that one model is to learn from, by symbol: in whatever order they are named, it is one model.

    >>> first, second = map(BarSeries.parse, ("kraken:ETH-USD:1h", "kraken:BTC-USD:1h"))
    >>> [one.symbol for one in together([first, second])]
    ['BTC-USD', 'ETH-USD']

    Raises
    ------
    BadInput
        Where there are none, or two of one symbol, or of several timeframes.
    """
    ordered = tuple(sorted(series, key=lambda one: one.symbol))
    named = ", ".join(map(str, ordered))
    if not ordered:
        raise BadInput("no bars are named; name at least one venue:symbol:timeframe")
    if len({one.symbol for one in ordered}) < len(ordered):
        raise BadInput(f"{named}: feature tables hold one series per symbol; name each symbol once")
    if len({one.timeframe for one in ordered}) > 1:
        raise BadInput(f"{named}: one model has one timeframe; name bars of one")
    return ordered


def collect(
    store: "Store",
    facts: Snapshot,
    series: Sequence[BarSeries],
    *,
    service: str,
    length: int,
    horizon: int,
    further: Sequence[int] = (),
    first_at: datetime | None = None,
    last_at: datetime | None = None,
) -> TrainingSet:
    """Return the training set of a service at every instant of its bar grid.

    Parameters
    ----------
    store : Store
        Serves the windows.
    facts : Snapshot
        The bars that labels are made of, as the features' build read them.
    series : sequence of BarSeries
        Which bars, at most one series per symbol.
    service : str
        Which features.
    length : int
        Slots per window.
    horizon : int
        Bars ahead.
    further : sequence of int
        Further horizons; see `label`.
    first_at, last_at : datetime, optional
        Instants outside are left out; the slots of a window may lie before.

    Raises
    ------
    BadInput
        Where bars and features are of different timeframes, or as `label` says.
    """
    symbols = [one.symbol for one in series]
    windows = store.windows(service, symbols, length=length, start=first_at, end=last_at)
    for one in series:
        if windows.timeframe != one.grid.step:
            raise BadInput(f"{service} has slots of {windows.timeframe}, bars of {one} cannot label them")
    return label(windows, {one.symbol: read(facts, one) for one in series}, horizon=horizon, further=further)


def describe(
    data: TrainingSet, origin: "Provenance", series: Sequence[BarSeries], *, service: str, length: int, seed: int
) -> Manifest:
    """Return the manifest of a training set."""
    return Manifest(
        series=[str(one) for one in series],
        service=service,
        features_sha256=features_digest(data.windows.features),
        length=length,
        horizon=data.horizon,
        further=list(data.further),
        seed=seed,
        ingested_until=origin.ingested_until.isoformat(),
        first_at=from_us(int(data.at[0].astype(np.int64))).isoformat(),
        last_at=from_us(int(data.at[-1].astype(np.int64))).isoformat(),
        lake_versions=dict(origin.facts.versions),
        feature_versions=origin.feature_versions,
        scorer=origin.scorer,
        code=code_version(),
        samples=len(data),
        sha256=data.sha256(),
    )


def rebuild(manifest: Manifest, store: "Store", facts: Snapshot) -> TrainingSet:
    """Return the training set that a manifest describes.

    Parameters
    ----------
    manifest : Manifest
        What `describe` returned.
    store : Store
        Over feature tables built from `facts`.
    facts : Snapshot
        The lake at the manifest's versions, or bounded by its `ingested_until`.

    Raises
    ------
    BadInput
        Where what is stored does not give the same bytes.
    """
    data = collect(
        store,
        facts,
        [BarSeries.parse(name) for name in manifest.series],
        service=manifest.service,
        length=manifest.length,
        horizon=manifest.horizon,
        further=manifest.further,
        first_at=parse_instant(manifest.first_at),
        last_at=parse_instant(manifest.last_at),
    )
    if features_digest(data.windows.features) != manifest.features_sha256:
        raise BadInput(
            f"{manifest.service} has {len(data.windows.features)} features now, others or in another order than "
            "when the training set was made; use the feature repo of then"
        )
    digest = data.sha256()
    if digest != manifest.sha256:
        raise BadInput(
            f"the training set has sha256 {digest[:12]}, its manifest says {manifest.sha256[:12]}; build the feature "
            f"tables from facts ingested until {manifest.ingested_until}"
        )
    return data


def _compact(windows: Windows) -> Windows:
    """Return windows with only the rows they use, so that unused rows change no digest."""
    gap = len(windows.rows) - 1
    used = np.unique(windows.index)
    used = used[used != gap]
    place = np.full(gap + 1, len(used), dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return replace(
        windows,
        rows=np.concatenate([windows.rows[used], windows.rows[gap:]]),
        index=place[windows.index],
        row_available_at=windows.row_available_at[used],
    )
