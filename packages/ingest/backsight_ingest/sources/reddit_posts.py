"""Posts as Reddit shows them, as text records for the layouts that read them.

What a post says and when that was known goes to `SEEN` or `HISTORY`, how it was counted to `COUNTS`. No author's name
is taken.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
from backsight_features.clocks import UTC_US
from backsight_features.texts import REMOVED

from backsight_ingest.layout import Stamp, duration
from backsight_ingest.layouts import load
from backsight_ingest.stamps import instant

COUNTS: Final = "reddit-live-counts"
HISTORY: Final = "reddit-live-history"
SEEN: Final = "reddit-live-posts"

FIRST: Final = datetime.fromisoformat("2005-06-23T00:00:00Z")
"""Reddit's beginning: a stamp before it says nothing."""

_FIELDS: Final = (
    "subreddit",
    "id",
    "created_utc",
    "edited",
    "title",
    "selftext",
    "url",
    "score",
    "num_comments",
    "removed_by_category",
)
_TEXT: Final = ("subreddit", "id", "created_utc", "title", "selftext", "url")
_EPOCH: Final = Stamp(epoch="auto")


def posts(children: Sequence[object], seen_at: datetime) -> pl.DataFrame:
    """Return the posts of a listing in its order.

    Parameters
    ----------
    children : sequence
        Objects with ``data``; what is none becomes a row without a cell, which no layout takes for a fact.
    seen_at : datetime
        When they were there.

    Returns
    -------
    pl.DataFrame
        A text column per field and ``seen_at``; ``created`` and ``written`` (when it got its present text), UTC
        microseconds, null where the field says no instant; ``gone``, whether it was removed or deleted; and
        ``counted``, true. Of what is gone only the title stays, as Reddit shows it: text and address are null.
    """
    rows = [_fields(child) for child in children]
    cells = pl.DataFrame(
        {name: pl.Series([_text(row.get(name)) for row in rows], dtype=pl.String) for name in _FIELDS},
    )
    created, edited = instant(pl.col("created_utc"), _EPOCH), pl.col("edited")
    unedited = edited.is_null() | (edited == "false")
    notice = pl.col("selftext").str.strip_chars().str.to_lowercase().is_in(REMOVED).fill_null(False)
    gone = notice | pl.col("removed_by_category").is_not_null()
    return cells.with_columns(
        seen_at=pl.lit(f"{seen_at:%Y-%m-%dT%H:%M:%S.%f}Z"),
        seen=pl.lit(seen_at, UTC_US),
        created=pl.when(created >= FIRST).then(created),
        # Some old posts say that they were edited, and not when.
        written=pl.when(unedited).then(created).when(instant(edited, _EPOCH) >= created).then(instant(edited, _EPOCH)),
        gone=gone,
        counted=pl.lit(True),
        selftext=pl.when(~gone).then("selftext"),
        url=pl.when(~gone).then("url"),
    )


def records(posts: pl.DataFrame, *, by_rule: bool) -> dict[str, pl.DataFrame]:
    """Return the records that posts make, by layout.

    Parameters
    ----------
    posts : pl.DataFrame
        See `posts`; what is not ``counted`` makes no record for `COUNTS`.
    by_rule : bool
        Whether a post counts as known from some time after it got its present text, instead of from when it was seen.
        What is gone does not: nobody says since when.
    """
    known = pl.col("written") + lag()
    ruled = pl.lit(by_rule) & ~pl.col("gone") & (known < pl.col("seen")).fill_null(False)
    written = pl.when(pl.col("written") > pl.col("created")).then("edited").otherwise("created_utc")
    return {
        COUNTS: posts.filter("counted").select("subreddit", "id", "seen_at", "score", "num_comments"),
        HISTORY: posts.filter(ruled).select(*_TEXT, written.alias("written_utc")),
        SEEN: posts.filter(~ruled).select(*_TEXT, "seen_at"),
    }


def lag() -> timedelta:
    """Return the time after which a post counts as known by rule."""
    return duration(load(HISTORY).available.lag)


def _fields(child: object) -> dict[str, Any]:
    data = child.get("data") if isinstance(child, dict) else None
    return data if isinstance(data, dict) else {}


def _text(value: object) -> str | None:
    """Return a JSON value as text, without what no text can hold: half a surrogate pair, and NUL."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "ignore").decode()
    return json.dumps(value)
