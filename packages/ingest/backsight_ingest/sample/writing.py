"""Tables of the world: texts drawn from the moods, as the raw rows that their sites would give."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from backsight_features.clocks import UTC_US

from backsight_ingest.sample import phrases
from backsight_ingest.sample.draws import FloatArray, IntArray, draws
from backsight_ingest.sample.relation import Drivers

NEWS_PER_DAY: Final = 36.0
POSTS_PER_DAY: Final = 26.0
CROWD: Final = 0.6
"""Log of the number of texts per standard deviation of attention."""

BACKGROUND: Final = 0.3
"""Weight in the mood of what changes over weeks and moves no price."""

LATE_SHARE: Final = 0.02
REMOVED_SHARE: Final = 0.03
FOREIGN_SHARE: Final = 0.03
MIDNIGHT_SHARE: Final = 0.015
UNTEXTED_SHARE: Final = 0.01

CHANNELS: Final = ("Bitcoin", "CryptoMarkets")


@dataclass(frozen=True, kw_only=True)
class Written:
    """Raw rows in the order of their creation, and what is peculiar in how many of them."""

    rows: pl.DataFrame
    counts: dict[str, int]


def news(seed: int, zero: datetime, first: int, drivers: Drivers, background: FloatArray) -> Written:
    """Return articles in the columns of the semicolon layout.

    Parameters
    ----------
    seed : int
        Of the world.
    zero : datetime
        Start of hour 0.
    first : int
        The first hour of which anything is written.
    drivers : Drivers
        Of the n hours.
    background : ndarray of shape (n,)
        The slow part of the mood.
    """
    rng = draws(seed, "news")
    hour = _moments(rng, NEWS_PER_DAY, drivers.attention, first)
    n = len(hour)
    polarity = phrases.polarity(rng, drivers.news[hour] + BACKGROUND * background[hour])
    title, text = phrases.news(rng, polarity)
    midnight, untexted = rng.random(n) < MIDNIGHT_SHARE, rng.random(n) < UNTEXTED_SHARE
    polarities = np.clip(0.2 * polarity + 0.12 * rng.standard_normal(n), -1, 1).round(2)
    rows = pl.DataFrame(
        {
            "minute": hour * 60 + rng.integers(60, size=n),
            "midnight": midnight,
            "lean": polarities,
            "weight": rng.uniform(0, 1, n).round(2),
            "outlet": pl.Series(phrases.OUTLETS).gather(rng.integers(len(phrases.OUTLETS), size=n)),
            "subject": pl.Series(phrases.SUBJECTS).gather(rng.integers(len(phrases.SUBJECTS), size=n)),
            "text": text,
            "title": title,
            "untexted": untexted,
        }
    ).sort("minute", maintain_order=True)
    at = pl.lit(zero, UTC_US) + pl.duration(minutes="minute")
    at = pl.when("midnight").then(at.dt.truncate("1d")).otherwise(at)
    lean = pl.col("lean")
    side = (
        pl.when(lean > 0.05)
        .then(pl.lit("positive"))
        .when(lean < -0.05)
        .then(pl.lit("negative"))
        .otherwise(pl.lit("neutral"))
    )
    slug = pl.col("title").str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "-").str.strip_chars("-")
    site = pl.col("outlet").str.to_lowercase().str.replace_all(" ", "", literal=True)
    serial = pl.int_range(10_000, 10_000 + pl.len()).cast(pl.String)
    raw = rows.select(
        date=pl.format("{}-{}-{} {}", at.dt.day(), at.dt.month(), at.dt.year(), at.dt.strftime("%H:%M")),
        sentiment=pl.concat_str(
            pl.lit("{"),
            pl.format("'class': '{}', 'polarity': {}, 'subjectivity': {}", side, "lean", "weight"),
            pl.lit("}"),
        ),
        source="outlet",
        subject="subject",
        text=pl.when("untexted").then(pl.lit("")).otherwise("text"),
        title="title",
        url=pl.format("https://{}.example/{}-{}", site, slug, serial),
    )
    return Written(rows=raw, counts={"only a date": int(midnight.sum()), "no text": int(untexted.sum())})


def posts(seed: int, zero: datetime, first: int, drivers: Drivers, background: FloatArray) -> pl.DataFrame:
    """Return posts with the keys of the JSON lines layout; see `news`."""
    rng = draws(seed, "posts")
    hour = _moments(rng, POSTS_PER_DAY, drivers.attention, first)
    n = len(hour)
    polarity = phrases.polarity(rng, drivers.reddit[hour] + BACKGROUND * background[hour])
    title, text = phrases.posts(rng, polarity)
    late, removed, foreign = (rng.random(n) < share for share in (LATE_SHARE, REMOVED_SHARE, FOREIGN_SHARE))
    rows = pl.DataFrame(
        {
            "second": hour * 3600 + rng.integers(3600, size=n),
            "delay": np.where(late, rng.integers(6 * 3600, 60 * 3600, size=n), rng.integers(240, 2400, size=n)),
            "title": title,
            "other": phrases.foreign(rng, n),
            "text": text,
            "removed": removed,
            "foreign": foreign,
            "score": np.floor(rng.pareto(0.9, n) * 4).clip(0, 40_000).astype(np.int64),
            "comments": np.floor(rng.pareto(1.2, n) * 6).clip(0, 5_000).astype(np.int64),
            "channel": pl.Series(CHANNELS).gather((rng.random(n) < 0.35).astype(np.int64)),
        }
    ).sort("second", maintain_order=True)
    created = pl.lit(zero, UTC_US) + pl.duration(seconds="second")
    name = pl.format("s{}", pl.int_range(100_000, 100_000 + pl.len()))
    raw = rows.select(
        id=name,
        title=pl.when("foreign").then("other").otherwise("title"),
        url=pl.format("https://www.reddit.example/r/{}/comments/{}/", "channel", name),
        created_utc=created.dt.epoch("s").cast(pl.Float64),
        score="score",
        num_comments="comments",
        subreddit="channel",
        selftext=pl.when("removed").then(pl.lit("[removed]")).when("foreign").then(pl.lit("")).otherwise("text"),
        stickied=pl.lit(False),
        first_seen_utc=(created + pl.duration(seconds="delay")).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return raw


def _moments(rng: np.random.Generator, per_day: float, attention: FloatArray, first: int) -> IntArray:
    """Return the hour of each text from ``first`` on: Poisson counts with a daily rhythm that grow with attention."""
    n = len(attention)
    rhythm = 1.0 + 0.4 * np.cos(2.0 * np.pi * (np.arange(n) % 24 - 15) / 24.0)
    # exp(-CROWD**2 / 2) keeps the mean at per_day.
    rate = per_day / 24.0 * rhythm * np.exp(CROWD * attention - CROWD**2 / 2.0)
    return np.repeat(np.arange(first, n), rng.poisson(rate[first:]))
