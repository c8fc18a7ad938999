"""Macro features: what vintages said when, by hand and against looking at each instant alone."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US
from backsight_features.macro import FEATURES, SERIES, Series, absent, affected, latest_known, macro
from backsight_features.schemas import MACRO
from backsight_features.vintages import NEVER, Vintages

DAY = timedelta(days=1)
BY_ID = {series.id: series for series in SERIES}


def day(year: int, month: int, number: int = 1) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


def months(first: datetime, count: int) -> list[datetime]:
    return [day(first.year + (first.month - 1 + i) // 12, (first.month - 1 + i) % 12 + 1) for i in range(count)]


@pytest.fixture(scope="session")
def published(rows_of: Callable) -> Callable[..., pl.DataFrame]:
    """Return vintages of a series from (period, instant of publication, value)."""

    def make(series: str, *rows: tuple[datetime, datetime, float | None], units: str = "lin") -> pl.DataFrame:
        named = pl.DataFrame(
            rows, schema={"observed_at": UTC_US, "available_at": UTC_US, "value": pl.Float64}, orient="row"
        )
        return rows_of(MACRO, named.with_columns(series=pl.lit(series), units=pl.lit(units)).to_dict())

    return make


def at(vintages: pl.DataFrame, name: str, *instants: datetime) -> list[float | None]:
    return macro(vintages, pl.Series(instants, dtype=UTC_US))[name].to_list()


# --- by hand ---


def test_a_number_is_known_from_its_publication(published: Callable) -> None:
    rates = published("UNRATE", (day(2024, 1), day(2024, 2, 2), 3.7), (day(2024, 2), day(2024, 3, 8), 3.9))
    moment = timedelta(microseconds=1)
    instants = (day(2024, 2, 2) - moment, day(2024, 2, 2), day(2024, 3, 8) - moment, day(2024, 3, 8))
    assert at(rates, "unrate_level", *instants) == [None, *map(pytest.approx, (3.7, 3.7, 3.9))]
    assert at(rates, "unrate_change", *instants) == [None, None, None, pytest.approx(0.2)]
    assert at(rates, "unrate_age_d", day(2024, 2, 2), day(2024, 2, 3) + 6 * DAY / 24) == [0, 1.25]


def test_a_revision_of_an_old_month_that_comes_with_a_new_one_does_not_win(published: Callable) -> None:
    rates = published(
        "UNRATE",
        (day(2024, 1), day(2024, 2, 2), 3.7),
        (day(2024, 2), day(2024, 3, 8), 3.9),
        (day(2024, 1), day(2024, 3, 8), 3.6),
    )
    assert at(rates, "unrate_level", day(2024, 3, 8)) == [pytest.approx(3.9)]
    # Against January as revised on the same day.
    assert at(rates, "unrate_change", day(2024, 3, 8)) == [pytest.approx(0.3)]


def test_a_number_is_as_old_as_its_publication_though_its_period_was_named_before(published: Callable) -> None:
    rates = published("UNRATE", (day(2024, 1), day(2024, 2, 2), None), (day(2024, 1), day(2024, 2, 5), 3.7))
    assert at(rates, "unrate_age_d", day(2024, 2, 4), day(2024, 2, 6)) == [None, 1]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_numbers_at_one_instant_the_one_ingested_later_counts(published: Callable, order: int) -> None:
    rates = published("UNRATE", (day(2024, 1), day(2024, 2, 2), 3.7), (day(2024, 1), day(2024, 2, 2), 3.6))
    rates = rates.with_columns(ingested_at=pl.Series([day(2024, 3), day(2024, 4)]).cast(UTC_US))[::order]
    assert at(rates, "unrate_level", day(2024, 2, 2)) == [pytest.approx(3.6)]


def test_a_revision_of_the_newest_month_is_no_new_release(published: Callable) -> None:
    rates = published("UNRATE", (day(2024, 1), day(2024, 2, 2), 3.7), (day(2024, 1), day(2024, 2, 12), 3.8))
    assert at(rates, "unrate_level", day(2024, 2, 11), day(2024, 2, 12)) == [pytest.approx(3.7), pytest.approx(3.8)]
    assert at(rates, "unrate_age_d", day(2024, 2, 12)) == [10]


def test_what_is_published_as_missing_falls_back(published: Callable) -> None:
    yields = published(
        "DGS10",
        (day(2024, 5, 23), day(2024, 5, 24), 4.47),
        (day(2024, 5, 24), day(2024, 5, 28), 4.46),
        (day(2024, 5, 27), day(2024, 5, 28), None),
        (day(2024, 5, 28), day(2024, 5, 29), 4.54),
    )
    assert at(yields, "dgs10_level", day(2024, 5, 28), day(2024, 5, 29)) == [pytest.approx(4.46), pytest.approx(4.54)]
    assert at(yields, "dgs10_change", day(2024, 5, 29)) == [pytest.approx(0.08, abs=1e-6)]


def test_a_number_that_is_withdrawn_falls_back(published: Callable) -> None:
    rates = published(
        "UNRATE",
        (day(2024, 1), day(2024, 2, 2), 3.7),
        (day(2024, 2), day(2024, 3, 8), 3.9),
        (day(2024, 2), day(2024, 3, 9), None),
        (day(2024, 2), day(2024, 3, 12), 3.8),
    )
    days = [day(2024, 3, 8), day(2024, 3, 9), day(2024, 3, 12)]
    assert at(rates, "unrate_level", *days) == [pytest.approx(v) for v in (3.9, 3.7, 3.8)]
    # February was first published on the 8th.
    assert at(rates, "unrate_age_d", *days) == [0, 36, 4]


def test_a_year_of_prices(published: Callable) -> None:
    starts = months(day(2023, 1), 14)
    prices = published("CPIAUCSL", *((start, start + 40 * DAY, 300.0 + i) for i, start in enumerate(starts)))
    known = starts[13] + 40 * DAY
    assert at(prices, "cpiaucsl_yoy", known) == [pytest.approx(math.log(313 / 301))]
    assert at(prices, "cpiaucsl_change", known) == [pytest.approx(math.log(313 / 312))]


def test_a_year_of_the_dollar_takes_the_last_day_that_has_a_number(published: Callable) -> None:
    dollar = published(
        "DTWEXBGS",
        (day(2023, 5, 26), day(2023, 6, 1), 120.0),
        (day(2023, 5, 29), day(2023, 6, 1), None),
        (day(2024, 5, 28), day(2024, 6, 3), 126.0),
    )
    assert at(dollar, "dtwexbgs_yoy", day(2024, 6, 3)) == [pytest.approx(math.log(126 / 120))]


def test_percent_changes_are_changes(published: Callable) -> None:
    starts = months(day(2023, 1), 12)
    prices = published("CPIAUCSL", *((start, start + 40 * DAY, 0.5) for start in starts), units="pch")
    known = starts[-1] + 40 * DAY
    assert at(prices, "cpiaucsl_change", known) == [pytest.approx(math.log(1.005))]
    assert at(prices, "cpiaucsl_yoy", known, known - DAY) == [pytest.approx(12 * math.log(1.005)), None]
    rates = published("UNRATE", (day(2023, 1), day(2023, 2, 3), -2.0), units="pch")
    assert at(rates, "unrate_change", day(2023, 2, 3)) == [pytest.approx(-0.02)]
    assert at(rates, "unrate_level", day(2023, 2, 3)) == [None]


def test_of_two_units_the_one_with_the_newer_period_is_read(published: Callable) -> None:
    both = pl.concat(
        [
            published("CPIAUCSL", (day(2023, 1), day(2023, 2, 14), 299.0), (day(2023, 2), day(2023, 3, 14), 302.0)),
            published(
                "CPIAUCSL", (day(2023, 2), day(2023, 3, 10), 9.0), (day(2023, 3), day(2023, 4, 12), 5.0), units="pch"
            ),
        ]
    )
    days = [day(2023, 3, 10), day(2023, 3, 14), day(2023, 4, 12)]
    expected = [math.log(1.09), math.log(302 / 299), math.log(1.05)]
    assert at(both, "cpiaucsl_change", *days) == [pytest.approx(value) for value in expected]


def test_other_units_are_not_read(published: Callable) -> None:
    assert absent(published("UNRATE", (day(2024, 1), day(2024, 2, 2), 3.7), units="pc1")) == [s.id for s in SERIES]


def test_a_number_that_has_grown_too_old_is_null_but_its_age_is_told(published: Callable) -> None:
    rates = published("UNRATE", (day(2024, 1), day(2024, 2, 2), 3.7))
    assert at(rates, "unrate_level", day(2024, 2, 2) + 100 * DAY, day(2024, 2, 2) + 101 * DAY) == [
        pytest.approx(3.7),
        None,
    ]
    assert at(rates, "unrate_age_d", day(2024, 2, 2) + 101 * DAY) == [101]


def test_surprise_by_hand(published: Callable) -> None:
    # Changes of +1 and -1 in turn: their mean over twelve is 0, so each change is the surprise, and all are as large.
    values = [4.0 + i % 2 for i in range(40)]
    starts = months(day(2020, 1), 40)
    rates = published("UNRATE", *((start, start + 35 * DAY, v) for start, v in zip(starts, values, strict=True)))
    found = [at(rates, "unrate_surprise", start + 35 * DAY)[0] for start in starts]
    # 13 numbers make the first expectation; 12 surprises the first scale.
    assert found[:25] == [None] * 25
    assert found[25:] == pytest.approx([1.0 if v == 5 else -1.0 for v in values[25:]])
    # Until the next release it stays; then the sign turns.
    assert at(rates, "unrate_surprise", starts[30] + 40 * DAY) == [pytest.approx(found[30])]


# --- against looking at each instant alone ---


def plain(vintages: pl.DataFrame, series: Series, instant: datetime) -> dict[datetime, float]:
    """Return the numbers known at an instant, by period."""
    known = vintages.filter(pl.col("available_at") <= instant).sort("available_at", "ingested_at", "value")
    newest = known.unique("observed_at", keep="last", maintain_order=True).drop_nulls("value").sort("observed_at")
    return dict(newest.select("observed_at", "value").iter_rows())


def plain_surprise(vintages: pl.DataFrame, series: Series, instant: datetime) -> float | None:
    """Return the surprise at an instant, release by release."""

    def changes(numbers: dict[datetime, float]) -> list[float]:
        values = [math.log(v) if series.change == "log" else v for v in numbers.values()]
        return [b - a for a, b in zip(values, values[1:], strict=False)]  # noqa: RUF007

    raw: list[float | None] = []
    newest = None
    before: dict[datetime, float] = {}
    for release in vintages.filter(pl.col("available_at") <= instant)["available_at"].unique().sort():
        now = plain(vintages, series, release)
        if now and (newest is None or max(now) > newest):
            newest = max(now)
            past = changes(before)[-12:]
            raw.append(changes(now)[-1] - fmean(past) if len(past) == 12 and len(now) > 1 else None)
        before = now
    judged = [value for value in raw[:-1][-36:] if value is not None]
    if not raw or raw[-1] is None or len(judged) < 12:
        return None
    return raw[-1] / math.sqrt(fmean(value**2 for value in judged))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 3))])
def test_states_agree_with_looking_at_each_instant_alone(seed: int, published: Callable) -> None:
    rng = np.random.default_rng(seed)
    series = BY_ID["CPIAUCSL"]
    starts = months(day(2018, 1), 60)
    rows = []
    for i, start in enumerate(starts):
        for revision in range(rng.integers(1, 4)):
            missing = rng.random() < 0.04
            value = None if missing else 250 + i + rng.normal()
            rows.append((start, start + (40 + 30 * revision + int(rng.integers(0, 3))) * DAY, value))
    vintages = published("CPIAUCSL", *rows)
    instants = [day(2018, 1) + int(days) * DAY for days in np.sort(rng.integers(0, 2000, 60))]
    found = macro(vintages, pl.Series(instants, dtype=UTC_US))
    for row, instant in zip(found.iter_rows(named=True), instants, strict=True):
        numbers = plain(vintages, series, instant)
        periods = list(numbers)
        change = math.log(numbers[periods[-1]] / numbers[periods[-2]]) if len(periods) > 1 else None
        year_ago = numbers.get(periods[-1].replace(year=periods[-1].year - 1)) if periods else None
        expected = {
            "cpiaucsl_change": change,
            "cpiaucsl_yoy": math.log(numbers[periods[-1]] / year_ago) if year_ago else None,
            "cpiaucsl_surprise": plain_surprise(vintages, series, instant) if periods else None,
        }
        if row["cpiaucsl_age_d"] is not None and row["cpiaucsl_age_d"] > 100:
            expected = dict.fromkeys(expected)
        for name, value in expected.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-5, abs=1e-7)), (name, instant)


def test_states_do_not_depend_on_what_comes_later(published: Callable) -> None:
    starts = months(day(2018, 1), 60)
    rng = np.random.default_rng(0)
    vintages = published(
        "UNRATE", *((start, start + 40 * DAY, float(v)) for start, v in zip(starts, rng.normal(size=60), strict=True))
    )
    whole = latest_known(vintages, BY_ID["UNRATE"], "lin")
    for count in (1, 13, 14, 30, 59):
        part = latest_known(vintages[:count], BY_ID["UNRATE"], "lin")
        for one, other in zip(part, whole, strict=True):
            assert np.array_equal(one, other[:count], equal_nan=True)


# --- vintages ---


def test_no_vintage_at_all(published: Callable) -> None:
    states = latest_known(published("UNRATE"), BY_ID["UNRATE"], "lin")
    assert states.instant.size == 0
    assert at(published("UNRATE"), "unrate_level", day(2024, 1)) == [None]
    assert states.at(np.array([0, 1])).period.tolist() == [NEVER, NEVER]


def test_periods_before_1970_and_of_two_vintages_at_one_instant(published: Callable) -> None:
    old = published(
        "UNRATE",
        (day(1948, 1), day(1948, 2), 3.4),
        (day(1948, 2), day(1948, 3), 3.8),
        (day(1948, 2), day(1948, 3), 3.9),
    )
    late = old.with_columns(ingested_at=pl.lit(day(2024, 1)) + pl.duration(days=pl.int_range(pl.len())))
    values = Vintages.of(late, "month")
    assert values.known(np.array([0, 1])).tolist()[1] == [3.9, 3.4]
    assert values.newest.tolist() == [-264, -263]


def test_columns_are_those_declared(published: Callable) -> None:
    frame = macro(published("UNRATE"), pl.Series([day(2024, 1)], dtype=UTC_US))
    assert frame.columns == [feature.name for feature in FEATURES]
    assert set(frame.dtypes) == {pl.Float32}


@pytest.mark.parametrize("seed", range(6))
def test_features_differ_only_where_vintages_that_came_in_affect_them(seed: int, world: Callable) -> None:
    vintages = world(seed, hours=600)["macro"]
    rng = np.random.default_rng(seed)
    came = pl.Series(np.isin(np.arange(vintages.height), rng.choice(vintages.height, 3)))
    instants = vintages["available_at"].unique().sort()
    at = pl.concat([instants - timedelta(microseconds=1), instants, instants + timedelta(hours=7)]).sort()
    with_, without = (macro(frame, at).rows() for frame in (vintages, vintages.filter(~came)))
    differ = at.filter(pl.Series([one != other for one, other in zip(with_, without, strict=True)]))
    spans = affected(vintages, vintages.filter(~came))
    held = pl.DataFrame({"at": differ}).filter(pl.any_horizontal(*(span.holds("at") for span in spans)))
    assert differ.len() > 0
    assert held["at"].to_list() == differ.to_list()
