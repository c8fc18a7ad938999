"""Market features, each against its formula in plain Python."""

import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import Grid, on_grid
from backsight_features.indicators import BLOCK, MEMORY, indicators
from backsight_features.market import FEATURES, features, market
from hypothesis import given, settings
from hypothesis import strategies as st

HOUR = timedelta(hours=1)
NAMES = [feature.name for feature in FEATURES]


def values(frame: pl.DataFrame, name: str) -> list[float | None]:
    return market(frame, "1h")[name].to_list()


def wilder(values_: list[float], length: int) -> float:
    """Return the last of Wilder's averages, begun with a plain mean."""
    mean = fmean(values_[:length])
    for value in values_[length:]:
        mean = (mean * (length - 1) + value) / length
    return mean


def exponential(values_: list[float], length: int) -> list[float]:
    """Return exponential averages, begun with a plain mean."""
    out = [fmean(values_[:length])]
    for value in values_[length:]:
        out.append(out[-1] + 2 / (length + 1) * (value - out[-1]))
    return out


# --- by hand ---


def test_returns_by_hand(bars_of: Callable) -> None:
    frame = bars_of(np.array([100.0, 110.0, 99.0]))
    assert values(frame, "ret_log_1h") == [None, pytest.approx(math.log(1.1)), pytest.approx(math.log(0.9))]


def test_a_gap_is_null_not_filled(bars_of: Callable) -> None:
    frame = bars_of(np.array([100.0, 110.0, np.nan, 99.0, 108.9]))
    one, two, four, five = values(frame, "ret_log_1h")
    assert (one, two, four, five) == (None, pytest.approx(math.log(1.1)), None, pytest.approx(math.log(1.1)))


def test_day_return_needs_the_slot_a_day_before(bars_of: Callable) -> None:
    close = np.arange(100.0, 126.0)
    close[1] = np.nan
    out = values(bars_of(close), "ret_log_24h")
    assert out == [None] * 23 + [pytest.approx(math.log(124 / 100)), None]


def test_range_by_hand(bars_of: Callable) -> None:
    frame = bars_of(np.array([100.0])).with_columns(high=pl.lit(121.0), low=pl.lit(100.0))
    assert values(frame, "range_1h") == [pytest.approx(2 * math.log(1.1))]


def test_realised_variance_by_hand(bars_of: Callable) -> None:
    # Up and down by 1 % in the log: 24 squared returns of 1e-4, half of them negative.
    close = 100 * np.exp(0.01 * (np.arange(25) % 2))
    frame = bars_of(close)
    assert values(frame, "log_rv_24h")[-1] == pytest.approx(math.log(24e-4))
    assert values(frame, "rsv_neg_24h")[-1] == pytest.approx(0.5)


def test_a_gap_scales_the_realised_variance(bars_of: Callable) -> None:
    close = 100 * np.exp(0.01 * (np.arange(25) % 2))
    close[10] = np.nan
    # Two returns of 24 are missing; the sum is scaled by 24 / 22.
    assert values(bars_of(close), "log_rv_24h")[-1] == pytest.approx(math.log(24e-4))
    close[12] = np.nan
    # With four missing less than nine tenths are there.
    assert values(bars_of(close), "log_rv_24h")[-1] is None


def test_prices_that_do_not_move_have_no_variance_and_no_strength(bars_of: Callable) -> None:
    frame = bars_of(np.full(60, 100.0)).with_columns(high="close", low="close", volume=pl.lit(2.0))
    last = market(frame, "1h").row(-1, named=True)
    undefined = {"log_rv_24h", "log_rv_120h", "log_rv_528h", "rsv_neg_24h", "rsi_14", "boll_pctb_20", "volume_z_168h"}
    assert {name for name in NAMES if last[name] is None} == undefined
    assert last["boll_width_20"] == 0
    assert last["parkinson_24h"] == 0


def test_parkinson_by_hand(bars_of: Callable) -> None:
    frame = bars_of(np.full(24, 100.0)).with_columns(high=pl.lit(102.0), low=pl.lit(100.0))
    expected = math.sqrt(24 * math.log(1.02) ** 2 / (4 * math.log(2)))
    assert values(frame, "parkinson_24h")[-1] == pytest.approx(expected)


def test_calendar_by_hand(bars_of: Callable) -> None:
    # Closes at 06:00 on a Monday.
    frame = bars_of(np.array([100.0]), start=datetime(2024, 1, 1, 6, tzinfo=UTC))
    row = market(frame, "1h").row(0, named=True)
    found = [row[name] for name in ("hour_sin", "hour_cos", "dow_sin", "dow_cos")]
    assert found == pytest.approx([1, 0, 0, 1], abs=1e-7)


# --- against formulas ---


