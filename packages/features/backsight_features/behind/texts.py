"""The texts and scores behind a text feature."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from backsight_features import text
from backsight_features.behind.facts import PASSED, READ, Behind, after, raw, stamp, told
from backsight_features.feature import Feature
from backsight_features.schemas import SCORES
from backsight_features.sights import SOURCES, Texts, first_sights, once
from backsight_features.snapshot import Facts
from backsight_features.text import Scorer

_CLOCKS: Final = ("observed_at", "available_at", "ingested_at")
_LONGEST: Final = 60
"""Characters of a title that are shown."""


def behind(
    facts: Facts, feature: Feature, at: datetime, asked: datetime, versions: pl.DataFrame, scorer: Scorer | None
) -> Behind:
    """Return the texts behind a text feature, and their scores where it reads these.

    Parameters
    ----------
    facts, feature, at, asked
        As in `behind.bars.behind`.
    versions : pl.DataFrame
        `sights.VERSIONS` of the lake's texts.
    scorer : Scorer or None
        Whose scores are read.
    """
    source = next(name for name in SOURCES if feature.name.startswith(f"{name}_"))
    assert feature.lookback is not None
    since = at - feature.lookback
    texts = Texts(versions=versions.filter(pl.col("source") == source), scores=text.by(facts.scan(SCORES), scorer))
    scored = "p_positive" in feature.reads
    # A text of long ago may have been scored lately.
    lately = texts.scores.filter(pl.col("available_at").is_between(since, at)).select("text_id").collect()["text_id"]
    near = (
        pl.col("available_at").is_between(since, at)
        | ((pl.col("available_at") > at) & pl.col("observed_at").is_between(since, asked))
        | (pl.any_horizontal(pl.col("title_id", "body_id").is_in(lately.implode())) if scored else pl.lit(False))
    )
    touched = texts.versions.filter(near)
    concerning = texts.concerning(touched)
    sights = first_sights(concerning.lazy(), texts.scores).collect()
    marked = _marked(touched, concerning, sights, since, at, asked, scorer if scored else None, scored)
    table = SOURCES[source]
    stored, named = _stored(facts, source, marked)
    listed = told(named, table.name, pl.col("fact"), pl.col("says"))
    read = {table.name: raw(named, stored, [READ])}
    if scored:
        ids = named.filter(pl.col("part") == READ).select(pl.col("title_id", "body_id")).unpivot()["value"].drop_nulls()
        scores = _scores(facts, ids, at, asked, scorer)
        listed = pl.concat([listed, told(scores, SCORES.name, pl.col("fact"), pl.col("says"))])
        read[SCORES.name] = raw(scores, SCORES.empty(), [READ])
    return Behind(listed=listed, read=read)


def _marked(
    touched: pl.DataFrame,
    concerning: pl.DataFrame,
    sights: pl.DataFrame,
    since: datetime,
    at: datetime,
    asked: datetime,
    scorer: Scorer | None,
    scored: bool,
) -> pl.DataFrame:
    """Return versions with their parts."""
    columns = concerning.columns
    chosen = once(concerning.lazy()).collect().unique().with_columns(is_first=pl.lit(True))
    firsts = chosen.select("words_id", first_key="key", first_at="available_at").drop_nulls("words_id")
    own = (
        concerning.sort("available_at", "ingested_at", "observed_at", "words_id")
        .unique("key", keep="first", maintain_order=True)
        .select("key", "words_id", key_at="available_at")
        .join(firsts, on="words_id", how="left")
        .drop("words_id")
    )
    of_key = pl.format("a later version of what was first seen {}: counts once", stamp(pl.col("key_at")))
    of_words = pl.format("the same words were first seen {} as {}", stamp(pl.col("first_at")), _plain("first_key"))
    known_lately, scored_at = pl.col("available_at") >= since, pl.col("scored_at")
    by = f"by {scorer}" if scorer else "by anyone"
    alone = pl.lit("known; it shows that the source is read")
    reason = (
        pl.when(pl.col("available_at") > at)
        .then(after(at, asked))
        .when(~pl.col("is_first") & (pl.col("available_at") > pl.col("key_at")))
        .then(of_key)
        .when(~pl.col("is_first"))
        .then(pl.coalesce(pl.when(pl.col("first_key") != pl.col("key")).then(of_words), of_key))
    )
    if scored:
        reason = (
            reason.when(pl.col("words_id").is_null())
            .then(alone + pl.lit(", but it had been removed before it was seen"))
            .when(scored_at.is_null())
            .then(alone + pl.lit(f", but it was not scored {by}"))
            .when(scored_at > at)
            .then(pl.format("known, but its score only from {} on", stamp(scored_at)))
            .when(scored_at < since)
            .then(pl.lit("scored before the lookback"))
        )
        within = known_lately | ((scored_at >= since) & (scored_at <= at)).fill_null(False)
    else:
        within = known_lately
    hours = (at - since) / timedelta(hours=1)
    told_why = (
        reason.when(~within)
        .then(pl.lit(f"outside the lookback of {hours:g} h"))
        .otherwise(pl.format("first seen then; said {}", stamp(pl.min_horizontal("observed_at", "available_at"))))
    )
    return (
        touched.unique()
        .join(chosen, on=columns, how="left", nulls_equal=True)
        .with_columns(pl.col("is_first").fill_null(False))
        .join(own, on="key", how="left")
        .join(sights.select("key", "scored_at"), on="key", how="left")
        .with_columns(
            reason=told_why,
            part=pl.when((pl.col("available_at") <= at) & pl.col("is_first") & within)
            .then(pl.lit(READ))
            .otherwise(pl.lit(PASSED)),
        )
        .sort("available_at", "ingested_at", "key")
    )


def _stored(facts: Facts, source: str, marked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of the lake that versions are, and the same with their parts."""
    table = SOURCES[source]
    ids = marked["key"].str.split("\x1f").list.last()
    own = facts.scan(table).filter(pl.col("id").is_in(ids.implode()))
    if source != "news":
        own = own.filter(pl.col("site") == source)
    stored = own.collect()
    parts = marked.select("key", *_CLOCKS, "title_id", "body_id", "part", "reason").unique(
        ["key", *_CLOCKS, "title_id", "body_id"]
    )
    named = (
        stored.unique(maintain_order=True)
        .with_columns(key=pl.concat_str(table.key, separator="\x1f"))
        .join(parts, on=["key", *_CLOCKS], how="inner", maintain_order="left")
        .with_columns(
            fact=pl.format(
                "{} {}", pl.lit(table.name.removesuffix("s") if source != "news" else "article"), _plain("key")
            )
        )
        .with_columns(says=pl.coalesce("title", "text").str.slice(0, _LONGEST))
        .sort("available_at", "ingested_at", "key")
    )
    return stored, named


