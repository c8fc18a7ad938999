"""The link of an article follows from what was known before it, however and whenever the articles come in."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.lake import Appended, Lake
from backsight_features.schemas import LINKS, NEWS, RUNS, Table, validate
from backsight_ingest.layouts import load
from backsight_ingest.links import SAME_PUBLISHER, WINDOW, links, update
from backsight_ingest.pull import pull

START = datetime(2024, 5, 1, tzinfo=UTC)
NOW = datetime(2024, 8, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

Row = tuple[str, float, str, str | None]
"""An id, the hours from `START` to when it was first seen, a headline, a publisher."""


def articles(*rows: Row, estimated: tuple[str, ...] = ()) -> pl.DataFrame:
    """Return articles as they were first seen."""
    frame = pl.DataFrame(
        {
            "id": [row[0] for row in rows],
            "publisher": [row[3] for row in rows],
            "title": [row[2] for row in rows],
            "available_at": [START + row[1] * HOUR for row in rows],
        },
        schema_overrides={"publisher": pl.String, "available_at": NEWS.columns["available_at"]},
    )
    return frame.select(
        "id",
        "publisher",
        "title",
        pl.lit(None, pl.String).alias("text"),
        pl.lit(None, pl.String).alias("url"),
        pl.col("available_at").alias("observed_at"),
        "available_at",
        pl.col("id").is_in(estimated).alias("available_at_estimated"),
        pl.lit("test").alias("source"),
    )


def stories(frame: pl.DataFrame) -> dict[str, str]:
    """Return the story of each article, its own id left out."""
    found = links(frame, frame["id"])
    return {row["id"]: row["story"] for row in found.to_dicts() if row["id"] != row["story"]}


def linked(lake: Lake) -> dict[str, str]:
    """Return the story of each article as it is known last."""
    last = lake.scan(LINKS).sort("available_at", "ingested_at").unique("id", keep="last", maintain_order=True)
    return dict(last.select("id", "story").collect().iter_rows())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


RISES = "Bitcoin rises on inflation data"


# ------------------------------------------------------------------------------------------------ one by one


def test_the_earliest_article_that_tells_the_same_is_the_story() -> None:
    frame = articles(
        ("a", 0, RISES, "Wire"),
        ("b", 1, "UPDATE 1-" + RISES, "Desk"),
        ("c", 2, "Ethereum upgrade goes live", "Wire"),
        ("d", 3, RISES + ", traders say", "Post"),
        ("e", 4, "Ethereum upgrade goes live - Desk", "Desk"),
        ("f", 5, "Market wrap", "Wire"),
        ("g", 6, "Market wrap", "Desk"),
    )
    found = links(frame.sample(fraction=1, shuffle=True, seed=1), frame["id"])
    assert found.select("id", "story", pl.col("similarity").round(3)).rows() == [
        ("a", "a", 1.0),
        ("b", "a", 0.714),
        ("c", "c", 1.0),
        ("d", "a", 0.714),
        ("e", "c", 1.0),
        ("f", "f", 1.0),
        ("g", "g", 1.0),
    ]
    assert found["available_at"].to_list() == frame["available_at"].to_list()
    assert found["observed_at"].to_list() == frame["available_at"].to_list()
    good, bad = validate(LINKS, found)
    assert (good.height, bad.height) == (7, 0)


@pytest.mark.parametrize(
    ("why", "publisher", "hours", "is_linked"),
    [
        ("another publisher, within the window", "Desk", 72, True),
        ("another publisher, after the window", "Desk", 72.1, False),
        ("the same publisher, soon", "wire ", 12, True),
        ("the same publisher, the next issue", "Wire", 12.1, False),
        ("nobody knows whose", None, 72, True),
    ],
)
def test_windows(why: str, publisher: str | None, hours: float, is_linked: bool) -> None:
    assert (WINDOW, SAME_PUBLISHER) == (72 * HOUR, 12 * HOUR)
    found = stories(articles(("a", 0, RISES, "Wire"), ("b", hours, RISES, publisher)))
    assert found == ({"b": "a"} if is_linked else {}), why


def test_one_article_under_two_addresses_may_be_seen_days_apart() -> None:
    frame = articles(("a", 0, RISES, "Wire"), ("b", 40, RISES, "Wire"), ("c", 80, RISES, "Wire"))
    frame = frame.with_columns(observed_at=pl.lit(START).cast(NEWS.columns["observed_at"]))
    assert stories(frame) == {"b": "a", "c": "b"}


def test_an_issue_too_old_does_not_hide_another_publisher() -> None:
    frame = articles(
        ("a", 0, RISES, "Wire"), ("b", 1, RISES, "Desk"), ("c", 20, RISES, "Wire"), ("d", 21, RISES, "Wire")
    )
    assert stories(frame) == {"b": "a", "c": "b", "d": "b"}


def test_at_one_instant_the_one_published_first_is_the_first() -> None:
    frame = articles(("a", 5, RISES, "Wire"), ("b", 5, RISES, "Desk"))
    frame = frame.with_columns(observed_at=pl.when(pl.col("id") == "b").then(START).otherwise("observed_at"))
    assert stories(frame) == {"a": "b"}


def test_an_article_without_a_title_is_told_by_its_text() -> None:
    frame = articles(("a", 0, RISES, "Wire"), ("b", 1, "", "Desk")).with_columns(
        title=pl.when(pl.col("id") == "a").then("title"), text=pl.when(pl.col("id") == "b").then(pl.lit(RISES))
    )
    assert stories(frame) == {"b": "a"}


def test_a_link_to_an_estimated_instant_is_estimated() -> None:
    frame = articles(
        ("a", 0, RISES, "Wire"), ("b", 1, RISES, "Desk"), ("c", 2, "Nothing like it at all", "Desk"), estimated=("a",)
    )
    assert links(frame, frame["id"])["available_at_estimated"].to_list() == [True, True, False]


# ------------------------------------------------------------------------------------------------ in the lake


def made_up(count: int, seed: int) -> pl.DataFrame:
    """Return articles of three weeks from few words, so that many tell the same, and some nearly."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(["bitcoin", "ether", "fed", "rises", "falls", "data", "rates", "today", "5", "7", "report"])
    weights = 1.0 / np.arange(1, vocabulary.size + 1)
    rows: list[Row] = []
    for i in range(count):
        drawn = rng.choice(vocabulary, rng.integers(3, 8), replace=False, p=weights / weights.sum())
        rows.append((f"{i:04}", float(rng.integers(0, 21 * 24)), " ".join(drawn), f"publisher {rng.integers(6)}"))
    late = pl.Series([timedelta(hours=int(hours)) for hours in rng.integers(0, 30, count)])
    return articles(*rows).with_columns(observed_at=pl.col("available_at") - late)


