"""First sights: each text once, as it was first seen, from all the versions that were ever stored.

What is the first sight of a text takes the whole past, but only of the texts that it could be a repetition of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from backsight_features.clocks import UTC_US
from backsight_features.schemas import NEWS, POSTS, Table
from backsight_features.texts import compose, normalise, text_id

SOURCES: Final[Mapping[str, Table]] = {"news": NEWS, "reddit": POSTS}
"""Where the texts of each source are stored: articles, or the posts of that site."""

VERSIONS: Final = pl.Schema(
    {
        "source": pl.String(),
        "key": pl.String(),
        "observed_at": UTC_US,
        "available_at": UTC_US,
        "ingested_at": UTC_US,
        "words_id": pl.String(),
        "title_id": pl.String(),
        "body_id": pl.String(),
    }
)
"""A stored version of a text; ``key`` is the same for all versions of one, ``words_id`` for the same words.

``title_id`` and ``body_id`` are the texts that are scored; null where there is none."""

_PARTS: Final = ("title_id", "body_id")


def identified(facts: pl.LazyFrame, source: str) -> pl.LazyFrame:
    """Return the `VERSIONS` of the texts of a source.

    Parameters
    ----------
    facts : pl.LazyFrame
        Rows of the source's table.
    source : {"news", "reddit"}
        Which.
    """
    own = facts if source == "news" else facts.filter(pl.col("site") == source)
    return (
        own.select(
            "observed_at",
            "available_at",
            "ingested_at",
            source=pl.lit(source),
            key=pl.concat_str(SOURCES[source].key, separator="\x1f"),
            title=normalise(pl.col("title")),
            body=normalise(pl.col("text")),
        )
        .with_columns(
            words_id=text_id(compose(pl.col("title"), pl.col("body"))),
            title_id=text_id(pl.col("title")),
            body_id=text_id(pl.col("body")),
        )
        .select(VERSIONS.names())
    )


def once(versions: pl.LazyFrame) -> pl.LazyFrame:
    """Return of the `VERSIONS` of one source those that are first sights, ascending by ``available_at``."""
    first = (
        versions.sort("available_at", "ingested_at", "observed_at", "words_id")
        .unique("key", keep="first", maintain_order=True)
        .sort("available_at", "observed_at", "words_id", "key")
    )
    # Texts without words cannot repeat each other's.
    return first.filter(pl.col("words_id").is_null() | pl.col("words_id").is_first_distinct())


def first_sights(versions: pl.LazyFrame, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return each text once, as it was first seen.

    Parameters
    ----------
    versions : pl.LazyFrame
        `VERSIONS` of one source. Of those with one key the first counts: an edit or a removal is no new text.
    scores : pl.LazyFrame
        Scores by one scorer: ``text_id``, ``available_at``, ``ingested_at``, ``p_positive``, ``p_negative``,
        ``p_neutral``.

    Returns
    -------
    pl.LazyFrame
        Ascending by ``known_at``: ``key``, ``words_id`` (null where nothing was left to read), ``said_at`` and
        ``known_at``; and null where neither title nor body has a score: ``scored_at`` (when text and scores were
        known), ``sentiment`` (p_positive - p_negative) and ``negative`` (whether p_negative is the largest), both of
        the mean of title and body, as far as they are scored.
    """
    chosen = once(versions)
    known = pl.col("available_at")
    return chosen.join(_judged(chosen, scores), on="key", how="left", maintain_order="left").select(
        "key",
        "words_id",
        said_at=pl.min_horizontal("observed_at", known),
        known_at=known,
        # max_horizontal would skip the null of a missing score.
        scored_at=pl.when(pl.col("judged_at").is_not_null()).then(pl.max_horizontal("judged_at", known)),
        sentiment="sentiment",
        negative="negative",
    )


def _judged(chosen: pl.LazyFrame, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return when the texts of each ``key`` had been scored, and what was said of them; no row where nothing was."""
    parts = chosen.select("key", *_PARTS).unpivot(_PARTS, index="key", value_name="text_id").drop_nulls("text_id")
    each = (
        scores.join(parts, on="text_id", how="semi")
        .sort("available_at", "ingested_at", "p_positive", "p_negative", "p_neutral")
        .unique("text_id", keep="first", maintain_order=True)
    )
    return (
        parts.join(each, on="text_id")
        # Sums of floats depend on their order.
        .sort("key", "variable")
        .group_by("key", maintain_order=True)
        .agg(pl.col("available_at").max().alias("judged_at"), pl.mean("p_positive", "p_negative", "p_neutral"))
        .select(
            "key",
            "judged_at",
            sentiment=pl.col("p_positive") - pl.col("p_negative"),
            negative=pl.col("p_negative") > pl.max_horizontal("p_positive", "p_neutral"),
        )
    )


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of one source with the scores of one scorer.

    Parameters
    ----------
    versions : pl.DataFrame
        `VERSIONS`.
    scores : pl.LazyFrame
        As for `first_sights`.
    """

    versions: pl.DataFrame
    scores: pl.LazyFrame

    def since(self, at: datetime) -> pl.DataFrame:
        """Return the first sights that were known or scored at an instant or later."""
        judged = self.scores.filter(pl.col("available_at") >= at).select("text_id").collect()
        lately = self._holding(self.versions.filter(pl.col("available_at") >= at), judged)
        sights = first_sights(self.concerning(lately).lazy(), self.scores).collect()
        return sights.filter((pl.col("known_at") >= at) | (pl.col("scored_at") >= at).fill_null(False))

    def changed(
        self, new: pl.DataFrame, judged: pl.DataFrame, before: pl.LazyFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return first sights with and without what came in; the others are not among them, or are in both.

        Parameters
        ----------
        new : pl.DataFrame
            `VERSIONS` that came in.
        judged : pl.DataFrame
            ``text_id`` of the scores that came in.
        before : pl.LazyFrame
            The scores without them.
        """
        own = self.concerning(self._holding(new, judged))
        columns = own.columns
        came = new.group_by(columns).len("came")
        old = (
            own.group_by(columns)
            .len()
            .join(came, on=columns, how="left", nulls_equal=True)
            .filter(pl.col("len") > pl.col("came").fill_null(0))
            .select(columns)
        )
        return first_sights(own.lazy(), self.scores).collect(), first_sights(old.lazy(), before).collect()

    def _holding(self, versions: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
        """Return versions, and those whose title or body was judged."""
        ids = judged["text_id"].implode()
        return pl.concat([versions, self.versions.filter(pl.any_horizontal(pl.col(*_PARTS).is_in(ids)))])

    def concerning(self, touched: pl.DataFrame) -> pl.DataFrame:
        """Return what decides which of some are first sights: of their keys, and of keys with the same words."""
        own = self.versions.join(touched, on="key", how="semi")
        repeating = self.versions.join(own, on="words_id", how="semi")
        keys = pl.concat([own.select("key"), repeating.select("key")]).unique()
        return self.versions.join(keys, on="key", how="semi")
