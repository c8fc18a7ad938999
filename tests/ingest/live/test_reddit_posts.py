"""What Reddit shows of a post becomes facts, or waits in quarantine; its texts stay as they are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from backsight_ingest.dumps import facts
from backsight_ingest.layouts import load
from backsight_ingest.sources.reddit_posts import COUNTS, HISTORY, SEEN, posts, records

SEEN_AT = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)
CREATED = datetime(2024, 5, 17, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
POST = {
    "id": "abc",
    "name": "t3_abc",
    "subreddit": "Bitcoin",
    "author": "somebody",
    "created_utc": CREATED.timestamp(),
    "edited": False,
    "title": "To the moon",
    "selftext": "or not",
    "url": "https://www.reddit.com/r/Bitcoin/comments/abc/",
    "score": 3,
    "num_comments": 2,
    "removed_by_category": None,
}


def child(**fields: object) -> dict[str, object]:
    return {"kind": "t3", "data": {**POST, **fields}}


def read(layout: str, *children: object, by_rule: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the facts that a layout reads in a listing, and why others are none."""
    rows = records(posts(children, SEEN_AT), by_rule=by_rule)[layout]
    numbered = rows.with_columns(pl.lit(1, pl.Int64).alias("@row"), pl.lit("test").alias("@origin"))
    found = facts(load(layout), numbered, {}, now=SEEN_AT)
    return found.good.to_dicts(), found.bad["reason"].to_list()


def test_a_post_is_known_from_when_it_was_seen() -> None:
    ((post,), bad) = read(SEEN, child())
    assert bad == []
    assert (post["site"], post["channel"], post["id"]) == ("reddit", "bitcoin", "abc")
    assert (post["title"], post["text"], post["url"]) == (POST["title"], POST["selftext"], POST["url"])
    assert (post["observed_at"], post["available_at"]) == (CREATED, SEEN_AT)
    assert not post["available_at_estimated"]


def test_it_is_counted_when_it_is_seen_and_not_when_it_was_created() -> None:
    ((count,), bad) = read(COUNTS, child())
    assert bad == []
    assert (count["score"], count["comments"]) == (3, 2)
    assert (count["observed_at"], count["available_at"]) == (SEEN_AT, SEEN_AT)
    assert not count["available_at_estimated"]


EDITED = CREATED + 2 * HOUR

RULED = {
    # what is shown of the post, from when it is known, whether that is a rule
    "hours old": ({}, CREATED + HOUR, True),
    "edited": ({"edited": EDITED.timestamp()}, EDITED + HOUR, True),
    "edited, but nobody says when": ({"edited": True}, SEEN_AT, False),
    "edited before it was created": ({"edited": 1.0}, SEEN_AT, False),
    "edited a moment ago": ({"edited": (SEEN_AT - HOUR / 2).timestamp()}, SEEN_AT, False),
    "created a moment ago": ({"created_utc": (SEEN_AT - HOUR / 2).timestamp()}, SEEN_AT, False),
    "removed": ({"selftext": "[removed]", "removed_by_category": "moderator"}, SEEN_AT, False),
}


@pytest.mark.parametrize(("fields", "known", "estimated"), RULED.values(), ids=RULED)
def test_of_the_past_a_post_is_known_an_hour_after_it_got_its_text_and_never_before(
    fields: dict[str, object], known: datetime, estimated: bool
) -> None:
    found = [post for layout in (HISTORY, SEEN) for post in read(layout, child(**fields), by_rule=True)[0]]
    assert [(post["available_at"], post["available_at_estimated"]) for post in found] == [(known, estimated)]


TEXTS = {
    # as Reddit shows it, as the lake keeps it
    "entities": ("AT&amp;T &lt;3", "AT&amp;T &lt;3"),  # raw_json: they were written so
    "mojibake": ("BÃ¤r", "BÃ¤r"),
    "zero width": ("a\u200bb\u202ec", "a\u200bb\u202ec"),
    "NUL": ("a\0b", "ab"),
    "half a surrogate pair": ("a\ud83db", "ab"),
    "emoji": ("\U0001f680", "\U0001f680"),
    "as long as Reddit allows": ("x" * 40_000, "x" * 40_000),
    "huge": ("x" * 200_000, "x" * 100_000 + "… [cut off: 200000 characters]"),
    "blank": (" \n", None),
    "null": (None, None),
    "number": (7, "7"),
    "list": (["a"], '["a"]'),
}


