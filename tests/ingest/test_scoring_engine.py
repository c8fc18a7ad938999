"""Scoring the lake: each text once, with the clock of its first sight, and nothing twice after a crash."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, POSTS, SCORES
from backsight_features.texts import text_id
from backsight_ingest.scoring import engine
from backsight_ingest.scoring.engine import score
from backsight_ingest.scoring.models import shipped
from backsight_ingest.scoring.preparation import MOST_SENTENCES, RULE

NOW = datetime(2024, 6, 1, tzinfo=UTC)
DAY = datetime(2024, 3, 1, tzinfo=UTC)


class Recorder:
    """Scores by length, and remembers what it was given."""

    def __init__(self, name: str = "recorder", fail_after: int | None = None) -> None:
        self.name = name
        self.revision = "1"
        self.seen: list[str] = []
        self._fail_after = fail_after

    def score(self, sentences: Sequence[str]) -> np.ndarray:
        if self._fail_after is not None and len(self.seen) >= self._fail_after:
            raise RuntimeError("power cut")
        self.seen += sentences
        p = np.array([1.0 / (1 + len(text)) for text in sentences])
        return np.column_stack([p, np.zeros(len(sentences)), 1.0 - p])


def _posts(*rows: tuple[str, str | None, str | None, int], estimated: bool = False) -> pl.DataFrame:
    """Return posts from id, title, text and the hour at which each was seen."""
    return pl.DataFrame(
        {
            "site": "reddit",
            "channel": "bitcoin",
            "id": [row[0] for row in rows],
            "title": [row[1] for row in rows],
            "text": [row[2] for row in rows],
            "url": None,
            "observed_at": DAY,
            "available_at": [DAY + timedelta(hours=row[3]) for row in rows],
            "available_at_estimated": estimated,
            "source": "test",
        },
        schema=POSTS.columns,
    )


def _news(identity: str, title: str, hour: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [identity],
            "publisher": None,
            "title": title,
            "text": None,
            "url": None,
            "observed_at": DAY,
            "available_at": DAY + timedelta(hours=hour),
            "available_at_estimated": True,
            "source": "test",
        },
        schema=NEWS.columns,
    )


def _scores(lake: Lake) -> pl.DataFrame:
    return lake.scan(SCORES).sort("text_id", "available_at").collect()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_an_empty_lake_has_nothing_to_score(lake: Lake) -> None:
    done = score(lake, Recorder(), now=NOW)
    assert (done.scored, done.known, done.skipped) == (0, 0, 0)


def test_a_title_and_a_body_are_scored_once_each_with_the_clock_of_their_first_sight(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", "again &amp; again", 5), ("b", "Up", "again & again", 3)), now=NOW)
    lake.append(NEWS, _news("n", "again & again", 1), now=NOW)
    recorder = Recorder()
    done = score(lake, recorder, now=NOW)
    assert sorted(recorder.seen) == ["Up", "again & again"]
    assert (done.scored, done.skipped) == (2, 0)
    rows = {row["text_id"]: row for row in _scores(lake).to_dicts()}
    up, again = pl.Series(["Up", "again & again"]).to_frame("t").select(text_id(pl.col("t"))).to_series()
    assert rows[up]["observed_at"] == rows[up]["available_at"] == DAY + timedelta(hours=3)
    assert rows[again]["available_at"] == DAY + timedelta(hours=1)
    assert {(row["scorer"], row["revision"], row["source"]) for row in rows.values()} == {
        ("recorder", f"1+{RULE}", "score:recorder")
    }


def test_a_text_has_the_mean_and_the_extremes_of_its_sentences(lake: Lake) -> None:
    body = "Up. Upper and upper. " + "More. " * 200
    lake.append(POSTS, _posts(("a", None, body, 1)), now=NOW)
    score(lake, Recorder(), now=NOW)
    (row,) = _scores(lake).to_dicts()
    p = [1 / 4, 1 / 17] + [1 / 6] * (MOST_SENTENCES - 2)
    assert row["p_positive"] == pytest.approx(np.mean(p))
    assert (row["tone_least"], row["tone_most"]) == (pytest.approx(1 / 17), pytest.approx(1 / 4))
    assert (row["share_positive"], row["share_negative"]) == (0, 0)
    assert (row["sentences"], row["unread"]) == (MOST_SENTENCES, 202 - MOST_SENTENCES)


def test_other_languages_and_texts_without_words_are_counted_and_not_looked_at_again(lake: Lake) -> None:
    rows = _posts(
        ("a", "\u6bd4\u7279\u5e01\u4e0a\u6da8", "...", 1),
        ("b", "Bitcoin f\u00e4llt auf den tiefsten Stand seit", None, 1),
    )
    lake.append(POSTS, rows, now=NOW)
    recorder = Recorder()
    done = score(lake, recorder, now=NOW)
    assert (recorder.seen, done.scored, done.unreadable, done.skipped) == ([], 0, 3, 0)
    assert score(lake, recorder, now=NOW).unreadable == 0


def test_a_second_run_reads_what_came_in_since(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 1), ("b", "Down", None, 2)), now=NOW)
    score(lake, Recorder(), now=NOW)
    lake.append(POSTS, _posts(("c", "Down", "Up", 0), ("d", "Sideways", None, 3)), now=NOW)
    again = Recorder()
    done = score(lake, again, now=NOW)
    assert again.seen == ["Sideways"]
    assert (done.scored, done.known, done.moved) == (1, 2, 2)


def test_what_was_taken_down_is_skipped_and_counted(lake: Lake) -> None:
    rows = _posts(
        ("a", "[deleted]", "[removed]", 1),
        ("b", "Down", "[removed]", 1),
        ("c", "https://x.org", None, 1),
        ("d", "Down", "", 2),
    )
    lake.append(POSTS, rows, now=NOW)
    recorder = Recorder()
    done = score(lake, recorder, now=NOW)
    assert recorder.seen == ["Down"]
    assert done.skipped == 2


def test_a_second_run_scores_nothing(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 1), ("b", "Down", None, 2)), now=NOW)
    score(lake, Recorder(), now=NOW)
    before = lake.version(SCORES)
    again = Recorder()
    done = score(lake, again, now=NOW)
    assert again.seen == []
    assert (done.scored, done.known, done.moved) == (0, 0, 0)
    assert lake.version(SCORES) == before


def test_a_later_sight_changes_nothing(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 1)), now=NOW)
    score(lake, Recorder(), now=NOW)
    lake.append(POSTS, _posts(("b", "Up", None, 9)), now=NOW)
    assert score(lake, Recorder(), now=NOW).moved == 0
    assert _scores(lake).height == 1


@pytest.mark.parametrize("estimated", [False, True])
def test_an_earlier_sight_repeats_the_score_with_the_earlier_clock(lake: Lake, estimated: bool) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 9)), now=NOW)
    score(lake, Recorder(), now=NOW)
    lake.append(POSTS, _posts(("b", "Up", None, 2), estimated=estimated), now=NOW)
    again = Recorder()
    done = score(lake, again, now=NOW + timedelta(days=1))
    assert again.seen == []
    assert (done.scored, done.moved, done.known) == (0, 1, 1)
    rows = _scores(lake)
    assert rows["available_at"].to_list() == [DAY + timedelta(hours=2), DAY + timedelta(hours=9)]
    assert rows["p_positive"].n_unique() == 1
    assert score(lake, again, now=NOW).moved == 0


def test_after_a_crash_only_the_rest_is_scored(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FEWEST", 10)
    monkeypatch.setattr(engine, "_MOST", 10)
    lake.append(POSTS, _posts(*((f"{i:02}", f"text {i:02}", None, i) for i in range(25))), now=NOW)
    first = Recorder(fail_after=20)
    with pytest.raises(RuntimeError, match="power cut"):
        score(lake, first, now=NOW)
    second = Recorder()
    told: list[tuple[int, int, float]] = []
    done = score(lake, second, now=NOW, tell=lambda *seen: told.append(seen))
    assert sorted(first.seen + second.seen) == [f"text {i:02}" for i in range(25)]
    assert (done.scored, done.known) == (5, 20)
    assert [seen[:2] for seen in told] == [(5, 5)]
    assert _scores(lake)["text_id"].is_unique().all()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from backsight_features.lake import Lake
from backsight_ingest.scoring import engine

sys.path.insert(0, sys.argv[3])
from test_scoring_engine import Recorder

engine._MOST = 1_000
append, commits = engine._append, 0

def interrupted(*given):
    global commits
    commits += 1
    if commits == 4 and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    append(*given)
    if commits == 4:
        os.kill(os.getpid(), signal.SIGKILL)

engine._append = interrupted
engine.score(Lake(sys.argv[1]), Recorder(), now=datetime(2024, 6, 1, tzinfo=UTC))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_the_middle_each_text_is_scored_once(tmp_path: Path, when: str) -> None:
    texts = [f"profit of company {i} is up" for i in range(10_000)]
    for name in ("killed", "undisturbed"):
        posts = _posts(*((str(i), text, None, i % 24) for i, text in enumerate(texts)))
        Lake(tmp_path / name).append(POSTS, posts, now=NOW)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), when, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    lake = Lake(tmp_path / "killed")
    before = _scores(lake).height
    assert 0 < before < len(texts)
    done = score(lake, Recorder(), now=NOW)
    assert (done.known, done.scored) == (before, len(texts) - before)
    whole = Lake(tmp_path / "undisturbed")
    score(whole, Recorder(), now=NOW)
    assert _scores(lake).equals(_scores(whole))


def test_scorers_do_not_mix(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Strong gains", None, 1)), now=NOW)
    score(lake, Recorder(), now=NOW)
    assert score(lake, Recorder(name="other"), now=NOW).scored == 1
    assert score(lake, shipped(), now=NOW).scored == 1
    assert sorted(_scores(lake)["scorer"]) == ["other", "recorder", "sentfin-tiny-bert"]


class Broken:
    name, revision = "broken", "1"

    def score(self, sentences: Sequence[str]) -> np.ndarray:
        return np.full((len(sentences), 3), np.nan)


def test_what_is_no_probability_is_not_stored(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 1)), now=NOW)
    with pytest.raises(BacksightError, match="broken returned what is no score for 1 sentences, the first is 'Up'"):
        score(lake, Broken(), now=NOW)
    assert _scores(lake).is_empty()


def test_scores_have_the_clocks_of_the_lake(lake: Lake) -> None:
    lake.append(POSTS, _posts(("a", "Up", None, 1)), now=NOW)
    score(lake, Recorder(), now=NOW)
    assert {_scores(lake).schema[name] for name in ("observed_at", "available_at", "ingested_at")} == {UTC_US}
