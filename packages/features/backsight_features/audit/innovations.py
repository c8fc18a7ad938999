"""What is new in a series at each row: what neither its own past, nor the clock, nor what else was known explains.

Series lie in *stretches*: rows that follow each other, with empty rows between, so that no lag reaches from one symbol
into the next. NaN stands for nothing throughout.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from backsight_features.rolling import FloatArray, IntArray

MOST_ROWS: Final = 100_000
"""Rows that are looked at: more would sharpen nothing that is worth a conviction."""
_BLOCK: Final = 5_000
_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
_WEEK_HOURS: Final = 168
_MEMBERS: Final = 30
"""Rows that a slot of the clock must have on average for its mean to be taken away: fewer would add noise."""
_TAIL: Final = 5.0
"""Robust standard deviations from which on a value counts no further."""
_LEAST_ROWS: Final = 100
_RANK: Final = 1e-10


def stretches(group: IntArray, gap: int, most: int = MOST_ROWS) -> IntArray:
    """Return numbers of rows to look at, in order, with ``gap`` times -1 between rows that do not follow each other.

    >>> stretches(np.array([0, 0, 1, 1]), gap=1)
    array([ 0,  1, -1,  2,  3, -1])
    """
    n = len(group)
    edges = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    starts = set(edges.tolist())
    if n > most:
        blocks = most // _BLOCK
        firsts = np.linspace(0, n - _BLOCK, blocks).astype(int)
        spans = [(int(a), int(a) + _BLOCK) for a in firsts]
    else:
        spans = [(0, n)]
    pieces: list[IntArray] = []
    for start, stop in spans:
        inner = [one for one in sorted(starts) if start < one < stop] if len(starts) > 1 else []
        for a, b in zip([start, *inner], [*inner, stop], strict=True):
            pieces += [np.arange(a, b), np.full(gap, -1)]
    return np.concatenate(pieces)


def gathered(values: FloatArray, rows: IntArray) -> FloatArray:
    """Return the values of rows; NaN where a row is -1."""
    return np.where(rows >= 0, values[rows], np.nan)


def slots(at: IntArray, step: int) -> tuple[IntArray, ...]:
    """Return numbers of the clock for each instant: hour of the week, or of the day and day of the week, or month.

    Only those that rows of this distance tell apart and that come round often enough for a mean.
    """
    hours, days = at // _HOUR, at // _DAY
    if step >= 27 * _DAY:
        choices = [(at.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12, 12)]
    elif step >= _DAY:
        choices = [(days % 7, 7)] if step < 7 * _DAY else []
    elif len(at) >= _MEMBERS * _WEEK_HOURS:
        choices = [(hours % _WEEK_HOURS, _WEEK_HOURS)]
    else:
        choices = [(hours % 24, 24), (days % 7, 7)]
    return tuple(number for number, count in choices if len(at) >= _MEMBERS * count)


def levelled(values: FloatArray, *, group: IntArray, slot: tuple[IntArray, ...] = ()) -> FloatArray:
    """Return values without the mean of their symbol and of their slots of the clock, in standard deviations."""
    values = values - _mean_of(values, group)
    spread = np.sqrt(_mean_of(values * values, group))
    values = np.divide(values, spread, out=np.zeros_like(values), where=spread > 0) + 0 * values
    return unslotted(values, slot)


def unslotted(values: FloatArray, slot: tuple[IntArray, ...]) -> FloatArray:
    """Return values without the mean of their slots of the clock."""
    for number in slot:
        values = values - _mean_of(values, number)
    return values


def lagged(values: FloatArray, rows: int) -> FloatArray:
    """Return what stood so many rows earlier, or later if negative; NaN where nothing did."""
    moved = np.full_like(values, np.nan)
    if abs(rows) >= len(values):
        return moved
    if rows >= 0:
        moved[rows:] = values[: len(values) - rows]
    else:
        moved[:rows] = values[-rows:]
    return moved


def pasts(values: FloatArray, count: int) -> list[FloatArray]:
    """Return the level one row ago and the changes that led to it: the last ``count`` values, better conditioned."""
    change = values - lagged(values, 1)
    return [lagged(values, 1), *(lagged(change, i) for i in range(1, count))]


def residual(values: FloatArray, known: list[FloatArray]) -> FloatArray:
    """Return what a straight line of what was known leaves; NaN where something is missing or too little is there."""
    left = np.full_like(values, np.nan)
    present = np.isfinite(values)
    for one in known:
        present &= np.isfinite(one)
    if present.sum() < max(_LEAST_ROWS, 5 * len(known)):
        return left
    wanted = values[present]
    columns = np.empty((len(wanted), len(known)))
    for i, one in enumerate(known):
        columns[:, i] = one[present]
    left[present] = _off_the_line(wanted, columns)
    return left


def _off_the_line(wanted: FloatArray, columns: FloatArray) -> FloatArray:
    wanted = wanted - wanted.mean()
    columns = columns - columns.mean(axis=0)
    spread = columns.std(axis=0)
    columns = columns[:, spread > 0] / spread[spread > 0]
    if columns.shape[1]:
        powers, vectors = np.linalg.eigh(columns.T @ columns)
        kept = powers > _RANK * powers[-1]
        inverse = (vectors[:, kept] / powers[kept]) @ vectors[:, kept].T
        for _ in range(2):  # the second makes good what the first lost to rounding
            wanted = wanted - columns @ (inverse @ (columns.T @ wanted))
    return wanted


def clipped(values: FloatArray, most: float) -> FloatArray:
    """Return values no further from their median than so many robust standard deviations, where there is a spread."""
    present = values[np.isfinite(values)]
    if not len(present):
        return values
    middle = np.median(present)
    scale = 1.4826 * np.median(np.abs(present - middle))
    return np.clip(values, middle - most * scale, middle + most * scale) if scale > 0 else values


def tamed(values: FloatArray) -> FloatArray:
    """Return values of mean 0 whose tails are cut off; 0 where nothing is."""
    values = clipped(values, _TAIL)
    return np.nan_to_num(values - np.nanmean(values)) if np.isfinite(values).any() else np.zeros_like(values)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How what is new in a feature goes with what came so many rows later.

    Attributes
    ----------
    lead : ndarray of shape (k,)
        Rows later.
    correlation : ndarray of shape (k,)
    z : ndarray of shape (k,)
        The correlation in standard errors that allow for changing variance.
    """

    lead: IntArray
    correlation: FloatArray
    z: FloatArray

    @property
    def peak(self) -> int:
        """Number of the lead with the largest correlation."""
        return int(np.abs(self.correlation).argmax())

    @property
    def share(self) -> float:
        """Share of what is new in the feature that all that came later explains, less what chance explains."""
        noise = np.divide(self.correlation, self.z, out=np.zeros_like(self.z), where=self.z != 0) ** 2
        return float((self.correlation**2 - noise).sum())

    @property
    def surprise(self) -> float:
        """Sum of the squares of z in standard deviations above what chance gives."""
        k = len(self.z)
        return float(((self.z**2).sum() - k) / np.sqrt(2 * k))


