"""Score a backlog on Spark, then bring the scores into a lake.

    spark-submit score_on_spark.py POSTS MODEL SCORES
    python -c "from score_on_spark import bring; bring('SCORES', 'LAKE')"

POSTS is a table in Parquet with ``title``, ``text`` and ``available_at``, MODEL a folder with an ONNX file, which is
sent to the workers, SCORES where the scores are written. The second line runs where the lake is, and needs no Spark.
"""

import shutil
import sys
import tempfile
from pathlib import Path


def score(posts: str, model: str, scores: str) -> None:
    """Read posts, write scores; Parquet both, wherever Spark can reach."""
    from backsight_ingest.scoring.classifier import OnnxClassifier
    from backsight_ingest.scoring.models import from_folder
    from backsight_ingest.scoring.spark import score_frame
    from pyspark import SparkFiles
    from pyspark.sql import SparkSession

    name = Path(model).resolve().name

    def open_scorer() -> OnnxClassifier:
        return from_folder(Path(SparkFiles.get(name)), cache=Path(tempfile.gettempdir()))

    spark = SparkSession.builder.appName("backsight-scores").getOrCreate()
    with tempfile.TemporaryDirectory() as folder:
        spark.sparkContext.addArchive(f"{shutil.make_archive(f'{folder}/{name}', 'zip', model)}#{name}")
        score_frame(spark.read.parquet(posts), open_scorer).write.parquet(scores)


def bring(scores: str, lake: str) -> None:
    """Append the scores to the lake."""
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_ingest.scoring.spark import bring_in

    done = bring_in(Lake(Path(lake)), Path(scores), now=utc_now())
    print(f"{done.accepted} scores, {done.duplicate} known before")


if __name__ == "__main__":
    score(*sys.argv[1:])
