"""Training sets: windows, and what came after each."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

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
    """n samples in time order: what was known at an instant, and what came.

    Attributes
    ----------
    windows : Windows
        The n windows, and only the rows they use.
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

    def first(self, count: int) -> "TrainingSet":
        """Return the first `count` samples; the others count as left out."""
        return replace(
            self,
            windows=_compact(self.windows, np.arange(count)),
            log_rv=self.log_rv[:count],
            log_return=self.log_return[:count],
            label_at=self.label_at[:count],
            further={bars: came.some(np.arange(count)) for bars, came in self.further.items()},
            left_out=self.left_out | {"held back for the final period": len(self) - count},
        )

    def sha256(self) -> str:
        """Return the digest of everything that a model learns from: values, places, instants and labels."""
        header = (self.windows.features, self.windows.timeframe, *self.horizons)
        digest = hashlib.sha256(repr(header).encode())
        rows = np.where(np.isnan(self.windows.rows), np.float32(np.nan), self.windows.rows)
        further = [part for came in self.further.values() for part in (came.log_rv, came.log_return)]
        for part in (rows, self.windows.index, self.at, self.log_rv, self.log_return, self.label_at, *further):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def label(windows: Windows, bars: pl.DataFrame, *, horizon: int, further: Sequence[int] = ()) -> TrainingSet:
    """Return the samples that some windows and the bars that followed them make.

    An instant gives no sample where its newest slot has no state, a HAR term was not yet defined, or not
    every bar up to the horizon exists; each is counted.

    Parameters
    ----------
    windows : Windows
        Of one symbol.
    bars : DataFrame with `observed_at`, `available_at`, `close`
        All stored versions of the bars of the series.
    horizon : int
        Bars ahead.
    further : sequence of int
        Further horizons; a sample has the labels of all.

    Raises
    ------
    BadInput
        Where a horizon is named twice, a feature that the baselines need is absent, or no sample remains.
    """
    absent = [name for name in (*HAR_TERMS, LAST_DAY, LAST_BAR) if name not in windows.features]
    if absent:
        raise BadInput(f"features {', '.join(absent)} are absent; the service needs them for its baselines")
    if len({horizon, *further}) <= len(further):
        raise BadInput(f"horizons of {', '.join(map(str, (horizon, *further)))} bars: name each of them once")
    outcomes = {
        reach: ahead(bars, windows.observed_at, horizon=reach, timeframe=windows.timeframe)
        for reach in (horizon, *further)
    }
    # NaT, where any label is missing, is what comes out.
    label_at = np.max([came.label_at for came in outcomes.values()], axis=0)
    gap = len(windows.rows) - 1
    newest = windows.index[:, -1]
    no_bar = newest == gap
    columns = [windows.features.index(name) for name in HAR_TERMS]
    no_history = ~no_bar & np.isnan(windows.rows[newest][:, columns]).any(axis=1)
    no_label = ~no_bar & ~no_history & np.isnat(label_at)
    keep = np.flatnonzero(~(no_bar | no_history | no_label))
    if len(keep) == 0:
        raise BadInput(
            f"{len(newest)} instants and no sample: {no_bar.sum()} without a bar, {no_history.sum()} without history "
            f"for {HAR_TERMS[-1]}, {no_label.sum()} without all {max(outcomes)} bars ahead"
        )
    keep = keep[np.argsort(windows.at[keep], kind="stable")]
    main, *others = (came.some(keep) for came in outcomes.values())
    return TrainingSet(
        windows=_compact(windows, keep),
        log_rv=main.log_rv,
        log_return=main.log_return,
        label_at=label_at[keep],
        horizon=horizon,
        further=dict(zip(further, others, strict=True)),
        left_out={
            "no bar at the instant": int(no_bar.sum()),
            "history too short or broken": int(no_history.sum()),
            "a bar ahead is missing": int(no_label.sum()),
        },
    )


def collect(
    store: "Store",
    facts: Snapshot,
    series: BarSeries,
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
    series : BarSeries
        Which bars.
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
    windows = store.windows(service, [series.symbol], length=length, start=first_at, end=last_at)
    if windows.timeframe != series.grid.step:
        raise BadInput(f"{service} has slots of {windows.timeframe}, bars of {series} cannot label them")
    return label(windows, read(facts, series), horizon=horizon, further=further)


def describe(
    data: TrainingSet, origin: "Provenance", series: BarSeries, *, service: str, length: int, seed: int
) -> Manifest:
    """Return the manifest of a training set."""
    return Manifest(
        series=str(series),
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
        BarSeries.parse(manifest.series),
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


def _compact(windows: Windows, keep: IntArray) -> Windows:
    """Return some of the windows with only the rows they use, so that unused rows change no digest."""
    index = windows.index[keep]
    gap = len(windows.rows) - 1
    used = np.unique(index)
    used = used[used != gap]
    place = np.full(gap + 1, len(used), dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return replace(
        windows,
        rows=np.concatenate([windows.rows[used], windows.rows[gap:]]),
        index=place[index],
        at=windows.at[keep],
        observed_at=windows.observed_at[keep],
        available_at=windows.available_at[keep],
        symbol=windows.symbol[keep],
        row_available_at=windows.row_available_at[used],
    )
