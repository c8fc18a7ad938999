"""Made-up news and posts: fragments by polarity, put together at random so that texts rarely repeat.

Names are invented. ``{n}`` becomes a number.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from backsight_ingest.sample.draws import FloatArray, IntArray
from backsight_ingest.sample.tone import CANDOUR

Fragments = Mapping[str, tuple[str, ...]]

POLARITIES: Final = ("negative", "neutral", "positive")

SUBJECTS: Final = ("bitcoin", "altcoin", "blockchain", "defi", "ethereum", "nft")
OUTLETS: Final = ("Ledger Courier", "Blockwise", "The Coin Almanac", "Hashline", "Satoshi Street Daily")

_WHO: Final = (
    "Northgate Capital",
    "Halvorsen Bank",
    "the Arden exchange",
    "Miner group Tallow",
    "A Zurich fund",
    "Payments firm Lumio",
    "Regulator of Marland",
    "Wallet maker Keystead",
    "Bitcoin",
    "Ethereum",
    "The lightning network",
    "Custodian Brightvault",
    "A pension fund from Oslen",
    "Brokerage Fairmont",
    "Retailer Ostra",
    "The Delva foundation",
    "Stablecoin issuer Parity Trust",
    "Analysts at Quillon",
    "A bitcoin ETF",
    "Mining pool Granite",
    "Derivatives venue Octa",
    "Developer team Solace",
    "Consultancy Merrow",
    "The central bank of Ibera",
    "Lender Tidewater",
    "Data firm Chainsight",
    "Hash rate",
    "Open interest",
    "Trading desk Umbra",
    "Hedge fund Corvane",
)

_DID: Final[Fragments] = {
    "positive": (
        "gains {n}% in a strong rally",
        "surges past resistance after {n} quiet days",
        "reports record inflows of {n} million",
        "wins approval for {n} new products",
        "beats expectations with profit up {n}%",
        "soars as adoption improves",
        "jumps {n}% on optimism among buyers",
        "posts strongest growth in {n} weeks",
        "secures {n} million in a successful round",
        "upgrades outlook and lifts target by {n}%",
        "climbs to a {n}-day high",
        "sees robust demand from {n} institutions",
        "rebounds {n}% as confidence returns",
        "celebrates breakthrough after {n} months of work",
        "outperforms peers with gains of {n}%",
        "is bullish and accumulates {n} thousand coins",
    ),
    "negative": (
        "falls {n}% in a sharp selloff",
        "plunges below support after {n} quiet days",
        "reports outflows and a loss of {n} million",
        "faces lawsuit over {n} products",
        "misses expectations with profit down {n}%",
        "tumbles as fear spreads",
        "drops {n}% on worries about liquidations",
        "posts weakest week in {n} months",
        "loses {n} million in an exploit",
        "downgrades outlook and cuts target by {n}%",
        "slides to a {n}-day low",
        "sees panic among {n} institutions",
        "crashes {n}% as confidence collapses",
        "halts withdrawals after a hack of {n} accounts",
        "underperforms peers with losses of {n}%",
        "is bearish and dumps {n} thousand coins",
    ),
    "neutral": (
        "publishes its report for week {n}",
        "schedules a meeting with {n} members",
        "moves {n} thousand coins between wallets",
        "plans an update in {n} days",
        "describes {n} changes to its documentation",
        "trades near the average of {n} days",
        "opens office number {n}",
        "names a new board with {n} seats",
        "holds steady around level {n}",
        "explains how {n} nodes share data",
        "lists {n} questions for its users",
        "comments on version {n} of the protocol",
        "prepares a conference for {n} guests",
        "surveys {n} users about wallets",
        "keeps its holdings of {n} thousand coins",
        "starts season {n} of its podcast",
    ),
}

_MORE: Final[Fragments] = {
    "positive": (
        "Traders call the momentum encouraging and expect further gains.",
        "Volume backs the move, a healthy sign for buyers.",
        "The team is optimistic and sees strong support near {n}.",
        "Long-term holders benefit and sentiment improves.",
        "Partners welcome the success and increase their stakes by {n}%.",
        "Observers see a promising recovery.",
    ),
    "negative": (
        "Traders call the momentum worrying and expect further losses.",
        "Volume backs the move, a bad sign for buyers.",
        "The team is pessimistic and sees weak support near {n}.",
        "Long-term holders suffer and sentiment worsens.",
        "Partners fear a failure and reduce their stakes by {n}%.",
        "Observers warn of a deeper decline.",
    ),
    "neutral": (
        "Details follow on day {n}.",
        "The document has {n} pages.",
        "Observers wait for the next statement.",
        "The company did not comment.",
        "A summary is on the website.",
        "The next date is in week {n}.",
    ),
}

_ASKED: Final[Fragments] = {
    "positive": (
        "So happy, my stack is up {n}%",
        "Best week in {n} months, great gains",
        "Bullish on this, {n} reasons why I am buying",
        "Love how strong support held at {n}",
        "Finally profit after {n} weeks, amazing",
        "Rally is on, moon in {n} days",
        "Adoption keeps improving, {n} shops near me accept it",
        "Good news for holders: {n} million inflows",
    ),
    "negative": (
        "So scared, my stack is down {n}%",
        "Worst week in {n} months, terrible losses",
        "Bearish on this, {n} reasons why I am selling",
        "Hate how weak support broke at {n}",
        "Lost money for {n} weeks, awful",
        "Crash is coming, zero in {n} days",
        "Scam alert: {n} users robbed",
        "Bad news for holders: {n} million outflows and panic",
    ),
    "neutral": (
        "Which wallet do you use in year {n}?",
        "How do I move {n} coins to cold storage",
        "Question about fees above {n} sats",
        "Is a node with {n} GB enough?",
        "Daily thread number {n}",
        "Where do you read about block {n}",
        "Tax form {n}, how do you fill it in",
        "Explaining keys to {n} friends",
    ),
}

_SAID: Final[Fragments] = {
    "positive": (
        "Feeling confident, this looks like a healthy recovery.",
        "Great to see profit again after {n} days.",
        "Nice gains, I am optimistic.",
        "Strong hands win.",
        "",
    ),
    "negative": (
        "Feeling worried, this looks like a painful decline.",
        "Terrible to see losses again after {n} days.",
        "Ugly drop, I am pessimistic.",
        "Weak hands panic.",
        "",
    ),
    "neutral": (
        "I have read the sticky but did not find it.",
        "Setup is {n} months old.",
        "Thanks for any pointer.",
        "My notes are on page {n}.",
        "",
    ),
}

FOREIGN: Final = (
    "Welche Wallet nutzt ihr im Jahr {n}?",
    "Wie lange dauert eine Auszahlung von {n} Euro?",
    "¿Qué billetera usan con {n} monedas?",
    "Comment déclarer {n} euros de cryptomonnaies ?",
    "Quanto tempo leva uma transferência de {n} reais?",
    "ビットコインを{n}枚保管する方法は?",
)

_OWN_VIEW = 0.85
"""Share of second sentences that agree with the first; the others are neutral."""


def news(rng: np.random.Generator, polarity: IntArray) -> tuple[pl.Series, pl.Series]:
    """Return titles and texts of articles.

    Parameters
    ----------
    rng : Generator
        Where chance comes from.
    polarity : ndarray of shape (n,)
        -1, 0 or 1.
    """
    who = _pick(rng, _WHO, len(polarity))
    title = _numbered(rng, who + " " + _by_polarity(rng, _DID, polarity))
    return title, _numbered(rng, _by_polarity(rng, _MORE, _second(rng, polarity)))


def posts(rng: np.random.Generator, polarity: IntArray) -> tuple[pl.Series, pl.Series]:
    """Return titles and texts of posts, of which about one in five has no text; see `news`."""
    title = _numbered(
        rng, _by_polarity(rng, _ASKED, polarity) + _pick(rng, ("", "", " [serious]", "!", " - day {n}"), len(polarity))
    )
    return title, _numbered(rng, _by_polarity(rng, _SAID, _second(rng, polarity)))


def foreign(rng: np.random.Generator, n: int) -> pl.Series:
    """Return ``n`` titles in other languages."""
    return _numbered(rng, _pick(rng, FOREIGN, n))


def polarity(rng: np.random.Generator, mood: FloatArray) -> IntArray:
    """Draw the polarity of each text from the mood in which it is written.

    Parameters
    ----------
    rng : Generator
        Where chance comes from.
    mood : ndarray of shape (n,)
        Around 0 with variance near 1; the odds of positive against negative are ``exp(2 CANDOUR mood)``.
    """
    weights = np.exp(CANDOUR * np.column_stack([-mood, np.zeros(len(mood)), mood]))
    edges = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return np.asarray((rng.random(len(mood))[:, None] > edges[:, :2]).sum(axis=1) - 1)


def _second(rng: np.random.Generator, polarity: IntArray) -> IntArray:
    return np.where(rng.random(len(polarity)) < _OWN_VIEW, polarity, 0)


def _by_polarity(rng: np.random.Generator, fragments: Fragments, polarity: IntArray) -> pl.Series:
    size = len(fragments["neutral"])
    all_fragments = pl.Series([text for name in POLARITIES for text in fragments[name]], dtype=pl.String)
    return all_fragments.gather((polarity + 1) * size + rng.integers(size, size=len(polarity)))


def _pick(rng: np.random.Generator, texts: tuple[str, ...], n: int) -> pl.Series:
    return pl.Series(texts, dtype=pl.String).gather(rng.integers(len(texts), size=n))


def _numbered(rng: np.random.Generator, texts: pl.Series) -> pl.Series:
    number = pl.Series("number", rng.integers(2, 400, size=len(texts))).cast(pl.String)
    frame = pl.DataFrame({"text": texts, "number": number})
    return frame.select(pl.col("text").str.replace_all("{n}", pl.col("number"), literal=True)).to_series()
