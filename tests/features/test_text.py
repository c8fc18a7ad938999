"""Text features: by hand, and against sums over each text."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np
import polars as pl
import pytest
from backsight_features.building.identities import identify
from backsight_features.clocks import UTC_US
from backsight_features.decay import HORIZON, bucket_length
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, POSTS, SCORES
from backsight_features.sights import Texts, first_sights, identified
from backsight_features.snapshot import Snapshot
from backsight_features.text import FEATURES, Scorer, affected, choose_scorer, features, text
from backsight_features.texts import text_id
from hypothesis import given, settings
from hypothesis import strategies as st

HOUR = timedelta(hours=1)
T0 = datetime(2024, 1, 1, tzinfo=UTC)
NAMES = [feature.name.removeprefix("news_") for feature in FEATURES if feature.name.startswith("news_")]


def hours(*values: float) -> pl.Series:
    return pl.Series([T0 + value * HOUR for value in values], dtype=UTC_US)


def sights(*rows: tuple[float, float, float | None]) -> pl.DataFrame:
    """Return first sights from (hour said, hour known, sentiment)."""
    return pl.DataFrame(
        {
            "words_id": [f"{i:04}" for i in range(len(rows))],
            "said_at": hours(*(said for said, _, _ in rows)),
            "known_at": hours(*(known for _, known, _ in rows)),
            "scored_at": pl.Series(
                [None if sentiment is None else T0 + known * HOUR for _, known, sentiment in rows], dtype=UTC_US
            ),
            "sentiment": pl.Series([sentiment for _, _, sentiment in rows], dtype=pl.Float64),
            "negative": pl.Series([None if s is None else s < -0.3 for _, _, s in rows], dtype=pl.Boolean),
        }
    )


def at(texts: pl.DataFrame, *instants: float) -> dict[str, list[float | None]]:
    frame = text(texts, "news", hours(*instants), HOUR)
    return {name.removeprefix("news_"): frame[name].to_list() for name in frame.columns}


# --- by hand ---


def test_a_text_fades_by_half_in_a_day() -> None:
    found = at(sights((0, 0, 1.0), (24, 24, -0.5)), 24)
    # Weights 1/2 and 1.
    assert found["sent_24h"] == [pytest.approx((0.5 * 1 - 1 * 0.5) / 1.5)]
    mean = found["sent_24h"][0]
    square = (0.5 * 1 + 1 * 0.25) / 1.5
    assert found["disagree_24h"] == [pytest.approx(math.sqrt(square - mean**2))]


def test_surprise_is_the_fresh_mean_less_the_week() -> None:
    found = at(sights((0, 0, 1.0), (6, 6, -0.5)), 6)
    # The older one is one fast half-life old.
    assert found["surprise"] == [pytest.approx((0.5 * 1 - 1 * 0.5) / 1.5 - (1 - 0.5) / 2)]


def test_counts_hold_for_a_day_after_a_text_was_said() -> None:
    found = at(sights((0, 1, 0.5), (2, 2, None)), 0.5, 1, 2, 23.9, 24, 26)
    assert found["count_24h"] == [None, *(pytest.approx(math.log1p(n)) for n in (1, 2, 2, 1, 0))]


def test_a_text_that_is_known_late_ages_from_when_it_was_said() -> None:
    found = at(sights((0, 12, 1.0), (12, 12, -1.0)), 12)
    weight = 2 ** (-12 / 24)
    assert found["sent_24h"] == [pytest.approx((weight - 1) / (weight + 1))]
    assert found["age_h"] == [0]


def test_a_text_that_is_known_too_late_is_no_news_of_today() -> None:
    found = at(sights((0, 30, 1.0)), 30)
    assert found["count_24h"] == [0]
    assert found["age_h"] == [30]
    assert found["sent_24h"] == [1]


def test_a_text_without_score_counts_but_says_nothing() -> None:
    found = at(sights((0, 0, None)), 1)
    assert {name: values[0] for name, values in found.items()} == {
        "sent_24h": None,
        "count_24h": pytest.approx(math.log(2)),
        "disagree_24h": None,
        "negshare_24h": None,
        "surprise": None,
        "age_h": 1,
    }


def test_a_text_counts_from_its_very_instant() -> None:
    found = text(sights((1, 1, 0.5)), "news", hours(1).dt.offset_by("-1us").append(hours(1)), HOUR)
    assert found["news_sent_24h"].to_list() == [None, 0.5]


def test_share_of_negative_texts() -> None:
    found = at(sights((0, 0, -0.9), (1, 1, 0.5), (2, 2, 0.1), (3, 3, None)), 3, 24.5)
    assert found["negshare_24h"] == [pytest.approx(1 / 3), 0]


def test_one_text_cannot_disagree_with_itself() -> None:
    assert at(sights((0, 0, 0.5)), 1)["disagree_24h"] == [None]


def test_a_week_of_silence_is_a_source_that_is_not_read() -> None:
    found = at(sights((0, 0, 0.5)), 167, 168, 169)
    assert found["count_24h"] == [0, None, None]
    assert found["age_h"] == [167, None, None]


def test_no_text_at_all() -> None:
    frame = text(sights(), "reddit", hours(1, 2), HOUR)
    assert frame.null_count().row(0) == (2,) * 6
    assert frame.schema == dict.fromkeys([f"reddit_{name}" for name in NAMES], pl.Float32)


# --- against sums over each text ---


def plain(texts: pl.DataFrame, instant: datetime) -> dict[str, float | None]:
    """Return the features as the definitions say, text by text."""
    bucket = datetime.fromtimestamp(instant.timestamp() // 3600 * 3600, UTC)
    known = [row for row in texts.iter_rows(named=True) if row["known_at"] <= instant]
    if not any(row["known_at"] > instant - HORIZON for row in known):
        return dict.fromkeys(NAMES)
    day = [row for row in known if row["said_at"] > instant - 24 * HOUR]
    judged = [row for row in known if row["scored_at"] is not None and row["scored_at"] <= instant]
    near = [row for row in judged if row["scored_at"] >= bucket - HORIZON]
    judged_today = [row for row in judged if row["said_at"] > instant - 24 * HOUR]

    def mean(half_life: timedelta, power: int = 1) -> float:
        weights = [0.5 ** ((instant - row["said_at"]) / half_life) for row in near]
        return sum(w * row["sentiment"] ** power for w, row in zip(weights, near, strict=True)) / sum(weights)

    age = (instant - max(row["said_at"] for row in known)) / HOUR
    slow = mean(24 * HOUR) if near else None
    return {
        "sent_24h": slow,
        "count_24h": math.log1p(len(day)),
        "disagree_24h": math.sqrt(max(mean(24 * HOUR, 2) - slow**2, 0)) if len(near) > 1 else None,
        "negshare_24h": fmean(row["negative"] for row in judged_today) if judged_today else None,
        "surprise": mean(6 * HOUR) - fmean(row["sentiment"] for row in near) if near else None,
        "age_h": age if age <= 168 else None,
    }


def random_sights(seed: int, size: int, span: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    known = np.sort(rng.uniform(0, span, size))
    said = known - rng.exponential(3, size)
    unscored = rng.random(size) < 0.2
    sentiment = [None if none else value for none, value in zip(unscored, rng.uniform(-1, 1, size), strict=True)]
    return sights(*zip(said, known, sentiment, strict=True))


@pytest.mark.parametrize(("seed", "size"), [(0, 400), (1, 40), (2, 5)])
def test_features_agree_with_sums_over_each_text(seed: int, size: int) -> None:
    texts = random_sights(seed, size, 600)
    instants = np.sort(np.random.default_rng(seed).uniform(0, 900, 60))
    found = text(texts, "news", hours(*instants), HOUR)
    for row, instant in zip(found.iter_rows(named=True), hours(*instants), strict=True):
        for name, expected in plain(texts, instant).items():
            close = None if expected is None else pytest.approx(expected, rel=1e-5, abs=1e-6)
            assert row[f"news_{name}"] == close, (name, instant)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000), size=st.integers(1, 300), start=st.floats(0, 800), minutes=st.sampled_from([1, 7, 60])
)
def test_a_slice_is_the_same_slice_of_the_whole(seed: int, size: int, start: float, minutes: int) -> None:
    step = timedelta(minutes=minutes)
    texts = random_sights(seed, size, 700)
    instants = hours(*np.sort(np.random.default_rng(seed).uniform(0, 900, 50)))
    first = T0 + start * HOUR
    whole = text(texts, "news", instants, step).filter(instants >= first)
    asked = instants.filter(instants >= first)
    if asked.is_empty():
        return
    oldest = asked[0] - HORIZON - bucket_length(step)
    part = text(texts.filter(pl.col("known_at") >= oldest), "news", asked, step)
    assert part.equals(whole, null_equal=True)
    assert HORIZON + bucket_length(HOUR) == FEATURES[0].lookback


def test_texts_that_come_later_change_nothing() -> None:
    texts = random_sights(0, 200, 600)
    now = hours(300)
    assert text(texts, "news", now, HOUR).equals(text(texts.filter(pl.col("known_at") <= now[0]), "news", now, HOUR))


# --- which texts ---


def stored(rows_of: Callable, *rows: tuple[str, float, float, str | None, str | None]) -> pl.DataFrame:
    """Return news versions from (id, hour said, hour known, title, text)."""
    named = pl.DataFrame(rows, schema=["id", "said", "known", "title", "text"], orient="row")
    columns: Mapping[str, object] = {
        "id": named["id"],
        "title": named["title"].cast(pl.String),
        "text": named["text"].cast(pl.String),
        "observed_at": hours(*named["said"]),
        "available_at": hours(*named["known"]),
    }
    return rows_of(NEWS, columns)


def scores(
    rows_of: Callable, ids: pl.Series, known: pl.Series, scorer: str = "lexicon", revision: str = "1"
) -> pl.DataFrame:
    size = len(ids)
    return rows_of(
        SCORES,
        {
            "text_id": ids,
            "scorer": [scorer] * size,
            "revision": [revision] * size,
            "p_positive": [0.7] * size,
            "p_negative": [0.1] * size,
            "p_neutral": [0.2] * size,
            "observed_at": known,
            "available_at": known,
        },
    )


def seen_once(versions: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    return first_sights(identified(versions.lazy(), "news"), judged.lazy()).collect()


def test_a_text_counts_once_by_first_sight(rows_of: Callable) -> None:
    versions = stored(
        rows_of,
        ("a", 0, 1, "Up", "again"),
        ("a", -1, 5, "Up", "edited and dated back"),
        ("b", 0, 2, "Up", "again"),
        ("c", 0, 3, "Up", "[removed]"),
        ("c", 0, 2.5, "Up", "down"),
        ("d", 0, 4, "[deleted]", None),
        ("e", 0, 4, "[deleted]", None),
    )
    found = seen_once(
        versions.sample(fraction=1, shuffle=True, seed=0), scores(rows_of, pl.Series([], dtype=pl.String), hours())
    )
    assert [(known - T0) / HOUR for known in found["known_at"]] == [1, 2.5, 4, 4]
    assert found["said_at"].unique().to_list() == [T0]
    assert found["words_id"].is_null().to_list() == [False, False, True, True]


def test_a_score_counts_once_both_are_known(rows_of: Callable) -> None:
    versions = stored(rows_of, ("a", 0, 1, "one", None), ("b", 0, 5, "two", None), ("c", 0, 2, "three", None))
    ids = seen_once(versions, scores(rows_of, pl.Series([], dtype=pl.String), hours()))["words_id"]
    one, three, two = ids
    found = seen_once(versions, scores(rows_of, pl.Series([one, two]), hours(3, 3)))
    assert found.select("words_id", "scored_at", "sentiment", "negative").rows() == [
        (one, T0 + 3 * HOUR, pytest.approx(0.6), False),
        (three, None, None, None),
        (two, T0 + 5 * HOUR, pytest.approx(0.6), False),
    ]


def test_title_and_body_count_alike_as_far_as_they_are_scored(rows_of: Callable) -> None:
    versions = stored(rows_of, ("a", 0, 1, "up", "down. down"), ("b", 0, 2, "down. down", None), ("c", 0, 3, "up", "-"))
    up, down = pl.Series(["up", "down. down"]).to_frame("text").select(text_id(pl.col("text"))).to_series()
    judged = scores(rows_of, pl.Series([up, down]), hours(4, 5)).with_columns(
        p_positive=pl.Series([0.7, 0.2]), p_negative=pl.Series([0.1, 0.7]), p_neutral=pl.Series([0.2, 0.1])
    )
    assert seen_once(versions, judged).select("scored_at", "sentiment", "negative").rows() == [
        (T0 + 5 * HOUR, pytest.approx(0.05), False),
        (T0 + 5 * HOUR, pytest.approx(-0.5), True),
        (T0 + 4 * HOUR, pytest.approx(0.6), False),
    ]


def test_a_text_is_not_said_after_it_is_known(rows_of: Callable) -> None:
    found = seen_once(
        stored(rows_of, ("a", 9, 1, "one", None)), scores(rows_of, pl.Series([], dtype=pl.String), hours())
    )
    assert found["said_at"][0] == T0 + HOUR


def test_sources_are_read_apart(tmp_path, rows_of: Callable) -> None:
    lake = Lake(tmp_path)
    post = {"id": ["a"], "title": ["Up"], "text": [None], "observed_at": hours(0), "available_at": hours(1)}
    lake.append(NEWS, stored(rows_of, ("a", 0, 1, "Up", None)), now=T0)
    lake.append(POSTS, rows_of(POSTS, {**post, "site": ["reddit"], "channel": ["bitcoin"]}), now=T0)
    lake.append(POSTS, rows_of(POSTS, {**post, "site": ["other"], "channel": ["bitcoin"]}), now=T0)
    facts = Snapshot.take(lake)
    assert identify(facts)["source"].to_list() == ["news", "reddit"]


# --- who judged ---


@pytest.mark.parametrize("name", ["finbert", "@1", "finbert@"])
def test_a_name_that_names_no_scorer(name: str) -> None:
    with pytest.raises(BadInput, match="write name@revision"):
        Scorer.parse(name)


def test_a_scorer_is_chosen_or_the_only_one(tmp_path, rows_of: Callable) -> None:
    lake = Lake(tmp_path)
    lexicon, finbert = Scorer.parse("lexicon@1"), Scorer.parse("org/finbert@abc")
    assert choose_scorer(Snapshot.take(lake), None) is None
    with pytest.raises(BadInput, match="no text was scored by lexicon@1; the lake has scores by none"):
        choose_scorer(Snapshot.take(lake), lexicon)

    lake.append(SCORES, scores(rows_of, pl.Series(["t"]), hours(0)), now=T0)
    assert choose_scorer(Snapshot.take(lake), None) == lexicon

    lake.append(SCORES, scores(rows_of, pl.Series(["t"]), hours(0), "org/finbert", "abc"), now=T0)
    assert choose_scorer(Snapshot.take(lake), finbert) == finbert
    with pytest.raises(BadInput, match="choose one with --scorer: lexicon@1, org/finbert@abc"):
        choose_scorer(Snapshot.take(lake), None)


def test_features_are_those_declared() -> None:
    frame = text(sights((0, 0, 0.5)), "news", hours(1), HOUR)
    assert frame.columns == [name for name in (feature.name for feature in features("1h")) if name.startswith("news_")]
    assert set(frame.dtypes) == {pl.Float32}


# --- what new texts affect ---


@pytest.mark.parametrize("seed", range(6))
def test_features_differ_only_where_texts_or_scores_that_came_in_affect_them(seed: int, world: Callable) -> None:
    facts = world(seed, hours=700)
    rng = np.random.default_rng(seed)
    versions, scores = identified(facts["news"].lazy(), "news").collect(), facts["scores"]
    came, judged = (
        pl.Series(np.isin(np.arange(frame.height), rng.choice(frame.height, 2))) for frame in (versions, scores)
    )
    whole = Texts(versions=versions, scores=scores.lazy())
    first = versions["available_at"].min()
    instants = pl.datetime_range(first, first + 900 * HOUR, "13m", eager=True)
    with_, without = (
        text(first_sights(*(frame.lazy() for frame in frames)).collect(), "news", instants, HOUR)
        for frames in ((versions, scores), (versions.filter(~came), scores.filter(~judged)))
    )
    differ = instants.filter(pl.Series([a != b for a, b in zip(with_.rows(), without.rows(), strict=True)]))
    changed = whole.changed(
        versions.filter(came), scores.filter(judged).select("text_id"), scores.filter(~judged).lazy()
    )
    spans = affected(*changed, HOUR)
    held = pl.DataFrame({"at": differ}).filter(pl.any_horizontal(*(span.holds("at") for span in spans)))
    assert differ.len() > 0
    assert held["at"].to_list() == differ.to_list()


@pytest.mark.parametrize("seed", range(3))
def test_first_sights_since_an_instant_are_those_of_all(seed: int, world: Callable) -> None:
    facts = world(seed, hours=300)
    versions = identified(facts["news"].lazy(), "news").collect()
    # Scores that come late judge texts that were seen long before.
    late = pl.col("available_at") + pl.duration(hours=pl.int_range(pl.len()) % 5 * 40)
    scores = facts["scores"].with_columns(available_at=late)
    whole = first_sights(versions.lazy(), scores.lazy()).collect()
    for since in versions["available_at"].gather([5, 40, 100]):
        lately = whole.filter((pl.col("known_at") >= since) | (pl.col("scored_at") >= since).fill_null(False))
        assert Texts(versions=versions, scores=scores.lazy()).since(since).equals(lately, null_equal=True)
