"""Figures of how good three probabilities are: of the class they choose, and of the chances they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from backsight_ingest.scoring.labels import COLUMNS
from backsight_ingest.scoring.scorer import FloatArray

IntArray = npt.NDArray[np.int64]

_CLASSES: Final = len(COLUMNS)
_BINS: Final = 10
_RESAMPLES: Final = 2000
_SEED: Final = 0
_TAILS: Final = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """How well one class is told.

    Parameters
    ----------
    support : int
        Texts whose label it is.
    precision, recall, f1 : float or None
        None where they have no meaning: the class is never predicted, is nobody's label, or both.
    """

    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Texts whose prediction had about the same probability.

    Parameters
    ----------
    above, upto : float
        Bounds of that probability.
    n : int
        Texts.
    confidence : float
        Mean of that probability.
    accuracy : float
        Share of them that was predicted rightly: the same as the confidence where probabilities mean what they say.
    """

    above: float
    upto: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What can be had without reading a text.

    Parameters
    ----------
    accuracy, balanced_accuracy, macro_f1 : float
        Of saying the most frequent label always.
    brier, log_loss : float
        Of giving each class its share as probability.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    brier: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How good a scorer is on some texts.

    Parameters
    ----------
    n : int
        Texts.
    accuracy, balanced_accuracy, macro_f1 : float
        Of the most probable class, of equal ones the first. The latter two are means over the classes that have texts.
    accuracy_interval, macro_f1_interval : tuple of float
        95 % of the values over bootstrap samples of the texts.
    brier : float
        Mean squared distance of the three probabilities from the truth, 0 to 2.
    log_loss : float
        Mean of minus the logarithm of the probability of the truth.
    calibration_error : float
        Mean distance of confidence from accuracy over the bins, by their texts.
    unread : Unread
        The same without reading.
    classes : mapping of str to ClassFigures
    confusion : tuple of tuple of int
        Texts by label (rows) and prediction (columns), in the order of `labels.COLUMNS`.
    bins : tuple of Bin
        Those of ten of equal width that have texts.

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", 2017; Brier, "Verification of Forecasts Expressed in Terms
    of Probability", 1950.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    brier: float
    log_loss: float
    calibration_error: float
    unread: Unread
    classes: Mapping[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    bins: tuple[Bin, ...]


def figures(truth: IntArray, probabilities: FloatArray) -> Figures:
    """Return how good probabilities are.

    Parameters
    ----------
    truth : ndarray of shape (n,)
        0, 1 or 2; n is at least 1.
    probabilities : ndarray of shape (n, 3)
        Each row adds up to 1.
    """
    n = len(truth)
    predicted = probabilities.argmax(axis=1)
    counts = np.bincount(truth * _CLASSES + predicted, minlength=_CLASSES**2)
    confusion = counts.reshape(_CLASSES, _CLASSES)
    support = confusion.sum(axis=1)
    shares = support / n
    # To draw n texts with replacement is to draw how many fall into each cell.
    drawn = np.random.default_rng(_SEED).multinomial(n, counts / n, size=_RESAMPLES)
    resamples = drawn.reshape(-1, _CLASSES, _CLASSES)
    always = np.where(np.arange(_CLASSES) == support.argmax(), support[:, None], 0)
    bins = _bins(probabilities.max(axis=1), predicted == truth)
    return Figures(
        n=n,
        accuracy=float(_accuracy(confusion)),
        accuracy_interval=_interval(_accuracy(resamples)),
        balanced_accuracy=_balanced(confusion),
        macro_f1=float(_macro_f1(confusion, support > 0)),
        macro_f1_interval=_interval(_macro_f1(resamples, support > 0)),
        brier=float(((probabilities - np.eye(_CLASSES)[truth]) ** 2).sum(axis=1).mean()),
        log_loss=_log_loss(probabilities[np.arange(n), truth]),
        calibration_error=sum(each.n * abs(each.confidence - each.accuracy) for each in bins) / n,
        unread=Unread(
            accuracy=float(_accuracy(always)),
            balanced_accuracy=_balanced(always),
            macro_f1=float(_macro_f1(always, support > 0)),
            brier=float(1 - (shares**2).sum()),
            log_loss=_log_loss(shares[truth]),
        ),
        classes={name: _class(confusion, i) for i, name in enumerate(COLUMNS)},
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        bins=bins,
    )


def _accuracy(confusion: IntArray) -> FloatArray:
    """Return the share of texts on the diagonal; confusion is of shape (..., 3, 3)."""
    return np.asarray(np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1)))


def _macro_f1(confusion: IntArray, classes: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the mean F1 of some classes, 0 for one that is neither a label nor predicted."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_both = confusion.sum(axis=-2) + confusion.sum(axis=-1)
    f1 = 2 * hits / np.maximum(of_both, 1)
    return np.asarray(f1[..., classes].mean(axis=-1))


def _balanced(confusion: IntArray) -> float:
    support = confusion.sum(axis=1)
    there = support > 0
    return float((np.diagonal(confusion)[there] / support[there]).mean())


def _interval(values: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values, _TAILS)
    return float(low), float(high)


def _log_loss(of_truth: FloatArray) -> float:
    # A probability of zero would make it infinite.
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).eps)).mean())


def _class(confusion: IntArray, i: int) -> ClassFigures:
    hits, predicted, support = (int(count) for count in (confusion[i, i], confusion[:, i].sum(), confusion[i].sum()))
    return ClassFigures(
        support=support,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (predicted + support) if predicted + support else None,
    )


def _bins(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, _BINS + 1)
    at = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, _BINS - 1)
    n = np.bincount(at, minlength=_BINS)
    confidences, rights = (np.bincount(at, weights=values, minlength=_BINS) for values in (confidence, right))
    return tuple(
        Bin(
            above=float(edges[i]),
            upto=float(edges[i + 1]),
            n=int(n[i]),
            confidence=float(confidences[i] / n[i]),
            accuracy=float(rights[i] / n[i]),
        )
        for i in np.flatnonzero(n)
    )
