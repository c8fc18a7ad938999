"""Headlines: which of them tell the same, though not in the same words.

Two headlines are compared as sets of words, by the share of all their words that both have (Jaccard). All pairs above a
bound are found, and none is missed: as for sets that have much in common even the two rarest words among the first few
have to be common (prefix filtering), only sets that share such a pair are looked at.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
from backsight_features.texts import normalise

_LIKE: Final = (2, 3)
"""Headlines are alike when they share two thirds of all their words."""

_MOST_WORDS: Final = 32
"""So many words are compared; a text that has no title may have more."""

_FEWEST_WORDS: Final = 3
"""Below, a headline is a rubric: "Market wrap"."""

_WORD: Final = r"\d+(?:,\d{3})*(?:\.\d+)*|\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|[\p{L}\p{M}]+"
"""A number, a sign of a script without blanks, or letters."""

_NUMBER: Final = r"^\d"
_LAST_PART: Final = r"\s[-\x{2013}\x{2014}|]\s+([^-\x{2013}\x{2014}|]{2,60})$"
"""Behind a dash of any length or a bar."""

_PAIRS_AT_ONCE: Final = 2_000_000


def words(headlines: pl.Series, publishers: pl.Series) -> pl.Series:
    """Return the words of headlines, of each headline every word once, in order of the alphabet.

    Parameters
    ----------
    headlines : pl.Series of String
        Raw; what aggregators put at the end, the publisher's name, does not count.
    publishers : pl.Series of String
        Of each; may be null.

    Returns
    -------
    pl.Series of list of String
        Null where there are too few to tell.

    Examples
    --------
    >>> words(pl.Series(["Bitcoin tops $60,000 - The Daily", "Market wrap"]), pl.Series(["The Daily", None])).to_list()
    [['60000', 'bitcoin', 'tops'], None]
    """
    # Step by step, as polars would normalise once more for each mention of it.
    frame = pl.DataFrame({"by": publishers, "text": headlines}).select(
        by=_letters(pl.col("by").str.to_lowercase()),
        text=normalise(pl.col("text")).str.normalize("NFKC").str.to_lowercase(),
    )
    last, by = _letters(pl.col("text").str.extract(_LAST_PART)), pl.col("by")
    named = (by != "") & (last.str.len_chars() > 1) & (by.str.contains(last, literal=True) | last.str.starts_with(by))
    frame = frame.select(
        pl.when(named.fill_null(False)).then(pl.col("text").str.replace(_LAST_PART, "")).otherwise("text")
    )
    found = (
        pl.col("text")
        .str.replace_all(r"['\x{2019}]", "")
        .str.extract_all(_WORD)
        .list.head(_MOST_WORDS)
        .list.eval(pl.element().str.replace_all(",", "", literal=True).unique().sort())
    )
    frame = frame.select(words=found)
    return frame.select(pl.when(pl.col("words").list.len() >= _FEWEST_WORDS).then("words")).to_series()


def _letters(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"[^\p{L}\p{N}]", "")


def alike(headlines: pl.Series) -> pl.DataFrame:
    """Return the pairs of headlines that tell the same.

    They share two thirds of all their words. The numbers of one are among those of the other; else it is the next in a
    row: "Price prediction 5/7", "Price prediction 5/9". And they do not differ in a single word each; else it is one
    form filled in twice: "Why is the market up today?", "Why is the market down today?".

    Parameters
    ----------
    headlines : pl.Series of list of String
        As `words` returns them, each once, without nulls.

    Returns
    -------
    pl.DataFrame
        ``left`` and ``right``, places in the series, the first the smaller, and ``similarity``.
    """
    ranked = _ranked(headlines)
    lists = ranked.group_by("at", maintain_order=True).agg("rank")["rank"]
    numbers = headlines.list.eval(pl.element().filter(pl.element().str.contains(_NUMBER)))
    found = [_checked(pairs, lists, numbers) for pairs in _candidates(ranked)]
    nothing = pl.DataFrame(schema={"left": pl.UInt32, "right": pl.UInt32, "similarity": pl.Float64})
    return pl.concat([nothing, *found]).unique().sort("left", "right")


def _ranked(headlines: pl.Series) -> pl.DataFrame:
    """Return a row per headline and word.

    Returns
    -------
    pl.DataFrame
        ``at`` and ``size``, the headline's place in the series and its number of words; ``rank`` of the word, the
        rarest first; ``place`` of the word in the headline by that; and ``is_number``.
    """
    exploded = (
        pl.DataFrame({"word": headlines})
        .with_row_index("at")
        .with_columns(size=pl.col("word").list.len().cast(pl.Int64))
        .explode("word", empty_as_null=False)
    )
    by_rarity = exploded.group_by("word").len().sort("len", "word").select("word").with_row_index("rank")
    return (
        exploded.join(by_rarity, on="word", how="left")
        .select("at", "size", "rank", is_number=pl.col("word").str.contains(_NUMBER))
        .sort("at", "rank")
        .with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64).over("at"))
    )


def _candidates(ranked: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield pairs of headlines, ``left`` and ``right``, some more than once; of all that are alike none lacks.

    Sets that share m words share two of the first n - m + 2 of each, of n. And where each has numbers, they share one.
    """
    numerator, denominator = _LIKE
    shared = (pl.col("size") * numerator + denominator - 1) // denominator
    first = ranked.filter(pl.col("place") < pl.col("size") - shared + 2)
    keys = (
        first.join(first.select("at", "rank", "place"), on="at", suffix="_2")
        .filter(pl.col("place") < pl.col("place_2"))
        .select(
            "at",
            "size",
            key=pl.col("rank").cast(pl.UInt64) * 2**32 + pl.col("rank_2"),
            rest=pl.col("size") - pl.col("place_2") - 1,
        )
        .filter(pl.len().over("key") > 1)
    )
    numbers = ranked.filter("is_number").select("at", number="rank")
    numbered = keys.join(numbers, on="at")
    yield from _met(keys.join(numbers, on="at", how="anti"), keys, ["key"])
    yield from _met(numbered, numbered, ["key", "number"])


