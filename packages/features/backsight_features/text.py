"""Text features: what was being said, per source, evaluated on the bar grid.

A text has two instants: when it was *known* (first seen, or first scored) and when it was *said* (its own stamp).
It counts from the first and ages from the second, so a backlog that comes in after an outage is no burst of news.
It counts once: a later version of the same text, or the same words under another id of the source, is no new text.
All texts count as texts; only scored ones (not those that were removed before they were seen) count as sentiment.

Decayed sums are put together from buckets that lie at fixed instants, see `decay`, so that a slice of the
instants gets what all instants get, to the last bit.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from backsight_features.clocks import timeframe
from backsight_features.decay import HORIZON, Impulses, bucket_length, decayed
from backsight_features.errors import BadInput
from backsight_features.feature import Feature
from backsight_features.rolling import FloatArray, IntArray
from backsight_features.schemas import SCORES
from backsight_features.sights import SOURCES
from backsight_features.snapshot import Facts
from backsight_features.spans import Span, between

_HOUR_US: Final = 3_600_000_000
_DAY: Final = timedelta(days=1)
_SERVED_FOR: Final = timedelta(hours=6)

_SEEN: Final = ("observed_at", "available_at")
_SCORED: Final = (*_SEEN, "p_positive", "p_negative", "p_neutral")

_FORMULAS: Final = (
    (
        "sent_24h",
        "mean of p_positive - p_negative, weights halving every 24 h since the text was said",
        "-1 to 1",
        _SCORED,
    ),
    ("count_24h", "ln(1 + texts said in the last 24 h), scored or not", "ln count", _SEEN),
    (
        "disagree_24h",
        "standard deviation of p_positive - p_negative, weights as in sent_24h; two texts at least",
        "0 to 1",
        _SCORED,
    ),
    (
        "negshare_24h",
        "share of the scored texts said in the last 24 h whose p_negative is the largest",
        "share, 0 to 1",
        _SCORED,
    ),
    (
        "surprise",
        "mean of p_positive - p_negative with weights halving every 6 h, less its plain mean over 7 d",
        "-2 to 2",
        _SCORED,
    ),
    ("age_h", "hours since the last text was said; null beyond 7 d", "hours", _SEEN),
)


def features(bar: str) -> tuple[Feature, ...]:
    """Return the text features on the grid of bars of one length, ``1h``; the same ones for all lengths.

    Their lookback counts from when a text was first seen; *that* it was the first time takes the whole past.
    """
    step = timeframe(bar)
    return tuple(
        Feature(
            name=f"{source}_{name}",
            description=description,
            unit=unit,
            reads=reads,
            lookback=HORIZON + bucket_length(step),
            max_age=max(_SERVED_FOR, 2 * step),
        )
        for source in SOURCES
        for name, description, unit, reads in _FORMULAS
    )


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Who judged the texts.

    Parameters
    ----------
    name, revision : str
        As in the lake's scores.
    """

    name: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> "Scorer":
        """Return the scorer that a text names.

        >>> Scorer.parse("finbert@4556d1").revision
        '4556d1'

        Raises
        ------
        BadInput
            If the text is not name@revision.
        """
        name, _, revision = text.rpartition("@")
        if not name or not revision:
            raise BadInput(f"{text!r} is not a scorer; write name@revision")
        return cls(name=name, revision=revision)

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def choose_scorer(facts: Facts, wanted: Scorer | None) -> Scorer | None:
    """Return the scorer whose scores are used; None where the lake has none.

    Parameters
    ----------
    facts : Facts
        Holds the scores.
    wanted : Scorer or None
        None for the only one there is.

    Raises
    ------
    BadInput
        If the wanted scorer has no scores, or none is named and there are several. The message names them.
    """
    found = facts.scan(SCORES).select("scorer", "revision").unique().sort("scorer", "revision").collect()
    scorers = [Scorer(name=name, revision=revision) for name, revision in found.iter_rows()]
    names = ", ".join(map(str, scorers)) or "none; run `backsight score` first"
    if wanted is not None and wanted not in scorers:
        raise BadInput(f"no text was scored by {wanted}; the lake has scores by {names}")
    if wanted is None and len(scorers) > 1:
        raise BadInput(f"texts were scored by several; choose one with --scorer: {names}")
    return wanted or next(iter(scorers), None)


def by(scores: pl.LazyFrame, scorer: Scorer | None) -> pl.LazyFrame:
    """Return the scores of a scorer; none for none."""
    if scorer is None:
        return scores.clear()
    return scores.filter(pl.col("scorer") == scorer.name, pl.col("revision") == scorer.revision)


