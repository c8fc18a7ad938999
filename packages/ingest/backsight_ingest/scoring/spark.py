"""A backlog scored on Spark: what `engine.score` says of the posts of a lake, said by many machines."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from backsight_features.clocks import UTC_US
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Appended, Lake
from backsight_features.schemas import SCORES, validate

from backsight_ingest.scoring import facts
from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.scoring.verdicts import readable, verdicts

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame

_POSTS: Final = {"title": "string", "text": "string", "available_at": "timestamp"}

# Instants travel as microseconds: in pandas Spark gives them in the session's time zone.
_TYPES: Final = {
    pl.String(): "string",
    pl.Float64(): "double",
    pl.Int64(): "bigint",
    pl.Boolean(): "boolean",
    UTC_US: "bigint",
}
_TEXTS: Final = "text_id string, said string, available_at bigint"
_SCORES: Final = ", ".join(f"{name} {_TYPES[dtype]}" for name, dtype in pl.Schema(SCORES.columns).items())


def score_frame(posts: "DataFrame", open_scorer: Callable[[], Scorer]) -> "DataFrame":
    """Return the scores of all titles and bodies, those that `engine.score` would write into a lake of these posts.

    Texts are normalised where they lie, and brought together by their identity before a model sees them: what was said
    in many posts is scored once. Nothing runs before the result is written, and it runs anew each time it is used.

    Parameters
    ----------
    posts : pyspark.sql.DataFrame
        ``title`` and ``text``, raw and of type string, ``available_at`` of type timestamp, an instant. Further columns
        are ignored.
    open_scorer : callable
        Returns the scorer. It travels to the workers, where each partition that has a text calls it once; a session
        would not travel. `models.from_folder` of a folder that all of them see is one, see ``docs/scoring.md``.

    Returns
    -------
    pyspark.sql.DataFrame
        The columns of `backsight_features.schemas.SCORES`, one row a text that could be read, in as many partitions as
        ``spark.sql.shuffle.partitions`` says.

    Raises
    ------
    BadInput
        If a column is missing or of another type; and, inside Spark's error, where ``available_at`` is null.
    """
    from pyspark.sql import functions as F

    kinds = dict(posts.dtypes)
    wrong = [
        f"{name} is {kinds.get(name, 'missing')}, should be {kind}"
        for name, kind in _POSTS.items()
        if kinds.get(name) != kind
    ]
    if wrong:
        raise BadInput(f"posts: {'; '.join(wrong)}")

    def scored(batches: Iterator["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
        scorer = None
        for texts in batches:
            # Not before: of few texts, many partitions have none.
            scorer = scorer or open_scorer()
            yield _scores(texts, scorer)

    # Spark may put partitions together that are small in bytes; the work is in the model, so it is told how many.
    tasks = int(posts.sparkSession.conf.get("spark.sql.shuffle.partitions"))
    said = posts.select("title", "text", F.unix_micros("available_at").alias("available_at")).mapInPandas(_said, _TEXTS)
    distinct = (
        said.repartition(tasks, "text_id")
        .groupBy("text_id")
        .agg(F.first("said").alias("said"), F.min("available_at").alias("available_at"))
    )

    def column(name: str) -> "Column":
        return F.timestamp_micros(name).alias(name) if SCORES.columns[name] == UTC_US else F.col(name)

    return distinct.mapInPandas(scored, _SCORES).select(*map(column, SCORES.columns))


def bring_in(lake: Lake, folder: Path, *, now: datetime) -> Appended:
    """Append scores that a job wrote as Parquet to the lake, a file at a time.

    A text that has its score keeps it: in another job, batches and machines may be others, and with them the last bits
    of what a model says. Only an earlier clock is news of it, so that a folder may be brought in again.

    Parameters
    ----------
    lake : Lake
        Scores are written to it.
    folder : Path
        Holds ``*.parquet`` of what `score_frame` returns.
    now : datetime
        Becomes ``ingested_at``.

    Raises
    ------
    BadInput
        If there is no such file, or one has a row that is no score.
    Drifted
        If a file has other columns.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BadInput(f"{folder} has no *.parquet; give the folder that the job wrote")
    accepted = duplicate = 0
    for file in files:
        done = lake.append(SCORES, _as_stored(lake, _read(file)), now=now)
        accepted, duplicate = accepted + done.accepted, duplicate + done.duplicate
    return Appended(accepted=accepted, duplicate=duplicate)


def _said(batches: Iterator["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
    for posts in batches:
        unknown = int(posts["available_at"].isna().sum())
        if unknown:
            raise BadInput(f"posts: available_at is null in {unknown} rows; a text without a clock was never known")
        rows = pl.from_pandas(posts, schema_overrides={"title": pl.String(), "text": pl.String()})
        yield facts.texts(rows).drop_nulls("text_id").select("text_id", "said", "available_at").to_pandas()


def _scores(texts: "pd.DataFrame", scorer: Scorer) -> "pd.DataFrame":
    rows = pl.from_pandas(texts)
    found = verdicts(readable(rows), scorer).join(rows, on="text_id", how="left", maintain_order="left")
    return facts.scores(found, scorer).to_pandas()


def _read(file: Path) -> pl.DataFrame:
    # Unless told otherwise, Spark writes instants in the format of old Impala: nanoseconds in UTC that do not say so.
    instants = pl.col(pl.Datetime("ns")).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    try:
        good, bad = validate(SCORES, pl.read_parquet(file).with_columns(instants))
    except Drifted as error:
        raise Drifted(f"{file}: {error}") from None
    if bad.height > 0:
        raise BadInput(f"{file}: {bad.height} rows are no scores, the first says: {bad['reason'][0]}")
    return good


def _as_stored(lake: Lake, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows, those of a text that has its score with what was said first."""
    says = list(SCORES.content)
    stored = (
        lake.scan(SCORES)
        .join(rows.lazy(), on=SCORES.key, how="semi")
        .sort("available_at")
        .unique(SCORES.key, keep="first", maintain_order=True)
        .select(*SCORES.key, *says)
        .collect()
    )
    told = rows.drop(says).join(stored, on=SCORES.key, maintain_order="left")
    fresh = rows.join(stored, on=SCORES.key, how="anti", maintain_order="left")
    return pl.concat([fresh, told.select(fresh.columns)])
