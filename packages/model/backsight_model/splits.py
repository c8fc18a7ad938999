"""Walk-forward folds by the instant at which a label is known."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
from backsight_features.errors import BadInput

from backsight_model.arrays import IntArray, TimeArray


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Three disjoint sets of sample numbers in time order: learn, decide when to stop, judge.

    Attributes
    ----------
    fit : ndarray of shape (n_fit,)
        Samples whose labels were known, with the embargo, before the first instant of `valid`.
    valid : ndarray of shape (n_valid,)
        The tail of the training part, used for early stopping only.
    test : ndarray of shape (n_test,)
        Samples to be forecast; none for the final fit.
    start : datetime64[us]
        First instant of the test block.
    """

    fit: IntArray
    valid: IntArray
    test: IntArray
    start: np.datetime64

    @property
    def train(self) -> IntArray:
        """Numbers of all training samples, those between `fit` and `valid` purged: shape (n_train,)."""
        return np.concatenate([self.fit, self.valid])

    def within(self, which: IntArray) -> "Fold":
        """Return what the fold has of some samples, which ascend, numbered as if there were no others."""
        fit, valid, test = (np.flatnonzero(np.isin(which, part)) for part in (self.fit, self.valid, self.test))
        return Fold(fit=fit, valid=valid, test=test, start=self.start)


def walk_forward(
    at: TimeArray,
    label_at: TimeArray,
    *,
    folds: int,
    embargo: timedelta,
    first: float = 0.4,
    tail: float = 0.15,
    window: timedelta | None = None,
) -> list[Fold]:
    """Return folds that train on the past only: on all of it before the test block, or on its last `window`.

    Parameters
    ----------
    at : ndarray of shape (n,), datetime64[us]
        Instant of each sample: when its forecast would have been made.
    label_at : ndarray of shape (n,), datetime64[us]
        Instant from which its label was known. A training sample of a fold has ``label_at <= start -
        embargo``: with labels that reach a day ahead, cutting by `at` would let the last day of
        training see the first day of the test.
    folds : int
        Number of test blocks, equal in time, over the part after `first`.
    embargo : timedelta
        Time kept free between the newest training label and the first test instant. Zero assumes that
        what happened right before the block has no influence of its own on the block beyond what the
        features carry; one horizon is a careful choice where labels overlap.
    first : float
        Share of the span of time before the first test block.
    tail : float
        Share of the training part's span that is held back for early stopping.
    window : timedelta, optional
        How far back from its end a training part reaches; all the way unless given.

    Raises
    ------
    BadInput
        Where a fold would have no sample to learn from, to stop by or to judge: the history is too short.
    """
    if folds < 1 or not 0 < first < 1 or not 0 < tail < 1:
        raise ValueError(f"folds={folds}, first={first}, tail={tail}: need folds >= 1 and shares inside (0, 1)")
    if len(at) < 2:
        raise BadInput(f"{len(at)} samples, walking forward needs more")
    begin, end = at.min(), at.max() + np.timedelta64(1, "us")
    span = (end - begin).astype(np.int64)
    edges = begin + (span * np.linspace(first, 1.0, folds + 1)).astype(np.int64).astype("timedelta64[us]")
    edges[-1] = end
    made = []
    for start, stop in pairwise(edges):
        fit, valid = _training_part(at, label_at, before=start, embargo=embargo, tail=tail, window=window)
        made.append(Fold(fit=fit, valid=valid, test=np.flatnonzero((at >= start) & (at < stop)), start=start))
    for number, fold in enumerate(made, start=1):
        if min(len(fold.fit), len(fold.valid), len(fold.test)) == 0:
            sizes = f"{len(fold.fit)} to learn from, {len(fold.valid)} to stop by, {len(fold.test)} to judge"
            raise BadInput(f"fold {number} of {folds} has {sizes}: need a longer history or fewer folds")
    return made


def final_fit(
    at: TimeArray, label_at: TimeArray, *, embargo: timedelta, tail: float = 0.15, window: timedelta | None = None
) -> Fold:
    """Return the fold that learns from every sample and judges none: what is shipped after the proof."""
    end = label_at.max() + np.timedelta64(embargo // timedelta(microseconds=1), "us")
    fit, valid = _training_part(at, label_at, before=end, embargo=embargo, tail=tail, window=window)
    if min(len(fit), len(valid)) == 0:
        raise BadInput(f"{len(at)} samples are too few to learn from and to stop by")
    return Fold(fit=fit, valid=valid, test=np.empty(0, dtype=np.int64), start=end)


def _training_part(
    at: TimeArray,
    label_at: TimeArray,
    *,
    before: np.datetime64,
    embargo: timedelta,
    tail: float,
    window: timedelta | None,
) -> tuple[IntArray, IntArray]:
    free = np.timedelta64(embargo // timedelta(microseconds=1), "us")
    known = label_at <= before - free
    if window is not None:
        known &= at >= before - free - np.timedelta64(window // timedelta(microseconds=1), "us")
    if not known.any():
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    begin, end = at[known].min(), at[known].max()
    cut = end - ((end - begin).astype(np.int64) * tail).astype(np.int64).astype("timedelta64[us]")
    return np.flatnonzero(known & (label_at <= cut - free)), np.flatnonzero(known & (at >= cut))
