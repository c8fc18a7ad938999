"""How good a scorer is, by the labels of people: what `verdicts` says of their texts against what they say."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from backsight_features.errors import BadInput

from backsight_ingest.progress import Tell
from backsight_ingest.scoring.figures import Figures, figures
from backsight_ingest.scoring.labelled import Labelled
from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.scoring.verdicts import readable, revision, verdicts

UNREADABLE: Final = "not in English or without a word"

_TEXTS_AT_ONCE: Final = 512
"""Texts between two tellings of the progress."""

_LENGTHS: Final[Mapping[str, int]] = {"1-5 words": 5, "6-10 words": 10, "11-20 words": 20, "21-50 words": 50}
_LONGER: Final = "more than 50 words"

_MOST_SOURCES: Final = 20
_OTHERS: Final = "(all others)"
"""The sources beyond the largest, put together."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a scorer is on labelled texts.

    Parameters
    ----------
    scorer, revision : str
        Who was judged, as in the scores of the lake.
    left_out : mapping of str to int
        Rows of the file that were not judged, by the reason.
    unknown_labels : mapping of str to int
        Rows by the label that means none of the classes.
    overall : Figures
    by_length, by_source : mapping of str to Figures
        Of parts of the texts; without sources the latter is empty.
    """

    scorer: str
    revision: str
    left_out: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    overall: Figures
    by_length: Mapping[str, Figures]
    by_source: Mapping[str, Figures]


def evaluate(labelled: Labelled, scorer: Scorer, *, tell: Tell | None = None) -> Evaluation:
    """Return how good a scorer is on labelled texts, scored as those of the lake are.

    Parameters
    ----------
    labelled : Labelled
        See `labelled.sort_out`.
    scorer : Scorer
        Who is judged.
    tell : callable, optional
        Follows the progress.

    Raises
    ------
    BadInput
        If no text can be scored.
    BacksightError
        If the scorer returns what is no probability.
    """
    found = [verdicts(said, scorer) for said in _told(labelled.texts, tell) if said.height > 0]
    if not found:
        raise BadInput(f"none of the {labelled.texts.height} labelled texts can be scored: {UNREADABLE}")
    judged = labelled.texts.join(pl.concat(found), on="text_id", how="inner", maintain_order="left")
    return Evaluation(
        scorer=scorer.name,
        revision=revision(scorer),
        left_out={**labelled.left_out, UNREADABLE: labelled.texts.height - judged.height},
        unknown_labels=labelled.unknown,
        overall=_of(judged),
        by_length=_parts(judged.with_columns(part=_lengths(judged["said"])), [*_LENGTHS, _LONGER]),
        by_source=_by_source(judged),
    )


def _told(texts: pl.DataFrame, tell: Tell | None) -> Iterator[pl.DataFrame]:
    """Yield the sentences of the texts some at a time; how long the work on them took is told with the next."""
    began = time.perf_counter()
    for start in range(0, texts.height, _TEXTS_AT_ONCE):
        part = texts.slice(start, _TEXTS_AT_ONCE)
        yield readable(part)
        if tell is not None:
            done = start + part.height
            tell(done, texts.height, done / max(time.perf_counter() - began, 1e-9))


def _of(judged: pl.DataFrame) -> Figures:
    return figures(judged["truth"].to_numpy(), judged.select("p_positive", "p_negative", "p_neutral").to_numpy())


def _parts(judged: pl.DataFrame, order: list[str]) -> dict[str, Figures]:
    parts = {str(name): _of(rows) for (name,), rows in judged.group_by("part")}
    return {name: parts[name] for name in order if name in parts}


def _lengths(said: pl.Series) -> pl.Series:
    words = said.str.count_matches(r"\S+").cast(pl.Int64)
    return pl.Series([*_LENGTHS, _LONGER]).gather(pl.Series(list(_LENGTHS.values())).search_sorted(words, side="left"))


def _by_source(judged: pl.DataFrame) -> dict[str, Figures]:
    sourced = judged.drop_nulls("source")
    sizes = sourced.group_by("source").len().sort("len", "source", descending=[True, False])
    largest = sizes["source"].head(_MOST_SOURCES)
    kept = pl.col("source").is_in(largest.implode())
    part = pl.when(kept).then("source").otherwise(pl.lit(_OTHERS))
    return _parts(sourced.with_columns(part=part), [*largest, _OTHERS])
