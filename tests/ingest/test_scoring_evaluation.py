"""How good a scorer is: figures that can be checked by hand, and what is told of the rows that were not judged."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_ingest.scoring import labelled
from backsight_ingest.scoring.evaluation import UNREADABLE, Evaluation, evaluate
from backsight_ingest.scoring.evaluation_page import html
from backsight_ingest.scoring.evaluation_tables import left_out
from backsight_ingest.scoring.figures import figures
from backsight_ingest.scoring.preparation import RULE
from click.testing import CliRunner, Result

TRUTH = np.array([0, 0, 0, 1, 1, 2])
P = np.array(
    [
        [0.8, 0.1, 0.1],  # right
        [0.6, 0.3, 0.1],  # right
        [0.1, 0.1, 0.8],  # neutral
        [0.2, 0.7, 0.1],  # right
        [0.5, 0.4, 0.1],  # positive
        [0.1, 0.2, 0.7],  # right
    ]
)


class Sure:
    """Is certain: of *good* that it is positive, of *bad* that it is negative, of all else that it is neutral."""

    name = "sure"
    revision = "1"

    def score(self, sentences: Sequence[str]) -> np.ndarray:
        said = [0 if "good" in text else 1 if "bad" in text else 2 for text in sentences]
        return np.eye(3)[said]


def _rows(*rows: tuple[str | None, str | None] | tuple[str | None, str | None, str | None]) -> pl.DataFrame:
    """Return rows of text, label and, where it matters, source."""
    filled = [(*row, None)[:3] for row in rows]
    return pl.DataFrame(filled, schema=dict.fromkeys(("text", "label", "source"), pl.String), orient="row")


def _judged(*rows: tuple[str | None, ...]) -> Evaluation:
    return evaluate(labelled.sort_out(_rows(*rows)), Sure())  # type: ignore[arg-type]


def test_figures_by_hand() -> None:
    found = figures(TRUTH, P)

    assert found.n == 6
    assert found.confusion == ((2, 0, 1), (1, 1, 0), (0, 0, 1))
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert asdict(found.classes["positive"]) == pytest.approx(
        {"support": 3, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    )
    assert asdict(found.classes["negative"]) == pytest.approx(
        {"support": 2, "precision": 1, "recall": 1 / 2, "f1": 2 / 3}
    )
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert found.brier == pytest.approx((0.06 + 0.26 + 1.46 + 0.14 + 0.62 + 0.14) / 6)
    assert found.log_loss == pytest.approx(-np.log([0.8, 0.6, 0.1, 0.7, 0.4, 0.7]).mean())
    # 0.5 is wrong; 0.6 right; 0.7 right twice; 0.8 right once of twice.
    assert [(each.n, each.accuracy) for each in found.bins] == [(1, 0), (1, 1), (2, 1), (2, 0.5)]
    assert [each.confidence for each in found.bins] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert found.calibration_error == pytest.approx((1 * 0.5 + 1 * 0.4 + 2 * 0.3 + 2 * 0.3) / 6)


def test_without_reading_by_hand() -> None:
    unread = figures(TRUTH, P).unread

    assert unread.accuracy == pytest.approx(1 / 2)
    assert unread.balanced_accuracy == pytest.approx(1 / 3)
    assert unread.macro_f1 == pytest.approx(2 * 0.5 / 1.5 / 3)
    assert unread.brier == pytest.approx(1 - (1 / 4 + 1 / 9 + 1 / 36))
    assert unread.log_loss == pytest.approx(-(np.log(1 / 2) / 2 + np.log(1 / 3) / 3 + np.log(1 / 6) / 6))


@pytest.mark.parametrize("classes", [3, 2])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which comes with the model's extras")
    rng = np.random.default_rng(7)
    truth = rng.integers(0, classes, 500)
    p = rng.dirichlet([1.0, 1.0, 0.5], 500)
    predicted = p.argmax(axis=1)

    found = figures(truth, p)

    there = list(range(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted, labels=[0, 1])
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found.balanced_accuracy == pytest.approx(
        metrics.recall_score(truth, predicted, labels=there, average="macro")
    )
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, labels=there, average="macro"))
    assert found.log_loss == pytest.approx(metrics.log_loss(truth, p, labels=[0, 1, 2]))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(truth, predicted, labels=[0, 1, 2]))
    of = [found.classes[name] for name in ("positive", "negative")]
    assert [each.precision for each in of] == pytest.approx(precision)
    assert [each.recall for each in of] == pytest.approx(recall)
    assert [each.f1 for each in of] == pytest.approx(f1)
    assert [each.support for each in of] == list(support)


def test_what_has_no_meaning_is_none() -> None:
    found = figures(np.array([0, 0]), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))

    assert (found.classes["positive"].precision, found.classes["positive"].recall) == (1, 0.5)
    assert (found.classes["negative"].precision, found.classes["negative"].recall) == (0, None)
    assert asdict(found.classes["neutral"]) == {"support": 0, "precision": None, "recall": None, "f1": None}
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert found.log_loss == pytest.approx(-np.log(np.finfo(float).eps) / 2)


def test_the_interval_is_that_of_drawing_texts() -> None:
    rng = np.random.default_rng(3)
    truth, p = rng.integers(0, 3, 400), rng.dirichlet([1.0, 1.0, 1.0], 400)
    found = figures(truth, p)
    drawn = rng.integers(0, 400, (4000, 400))
    right = (p.argmax(axis=1) == truth)[drawn].mean(axis=1)

    assert found.accuracy_interval == pytest.approx(tuple(np.quantile(right, [0.025, 0.975])), abs=0.01)
    assert found.macro_f1_interval[0] < found.macro_f1 < found.macro_f1_interval[1]
    assert found == figures(truth, p)


def test_a_text_is_judged_by_the_mean_of_its_sentences_as_in_the_lake() -> None:
    found = _judged(("All is good. It was good. Then it was bad.", "positive"), ("Nothing is bad.", "negative"))

    assert found.overall.accuracy == 1
    assert found.overall.brier == pytest.approx(((1 / 3) ** 2 * 2 + 0) / 2)
    assert (found.scorer, found.revision) == ("sure", f"1+{RULE}")


def test_rows_that_cannot_be_judged_are_counted() -> None:
    found = _judged(
        ("This is good", "positive"),
        ("This is good\u200b ", "Bullish "),
        ("This is bad", "negative"),
        ("This is bad so far", "neutral"),
        ("This is bad so far", "negative"),
        ("[removed]", "neutral"),
        (None, "neutral"),
        ("This is here", None),
        ("This is there", " "),
        ("This is good and bad", "mixed"),
        ("12 345", "neutral"),
        ("Der Kurs steigt heute wieder sehr stark an", "positive"),
    )

    assert found.overall.n == 2
    assert found.left_out == {
        "no text": 2,
        "no label": 2,
        "unknown label": 1,
        "repeated": 1,
        "labelled differently": 2,
        UNREADABLE: 2,
    }
    assert found.unknown_labels == {"mixed": 1}
    assert left_out(found).endswith("2 not in English or without a word ('mixed' 1)")


def test_parts_by_length_and_source() -> None:
    longer = "this is good " * 20
    found = _judged(
        ("This is good", "positive", "a"),
        ("This is bad", "neutral", "b"),
        ("This is so very bad", "negative", "b"),
        ("This is so very very bad", "negative", "b"),
        (longer, "positive", None),
    )

    assert {name: part.n for name, part in found.by_length.items()} == {
        "1-5 words": 3,
        "6-10 words": 1,
        "more than 50 words": 1,
    }
    assert {name: (part.n, part.accuracy) for name, part in found.by_source.items()} == {
        "b": (3, pytest.approx(2 / 3)),
        "a": (1, 1),
    }
    assert _judged(("This is good", "positive")).by_source == {}


def test_small_sources_are_put_together() -> None:
    found = _judged(*((f"This is good, says {name}", "positive", name) for name in "abcdefghijklmnopqrstuvw"))

    assert list(found.by_source) == [*"abcdefghijklmnopqrst", "(all others)"]
    assert found.by_source["(all others)"].n == 3


@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        (["positive", "NEGATIVE", "neutral"], [0, 1, 2]),
        (["bullish", "bearish", "neu"], [0, 1, 2]),
        (["1", "-1", "0"], [0, 1, 2]),
        (["1.0", "-1.0", "-1.0"], [0, 1, 1]),
    ],
)
def test_labels_are_known_by_name_or_by_their_sign(labels: list[str], meant: list[int]) -> None:
    rows = _rows(*((f"text {i}", label) for i, label in enumerate(labels)))

    assert labelled.sort_out(rows).texts["truth"].to_list() == meant


@pytest.mark.parametrize("labels", [["0", "1", "2"], ["0", "1"], ["1", "1"], ["LABEL_0", "LABEL_1"], ["-1", "-1"]])
def test_what_labels_mean_is_not_guessed(labels: list[str]) -> None:
    rows = _rows(*((f"text {i}", label) for i, label in enumerate(labels)))

    with pytest.raises(BadInput, match=f"no label says positive, negative, neutral .* they are '{labels[0].lower()}'"):
        labelled.sort_out(rows)


def test_nothing_to_judge_is_an_error() -> None:
    with pytest.raises(BadInput, match="there are none"):
        labelled.sort_out(_rows(("Up", None)))
    with pytest.raises(BadInput, match="none of the 1 labelled texts can be scored"):
        _judged(("1 2 3", "neutral"))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a[1].jsonl", "a.ndjson.gz", "a.parquet"])
def test_all_kinds_of_files_say_the_same(tmp_path: Path, name: str) -> None:
    rows = pl.DataFrame({"title": ['A "good", day', None], "mood": [1, -1], "by": ["x", "y"]})
    path = tmp_path / name
    kind = "gzip" if name.endswith(".gz") else "uncompressed"
    if "csv" in name:
        rows.write_csv(path, compression=kind)
    elif "json" in name:
        rows.write_ndjson(path, compression=kind)
    else:
        rows.write_parquet(path)

    found = labelled.read(path, text="title", label="mood", source="by")

    assert found.rows() == [('A "good", day', "1", "x"), (None, "-1", "y")]
    assert labelled.read(path, text="title", label="mood", source=None)["source"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "labelled texts are read from .csv, .jsonl"),
        ("a.csv", b"title,label\nUp,positive\n", r"no column 'text' \(--text\); it has title, label"),
        ("a.csv", b"text,label\nUp,positive,more\n", "cannot be read as csv"),
        ("a.csv", b"text,label\nUp\xff,positive\n", "cannot be read as csv"),
        ("a.csv", b"", "cannot be read as csv"),
        ("a.parquet", b"text,label\n", "cannot be read as parquet"),
        ("a.jsonl", b"text,label\n", "cannot be read as jsonl"),
        ("a.jsonl", b'{"text": 5, "label": "positive"}\n', r"column 'text' \(--text\) holds Int64, not text"),
        ("a.jsonl", b'{"text": "Up", "label": ["positive"]}\n', r"column 'label' \(--label\) holds List"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInput, match=message):
        labelled.read(tmp_path / name, text="text", label="label", source=None)


def test_a_file_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MOST_ROWS", 1)
    (tmp_path / "a.csv").write_text("text,label\nUp,positive\nDown,negative\n")

    with pytest.raises(BadInput, match="more than 1 rows"):
        labelled.read(tmp_path / "a.csv", text="text", label="label", source=None)


class _Page(HTMLParser):
    """Remembers the tags of a page, their texts and what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.said: list[str] = []
        self.loads: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [each for each in attrs if each[0] in ("src", "href", "onerror", "onload")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_the_page_shows_all_and_loads_nothing() -> None:
    nasty = '<img src=x onerror="alert(1)">'
    rows = [("This is good", "positive", nasty), ("This is bad", "neutral", "b"), ("This is so", nasty)]
    page = _Page()

    page.feed(html(_judged(*rows), labels=f"{nasty}.csv"))

    assert page.loads == []
    assert "img" not in page.tags
    assert page.tags.count("svg") == 2
    # Nine cells, and the one bin of a scorer that is certain.
    assert page.tags.count("rect") == 10
    assert nasty in page.said
    assert f"sure on {nasty}.csv" in page.said


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "score", "evaluate", *map(str, arguments)])

    return run


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("title,mood,by\nup.,positive,x\nup up down.,negative,x\ndown.,negative,y\nflat.,neutral,y\n")
    return path


