"""Texts: composing, normalising, identifying."""

import hashlib

import polars as pl
import pytest
from backsight_features.texts import compose, normalise, text_id


def normalised(*texts: str | None) -> list[str | None]:
    frame = pl.DataFrame({"t": pl.Series(texts, dtype=pl.String)})
    return frame.select(normalise(pl.col("t")))["t"].to_list()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("  a \t\n b\u00a0c ", "a b c", id="white space"),
        pytest.param("a\r\n \r\n\n b\nc\n\n", "a\nb c", id="paragraphs"),
        pytest.param("A&amp;B", "A&B", id="entity"),
        pytest.param("&amp;lt;b&gt;", "&lt;b>", id="entities are unescaped once"),
        pytest.param("Bit\u200bcoin\ufeff \u202eup\x00", "Bitcoin up", id="zero width, bidi, NUL"),
        pytest.param("e\u0301", "\u00e9", id="NFC"),
        pytest.param("e\u200b\u0301", "\u00e9", id="NFC after what was between is gone"),
        pytest.param("bit&#8203;coin", "bitcoin", id="an escaped zero width"),
        pytest.param(
            "don\u00e2\u20ac\u2122t sch\u00c3\u00b6n", "don\u2019t sch\u00f6n", id="UTF-8 taken for Windows-1252"
        ),
        pytest.param("don\u00e2\u0080\u0099t", "don\u2019t", id="UTF-8 taken for Latin-1"),
        pytest.param(
            "caf\u00e9\u201d \u00e0 l\u2019\u00e9t\u00e9",
            "caf\u00e9\u201d \u00e0 l\u2019\u00e9t\u00e9",
            id="accents that are meant",
        ),
        pytest.param("see https://x.org/a?b=1&c=2 now", "see now", id="URL"),
        pytest.param("[here](http://x.org/a) now", "[here]( ) now", id="URL in markdown keeps the words"),
        pytest.param("WWW.X.ORG up", "up", id="URL without scheme"),
        pytest.param("[deleted]", None, id="deleted"),
        pytest.param(" [Removed] ", None, id="removed"),
        pytest.param("https://x.org", None, id="nothing left"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="null"),
        pytest.param("\U0001f680 to the moon", "\U0001f680 to the moon", id="astral"),
    ],
)
def test_normalise(raw: str | None, clean: str | None) -> None:
    assert normalised(raw) == [clean]


def test_normalise_keeps_rows_in_their_places() -> None:
    assert normalised("a", None, "b&amp;", "[deleted]", "&lt;c") == ["a", None, "b&", None, "<c"]


def test_compose_joins_what_is_there() -> None:
    frame = pl.DataFrame({"title": ["T", "T", None, None], "body": ["x\ny", None, "x", None]})
    got = frame.select(compose(pl.col("title"), pl.col("body"))).to_series().to_list()
    assert got == ["T x y", "T", "x", None]


def test_text_id_is_the_digest_of_the_normalised_text() -> None:
    frame = pl.DataFrame({"t": ["A&amp;B  x", "A&B x", "[deleted]", None]})
    expected = hashlib.sha256(b"A&B x").hexdigest()[:32]
    assert frame.select(text_id(normalise(pl.col("t")))).to_series().to_list() == [expected, expected, None, None]


def test_text_id_works_lazily_and_on_nothing() -> None:
    frame = pl.LazyFrame({"t": pl.Series([], dtype=pl.String)})
    assert frame.select(text_id(pl.col("t"))).collect().schema == {"t": pl.String}