@pytest.mark.parametrize(("shown", "kept"), TEXTS.values(), ids=TEXTS)
def test_texts_stay_as_they_are_but_for_what_no_text_can_hold(shown: object, kept: str | None) -> None:
    ((post,), bad) = read(SEEN, child(selftext=shown))
    assert (post["text"], bad) == (kept, [])
    ((post,), _) = read(SEEN, child(title=shown))
    assert post["title"] == kept


GONE = {
    "removed by moderators": {"selftext": "[removed]", "removed_by_category": "moderator"},
    "deleted by its author": {"title": "[deleted by user]", "selftext": "[deleted]", "removed_by_category": "deleted"},
    "removed by Reddit": {"title": "[ Removed by Reddit ]", "selftext": "[ Removed by Reddit ]"},
    "a link": {"selftext": "", "url": "https://example.com/1", "removed_by_category": "moderator"},
    "a title of that name": {"title": "[deleted]", "selftext": "[deleted]"},
}


@pytest.mark.parametrize("fields", GONE.values(), ids=GONE)
def test_of_a_post_that_is_gone_the_title_stays_as_it_is_shown(fields: dict[str, object]) -> None:
    ((post,), bad) = read(SEEN, child(**fields))
    assert (post["title"], post["text"], post["url"], bad) == (fields.get("title", POST["title"]), None, None, [])


STAMPS = {
    "s": (CREATED.timestamp(), CREATED),
    "whole s": (int(CREATED.timestamp()), CREATED),
    "s as text": (str(CREATED.timestamp()), CREATED),
    "ms": (int(CREATED.timestamp()) * 1_000, CREATED),
    "us": (int(CREATED.timestamp()) * 1_000_000, CREATED),
    "ns": (int(CREATED.timestamp()) * 1_000_000_000, CREATED),
    "null": (None, "observed_at is empty"),
    "NaN": (float("nan"), "observed_at: 'NaN' is not an instant"),
    "infinite": (float("inf"), "observed_at: 'Infinity' is not an instant"),
    "too far": (1e30, None),
    "true": (True, "observed_at: 'true' is not an instant"),
    "words": ("yesterday", "observed_at: 'yesterday' is not an instant"),
}


@pytest.mark.parametrize(("shown", "means"), STAMPS.values(), ids=STAMPS)
def test_stamps_are_read_by_their_size_or_set_aside(shown: object, means: object) -> None:
    good, bad = read(SEEN, child(created_utc=shown))
    if isinstance(means, datetime):
        assert ([post["observed_at"] for post in good], bad) == ([means], [])
    else:
        assert good == []
        assert str(means or "is not an instant") in bad[0]


BROKEN: dict[str, tuple[str, object, str]] = {
    "no object": (SEEN, None, "empty row"),
    "no post": (SEEN, {"kind": "more"}, "empty row"),
    "a list": (SEEN, {"kind": "t3", "data": []}, "empty row"),
    "no id": (SEEN, child(id=None), "id is empty"),
    "no subreddit": (SEEN, child(subreddit=None), "channel is empty"),
    "neither title nor text": (SEEN, child(title=None, selftext=None), "title and text are both empty"),
    "no score": (COUNTS, child(score=None), "score is empty"),
    "score is no number": (COUNTS, child(score="many"), "score: 'many' is not a whole number"),
    "score is NaN": (COUNTS, child(score=float("nan")), "score: 'NaN' is not a whole number"),
    "score is broken": (COUNTS, child(score=1.5), "score: '1.5' is not a whole number"),
    "comments infinite": (COUNTS, child(num_comments=float("inf")), "comments: 'Infinity' is not a whole number"),
}


@pytest.mark.parametrize(("layout", "shown", "says"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_fact_is_set_aside_with_the_reason(layout: str, shown: object, says: str) -> None:
    good, bad = read(layout, shown)
    assert good == []
    assert says in bad[0]


def test_what_may_be_missing_may_be_missing() -> None:
    assert read(SEEN, child(url=None))[1] == []
    assert read(COUNTS, child(num_comments=None))[0][0]["comments"] is None
    assert read(COUNTS, child(score=-5))[0][0]["score"] == -5


def test_no_name_of_an_author_is_taken() -> None:
    for by_rule in (False, True):
        frames = records(posts([child(), child(author=None)], SEEN_AT), by_rule=by_rule).values()
        assert "somebody" not in "".join(frame.write_csv() for frame in frames)