def _one_by_one(frame: pl.DataFrame) -> dict[str, str]:
    """Return the story of each article by comparing each with each."""
    rows = frame.sort("available_at", "observed_at", "id").to_dicts()
    found = {}
    for i, row in enumerate(rows):
        one = set(row["title"].split())
        found[row["id"]] = row["id"]
        for earlier in rows[:i]:
            other = set(earlier["title"].split())
            apart = abs(row["observed_at"] - earlier["observed_at"])
            issue = row["publisher"] == earlier["publisher"] and apart > SAME_PUBLISHER
            numbers = [{word for word in each if word.isdecimal()} for each in (one, other)]
            if (
                row["available_at"] - earlier["available_at"] <= WINDOW
                and not issue
                and 3 * len(one & other) >= 2 * len(one | other)
                and (numbers[0] <= numbers[1] or numbers[1] <= numbers[0])
                and not len(one - other) == len(other - one) == 1
            ):
                found[row["id"]] = earlier["id"]
                break
    return found


@pytest.mark.parametrize("seed", range(3))
def test_links_are_those_that_comparing_each_with_each_finds(seed: int, lake: Lake) -> None:
    frame = made_up(400, seed)
    lake.append(NEWS, frame, now=NOW)
    account = update(lake, now=NOW, at_once=90)
    assert (account.read, account.accepted, account.duplicate) == (400, 400, 0)
    expected = _one_by_one(frame)
    assert sum(story != name for name, story in expected.items()) > 100
    assert linked(lake) == expected


@pytest.mark.parametrize("seed", range(2))
def test_articles_may_come_in_any_order(seed: int, lake: Lake) -> None:
    frame = made_up(300, seed)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    for i, part in enumerate(shuffled.iter_slices(75)):
        lake.append(NEWS, part, now=NOW + i * HOUR)
        update(lake, now=NOW + i * HOUR, at_once=40)
    assert linked(lake) == _one_by_one(frame)
    again = update(lake, now=NOW + 9 * HOUR)
    assert again.read == 0