def _scores(facts: Facts, ids: pl.Series, at: datetime, asked: datetime, scorer: Scorer | None) -> pl.DataFrame:
    """Return the scores of some texts by any scorer, with their parts."""
    of = scorer or Scorer(name="", revision="")
    own = (pl.col("scorer") == of.name) & (pl.col("revision") == of.revision)
    first = pl.col("place") == pl.col("place").filter("own").min().over("text_id")
    return (
        facts.scan(SCORES)
        .filter(pl.col("text_id").is_in(ids.implode()))
        .sort("text_id", "available_at", "ingested_at", "p_positive", "p_negative", "p_neutral")
        .collect()
        .with_row_index("place")
        .with_columns(own=own)
        .with_columns(first=pl.col("own") & first.fill_null(False))
        .with_columns(
            reason=pl.when(~pl.col("own"))
            .then(pl.format("other scorer: {}@{}", "scorer", "revision"))
            .when(pl.col("available_at") > at)
            .then(after(at, asked))
            .when(~pl.col("first"))
            .then(pl.lit("superseded by the first verdict of its scorer, which stays"))
            .otherwise(pl.lit("the first verdict of its scorer")),
            part=pl.when(pl.col("first") & (pl.col("available_at") <= at)).then(pl.lit(READ)).otherwise(pl.lit(PASSED)),
            fact=pl.format("score of text {} by {}@{}", "text_id", "scorer", "revision"),
            says=pl.format(
                "p_positive {}, p_negative {}, p_neutral {}",
                *(pl.col(name).round(4) for name in ("p_positive", "p_negative", "p_neutral")),
            ),
        )
    )


def _plain(key: str) -> pl.Expr:
    return pl.col(key).str.replace_all("\x1f", "/", literal=True)