def affected(new: pl.DataFrame, before: pl.DataFrame, step: timedelta) -> list[Span]:
    """Return the spans of instants at which features are others with new texts or scores than without.

    Parameters
    ----------
    new : pl.DataFrame
        As `sights.first_sights` returns them.
    before : pl.DataFrame
        The same without what came in since.
    step : timedelta
        Length of a bar.
    """
    reach = (HORIZON + bucket_length(step)) // timedelta(microseconds=1)
    spans = []
    # A text counts from when it was known, its score from when it was scored.
    for begins, told in (("known_at", ["said_at"]), ("scored_at", ["words_id", "said_at", "sentiment", "negative"])):
        with_, without = (
            texts.filter(pl.col(begins).is_not_null()).group_by(begins, *told).len() for texts in (new, before)
        )
        differ = pl.concat(
            [
                one.join(other, on=one.columns, how="anti", nulls_equal=True)
                for one, other in ((with_, without), (without, with_))
            ]
        )
        starts = differ[begins].dt.epoch("us").to_numpy()
        spans += between(starts, starts + reach)
    return spans


def text(texts: pl.DataFrame, source: str, at: pl.Series, step: timedelta) -> pl.DataFrame:
    """Return the features of one source's texts at given instants.

    Parameters
    ----------
    texts : pl.DataFrame
        As `sights.first_sights` returns them; what is known and scored before the lookback may be left out.
    source : str
        Begins the names.
    at : pl.Series of shape (n,)
        UTC instants, ascending.
    step : timedelta
        Length of a bar; sets the buckets.

    Returns
    -------
    pl.DataFrame
        n rows of Float32. All null where no text became known in the `HORIZON` before: silence that long is
        taken for a source that is not being read, not for a world without news.
    """
    instants = at.dt.epoch("us").to_numpy()
    known = texts["known_at"].dt.epoch("us").to_numpy()
    said = texts["said_at"].dt.epoch("us").to_numpy()
    read_lately = _count(known, known + HORIZON // timedelta(microseconds=1), instants) > 0
    day = _DAY // timedelta(microseconds=1)

    scored = texts.filter(pl.col("scored_at").is_not_null()).sort("scored_at", "said_at", "words_id")
    seen = scored["scored_at"].dt.epoch("us").to_numpy()
    told = scored["said_at"].dt.epoch("us").to_numpy()
    sentiment = scored["sentiment"].to_numpy()
    negative = scored["negative"].to_numpy()

    bucket = bucket_length(step)
    impulses = Impulses(at=seen, since=told, values=np.stack([np.ones_like(sentiment), sentiment, sentiment**2]))
    slow = decayed(impulses, instants, bucket, half_life=_DAY)
    fast = decayed(impulses, instants, bucket, half_life=_DAY / 4)
    flat = decayed(impulses, instants, bucket, half_life=None)
    in_day = _count(seen, told + day, instants)
    age = (instants - _latest(known, said, instants)) / _HOUR_US
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = slow[1] / slow[0]
        columns = {
            "sent_24h": mean,
            "count_24h": np.log1p(_count(known, said + day, instants).astype(np.float64)),
            # One text cannot disagree with itself. Rounding may go below 0.
            "disagree_24h": np.where(flat[0] > 1, np.sqrt(np.maximum(slow[2] / slow[0] - mean**2, 0.0)), np.nan),
            "negshare_24h": _count(seen[negative], told[negative] + day, instants) / in_day,
            "surprise": fast[1] / fast[0] - flat[1] / flat[0],
            "age_h": np.where(age <= HORIZON / timedelta(hours=1), age, np.nan),
        }
    return pl.DataFrame(
        {
            f"{source}_{name}": pl.Series(np.where(read_lately, values, np.nan).astype(np.float32))
            for name, values in columns.items()
        }
    ).select(pl.when(pl.all().is_finite()).then(pl.all()))


def _count(begin: IntArray, end: IntArray, at: IntArray) -> IntArray:
    """Return how many of the intervals [begin, end) hold each instant; those that end before they begin never do."""
    open_ = end > begin
    return np.searchsorted(np.sort(begin[open_]), at, side="right") - np.searchsorted(
        np.sort(end[open_]), at, side="right"
    )


def _latest(known: IntArray, said: IntArray, at: IntArray) -> FloatArray:
    """Return the latest ``said`` among what is known at each instant, NaN before the first; ``known`` ascends."""
    index = np.searchsorted(known, at, side="right") - 1
    latest = np.append(np.maximum.accumulate(said), 0)
    return np.where(index >= 0, latest[index], np.nan)


FEATURES: Final = features("1h")
"""The text features on the grid of hourly bars."""