def test_the_command_prints_tables(tiny_model, run: Callable[..., Result], labels: Path, tmp_path: Path) -> None:
    model = tiny_model.write(tmp_path / "tiny")

    done = run("--labels", labels, "--text", "title", "--label", "mood", "--source", "by", "--model", model)

    assert done.exit_code == 0, done.output
    said = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "75.0% of 4 texts are told rightly" in done.output
    assert "negative 2 1.000 0.500 0.667" in said
    assert "negative 1 1 0" in said
    assert any(line.startswith("x 2 0.500") for line in said)
    assert any(line.startswith("1-5 words 4 0.750") for line in said)


def test_the_command_prints_one_document_and_writes_the_page(
    tiny_model, run: Callable[..., Result], labels: Path, tmp_path: Path
) -> None:
    model, page = tiny_model.write(tmp_path / "tiny"), tmp_path / "page.html"
    named = ("--labels", labels, "--text", "title", "--label", "mood", "--model", model)

    done = run(*named, "--json", "--html", page)

    document = json.loads(done.stdout)
    assert document["scorer"] == "tiny"
    assert document["overall"]["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert document["overall"]["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    sure, torn = tiny_model.expected(1, 0, 0)[0], tiny_model.expected(2, 1, 0)[0]
    assert document["overall"]["calibration_error"] == pytest.approx(abs(3 * sure + torn - 3) / 4)
    assert document["by_source"] == {}
    assert "75.0% of 4 texts are told rightly" in page.read_text(encoding="utf-8")
    assert done.stdout == run(*named, "--json").stdout


def test_the_command_says_what_is_wrong_before_it_scores(
    run: Callable[..., Result], labels: Path, tmp_path: Path
) -> None:
    lost = run("--labels", labels, "--text", "title", "--label", "mood", "--html", tmp_path / "no" / "page.html")
    none = run("--labels", tmp_path / "none.csv")
    unnamed = run("--labels", labels, "--text", "title", "--label", "mood")

    assert isinstance(lost.exception, BadInput)
    assert "there is no folder" in str(lost.exception)
    assert (none.exit_code, unnamed.exit_code) == (2, 2)
    assert "give either --scorer or --model" in unnamed.output


def test_crypto_news_by_length_and_source(
    tiny_model, run: Callable[..., Result], shared_data: Path, tmp_path: Path
) -> None:
    news = shared_data / "labelled" / "cryptonews_labelled_appliedai.csv.gz"
    if not news.is_file():
        pytest.skip("needs the labelled crypto news in ../shared/data/labelled, which is not part of the project")
    model = tiny_model.write(tmp_path / "tiny")

    done = run(
        "--labels", news, "--text", "title", "--label", "sentiment", "--source", "source", "--model", model, "--json"
    )

    found = json.loads(done.stdout)
    assert found["overall"]["n"] + sum(found["left_out"].values()) == 5000
    assert found["overall"]["n"] > 4900
    for parts in (found["by_length"], found["by_source"]):
        assert sum(part["n"] for part in parts.values()) == found["overall"]["n"]
    assert set(found["by_source"]) == {"cointelegraph", "cryptonews", "cryptopotato"}
