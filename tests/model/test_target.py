"""Labels on bars that can be checked by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from backsight_model import target
from backsight_model.target import Outcomes, ahead

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)


def bars(closes: dict[int, float], late: dict[int, int] | None = None) -> pl.DataFrame:
    """Bars that close at the given hours and are available 15 s later, or `late` minutes later."""
    late = late or {}
    return pl.DataFrame(
        {
            "observed_at": [START + hour * HOUR for hour in closes],
            "available_at": [START + hour * HOUR + timedelta(seconds=15, minutes=late.get(hour, 0)) for hour in closes],
            "close": list(closes.values()),
        },
        schema_overrides={"observed_at": pl.Datetime("us", "UTC"), "available_at": pl.Datetime("us", "UTC")},
    )


def hour(n: int, seconds: int = 0) -> np.datetime64:
    return np.datetime64((START + n * HOUR + timedelta(seconds=seconds)).replace(tzinfo=None), "us")


def at_hours(frame: pl.DataFrame, *hours: int, horizon: int = 2) -> Outcomes:
    return ahead(frame, np.array([hour(n) for n in hours]), horizon=horizon, timeframe=HOUR)


SIX = {1: 100.0, 2: 110.0, 3: 99.0, 4: 120.0, 5: 120.0, 6: 60.0}


def test_six_bars_by_hand() -> None:
    found = at_hours(bars(SIX), 1, 2, 3, 4, 5, 6)
    up, down, leap, half = np.log(1.1), np.log(0.9), np.log(120 / 99), np.log(0.5)
    squares = [up**2 + down**2, down**2 + leap**2, leap**2, half**2]
    np.testing.assert_allclose(found.log_rv, [*np.log(squares), np.nan, np.nan], rtol=1e-12)
    np.testing.assert_allclose(
        found.log_return, [np.log(0.99), np.log(120 / 110), leap, half, np.nan, np.nan], rtol=1e-12
    )
    wanted = [hour(n, 15) for n in (3, 4, 5, 6)] + [np.datetime64("NaT")] * 2
    np.testing.assert_array_equal(found.label_at, np.array(wanted, dtype="datetime64[us]"))


def test_a_gap_takes_every_label_that_needs_it() -> None:
    without = {n: close for n, close in SIX.items() if n != 3}
    found = at_hours(bars(without), 1, 2, 3, 4)
    assert np.isnan(found.log_rv).tolist() == [True, True, True, False]
    assert np.isnat(found.label_at).tolist() == [True, True, True, False]


def test_a_late_bar_delays_its_labels() -> None:
    found = at_hours(bars(SIX, late={2: 600}), 1, 2, 3)
    assert found.label_at.tolist() == [hour(2, 15 + 36000), hour(2, 15 + 36000), hour(5, 15)]


def test_a_correction_counts_if_known_by_then_and_not_if_it_comes_later() -> None:
    first = bars(SIX)
    correction = bars({3: 105.0})
    early = pl.concat([first, correction.with_columns(pl.col("available_at") + timedelta(minutes=1))])
    late = pl.concat([first, correction.with_columns(pl.col("available_at") + timedelta(days=30))])
    # The label of hour 1 is known at 03:00:15, a minute before the correction; that of hour 2 at 04:00:15.
    assert at_hours(early, 1, 2).log_return.tolist() == pytest.approx([np.log(0.99), np.log(120 / 110)])
    assert at_hours(early, 3).log_return.tolist() == pytest.approx([np.log(120 / 105)])
    assert at_hours(late, 3).log_return.tolist() == pytest.approx([np.log(120 / 99)])


def test_a_flat_price_has_no_log_variance_and_no_label() -> None:
    found = at_hours(bars({1: 5.0, 2: 5.0, 3: 5.0}), 1)
    assert np.isnan(found.log_rv).all()
    assert np.isnat(found.label_at).all()


def test_order_of_rows_does_not_matter() -> None:
    frame = bars(SIX)
    np.testing.assert_array_equal(at_hours(frame, 1, 2).log_rv, at_hours(frame.reverse(), 1, 2).log_rv)


@pytest.mark.parametrize("slots", [0, 3])
def test_no_bars_or_no_slots_give_no_labels(slots: int) -> None:
    found = at_hours(bars({}) if slots else bars(SIX), *range(1, slots + 1))
    assert len(found.log_rv) == slots
    assert np.isnat(found.label_at).all()


def test_a_horizon_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        at_hours(bars(SIX), 1, horizon=0)


def test_slots_are_looked_up_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = at_hours(bars(SIX), 1, 2, 3, 4, 5, 6)
    monkeypatch.setattr(target, "_AT_ONCE", 4)
    one_by_one = at_hours(bars(SIX), 1, 2, 3, 4, 5, 6)
    for name in ("log_rv", "log_return", "label_at"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(one_by_one, name))
