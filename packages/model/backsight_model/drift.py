"""Drift: did what comes in, or what the model loses, move away from what it was when the model learnt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from backsight_model.arrays import Float32Array, FloatArray, IntArray, TimeArray

BINS: Final = 10
RECENT: Final = 672
"""Samples that are held against the training samples: four weeks of hours."""
MOVED: Final = 0.25
"""PSI above which a population counts as another one, by the custom of credit scoring (Siddiqi 2006)."""
SHARE: Final = 0.25
"""Share of the features that have to have moved."""
_BETWEEN: Final = 24
"""Samples between the stretches of training samples: who looks at every bar meets the most unusual stretch of all."""
_PSEUDO: Final = 0.5
"""Added to each bin, so that an empty one is rare and not impossible."""
_LEAST: Final = 10
"""Blocks that a mean loss and its spread are taken from; ADWIN waits as long."""
_SURE: Final = 0.05
"""ADWIN's delta: measured on made-up losses, a false alarm in 20 to 30 years, and twice the loss is seen in a month."""
_WILD: Final = 3.0
"""Deviations to which a block is clipped: one wild day is no new level."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Whether features moved.

    Attributes
    ----------
    psi : dict of str to float
        Population stability index of the newest samples against the training samples, by feature.
    usual : dict of str to float
        The largest that equally long stretches of the training samples themselves have: what a slow feature, such as a
        monthly level, shows without anything being new.
    since : datetime64[us]
        The first of the newest samples.
    """

    psi: dict[str, float]
    usual: dict[str, float]
    since: np.datetime64

    @property
    def moved(self) -> tuple[str, ...]:
        """Features whose index is above the custom and above what is usual for them, the most moved first."""
        some = [name for name, value in self.psi.items() if value > max(MOVED, self.usual[name])]
        return tuple(sorted(some, key=lambda name: -self.psi[name]))

    @property
    def drifted(self) -> bool:
        """Whether so many moved that what the model reads is something else now."""
        return len(self.moved) >= SHARE * len(self.psi)

    @property
    def words(self) -> str:
        """What moved, and how much."""
        said = f"inputs: {len(self.moved)} of {len(self.psi)} features moved"
        if not self.moved:
            return said
        most = self.moved[0]
        return f"{said}, most {most} (PSI {self.psi[most]:.2f}, until then {self.usual[most]:.2f} at most)"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How F features were distributed in the samples that a model learnt from: what newer ones are held against.

    Attributes
    ----------
    features : tuple of str
    edges : tuple of ndarray of shape (bins - 2,)
        By feature, the inner edges of bins with equally many known values; the last bin is for what is missing.
    counts : tuple of ndarray of shape (bins,)
        By feature, samples in each bin.
    usual : ndarray of shape (F,)
        See `Inputs`.
    """

    features: tuple[str, ...]
    edges: tuple[Float32Array, ...]
    counts: tuple[IntArray, ...]
    usual: FloatArray

    @classmethod
    def of(cls, rows: Float32Array, features: tuple[str, ...], *, stretch: int = RECENT) -> "Reference":
        """Return the distributions of samples.

        Parameters
        ----------
        rows : ndarray of shape (n, F)
            Features of the samples in time order, NaN where undefined.
        features : tuple of str
            Names of the columns.
        stretch : int
            How many newer samples it will be held against.
        """
        edges = tuple(_edges(column) for column in rows.T)
        codes = [_codes(column, inner) for column, inner in zip(rows.T, edges, strict=True)]
        counts = tuple(np.bincount(code, minlength=len(inner) + 2) for code, inner in zip(codes, edges, strict=True))
        usual = [_usual(code, count, stretch) for code, count in zip(codes, counts, strict=True)]
        return cls(features=features, edges=edges, counts=counts, usual=np.array(usual, dtype=np.float64))

    def against(self, recent: Float32Array, *, since: np.datetime64) -> Inputs:
        """Return whether the features moved.

        Parameters
        ----------
        recent : ndarray of shape (stretch, F)
            The newest samples.
        since : datetime64[us]
            Instant of the first of them.
        """
        psi = {
            name: float(index(count, np.bincount(_codes(column, inner), minlength=len(count))))
            for name, column, inner, count in zip(self.features, recent.T, self.edges, self.counts, strict=True)
        }
        return Inputs(psi=psi, usual=dict(zip(self.features, self.usual.tolist(), strict=True)), since=since)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists by feature; edges survive the round trip bit for bit."""
        each = zip(self.features, self.edges, self.counts, self.usual.tolist(), strict=True)
        return {
            name: {"edges": inner.tolist(), "counts": count.tolist(), "usual": usual}
            for name, inner, count, usual in each
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Reference":
        """Return the reference that `to_json` described."""
        return cls(
            features=tuple(state),
            edges=tuple(np.array(one["edges"], dtype=np.float32) for one in state.values()),
            counts=tuple(np.array(one["counts"], dtype=np.int64) for one in state.values()),
            usual=np.array([one["usual"] for one in state.values()], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Whether a loss rose to another level.

    Attributes
    ----------
    target : str
    before, after : float
        Mean loss before and from `since` on; where it did not rise, on the samples that stopped the training and after.
    since : datetime64[us] or None
        When the higher level began, as far as ADWIN can tell; None where it did not rise.
    """

    target: str
    before: float
    after: float
    since: np.datetime64 | None

    @property
    def drifted(self) -> bool:
        """Whether it rose."""
        return self.since is not None

    @property
    def words(self) -> str:
        """What it was and is."""
        if self.since is None:
            return f"loss of {self.target} {self.after:.4f} after {self.before:.4f}, no change that ADWIN sees"
        return f"loss of {self.target} rose from {self.before:.4f} to {self.after:.4f} since {_text(self.since)}"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What is known at an instant of whether the world is still the one that the model learnt.

    Attributes
    ----------
    losses : tuple of Loss
        By target; none where too few labels are known to say.
    inputs : Inputs or None
        None where too few samples came since.
    """

    losses: tuple[Loss, ...]
    inputs: Inputs | None

    @property
    def drifted(self) -> bool:
        """Whether a loss rose or the inputs moved."""
        return any(loss.drifted for loss in self.losses) or (self.inputs is not None and self.inputs.drifted)

    @property
    def words(self) -> str:
        """What moved, by how much and since when; where nothing did, all that was looked at."""
        looked_at: tuple[Loss | Inputs, ...] = (*self.losses, *(() if self.inputs is None else (self.inputs,)))
        if not looked_at:
            return "too little has come since to say"
        return "; ".join(part.words for part in looked_at if part.drifted or not self.drifted)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        inputs = self.inputs
        return {
            "drifted": self.drifted,
            "words": self.words,
            "losses": [
                {
                    "target": one.target,
                    "before": one.before,
                    "after": one.after,
                    "since": None if one.since is None else _text(one.since),
                }
                for one in self.losses
            ],
            "inputs": None
            if inputs is None
            else {"since": _text(inputs.since), "psi": inputs.psi, "usual": inputs.usual, "moved": list(inputs.moved)},
        }


def look(
    at: TimeArray,
    newest: Float32Array,
    lost: Mapping[str, FloatArray],
    *,
    features: tuple[str, ...],
    train: IntArray,
    tail: IntArray,
    since: IntArray,
    horizon: int,
) -> Drift:
    """Return whether anything drifted, from samples whose labels are known.

    Parameters
    ----------
    at : ndarray of shape (n,), datetime64[us]
        Instant of each sample.
    newest : ndarray of shape (n, F)
        Features in the newest slot of each sample, NaN where undefined.
    lost : dict of str to ndarray of shape (n,)
        What the model loses, by target; read at `tail` and `since` only.
    features : tuple of str
    train, tail, since : ndarray of int
        Sample numbers in time order: what the model learnt from; the last of these, which stopped its training; and
        what came after and was not learnt from. All of their labels must be known: nothing else is read.
    horizon : int
        Bars that a label reaches ahead.
    """
    losses = (worse(target, at, values, tail=tail, since=since, horizon=horizon) for target, values in lost.items())
    return Drift(
        losses=tuple(one for one in losses if one is not None),
        inputs=Reference.of(newest[train], features).against(newest[since[-RECENT:]], since=at[since[-RECENT]])
        if len(since) >= RECENT
        else None,
    )


def references(
    newest: Float32Array, symbol: npt.NDArray[np.object_], features: tuple[str, ...]
) -> dict[str, Reference]:
    """Return how the features of each symbol were distributed in samples, n in time order.

    Parameters
    ----------
    newest : ndarray of shape (n, F)
        Features in the newest slot of each, NaN where undefined.
    symbol : ndarray of shape (n,)
    features : tuple of str
    """
    return {name: Reference.of(newest[symbol == name], features) for name in sorted(set(symbol))}


def index(expected: IntArray, actual: IntArray) -> FloatArray:
    """Return the population stability index of counts in bins.

    The sum over bins of ``(p - q) log(p / q)``, q and p the shares of `expected` and `actual`: the symmetric divergence
    of Jeffreys (Kullback and Leibler 1951), so named in credit scoring (Siddiqi 2006). Half a count is added to
    each bin.

    Parameters
    ----------
    expected : ndarray of shape (bins,)
    actual : ndarray of shape (..., bins)

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> index(np.array([50, 50]), np.array([[50, 50], [80, 20]])).round(3)
    array([0.   , 0.406])
    """
    q, p = ((counts + _PSEUDO) / (counts + _PSEUDO).sum(axis=-1, keepdims=True) for counts in (expected, actual))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1), dtype=np.float64)


def worse(
    target: str, at: TimeArray, lost: FloatArray, *, tail: IntArray, since: IntArray, horizon: int
) -> Loss | None:
    """Return whether a loss rose since training, as ADWIN (Bifet and Gavaldà 2007) sees it.

    Losses of overlapping labels go up and down together, and ADWIN takes what it is fed for independent: it is fed the
    root of the mean of each `horizon` samples, in deviations of those of the tail. What can be below zero, a difference
    of losses, is fed without the root.

    Parameters
    ----------
    target : str
    at : ndarray of shape (n,), datetime64[us]
    lost : ndarray of shape (n,)
    tail, since : ndarray of int
        Sample numbers in time order: the level to start from, and what came after it.
    horizon : int
        Bars that a label reaches ahead.

    Returns
    -------
    Loss or None
        None where the tail has fewer than 10 times `horizon` samples, or fewer than `horizon` came since.
    """
    if len(tail) < _LEAST * horizon or len(since) < horizon:
        return None
    begins = np.concatenate([_begins(tail, horizon), _begins(since, horizon)])
    level = np.concatenate([_means(lost[tail], horizon), _means(lost[since], horizon)])
    settled = len(tail) // horizon
    first, last = _rise(np.sqrt(level) if level.min() >= 0 else level, settled)
    if first is None:
        return Loss(target=target, before=level[:settled].mean(), after=level[settled:].mean(), since=None)
    return Loss(
        target=target, before=level[:first].mean(), after=level[first : last + 1].mean(), since=at[begins[first]]
    )


def _rise(size: FloatArray, settled: int) -> tuple[int | None, int]:
    """Return the first block of a higher level and the block at which that was seen, after the settled ones."""
    from river.drift import ADWIN  # brings pandas, which nothing else here needs

    known = size[:settled]
    deviation = float(known.std()) or 1.0
    fed = np.clip((size - known.mean()) / deviation, -_WILD, _WILD)
    window = ADWIN(delta=_SURE, clock=1)
    for block, value in enumerate(fed.tolist()):
        window.update(value)
        first = block + 1 - int(window.width)
        if window.drift_detected and block >= settled and fed[first : block + 1].mean() > fed[:first].mean():
            return first, block
    return None, len(size)


def _begins(samples: IntArray, horizon: int) -> IntArray:
    return samples[: len(samples) // horizon * horizon : horizon]


def _means(values: FloatArray, horizon: int) -> FloatArray:
    means: FloatArray = values[: len(values) // horizon * horizon].reshape(-1, horizon).mean(axis=1)
    return means


def _edges(values: Float32Array) -> Float32Array:
    """Return the inner edges of bins with equally many known values; fewer where values repeat."""
    known = values[~np.isnan(values)]
    if not known.size:
        return known
    return np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]).astype(np.float32))


def _codes(values: Float32Array, edges: Float32Array) -> IntArray:
    """Return the bin of each value; what is missing has one of its own, the last."""
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _usual(codes: IntArray, expected: IntArray, length: int) -> float:
    """Return the largest index of all stretches of samples that begin a day after one another."""
    until = np.zeros((len(codes) + 1, len(expected)), dtype=np.int64)
    until[np.arange(1, len(codes) + 1), codes] = 1
    until = until.cumsum(axis=0)
    begins = np.arange(0, len(codes) - length + 1, _BETWEEN)
    return float(index(expected, until[begins + length] - until[begins]).max(initial=0.0))


def _text(at: np.datetime64) -> str:
    return f"{at.astype('datetime64[s]')}Z"