class Failing(Lake):
    """A lake that breaks off after so many commits of links."""

    commits = 0

    def append(self, table: Table, rows: pl.DataFrame, **how: object) -> Appended:  # type: ignore[override]
        if table is LINKS:
            self.commits -= 1
            if self.commits < 0:
                raise InterruptedError
        return super().append(table, rows, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("commits", range(5))
def test_a_run_that_was_cut_off_goes_on(commits: int, tmp_path: Path) -> None:
    frame = made_up(200, 1)
    lake = Failing(tmp_path / "lake")
    later = frame.sort("available_at").gather_every(2)
    lake.commits = 100
    lake.append(NEWS, later, now=NOW)
    update(lake, now=NOW)
    lake.append(NEWS, frame, now=NOW + HOUR)
    lake.commits = commits
    with pytest.raises(InterruptedError):
        update(lake, now=NOW + HOUR, at_once=30)
    lake.commits = 100
    update(lake, now=NOW + 2 * HOUR, at_once=30)
    assert linked(lake) == _one_by_one(frame)


def test_only_what_is_new_and_near_is_looked_at(lake: Lake) -> None:
    frame = made_up(300, 2).sort("available_at")
    lake.append(NEWS, frame[:290], now=NOW)
    update(lake, now=NOW)
    lake.append(NEWS, frame[290:], now=NOW)
    account = update(lake, now=NOW)
    assert 10 <= account.read < 40
    assert linked(lake) == _one_by_one(frame)


def test_a_link_never_depends_on_what_came_later(lake: Lake, tmp_path: Path) -> None:
    frame = made_up(300, 3)
    at = START + 200 * HOUR
    past = Lake(tmp_path / "past")
    lake.append(NEWS, frame, now=NOW)
    past.append(NEWS, frame.filter(pl.col("available_at") <= at), now=NOW)
    for each in (lake, past):
        update(each, now=NOW)
    known = lake.scan(LINKS).filter(pl.col("available_at") <= at).sort("id").collect()
    assert 50 < known.height < 300
    assert known.equals(past.scan(LINKS).sort("id").collect())


def test_an_edit_changes_no_link(lake: Lake) -> None:
    lake.append(NEWS, articles(("a", 0, RISES, "Wire"), ("b", 1, RISES, "Desk")), now=NOW)
    update(lake, now=NOW)
    lake.append(NEWS, articles(("b", 2, "Another title for the same address", "Desk")), now=NOW)
    assert update(lake, now=NOW).read == 0
    assert linked(lake) == {"a": "a", "b": "a"}


def test_what_is_filled_in_later_becomes_the_story_and_is_known_from_then(lake: Lake) -> None:
    lake.append(NEWS, articles(("b", 1, RISES, "Desk"), ("c", 2, RISES, "Post")), now=NOW)
    update(lake, now=NOW)
    lake.append(NEWS, articles(("a", 0, RISES, "Wire"), estimated=("a",)), now=NOW + HOUR)
    account = update(lake, now=NOW + HOUR)
    assert (account.read, account.accepted) == (3, 3)
    assert linked(lake) == {"a": "a", "b": "a", "c": "a"}
    found = lake.scan(LINKS).filter(pl.col("id") == "c").sort("available_at").collect()
    assert found["story"].to_list() == ["b", "a"]
    assert found["available_at"].to_list() == [START + 2 * HOUR, NOW + HOUR], "nobody had that link before"
    assert update(lake, now=NOW + 2 * HOUR).read == 0


def test_a_run_is_on_the_account(lake: Lake) -> None:
    assert update(lake, now=NOW).read == 0
    lake.append(NEWS, articles(("a", 0, RISES, "Wire")), now=NOW)
    update(lake, now=NOW)
    runs = lake.scan(RUNS).select("verb", "origin", "status", "read", "accepted").sort("read").collect()
    assert runs.rows() == [("link", "news", "ok", 0, 0), ("link", "news", "ok", 1, 1)]


def test_one_headline_of_thousands_is_one_story(lake: Lake) -> None:
    rows: list[Row] = [(f"{i:05}", i * 70 / 5_000, RISES, f"publisher {i % 50}") for i in range(5_000)]
    lake.append(NEWS, articles(*rows), now=NOW)
    update(lake, now=NOW)
    assert set(linked(lake).values()) == {"00000", "00001"}, "for its own publisher the first is too old after a while"


# ------------------------------------------------------------------------------------------------ real news


def test_real_headlines_that_are_carried_twice_are_linked(shared_data: Path, lake: Lake) -> None:
    file = shared_data / "news" / "mouadja02_news_dedup_2025-05.csv.gz"
    pull(lake, load("news-first-seen"), [file], settings={}, now=datetime(2026, 6, 1, tzinfo=UTC), tell=lambda _: None)
    update(lake, now=datetime(2026, 6, 1, tzinfo=UTC))
    found = linked(lake)
    carried = (
        lake.scan(NEWS)
        .sort("available_at", "observed_at", "id")
        .unique("id", keep="first", maintain_order=True)
        .with_columns(said=pl.col("title").str.to_lowercase().str.strip_chars())
        .with_columns(
            pl.col("available_at", "observed_at", "publisher").shift(1).over("said").name.prefix("before_"),
        )
        .drop_nulls("before_available_at")
        .collect()
    )
    assert carried.height == 140, "headlines under another address"
    same = pl.col("publisher").str.to_lowercase() == pl.col("before_publisher").str.to_lowercase()
    issue = same & ((pl.col("observed_at") - pl.col("before_observed_at")).abs() > SAME_PUBLISHER)
    near = carried.filter(pl.col("available_at") - pl.col("before_available_at") <= WINDOW, ~issue)
    assert near.height == 133
    assert all(found[name] != name for name in near["id"])
    others = sum(story != name for name, story in found.items()) - near.height
    assert 20 < others < 60, "in other words, of 6,000"