def test_har_terms(bars_of: Callable, walk: Callable) -> None:
    close = walk(600, seed=3)
    row = market(bars_of(close), "1h").row(-1, named=True)
    returns = [math.log(b / a) for a, b in itertools.pairwise(close)]
    for hours in (24, 120, 528):
        assert row[f"log_rv_{hours}h"] == pytest.approx(math.log(sum(r * r for r in returns[-hours:])), rel=1e-6)
    negative = sum(min(r, 0) ** 2 for r in returns[-24:]) / sum(r * r for r in returns[-24:])
    assert row["rsv_neg_24h"] == pytest.approx(negative, rel=1e-6)


def test_volume_z(bars_of: Callable, walk: Callable) -> None:
    frame = bars_of(walk(200, seed=4))
    volume = frame["volume"].to_list()[-168:]
    assert values(frame, "volume_z_168h")[-1] == pytest.approx((volume[-1] - fmean(volume)) / pstdev(volume), rel=1e-6)


def test_bollinger(bars_of: Callable, walk: Callable) -> None:
    close = walk(50, seed=5)
    row = market(bars_of(close), "1h").row(-1, named=True)
    middle, deviation = fmean(close[-20:]), pstdev(close[-20:])
    lower, upper = middle - 2 * deviation, middle + 2 * deviation
    assert row["boll_pctb_20"] == pytest.approx((close[-1] - lower) / (upper - lower), rel=1e-6)
    assert row["boll_width_20"] == pytest.approx((upper - lower) / middle, rel=1e-6)


def test_rsi(bars_of: Callable, walk: Callable) -> None:
    close = walk(80, seed=6)
    moves = [b - a for a, b in itertools.pairwise(close)]
    gain = wilder([max(m, 0) for m in moves], 14)
    loss = wilder([max(-m, 0) for m in moves], 14)
    assert values(bars_of(close), "rsi_14")[-1] == pytest.approx(100 * gain / (gain + loss), rel=1e-6)


def test_macd(bars_of: Callable, walk: Callable) -> None:
    close = walk(80, seed=7).tolist()
    # TA-Lib begins the fast average so that both have their first value at the 26th bar.
    fast, slow = exponential(close[14:], 12), exponential(close, 26)
    macd = [f - s for f, s in zip(fast, slow, strict=True)]
    signal = exponential(macd, 9)[-1]
    assert values(bars_of(np.array(close)), "macd_hist")[-1] == pytest.approx((macd[-1] - signal) / close[-1], rel=1e-6)


def true_ranges(frame: pl.DataFrame) -> list[float]:
    rows = frame.select("high", "low", "close").rows()
    return [max(h, c) - min(low, c) for (_, _, c), (h, low, _) in itertools.pairwise(rows)]


def test_atr(bars_of: Callable, walk: Callable) -> None:
    frame = bars_of(walk(80, seed=8))
    expected = wilder(true_ranges(frame), 14) / frame["close"][-1]
    assert values(frame, "atr_14")[-1] == pytest.approx(expected, rel=1e-6)


def test_adx(bars_of: Callable, walk: Callable) -> None:
    frame = bars_of(walk(80, seed=9))
    rows = frame.select("high", "low").rows()
    up = [b[0] - a[0] for a, b in itertools.pairwise(rows)]
    down = [a[1] - b[1] for a, b in itertools.pairwise(rows)]
    plus = [u if u > d and u > 0 else 0 for u, d in zip(up, down, strict=True)]
    minus = [d if d > u and d > 0 else 0 for u, d in zip(up, down, strict=True)]

    def sums(moves: list[float]) -> list[float]:
        # Wilder's running sum: begun with 13 moves, then a fourteenth of it leaves as each new one comes in.
        total = sum(moves[:13])
        out = []
        for move in moves[13:]:
            total = total - total / 14 + move
            out.append(total)
        return out

    ranges, rising, falling = sums(true_ranges(frame)), sums(plus), sums(minus)
    strengths = [100 * abs(p - m) / (p + m) for p, m, _ in zip(rising, falling, ranges, strict=True)]
    assert values(frame, "adx_14")[-1] == pytest.approx(wilder(strengths, 14), rel=1e-6)


# --- promises ---


def test_columns_are_those_declared(bars_of: Callable, walk: Callable) -> None:
    frame = market(bars_of(walk(700, seed=1)), "1h")
    assert frame.columns == ["observed_at", "available_at", *NAMES]
    assert set(frame.select(NAMES).dtypes) == {pl.Float32}
    assert frame.tail(1).null_count().row(0) == (0,) * frame.width


