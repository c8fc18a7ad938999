"""Links: which news tell the same, so that a story that many carry is one story, and no article is lost.

The link of an article follows from the articles known before it, within a window, and from nothing else: in whatever
order they come in, and wherever a run is cut off, the same links are there in the end.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US
from backsight_features.lake import Lake
from backsight_features.schemas import LINKS, NEWS, RUNS

from backsight_ingest.accounts import Account, account_row
from backsight_ingest.headlines import alike, joined, words

METHOD: Final = "headlines-1"
"""How links are found; another way gets another name, and its links stand beside these."""

WINDOW: Final = timedelta(days=3)
"""A story is carried for so long after it was first told."""

SAME_PUBLISHER: Final = timedelta(hours=12)
"""A publisher who uses a headline again after this has another article: "Why is the market down today?".

It counts from publication. Of one article under two addresses the second may be seen days later.
"""

AT_ONCE: Final = 50_000
"""Articles between two commits."""


def update(lake: Lake, *, now: datetime, at_once: int = AT_ONCE) -> Account:
    """Link the articles that came in since the last time, and those whose link may be another because of them.

    Parameters
    ----------
    lake : Lake
        News are read from it and links written to it, the latest first.
    now : datetime
        Becomes ``ingested_at``.
    at_once : int
        So many in a commit.

    Returns
    -------
    Account
        Of the articles looked at: those with a new link or another one, and those whose link stays.
    """
    account = Account(origin=NEWS.name, status="ok")
    seen = _first_sights(lake)
    due = _due(seen, lake)
    # What is new is told by having no link. So it gets one only after, or with, the later ones that it may change.
    for stop in range(due.height, 0, -at_once):
        part = due[max(stop - at_once, 0) : stop]
        begin, end = part["available_at"][0] - WINDOW, part["available_at"][-1]
        context = seen.filter(pl.col("available_at").is_between(begin, end))
        found = links(_articles(lake, context), part["id"])
        written = lake.append(LINKS, found, now=now)
        account = replace(
            account,
            read=account.read + part.height,
            accepted=account.accepted + written.accepted,
            duplicate=account.duplicate + written.duplicate,
        )
    lake.append(RUNS, account_row(account, "link", METHOD, uuid.uuid4().hex[:12], now), now=now)
    return account


def links(articles: pl.DataFrame, wanted: pl.Series) -> pl.DataFrame:
    """Return the links of articles.

    Parameters
    ----------
    articles : pl.DataFrame
        Each once, as it was first seen: the columns of `NEWS`. Has all that were known in the `WINDOW` before.
    wanted : pl.Series of String
        The ids of those to link.

    Returns
    -------
    pl.DataFrame
        The columns of `LINKS`, a row per wanted article.
    """
    ordered = articles.sort("available_at", "observed_at", "id").with_row_index("place")
    headlines_of = ordered.select(pl.coalesce("title", "text")).to_series()
    ordered = ordered.with_columns(
        words(headlines_of, ordered["publisher"]).alias("words"),
        publisher=pl.col("publisher").str.to_lowercase().str.strip_chars().fill_null(""),
    )
    told = ordered.drop_nulls("words").select("place", "available_at", "observed_at", "publisher", "words")
    headlines = told.select("words").unique(maintain_order=True).with_row_index("headline")
    told = told.join(headlines, on="words", how="left", maintain_order="left").drop("words")
    later = ordered.filter(pl.col("id").is_in(wanted.implode()))
    firsts = _firsts(told.join(later.select("place"), on="place", how="semi"), told, _both_ways(headlines["words"]))
    earlier = ordered.select(first="place", story="id", before="available_at_estimated")
    linked = later.join(firsts, on="place", how="left").join(earlier, on="first", how="left")
    return linked.sort("place").select(
        "id",
        pl.coalesce("story", "id").alias("story"),
        pl.col("similarity").fill_null(1.0),
        pl.lit(METHOD).alias("method"),
        observed_at="available_at",
        available_at="available_at",
        available_at_estimated=pl.col("available_at_estimated") | pl.col("before").fill_null(False),
        source=pl.lit(f"link:{METHOD}"),
    )


def _first_sights(lake: Lake) -> pl.DataFrame:
    """Return ``id`` and ``available_at`` of the first version of each article, the earliest first."""
    sights = lake.scan(NEWS).group_by("id").agg(pl.col("available_at").min())
    return sights.sort("available_at", "id").collect()


def _due(seen: pl.DataFrame, lake: Lake) -> pl.DataFrame:
    """Return the articles without a link, and those that were first seen in the window after one of them."""
    linked = lake.scan(LINKS).filter(pl.col("method") == METHOD).select("id", available_at="observed_at").unique()
    new = seen.join(linked.collect(), on=["id", "available_at"], how="anti")
    causes = new.select("available_at", cause="available_at").unique().sort("available_at")
    return (
        seen.join_asof(causes, on="available_at", strategy="backward", tolerance=WINDOW)
        .drop_nulls("cause")
        .select("id", "available_at")
    )


def _articles(lake: Lake, sights: pl.DataFrame) -> pl.DataFrame:
    """Return the first versions of articles."""
    reach = sights.select(first=pl.col("available_at").min(), last=pl.col("available_at").max())
    versions = lake.scan(NEWS).filter(pl.col("available_at").is_between(reach["first"][0], reach["last"][0]))
    return (
        versions.join(sights.lazy(), on=["id", "available_at"], how="semi")
        .sort("available_at_estimated", "ingested_at", "observed_at", "title", "text", "publisher")
        .unique("id", keep="first", maintain_order=True)
        .collect()
    )


def _both_ways(headlines: pl.Series) -> pl.DataFrame:
    """Return ``headline``, ``other`` and their ``similarity``, each pair both ways, and each with itself."""
    pairs = alike(headlines)
    itself = pl.int_range(headlines.len(), dtype=pl.UInt32, eager=True)
    return pl.concat(
        [
            pairs.select(headline="left", other="right", similarity="similarity"),
            pairs.select(headline="right", other="left", similarity="similarity"),
            pl.DataFrame({"headline": itself, "other": itself}).with_columns(similarity=1.0),
        ]
    )


def _firsts(later: pl.DataFrame, told: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Return, for each article that tells what an earlier one does, ``first``, the place of the earliest."""
    asked = later.join(pairs, on="headline").drop("headline")
    found = pl.concat([_of_others(asked, told), *_of_their_own(asked, told)])
    return found.sort("place", "first").unique("place", keep="first", maintain_order=True)


