"""A backlog on Spark: what many workers say is what one machine says, each text is scored once and no clock moves."""

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import POSTS, SCORES
from backsight_ingest.scoring import engine
from backsight_ingest.scoring.models import from_folder, shipped
from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.scoring.spark import bring_in, score_frame
from polars.testing import assert_frame_equal

HAS_SPARK = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
needs_spark = pytest.mark.skipif(
    not HAS_SPARK, reason="needs Spark: pip install 'backsight-ingest[spark]', and Java 17"
)

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "score_on_spark.py"
NOW = datetime(2024, 6, 1, tzinfo=UTC)
AUTUMN = datetime(2023, 11, 5, 5, 30, 0, 123_456, tzinfo=UTC)
"""An hour later clocks in New York show the same."""

TASKS = 2


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """Return a session of two workers, at a place whose clocks go back."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "512m",
        # What runs for seconds is not worth much compiling.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.POLARS_MAX_THREADS": "1",
        "spark.sql.shuffle.partitions": str(TASKS),
        "spark.sql.session.timeZone": "America/New_York",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
        yield session
        session.stop()


@pytest.fixture
def model(tmp_path: Path, tiny_model) -> Path:
    """Return the folder of a classifier."""
    return tiny_model.write(tmp_path / "tiny")


@pytest.fixture
def posts() -> pl.DataFrame:
    """Return posts that repeat each other, with what is to be put right and what cannot be read."""
    said = [
        ("up", "down &amp; flat.  Up! https://x.org/1"),
        ("Up \u200b", None),
        (None, "down &amp; flat.  Up!"),
        ("[removed]", "[deleted]"),
        ("flat \U0001f680", "Der Markt steht heute still, und niemand weiss, warum das so ist."),
        ("42", "> up\n\n**down**\n\n" + "flat. " * 200),
        *((f"up {'down ' * n}", f"flat number {n % 7}. up.") for n in range(60)),
    ]
    titles, texts = zip(*said, strict=True)
    return pl.DataFrame(
        {
            "site": "reddit",
            "channel": "bitcoin",
            "id": [f"p{n}" for n in range(len(said))],
            "title": titles,
            "text": texts,
            "url": None,
            "observed_at": AUTUMN - timedelta(days=1),
            # The first of two that say the same comes later.
            "available_at": [AUTUMN + timedelta(hours=1 - n % 2, microseconds=len(said) - n) for n in range(len(said))],
            "available_at_estimated": False,
            "source": "test",
        },
        schema=POSTS.columns,
    )


@pytest.fixture
def table(posts: pl.DataFrame, tmp_path: Path) -> str:
    """Return the posts as files: what says the same lies in different ones."""
    (tmp_path / "posts").mkdir()
    for n in range(4):
        posts.gather_every(4, n).write_parquet(tmp_path / "posts" / f"{n}.parquet")
    return str(tmp_path / "posts")


def _watched(folder: Path, log: Path) -> Callable[[], Scorer]:
    """Return what opens the model of a folder, and writes what is asked of it to a file of its own each time."""
    log.mkdir()

    class Watched:
        def __init__(self) -> None:
            self._inner = from_folder(folder, cache=folder)
            self._log = log / uuid4().hex
            self._log.write_text(f"{self._inner._session.get_session_options().intra_op_num_threads}\n")
            self.name, self.revision = self._inner.name, self._inner.revision

        def score(self, sentences: Sequence[str]) -> np.ndarray:
            with self._log.open("a") as file:
                file.writelines(f"{each}\n" for each in sentences)
            return self._inner.score(sentences)

    return lambda: Watched()


def _one_machine(posts: pl.DataFrame, model: Path, at: Path) -> pl.DataFrame:
    lake = Lake(at)
    lake.append(POSTS, posts, now=NOW)
    engine.score(lake, from_folder(model, cache=model), now=NOW)
    return lake.scan(SCORES).sort("text_id").collect()


@needs_spark
@pytest.mark.slow
def test_many_workers_say_what_one_machine_says(
    spark: Any, posts: pl.DataFrame, table: str, model: Path, tmp_path: Path
) -> None:
    expected = _one_machine(posts, model, tmp_path / "one")
    scores = score_frame(spark.read.parquet(table), _watched(model, tmp_path / "log"))
    assert scores.columns == list(SCORES.columns)
    scores.write.parquet(str(tmp_path / "scores"))

    lake = Lake(tmp_path / "many")
    done = bring_in(lake, tmp_path / "scores", now=NOW)
    assert (done.accepted, done.duplicate) == (expected.height, 0)
    found = lake.scan(SCORES).sort("text_id").collect()
    assert expected["unread"].max() > 0
    assert_frame_equal(found, expected, check_exact=False, rel_tol=0, abs_tol=1e-12)

    logs = [path.read_text().splitlines() for path in (tmp_path / "log").iterdir()]
    assert len(logs) == TASKS  # the model is loaded once by each
    assert {threads for threads, *_ in logs} == {"1"}  # a task has one core
    heard = Counter(sentence for _, *sentences in logs for sentence in sentences)
    assert heard["up"] == 1  # a title that two posts have
    assert heard["down & flat."] == 1
    assert heard["flat number 3."] == 1  # said nine times, one text


@needs_spark
@pytest.mark.slow
def test_what_came_by_spark_is_known_to_the_machine_that_goes_on(
    spark: Any, posts: pl.DataFrame, table: str, model: Path, tmp_path: Path
) -> None:
    example = importlib.util.spec_from_file_location("score_on_spark", EXAMPLE)
    assert example is not None
    assert example.loader is not None
    module = importlib.util.module_from_spec(example)
    example.loader.exec_module(module)
    module.score(table, str(model), str(tmp_path / "scores"))
    module.bring(str(tmp_path / "scores"), str(tmp_path / "lake"))

    lake, scorer = Lake(tmp_path / "lake"), from_folder(model, cache=model)
    held = lake.scan(SCORES).collect().height
    lake.append(POSTS, posts, now=NOW)
    done = engine.score(lake, scorer, now=NOW)
    assert (done.scored, done.moved, done.known) == (0, 0, held)
    assert held > 60


@needs_spark
@pytest.mark.slow
def test_a_post_without_a_clock_is_refused(spark: Any, posts: pl.DataFrame, model: Path, tmp_path: Path) -> None:
    from pyspark.errors import PythonException

    posts.with_columns(available_at=pl.when(pl.col("id") != "p1").then("available_at")).write_parquet(
        tmp_path / "posts.parquet"
    )
    scores = score_frame(spark.read.parquet(str(tmp_path / "posts.parquet")), lambda: from_folder(model, cache=model))
    with pytest.raises(PythonException, match="posts: available_at is null in 1 rows"):
        scores.collect()


@needs_spark
@pytest.mark.slow
def test_a_partition_without_a_text_opens_no_model(
    spark: Any, posts: pl.DataFrame, model: Path, tmp_path: Path
) -> None:
    posts.head(2).tail(1).write_parquet(tmp_path / "posts.parquet")
    scores = score_frame(spark.read.parquet(str(tmp_path / "posts.parquet")), _watched(model, tmp_path / "log"))
    scores.write.parquet(str(tmp_path / "scores"))
    assert pl.read_parquet(tmp_path / "scores" / "*.parquet").height == 1
    (log,) = (tmp_path / "log").iterdir()
    assert log.read_text().splitlines()[1:] == ["Up"]


@needs_spark
def test_columns_of_another_type_are_named(spark: Any) -> None:
    frame = spark.sql("SELECT 'up' AS title, TIMESTAMP_NTZ '2024-01-01 00:00:00' AS available_at")
    with pytest.raises(BadInput) as error:
        score_frame(frame, shipped)
    assert str(error.value) == (
        "posts: text is missing, should be string; available_at is timestamp_ntz, should be timestamp"
    )


def test_scores_come_in_once_and_only_an_earlier_clock_is_news(
    posts: pl.DataFrame, model: Path, tmp_path: Path
) -> None:
    scores = _one_machine(posts, model, tmp_path / "one").drop("ingested_at")
    lake, folder = Lake(tmp_path / "lake"), tmp_path / "scores"
    folder.mkdir()
    scores.head(40).write_parquet(folder / "part-0.parquet")
    scores.tail(-40).write_parquet(folder / "part-1.parquet")
    done = bring_in(lake, folder, now=NOW)
    assert (done.accepted, done.duplicate) == (scores.height, 0)

    hour = timedelta(hours=1)
    sooner = pl.col("text_id").is_in(scores["text_id"].head(2).implode())
    clock = pl.col("available_at") + pl.when(sooner).then(-hour).otherwise(hour)
    # As another month's job says it: batches were others, and so is the last bit.
    noise = pl.col("p_positive", "p_negative") * (1 - 1e-9)
    scores.with_columns(noise, observed_at=clock, available_at=clock).write_parquet(folder / "part-0.parquet")
    done = bring_in(lake, folder, now=NOW + hour)
    assert (done.accepted, done.duplicate) == (2, 2 * scores.height - 40 - 2)
    moved = lake.scan(SCORES).filter(sooner, pl.col("ingested_at") > NOW).sort("text_id").collect()
    assert_frame_equal(
        moved.drop("ingested_at"),
        scores.head(2).with_columns(pl.col("observed_at", "available_at") - hour),
        check_exact=True,
    )


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (pl.lit(1.5).alias("p_positive"), BadInput, "rows are no scores, the first says: p_positive must lie in"),
        (pl.lit("1").alias("sentences"), Drifted, "scores: sentences is String, should be Int64"),
    ],
)
def test_what_is_no_score_stays_out(
    posts: pl.DataFrame, model: Path, tmp_path: Path, change: pl.Expr, error: type[Exception], told: str
) -> None:
    (tmp_path / "scores").mkdir()
    file = tmp_path / "scores" / "part-0.parquet"
    _one_machine(posts, model, tmp_path / "one").with_columns(change).write_parquet(file)
    with pytest.raises(error, match=told) as raised:
        bring_in(Lake(tmp_path / "lake"), tmp_path / "scores", now=NOW)
    assert str(raised.value).startswith(os.fspath(file))
    with pytest.raises(BadInput, match=r"has no \*\.parquet"):
        bring_in(Lake(tmp_path / "lake"), tmp_path, now=NOW)
