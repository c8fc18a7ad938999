"""Scoring what the lake holds: each text once, resumable, with the clock of the text's first sight."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import polars as pl
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, POSTS, SCORES, Table
from backsight_features.snapshot import Snapshot

from backsight_ingest.prefetch import prefetched
from backsight_ingest.progress import Tell
from backsight_ingest.scoring import facts
from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.scoring.verdicts import VERDICTS, readable, revision, verdicts

_SECONDS_PER_COMMIT: Final = 20.0
"""What a crash makes us score again: about so much work."""

_FEWEST: Final = 256
_MOST: Final = 32_768
"""Texts between two commits: the first, and the limit that keeps memory flat."""

_ROWS_AT_ONCE: Final = 50_000


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of the texts that came in since this scorer's last run, or of all.

    Parameters
    ----------
    scorer, revision : str
        Who scored.
    scored : int
        Distinct texts, titles and bodies, that were scored now.
    moved : int
        Texts scored before that turned out to have been known earlier: their score is repeated with that clock.
    known : int
        Texts scored before.
    unreadable : int
        Distinct texts that have no word or are not in English.
    skipped : int
        Posts and articles without a text: empty, or removed at their source.
    seconds : float
        Time the scoring took.
    """

    scorer: str
    revision: str
    scored: int
    moved: int
    known: int
    unreadable: int
    skipped: int
    seconds: float


class _Incoming(NamedTuple):
    """The rows of a table that this scorer has not been through, up to a version of it."""

    table: Table
    rows: pl.LazyFrame
    app: str
    version: int


def score(lake: Lake, scorer: Scorer, *, now: datetime, tell: Tell | None = None) -> Scored:
    """Score every title and body of posts and news that this scorer has not scored yet.

    A score is known as soon as its text: a pinned scorer is a fixed function, which a live system could have
    applied then. Whether that clock is estimated is said by the text's own row.

    Parameters
    ----------
    lake : Lake
        Texts are read from it and scores written to it as they come. That a table was gone through to its end is kept
        with the scores, so that the next run reads only what has come in since.
    scorer : Scorer
        Who scores.
    now : datetime
        Becomes ``ingested_at``.
    tell : callable, optional
        Follows the progress, after each commit.

    Raises
    ------
    BacksightError
        If the scorer returns what is no probability.
    """
    incoming = _incoming(lake, scorer)
    sights, skipped = _sights(incoming)
    stored = _stored(lake, scorer, sights)
    joined = sights.join(stored, on="text_id", how="left", maintain_order="left")
    known = joined.filter(pl.col("scored_at").is_not_null())
    late = known.filter(pl.col("scored_at") > pl.col("available_at"))
    if late.height > 0:
        _append(lake, late, scorer, now)
    fresh = joined.filter(pl.col("scored_at").is_null()).select("text_id", "available_at")
    pace = _Pace()
    scored = done = 0
    for texts, said in prefetched(_chunks(incoming, fresh["text_id"], pace)):
        began = time.perf_counter()
        if said.height > 0:
            found = verdicts(said, scorer)
            _append(lake, found.join(fresh, on="text_id", how="left", maintain_order="left"), scorer, now)
            scored += found.height
        done += texts
        pace.took(texts, time.perf_counter() - began)
        if tell is not None:
            tell(done, fresh.height, done / pace.seconds)
    for table in incoming:
        lake.append(SCORES, SCORES.empty(), now=now, app=table.app, watermark=table.version)
    return Scored(
        scorer=scorer.name,
        revision=revision(scorer),
        scored=scored,
        moved=late.height,
        known=known.height,
        unreadable=fresh.height - scored,
        skipped=skipped,
        seconds=pace.seconds,
    )


class _Pace:
    """How many texts to score between two commits."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.texts = _FEWEST

    def took(self, texts: int, seconds: float) -> None:
        """Learn from a chunk."""
        self.seconds += max(seconds, 1e-9)
        self.texts = int(min(max(texts * _SECONDS_PER_COMMIT / max(seconds, 1e-9), _FEWEST), _MOST))


def _incoming(lake: Lake, scorer: Scorer) -> list[_Incoming]:
    held = Snapshot.take(lake)
    found = []
    for table in (NEWS, POSTS):
        version = held.versions[table.name]
        app = f"score:{scorer.name}@{revision(scorer)}:{table.name}"
        since = lake.watermark(SCORES, app)
        if version is None or version == since:
            continue
        added = held.added(table, since)
        found.append(_Incoming(table, held.scan(table) if added is None else added, app, version))
    return found


def _said(incoming: _Incoming) -> Iterator[pl.DataFrame]:
    """Yield the texts of a table some rows at a time: ``row``, ``available_at``, ``said`` and its ``text_id``."""
    height = incoming.rows.select("available_at").collect().height
    for start in range(0, height, _ROWS_AT_ONCE):
        yield facts.texts(incoming.rows.slice(start, _ROWS_AT_ONCE).select(*facts.PARTS, "available_at").collect())


def _sights(incoming: list[_Incoming]) -> tuple[pl.DataFrame, int]:
    """Return the first sight of each distinct text, and the number of rows without one."""
    sights, skipped = [pl.DataFrame(schema=SCORES.empty().select("text_id", "available_at").schema)], 0
    for table in incoming:
        for said in _said(table):
            worded = said.filter(pl.col("text_id").is_not_null())
            skipped += said["row"].n_unique() - worded["row"].n_unique()
            sights.append(worded.group_by("text_id").agg(pl.col("available_at").min()))
    return pl.concat(sights).group_by("text_id").agg(pl.col("available_at").min()).sort("text_id"), skipped


def _chunks(incoming: list[_Incoming], fresh: pl.Series, pace: _Pace) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield how many of the fresh texts are next, and their sentences."""
    left = fresh
    for table in incoming:
        for said in _said(table):
            own = said.filter(pl.col("text_id").is_in(left.implode())).unique("text_id", maintain_order=True)
            left = left.filter(~left.is_in(own["text_id"].implode()))
            start = 0
            while start < own.height:
                texts = own.slice(start, pace.texts)
                start += texts.height
                yield texts.height, readable(texts)


def _stored(lake: Lake, scorer: Scorer, sights: pl.DataFrame) -> pl.DataFrame:
    """Return the scorer's verdict on each of some texts, with the earliest clock it has."""
    return (
        lake.scan(SCORES)
        .filter(pl.col("scorer") == scorer.name, pl.col("revision") == revision(scorer))
        .join(sights.lazy(), on="text_id", how="semi")
        .sort("available_at")
        .unique("text_id", keep="first", maintain_order=True)
        .select(*VERDICTS, scored_at="available_at")
        .collect()
    )


def _append(lake: Lake, rows: pl.DataFrame, scorer: Scorer, now: datetime) -> None:
    lake.append(SCORES, facts.scores(rows, scorer), now=now)
