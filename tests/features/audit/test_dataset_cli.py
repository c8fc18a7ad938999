"""``backsight audit dataset`` as people run it, the published flaws among what it is run on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.audit_cli import audit
from backsight_features.errors import BadInput
from click.testing import CliRunner, Result

FIRST = datetime(2018, 1, 1, tzinfo=UTC)
DAYS = 900


def run(path: Path, *options: str) -> Result:
    command = ["dataset", str(path), "--time", "date", "--label", "label", *options]
    return CliRunner().invoke(audit, command, catch_exceptions=False)


def checks(done: Result) -> set[tuple[str, str]]:
    return {(one["check"], one["name"]) for one in json.loads(done.stdout)["findings"]}


def scored(done: Result) -> dict[str, dict[str, float]]:
    return {one["forecaster"]: one["values"] for one in json.loads(done.stdout)["scores"]}


@pytest.fixture
def daily() -> pl.DataFrame:
    """Daily closes and what was known of them; the label is the next close."""
    rng = np.random.default_rng(3)
    close = 8_000 * np.exp(np.cumsum(rng.standard_t(4, DAYS) * 0.018))
    at = pl.datetime_range(FIRST, FIRST + timedelta(days=DAYS - 1), "1d", time_unit="us", eager=True)
    frame = pl.DataFrame({"date": at, "close": close})
    frame = frame.with_columns(
        ret=pl.col("close").log().diff(), mean_7=pl.col("close").rolling_mean(7), label=pl.col("close").shift(-1)
    )
    return frame[7:-1]


@pytest.fixture
def ordered(daily: pl.DataFrame) -> pl.DataFrame:
    cut = int(0.8 * daily.height)
    return daily.with_columns(part=pl.Series(["train"] * cut + ["test"] * (daily.height - cut)))


def saved(frame: pl.DataFrame, folder: Path, name: str = "table.parquet") -> Path:
    path = folder / name
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


# The four published flaws, each with the score of persistence beside the claim.


def test_a_random_split_over_overlapping_labels(daily: pl.DataFrame, tmp_path: Path) -> None:
    """A neighbour on the clock alone is right as often as the model that was published."""
    up = (pl.col("close").shift(-14) > pl.col("close")).cast(pl.Int8)
    drawn = np.random.default_rng(1).random(daily.height) < 0.2
    frame = daily.with_columns(label=up, part=pl.Series(np.where(drawn, "test", "train")))[:-14]
    done = run(
        saved(frame, tmp_path),
        "--horizon",
        "14d",
        "--split",
        "part",
        "--price",
        "close",
        "--claim",
        "accuracy=80%",
        "--json",
    )
    assert done.exit_code == 1
    assert {("overlap", "part"), ("shuffled", "part"), ("clock", "part")} <= checks(done)
    scores = scored(done)
    assert scores["nearest in time"]["accuracy"] > 0.8 > scores["persistence"]["accuracy"]
    assert scores["claim"]["accuracy"] == 0.8


def test_an_error_in_percent_without_that_of_persistence(ordered: pl.DataFrame, tmp_path: Path) -> None:
    done = run(saved(ordered, tmp_path), "--horizon", "1d", "--split", "part", "--claim", "MAPE=2.49%", "--json")
    assert done.exit_code == 1
    assert checks(done) == {("baseline", "claim: mape")}
    assert scored(done)["persistence"]["mape"] < 2.49 == scored(done)["claim"]["mape"]


def test_a_baseline_that_is_the_mean_of_the_test(ordered: pl.DataFrame, tmp_path: Path) -> None:
    mean = ordered.filter(pl.col("part") == "test")["label"].mean()
    path = saved(ordered.with_columns(naive=pl.lit(mean)), tmp_path)
    done = run(path, "--horizon", "1d", "--split", "part", "--claim", "R2=0.93", "--json")
    assert done.exit_code == 1
    assert {("baseline", "naive"), ("baseline", "claim: r2")} <= checks(done)
    assert scored(done)["persistence"]["r2"] > 0.93


def test_a_target_that_is_an_input_of_the_same_step(ordered: pl.DataFrame, tmp_path: Path) -> None:
    path = saved(ordered.with_columns(label=pl.col("close"), adjusted=pl.col("close") * 0.97), tmp_path)
    done = run(path, "--split", "part", "--claim", "R2=0.99", "--ignore", "close", "--json")
    assert done.exit_code == 1
    assert ("target", "adjusted") in checks(done)
    assert "r2" in scored(done)["persistence"]


def test_a_clean_table_is_clean_in_csv_too(ordered: pl.DataFrame, tmp_path: Path) -> None:
    options = ("--horizon", "1d", "--split", "part", "--price", "close")
    texts = ordered.with_columns(pl.col("date").dt.strftime("%Y-%m-%d"))
    for path in (saved(ordered, tmp_path), saved(texts, tmp_path, "table.csv")):
        done = run(path, *options)
        assert done.exit_code == 0, done.stdout
        assert done.stdout.endswith("nothing saw the future, as far as 12 checks can see.\n")


def test_a_split_may_lie_in_a_file_and_the_order_of_rows_does_not_matter(ordered: pl.DataFrame, tmp_path: Path) -> None:
    leaked = ordered.with_columns(leak=pl.col("label") * 2).drop("close")
    parts = saved(leaked.select("date", "part"), tmp_path, "parts.csv")
    page = tmp_path / "page.html"
    path = saved(leaked.drop("part").sample(fraction=1, shuffle=True, seed=1), tmp_path)
    done = run(path, "--horizon", "1d", "--split", str(parts), "--html", str(page), "--json")
    assert checks(done) == {("target", "leak")}
    [finding] = json.loads(done.stdout)["findings"]
    first = ordered.row(0, named=True)
    assert finding["instant"] == f"{first['date']:%Y-%m-%dT%H:%M:%SZ}"
    assert f"{2 * first['label']:.6g}" in finding["datum"]
    assert "leak is a copy of the label" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--price", "clos"), "has no column 'clos'; it has date, "),
        (("--claim", "sharpe=3"), "claim 'sharpe=3': write NAME=VALUE with one of mape, rmse, mae, r2, accuracy"),
        (("--claim", "accuracy=86"), "no accuracy can be 86; write a share as 0.86 or 86%"),
        (("--horizon", "a day"), "'a day' is not a timeframe"),
        (("--split", "mean_7"), "folds; there must be 2 to 100"),
        (("--html", "no/such/folder/page.html"), "there is no folder"),
    ],
)
def test_what_is_given_wrong_is_said_in_one_line(
    ordered: pl.DataFrame, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput) as error:
        run(saved(ordered, tmp_path), *options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_several_symbols_without_their_column_are_refused(ordered: pl.DataFrame, tmp_path: Path) -> None:
    both = pl.concat([ordered, ordered.with_columns(pl.col("close") * 2)])
    with pytest.raises(BadInput, match=r"repeat an instant, .* with --symbol"):
        run(saved(both, tmp_path))


def test_the_example_of_the_guide_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    guide = Path(__file__).parents[3] / "docs" / "audit.md"
    example = guide.read_text(encoding="utf-8").split("```python\n")[-1].split("```")[0]
    exec(compile(example, str(guide), "exec"), {})
    assert "error: later-rows: smooth" in capsys.readouterr().out