def _met(these: pl.DataFrame, those: pl.DataFrame, on: list[str]) -> Iterator[pl.DataFrame]:
    """Yield the pairs that share a key."""
    numerator, denominator = _LIKE
    # Where these are the first two words that both have, they share no more than those and what comes after.
    most = 2 + pl.min_horizontal("rest", "rest_2")
    can_be = most * (numerator + denominator) >= (pl.col("size") + pl.col("size_2")) * numerator
    for pairs in joined(these, those, on):
        yield (
            pairs.filter((pl.col("at") != pl.col("at_2")) & can_be)
            .select(left=pl.min_horizontal("at", "at_2"), right=pl.max_horizontal("at", "at_2"))
            .unique()
        )


def joined(these: pl.DataFrame, those: pl.DataFrame, on: list[str]) -> Iterator[pl.DataFrame]:
    """Yield the inner join of two frames in parts of some two million rows, so that it never takes much memory.

    Parameters
    ----------
    these, those : pl.DataFrame
        Other columns of the second with the name of one of the first get the suffix ``_2``.
    on : list of str
        Columns of both.
    """
    these = these.join(those.group_by(on).agg(pl.len().alias("@times")), on=on)
    part = (these["@times"].cum_sum() // _PAIRS_AT_ONCE).to_numpy()
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(part)) + 1, [these.height]])
    for low, high in pairwise(cuts.tolist()):
        yield these[low:high].drop("@times").join(those, on=on, suffix="_2")


def _checked(pairs: pl.DataFrame, lists: pl.Series, numbers: pl.Series) -> pl.DataFrame:
    """Return those of the pairs that tell the same, with their similarity."""
    numerator, denominator = _LIKE
    common = pl.col("a").list.set_intersection("b").list.len()
    sizes = pl.col("a").list.len(), pl.col("b").list.len()
    close = (
        pairs.with_columns(a=lists.gather(pairs["left"]), b=lists.gather(pairs["right"]))
        .select("left", "right", a=sizes[0].cast(pl.Int64), b=sizes[1].cast(pl.Int64), common=common.cast(pl.Int64))
        .with_columns(all=pl.col("a") + pl.col("b") - pl.col("common"))
        .filter(pl.col("common") * denominator >= pl.col("all") * numerator)
        .filter(~((pl.col("a") == pl.col("b")) & (pl.col("common") == pl.col("a") - 1)))
    )
    close = close.with_columns(x=numbers.gather(close["left"]), y=numbers.gather(close["right"]))
    fewer = pl.min_horizontal(pl.col("x").list.len(), pl.col("y").list.len())
    return close.filter(pl.col("x").list.set_intersection("y").list.len() == fewer).select(
        "left", "right", similarity=pl.col("common") / pl.col("all")
    )
