"""Scoring what the lake holds: each text once, resumable, with the clock of the text's first sight."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, POSTS, SCORES, validate
from backsight_features.texts import compose, normalise, text_id

from backsight_ingest.scoring.scorer import Scorer

CHUNK: Final = 2_048
"""Texts between two commits: what a crash makes us score again."""

_PROBABILITIES: Final = ("p_positive", "p_negative", "p_neutral")

Tell = Callable[[int, int, float], None]
"""Told after each chunk: texts scored, texts to score, texts per second so far."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of the texts.

    Parameters
    ----------
    scorer, revision : str
        Who scored.
    scored : int
        Distinct texts that were scored now.
    moved : int
        Texts scored before that turned out to have been known earlier: their score is repeated with that clock.
    known : int
        Texts scored before.
    skipped : int
        Rows with nothing to score: empty, or removed at their source.
    seconds : float
        Time the scorer took.
    """

    scorer: str
    revision: str
    scored: int
    moved: int
    known: int
    skipped: int
    seconds: float


def score(lake: Lake, scorer: Scorer, *, now: datetime, tell: Tell | None = None) -> Scored:
    """Score every text of posts and news that this scorer has not scored yet.

    A score is known as soon as its text: a pinned scorer is a fixed function, which a live system could have
    applied then. Whether that clock is estimated is said by the text's own row.

    Parameters
    ----------
    lake : Lake
        Texts are read from it and scores written to it, a chunk at a time.
    scorer : Scorer
        Who scores.
    now : datetime
        Becomes ``ingested_at``.
    tell : callable, optional
        Follows the progress.

    Raises
    ------
    BacksightError
        If the scorer returns what is no probability.
    """
    texts, skipped = _texts(lake)
    stored = _stored(lake, scorer)
    joined = texts.join(stored, on="text_id", how="left", maintain_order="left")
    fresh = joined.filter(pl.col("scored_at").is_null())
    known = joined.filter(pl.col("scored_at").is_not_null())
    late = known.filter(pl.col("scored_at") > pl.col("available_at"))
    if late.height > 0:
        _append(lake, late, scorer, now)
    spent = 0.0
    for start in range(0, fresh.height, CHUNK):
        chunk = fresh.slice(start, CHUNK)
        began = time.perf_counter()
        found = scorer.score(chunk["normalised"].to_list())
        spent += time.perf_counter() - began
        _append(lake, chunk.with_columns(pl.Series(p, found[:, i]) for i, p in enumerate(_PROBABILITIES)), scorer, now)
        if tell is not None:
            done = start + chunk.height
            tell(done, fresh.height, done / spent if spent > 0 else 0.0)
    return Scored(
        scorer=scorer.name,
        revision=scorer.revision,
        scored=fresh.height,
        moved=late.height,
        known=known.height,
        skipped=skipped,
        seconds=spent,
    )


def _texts(lake: Lake) -> tuple[pl.DataFrame, int]:
    """Return each distinct text with its first sight, earliest first, and the number of rows without one."""
    rows = pl.concat(
        lake.scan(table).select(raw=compose(pl.col("title"), pl.col("text")), available_at="available_at")
        for table in (NEWS, POSTS)
    ).collect()
    # Raw repeats first: normalising is the dear part.
    first = rows.group_by("raw").agg(pl.col("available_at").min(), rows=pl.len())
    named = first.with_columns(text_id=text_id(pl.col("raw")), normalised=normalise(pl.col("raw")))
    skipped = int(named.filter(pl.col("text_id").is_null())["rows"].sum())
    distinct = (
        named.filter(pl.col("text_id").is_not_null())
        .group_by("text_id")
        .agg(pl.col("available_at").min(), pl.col("normalised").first())
        .sort("available_at", "text_id")
    )
    return distinct, skipped


def _stored(lake: Lake, scorer: Scorer) -> pl.DataFrame:
    """Return the scorer's score of each text, with the earliest clock it has."""
    return (
        lake.scan(SCORES)
        .filter(pl.col("scorer") == scorer.name, pl.col("revision") == scorer.revision)
        .sort("available_at")
        .unique("text_id", keep="first", maintain_order=True)
        .select("text_id", *_PROBABILITIES, scored_at="available_at")
        .collect()
    )


def _append(lake: Lake, rows: pl.DataFrame, scorer: Scorer, now: datetime) -> None:
    facts = rows.select(
        "text_id",
        *_PROBABILITIES,
        scorer=pl.lit(scorer.name),
        revision=pl.lit(scorer.revision),
        observed_at="available_at",
        available_at="available_at",
        available_at_estimated=pl.lit(False),
        source=pl.lit(f"score:{scorer.name}"),
    )
    good, bad = validate(SCORES, facts.select(SCORES.columns.keys()))
    if bad.height > 0:
        raise BacksightError(f"{scorer.name} returned what is no score for {bad.height} texts: {bad['reason'][0]}")
    lake.append(SCORES, good, now=now)