def _of_others(asked: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """Return the first of each other publisher within the window: of one publisher with one headline that is enough."""
    publishers = told.select(other="headline", by="publisher").unique()
    times = told.select("place", other="headline", by="publisher", begin="available_at").sort("begin", "place")
    times = times.unique(["other", "by", "begin"], keep="first", maintain_order=True).rename({"place": "first"})
    return (
        asked.join(publishers, on="other")
        .filter((pl.col("publisher") != pl.col("by")) | (pl.col("by") == ""))
        .with_columns(begin=(pl.col("available_at") - WINDOW).cast(UTC_US))
        .sort("begin")
        .join_asof(times, on="begin", by=["other", "by"], strategy="forward", check_sortedness=False)
        .filter(pl.col("first") < pl.col("place"))
        .select("place", "first", "similarity")
    )


def _of_their_own(asked: pl.DataFrame, told: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield those of the same publisher within the window that were published about the same time."""
    own = told.filter(pl.col("publisher") != "").rename({"headline": "other", "place": "first"})
    near = (pl.col("observed_at") - pl.col("observed_at_2")).abs() <= SAME_PUBLISHER
    known = pl.col("available_at") - pl.col("available_at_2") <= WINDOW
    for found in joined(asked, own, ["other", "publisher"]):
        kept = found.filter((pl.col("first") < pl.col("place")) & known & near)
        yield kept.select("place", "first", "similarity")
