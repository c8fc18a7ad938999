"""From a text to the sentences that a scorer reads, whatever the text is."""

import polars as pl
import pytest
from backsight_features.texts import normalise
from backsight_ingest.scoring.preparation import LONGEST_SENTENCE, MOST_SENTENCES, SENTENCES, foreign, sentences


def said(text: str) -> list[str]:
    """Return the sentences of a raw text."""
    clean = pl.Series([text], dtype=pl.String).to_frame("t").select(normalise(pl.col("t"))).to_series()
    return sentences(clean)["sentence"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("One. Two! Three? four", ["One.", "Two!", "Three?", "four"], id="ends of sentences"),
        pytest.param('He said "sell." Then\u2026 nothing.', ['He said "sell."', "Then\u2026", "nothing."], id="quotes"),
        pytest.param("U.S. jobs rose 2.5% on Jan. 5.", ["U.S. jobs rose 2.5% on Jan. 5."], id="abbreviations"),
        pytest.param("Mr. Lee vs. Acme Inc. today", ["Mr. Lee vs. Acme Inc. today"], id="more abbreviations"),
        pytest.param("A heading\n\nand its text", ["A heading", "and its text"], id="paragraphs"),
        pytest.param("a line\nthat goes on", ["a line that goes on"], id="a line break is a blank"),
        pytest.param("> he said so\n\nI do not", ["I do not"], id="quoted paragraphs go"),
        pytest.param(
            "see [the **filing**](https://x.org/a_b) now", ["see the filing now"], id="links keep their label"
        ),
        pytest.param("**up** ~~down~~ `x` \\- y", ["up down x - y"], id="markdown"),
        pytest.param("$BTC and #ethereum at $5", ["BTC and ethereum at $5"], id="tickers and tags"),
        pytest.param("\U0001f680\U0001f680 \u2764\ufe0f", ["rocket rocket red heart"], id="only emoji"),
        pytest.param(
            "\U0001f469\u200d\U0001f680 \U0001f1fa\U0001f1f8", ["woman rocket United States"], id="joined emoji"
        ),
        pytest.param("bit\u200bcoin\x00 &amp; co", ["bitcoin & co"], id="what cannot be seen, entities"),
        pytest.param("1. 2. ... !!! \u2014", [], id="no word"),
        pytest.param("[removed]", [], id="removed"),
        pytest.param("", [], id="empty"),
        pytest.param(
            "\u202e\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
            ["\u0645\u0631\u062d\u0628\u0627 \u0628\u0643"],
            id="right to left",
        ),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_no_text_is_no_sentence() -> None:
    found = sentences(pl.Series([None], dtype=pl.String))
    assert (found.height, found.schema) == (0, SENTENCES)
    assert sentences(pl.Series([], dtype=pl.String)).schema == SENTENCES


def test_a_megabyte_is_cut_and_says_how_much_is_left_out() -> None:
    found = sentences(pl.Series(["It rose. " * 111_111, "It fell."]))
    assert found.filter(text=0)["unread"].unique().to_list() == [111_111 - MOST_SENTENCES]
    assert found.filter(text=0).height == MOST_SENTENCES
    assert found.filter(text=1).rows() == [(1, "It fell.", 0)]


@pytest.mark.parametrize("text", ["x" * 2_500, "up and down " * 200])
def test_what_has_no_end_is_cut_and_nothing_lost(text: str) -> None:
    found = said(text)
    assert [len(each) > 890 for each in found] == [True, True, False]
    assert max(map(len, found)) <= LONGEST_SENTENCE
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "is_foreign"),
    [
        ("Bitcoin falls below 60,000 as traders take profits", False),
        ("CoinShares Q1 net profit falls to $24M", False),
        ("BTC ETH SOL", False),
        ("XRP \U0001f680", False),
        ("123", False),
        ("", False),
        ("Bitcoin f\u00e4llt auf den tiefsten Stand seit Monaten", True),
        ("El precio del bitcoin cae con fuerza tras la decisi\u00f3n del banco central", True),
        ("\u6bd4\u7279\u5e01\u4e0a\u6da8", True),
        ("\u0411\u0438\u0442\u043a\u043e\u0438\u043d \u0440\u0430\u0441\u0442\u0435\u0442", True),
        ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0643", True),
    ],
)
def test_other_languages_are_told(text: str, is_foreign: bool) -> None:
    assert foreign(pl.Series([text])).to_list() == [is_foreign]


def test_nothing_is_in_no_language() -> None:
    assert foreign(pl.Series([None], dtype=pl.String)).to_list() == [False]
