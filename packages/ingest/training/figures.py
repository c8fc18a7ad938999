"""How good a folder's classifier is, by the product's own code path, against VADER and a linear model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.hub import local
from backsight_ingest.scoring.labels import columns
from sentfin import LABELS, Headline
from sklearn.metrics import accuracy_score, f1_score
from teacher import linear
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

_BINS: Final = 15
_EDGE: Final = 0.05
"""VADER's own bound between neutral and not."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one scorer reaches on one set.

    Parameters
    ----------
    accuracy, macro_f1 : float
    ece : float or None
        Expected calibration error of the likeliest label, 15 bins of equal width; None where there is no probability.
    """

    accuracy: float
    macro_f1: float
    ece: float | None = None


class Judge:
    """Compares the classifier in a folder with others on sets of labelled texts."""

    def __init__(self, folder: Path, headlines: Sequence[Headline]) -> None:
        files = local(folder)
        self._classifier = OnnxClassifier(
            name=files.name,
            revision=files.revision,
            model=files.weights,
            tokenizer=folder,
            outputs=columns(files.id2label, model=files.name),
        )
        self._vader = SentimentIntensityAnalyzer()
        self._linear = linear().fit([each.title for each in headlines], [each.label for each in headlines])

    def figures(self, texts: Sequence[str], labels: Sequence[int]) -> dict[str, Figures]:
        """Return the figures of the classifier, of VADER and of the linear model."""
        scores = self._classifier.score(texts)
        sounds = np.array([self._vader.polarity_scores(text)["compound"] for text in texts])
        vader = np.where(sounds >= _EDGE, 0, np.where(sounds <= -_EDGE, 1, 2))
        linear = self._linear.predict_proba(list(texts))
        return {
            "sentfin-tiny-bert": _figures(scores.argmax(axis=1), labels, scores),
            "VADER": _figures(vader, labels),
            "TF-IDF + logistic": _figures(linear.argmax(axis=1), labels, linear),
        }

    def speed(self, texts: Sequence[str]) -> float:
        """Return texts per CPU-second."""
        began = time.process_time()
        self._classifier.score(texts)
        return len(texts) / (time.process_time() - began)


def _figures(verdicts: np.ndarray, labels: Sequence[int], scores: np.ndarray | None = None) -> Figures:
    return Figures(
        accuracy=float(accuracy_score(labels, verdicts)),
        macro_f1=float(f1_score(labels, verdicts, average="macro", labels=range(len(LABELS)))),
        ece=None if scores is None else _calibration_error(scores, np.asarray(labels)),
    )


def _calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    sure, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [abs(sure[bins == at].mean() - right[bins == at].mean()) * (bins == at).mean() for at in np.unique(bins)]
    return float(sum(gaps))
