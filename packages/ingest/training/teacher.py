"""A linear model's second opinion on the headlines, each judged by a model that has not seen it."""

from collections.abc import Sequence
from typing import Final

from compositions import Target, certain
from sentfin import Headline
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

_FOLDS: Final = 4
_OWN: Final = 0.6
"""Weight of the headline's own label; the rest is the linear model's."""


def linear() -> Pipeline:
    """Return a logistic model of words and pairs of words."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=5.0, tol=1e-3)
    )


def targets(headlines: Sequence[Headline], *, seed: int) -> list[Target]:
    """Return the probabilities that each headline should get: a label may be wrong, and some texts are hard to tell."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    labels = [each.label for each in headlines]
    second = cross_val_predict(
        linear(), [each.title for each in headlines], labels, cv=folds, method="predict_proba"
    ).tolist()
    mixed = []
    for label, (positive, negative, neutral) in zip(labels, second, strict=True):
        own, rest = certain(label, 0.95), 1.0 - _OWN
        mixed.append((_OWN * own[0] + rest * positive, _OWN * own[1] + rest * negative, _OWN * own[2] + rest * neutral))
    return mixed