@pytest.mark.parametrize(
    ("bar", "has", "has_not"),
    [
        ("1m", {"ret_log_1m", "ret_log_24h", "range_1m", "hour_sin"}, {"ret_log_1h"}),
        ("4h", {"ret_log_4h", "log_rv_24h", "volume_z_168h"}, set()),
        ("1d", {"ret_log_1d", "log_rv_120h", "log_rv_528h"}, {"ret_log_24h", "log_rv_24h", "hour_sin"}),
    ],
)
def test_other_timeframes_keep_the_length_of_windows_in_time(
    bar: str, has: set[str], has_not: set[str], bars_of: Callable, walk: Callable
) -> None:
    names = {feature.name for feature in features(bar)}
    assert has <= names
    assert not has_not & names
    step = {"1m": timedelta(minutes=1), "4h": timedelta(hours=4), "1d": timedelta(days=1)}[bar]
    frame = market(bars_of(walk(60, seed=1), start=datetime(2024, 1, 1, tzinfo=UTC), step=step), bar)
    assert set(frame.columns) == names | {"observed_at", "available_at"}


def test_nothing_is_ever_infinite_or_nan(bars_of: Callable, walk: Callable) -> None:
    frame = bars_of(walk(800, seed=2, gaps=0.1)).with_columns(volume=pl.lit(0.0))
    frame = frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 100 < 30).then(50.0).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    numbers = market(frame, "1h").select(NAMES)
    assert numbers.select(pl.all().drop_nulls().is_finite().all()).row(0) == (True,) * len(NAMES)


def test_an_indicator_does_not_reach_over_a_gap(bars_of: Callable, walk: Callable) -> None:
    close = walk(120, seed=3)
    broken = close.copy()
    broken[59] = np.nan
    after = values(bars_of(broken), "rsi_14")[59:]
    assert after[:14] == [None] * 14
    assert after[14:] == values(bars_of(close[60:]), "rsi_14")[14:]


def test_indicators_have_forgotten_what_lies_before_their_blocks(walk: Callable) -> None:
    close = walk(3 * BLOCK, seed=4)
    high, low = close * 1.01, close * 0.99
    in_blocks = indicators(high, low, close, first=0)
    # Blocks that begin elsewhere give the same numbers, but for rounding.
    elsewhere = indicators(high, low, close, first=BLOCK // 2)
    for one, other in zip(in_blocks, elsewhere, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    first=st.integers(0, 5_000),
    start=st.integers(0, 600),
    gaps=st.sampled_from([0.0, 0.002, 0.1]),
)
def test_a_slice_is_the_same_slice_of_the_whole(
    seed: int, first: int, start: int, gaps: float, bars_of: Callable, walk: Callable
) -> None:
    begin = datetime(2020, 1, 1, tzinfo=UTC) + first * HOUR
    facts = bars_of(walk(MEMORY + 700, seed=seed, gaps=gaps), start=begin, seed=seed)
    late = pl.col("available_at") + pl.when(pl.int_range(pl.len()) % 97 == seed % 97).then(5 * HOUR).otherwise(0 * HOUR)
    facts = facts.with_columns(available_at=late)
    whole = market(facts, "1h").filter(pl.col("observed_at") >= begin + (MEMORY + start) * HOUR)
    lookback = max(feature.lookback for feature in FEATURES)
    needed = facts.filter(pl.col("observed_at") >= whole["observed_at"][0] - lookback)
    part = market(needed, "1h").filter(pl.col("available_at") >= whole["available_at"][0])
    assert part.equals(whole, null_equal=True)


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_a_lookback_is_long_enough(feature, bars_of: Callable, walk: Callable) -> None:
    facts = bars_of(walk(MEMORY + 200, seed=11))
    newest = facts["observed_at"].max()
    needed = facts.filter(pl.col("observed_at") >= newest - feature.lookback)
    assert market(needed, "1h")[feature.name][-1] == market(facts, "1h")[feature.name][-1]


def test_late_bars_change_no_row_before_they_came(bars_of: Callable, walk: Callable) -> None:
    facts = bars_of(walk(300, seed=12))
    late = facts[100].with_columns(available_at=facts["available_at"][250] + timedelta(seconds=7))
    without = pl.concat([facts[:100], facts[101:]])
    came = late["available_at"][0]
    found = market(pl.concat([without, late]), "1h")
    before, after = found.filter(pl.col("available_at") < came), found.filter(pl.col("available_at") >= came)
    assert before.equals(market(without, "1h").filter(pl.col("available_at") < came))
    assert after[1:].equals(market(facts, "1h").filter(pl.col("available_at") > came))
    # The row of the late bar itself repeats the newest close, with what is now known about it.
    assert after.drop("available_at")[0].equals(market(facts, "1h").drop("available_at")[250])


def test_bars_off_the_grid_are_not_read(bars_of: Callable) -> None:
    odd = bars_of(np.array([100.0]), start=datetime(2024, 1, 1, 0, 28, tzinfo=UTC))
    assert on_grid(odd, Grid(step=HOUR)).is_empty()
