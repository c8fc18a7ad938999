"""Both ends of scoring: from rows of posts and news to texts, and from verdicts to rows of scores."""

from typing import Final

import polars as pl
from backsight_features.schemas import SCORES
from backsight_features.texts import normalise, text_id

from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.scoring.verdicts import VERDICTS, revision

PARTS: Final = ("title", "text")
"""Columns of posts and news that hold a text each."""


def texts(rows: pl.DataFrame) -> pl.DataFrame:
    """Return titles and bodies as they are scored and identified.

    Parameters
    ----------
    rows : pl.DataFrame
        ``title`` and ``text``, raw, and ``available_at``; n of them.

    Returns
    -------
    pl.DataFrame
        2n rows, all titles first: ``row``, ``available_at``, ``said`` and its ``text_id``, both null where there is
        no text.
    """
    parts = rows.with_row_index("row").unpivot(PARTS, index=["row", "available_at"], value_name="said")
    said = parts.with_columns(normalise(pl.col("said")))
    return said.select("row", "available_at", "said", text_id=text_id(pl.col("said")))


def scores(found: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    """Return rows of `SCORES`: a score is known as soon as its text.

    Parameters
    ----------
    found : pl.DataFrame
        `VERDICTS`, and ``available_at`` of each text's first sight.
    scorer : Scorer
        Who scored.
    """
    return found.select(
        *VERDICTS,
        scorer=pl.lit(scorer.name),
        revision=pl.lit(revision(scorer)),
        observed_at="available_at",
        available_at="available_at",
        available_at_estimated=pl.lit(False),
        source=pl.lit(f"score:{scorer.name}"),
    ).select(SCORES.columns.keys())
