"""Verdicts: what a scorer says of texts, put together from what it says of their sentences.

A plain function of texts and scorer, so that one machine and many of them, and a run after a crash, say the same.
"""

from typing import Final

import numpy as np
import polars as pl
from backsight_features.errors import BacksightError

from backsight_ingest.scoring import preparation
from backsight_ingest.scoring.scorer import Scorer

VERDICTS: Final = pl.Schema(
    {
        "text_id": pl.String(),
        "p_positive": pl.Float64(),
        "p_negative": pl.Float64(),
        "p_neutral": pl.Float64(),
        "tone_least": pl.Float64(),
        "tone_most": pl.Float64(),
        "share_positive": pl.Float64(),
        "share_negative": pl.Float64(),
        "sentences": pl.Int64(),
        "unread": pl.Int64(),
    }
)
"""A verdict on a text; see `backsight_features.schemas.SCORES`."""

_PROBABILITIES: Final = ("p_positive", "p_negative", "p_neutral")


def revision(scorer: Scorer) -> str:
    """Return what pins a verdict: the scorer's own revision, and how sentences are made and put together."""
    return f"{scorer.revision}+{preparation.RULE}"


def readable(texts: pl.DataFrame) -> pl.DataFrame:
    """Return the sentences of the texts that can be scored: those in English that have a word.

    Parameters
    ----------
    texts : pl.DataFrame
        ``text_id`` and ``said``, normalised.

    Returns
    -------
    pl.DataFrame
        ``text_id``, ``sentence`` and ``unread``, in the order of the texts.
    """
    own = texts.filter(~preparation.foreign(texts["said"]))
    said = preparation.sentences(own["said"])
    return said.select(own["text_id"].gather(said["text"]), "sentence", "unread")


def verdicts(said: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    """Return the verdicts on texts.

    Parameters
    ----------
    said : pl.DataFrame
        As `readable` returns them.
    scorer : Scorer
        Is asked once for each different sentence.

    Returns
    -------
    pl.DataFrame
        `VERDICTS`, one a text, in their order.

    Raises
    ------
    BacksightError
        If the scorer returns what is no probability.
    """
    distinct = said.select(pl.col("sentence").unique(maintain_order=True))
    found = scorer.score(distinct["sentence"].to_list())
    bad = ~((found >= 0) & (np.abs(found.sum(axis=1, keepdims=True) - 1) < 1e-3)).all(axis=1)
    if bad.any():
        first = distinct["sentence"][int(bad.argmax())]
        raise BacksightError(
            f"{scorer.name} returned what is no score for {bad.sum()} sentences, the first is {first!r}"
        )
    scored = distinct.with_columns(pl.Series(name, found[:, i]) for i, name in enumerate(_PROBABILITIES))
    tone = pl.col("p_positive") - pl.col("p_negative")
    largest = pl.max_horizontal(_PROBABILITIES)
    return (
        said.join(scored, on="sentence", how="left", maintain_order="left")
        .group_by("text_id", maintain_order=True)
        .agg(
            pl.mean(*_PROBABILITIES),
            tone_least=tone.min(),
            tone_most=tone.max(),
            share_positive=(pl.col("p_positive") == largest).mean(),
            share_negative=(pl.col("p_negative") == largest).mean(),
            sentences=pl.len(),
            unread=pl.col("unread").first(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in VERDICTS.items())
    )
