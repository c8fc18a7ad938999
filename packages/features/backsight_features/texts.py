"""What a text says and which text it is: normalising, composing and identifying, as polars expressions.

A text is a title or a body: each is scored for itself, and one that is said again elsewhere is the same text.
"""

import hashlib
import html
from collections.abc import Callable

import polars as pl

REMOVED = ("[deleted]", "[removed]", "[deleted by user]", "[ removed by reddit ]")
"""What sites put in the place of a text that was taken down, in lower case."""

_INVISIBLE = r"[\x00-\x08\x0E-\x1F\x7F\u00AD\u061C\u180E\u200B-\u200F\u202A-\u202E\u2060-\u2064\u2066-\u2069\uFEFF]"
_MOJIBAKE = (
    r"[\u00C2-\u00F4][\u0080-\u00BF\u0152\u0153\u0160\u0161\u0178\u017D\u017E\u0192\u02C6\u02DC\u2013\u2014"
    r"\u2018-\u201A\u201C-\u201E\u2020-\u2022\u2026\u2030\u2039\u203A\u20AC\u2122]"
)
"""What the first two bytes of a letter in UTF-8 look like when they are taken for Latin-1 or Windows-1252."""

_PARAGRAPH = "\x02"
"""Stands for the end of a paragraph while white space is put together; no text has it any more by then."""

_URL = r"(?i)\b(?:https?://|www\.)[^\s<>\[\]()\"']+"


def normalise(text: pl.Expr) -> pl.Expr:
    r"""Return the text as it is scored and identified.

    HTML entities are unescaped once; UTF-8 that somebody took for Latin-1 or Windows-1252 is put right; control,
    zero-width and bidi characters and URLs go; Unicode form NFC; an empty line, which ends a paragraph, becomes one
    ``"\n"``, other white space one blank. Not to be applied twice: ``"&amp;lt;"`` means the characters ``"&lt;"``.

    Parameters
    ----------
    text : pl.Expr of String
        Raw: a title or a body.

    Returns
    -------
    pl.Expr of String
        Null where the text is null, was removed at its source, or has nothing left.

    Examples
    --------
    >>> frame = pl.DataFrame({"text": ["A&amp;B \u200b\n see https://x.org/1", "[deleted]"]})
    >>> frame.select(normalise(pl.col("text"))).to_series().to_list()
    ['A&B see', None]
    """
    clean = (
        _present(text)
        .map_batches(_unescape, return_dtype=pl.String, is_elementwise=True)
        .map_batches(_repair, return_dtype=pl.String, is_elementwise=True)
        .str.replace_all(_INVISIBLE, "")
        .str.replace_all(_URL, " ")
        .str.normalize("NFC")
        .str.replace_all(r"\s*\n\s*\n\s*", _PARAGRAPH)
        .str.replace_all(r"\s+", " ")
        .str.strip_chars(f" {_PARAGRAPH}")
        .str.replace_all(_PARAGRAPH, "\n", literal=True)
    )
    return pl.when(clean != "").then(clean).otherwise(None)


def compose(title: pl.Expr, body: pl.Expr) -> pl.Expr:
    """Return the words of both, title first, in one line.

    Parameters
    ----------
    title, body : pl.Expr of String
        Normalised, see `normalise`.

    Returns
    -------
    pl.Expr of String
        Null where both are null.

    Examples
    --------
    >>> frame = pl.DataFrame({"title": ["Up", "Up", None], "body": ["again", None, None]})
    >>> frame.select(compose(pl.col("title"), pl.col("body"))).to_series().to_list()
    ['Up again', 'Up', None]
    """
    both = pl.concat_str([title, body], separator=" ", ignore_nulls=True).str.replace_all("\n", " ", literal=True)
    return pl.when(title.is_not_null() | body.is_not_null()).then(both)


def text_id(text: pl.Expr) -> pl.Expr:
    """Return the first 32 hex digits of the SHA-256 of a text in UTF-8.

    Parameters
    ----------
    text : pl.Expr of String
        Normalised, see `normalise`.

    Returns
    -------
    pl.Expr of String
        Null where the text is null.
    """
    return text.map_batches(_sha256, return_dtype=pl.String, is_elementwise=True)


def _present(text: pl.Expr) -> pl.Expr:
    """Return the text, null where it is blank or a notice of removal."""
    stripped = text.str.strip_chars()
    gone = (stripped == "") | stripped.str.to_lowercase().is_in(REMOVED)
    return pl.when(gone.not_()).then(text).otherwise(None)


def _unescape(texts: pl.Series) -> pl.Series:
    return _changed(texts, texts.str.contains("&", literal=True), html.unescape)


def _repair(texts: pl.Series) -> pl.Series:
    return _changed(texts, texts.str.contains(_MOJIBAKE), _decoded_again)


def _decoded_again(text: str) -> str:
    # Few texts need it, and to load it takes a while.
    from ftfy import fix_encoding

    return fix_encoding(text)


def _changed(texts: pl.Series, where: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """Return the texts, the few that need it changed: only those leave polars."""
    at = where.fill_null(False).arg_true()
    if at.is_empty():
        return texts
    return texts.clone().scatter(at, pl.Series([change(text) for text in texts.gather(at)], dtype=pl.String))


def _sha256(texts: pl.Series) -> pl.Series:
    # polars has no stable hash, so each text meets hashlib once: about a microsecond each.
    digests = [None if text is None else hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
    return pl.Series(texts.name, digests, dtype=pl.String)