def profile(new: FloatArray, later: FloatArray, *, first: int, last: int) -> Profile:
    """Return how ``new`` goes with ``later``, ``first`` to ``last`` rows later; both tamed, of shape (m,)."""
    leads = np.arange(first, last + 1)
    products, noise = np.zeros(len(leads)), np.zeros(len(leads))
    new_squared, later_squared = new * new, later * later
    n = len(new)
    for i, k in enumerate(leads):
        products[i] = new[: n - k] @ later[k:]
        noise[i] = new_squared[: n - k] @ later_squared[k:]
    scale = np.sqrt(new_squared.sum() * later_squared.sum())
    both = np.sqrt(max((new != 0).sum(), 1) * max((later != 0).sum(), 1))
    overlap = max(int(((new != 0) & (later != 0)).sum()), 1)
    correlation = products / (scale * overlap / both) if scale else products
    z = np.divide(products, np.sqrt(noise), out=np.zeros_like(products), where=noise > 0)
    return Profile(lead=leads, correlation=np.clip(correlation, -1, 1), z=z)


def partial(one: FloatArray, other: FloatArray, *, lags: int) -> tuple[float, float]:
    """Return the correlation of two series and its z, which allows for the autocorrelation of both (Bartlett 1946)."""
    present = np.isfinite(one) & np.isfinite(other)
    count = int(present.sum())
    if count < _LEAST_ROWS:
        return 0.0, 0.0
    one, other = tamed(np.where(present, one, np.nan)), tamed(np.where(present, other, np.nan))
    power = float((one @ one) * (other @ other))
    if not power:
        return 0.0, 0.0
    correlation = float(one @ other) / np.sqrt(power)
    twice = 0.0
    for k in range(1, min(lags, count // 4) + 1):
        twice += float((one[k:] @ one[:-k]) * (other[k:] @ other[:-k])) / power
    error = np.sqrt(max(1 + 2 * twice, 1.0) / count)
    return correlation, correlation / error


def _mean_of(values: FloatArray, member: IntArray) -> FloatArray:
    present = np.isfinite(values)
    member = member - member.min()
    count = np.bincount(member, present)
    total = np.bincount(member, np.where(present, values, 0.0))
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)[member]
