"""Bar series and what was known of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries, Grid, affected, clocks, epochs, read, rows
from backsight_features.clocks import to_us
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_features.snapshot import Snapshot
from hypothesis import example, given, settings
from hypothesis import strategies as st

HOUR = timedelta(hours=1)
T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOURLY = Grid(step=HOUR)
COLUMNS = ["observed_at", "available_at", "ingested_at", "open", "high", "low", "close", "volume", "quote_volume"]


def versions(*rows_: tuple[int, float, float]) -> pl.DataFrame:
    """Return versions from (hour of close, hour of becoming known, close)."""
    frame = pl.DataFrame(rows_, schema=["observed_at", "available_at", "close"], orient="row")
    hours = [
        (pl.lit(T0) + pl.duration(seconds=pl.col(name) * 3600)).alias(name) for name in ("observed_at", "available_at")
    ]
    return (
        frame.with_columns(
            *hours,
            open=pl.col("close"),
            high=pl.col("close"),
            low=pl.col("close"),
            volume=pl.lit(1.0),
            quote_volume=pl.lit(None, pl.Float64),
        )
        .with_columns(ingested_at="available_at")
        .select(COLUMNS)
    )


def known(frame: pl.DataFrame, memory: int = 10) -> list[tuple[float, int, list[float | None]]]:
    """Return (hour, newest slot, closes up to it) of each row."""
    first = (to_us(T0) - HOURLY.origin_us) // HOURLY.step_us
    return [
        (
            round((at - to_us(T0)) / 3.6e9, 6),
            slot - first,
            [None if np.isnan(c) else c for c in epoch.bars.close[: slot - epoch.first + 1].tolist()],
        )
        for epoch in epochs(frame, HOURLY, memory)
        for slot, at in zip(epoch.slot.tolist(), epoch.available_at.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bitstamp:BTC-USD", "not a bar series"),
        ("bitstamp::1h", "not a bar series"),
        ("a:b:c:1h", "not a bar series"),
        ("bitstamp:BTC-USD:hour", "not a timeframe"),
    ],
)
def test_a_name_that_names_no_series(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        BarSeries.parse(text)


def test_a_name_is_read_back() -> None:
    assert str(BarSeries.parse("bitstamp:BTC-USD:1h")) == "bitstamp:BTC-USD:1h"


def test_bars_in_order_are_one_epoch() -> None:
    frame = versions((1, 1.1, 10), (2, 2.1, 20), (4, 4.1, 40))
    assert len(list(epochs(frame, HOURLY, 10))) == 1
    assert known(frame) == [(1.1, 1, [10]), (2.1, 2, [10, 20]), (4.1, 4, [10, 20, None, 40])]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(
            versions((1, 1.1, 10), (2, 4.5, 20), (3, 3.1, 30), (4, 4.1, 40), (5, 5.1, 50)),
            [
                (1.1, 1, [10]),
                (3.1, 3, [10, None, 30]),
                (4.1, 4, [10, None, 30, 40]),
                (4.5, 4, [10, 20, 30, 40]),
                (5.1, 5, [10, 20, 30, 40, 50]),
            ],
            id="a late bar",
        ),
        pytest.param(
            versions((1, 1.1, 10), (2, 2.1, 20), (1, 2.5, 11), (3, 3.1, 30)),
            [(1.1, 1, [10]), (2.1, 2, [10, 20]), (2.5, 2, [11, 20]), (3.1, 3, [11, 20, 30])],
            id="a correction",
        ),
        pytest.param(
            versions((1, 1.1, 10), (1, 1.2, 11), (2, 2.1, 20)),
            [(1.1, 1, [10]), (1.2, 1, [11]), (2.1, 2, [11, 20])],
            id="the newest bar is corrected",
        ),
        pytest.param(
            versions((1, 1.1, 10), (2, 2.1, 20), (1, 2.1, 11)),
            [(1.1, 1, [10]), (2.1, 2, [11, 20])],
            id="a correction that comes with a new bar",
        ),
        pytest.param(
            versions((3, 3.1, 30), (1, 3.1, 10), (2, 3.1, 20)),
            [(3.1, 3, [10, 20, 30])],
            id="all at once",
        ),
    ],
)
def test_what_was_known(frame: pl.DataFrame, expected: list) -> None:
    assert known(frame) == expected
    assert known(frame.sample(fraction=1, shuffle=True, seed=1)) == expected


def test_of_two_versions_at_one_instant_the_one_ingested_later_counts() -> None:
    frame = versions((1, 1.5, 10), (1, 1.5, 5)).with_columns(ingested_at=pl.Series([T0, T0 + HOUR]))
    assert known(frame) == known(frame.reverse()) == [(1.5, 1, [5])]
    assert known(frame.with_columns(pl.col("ingested_at").reverse())) == [(1.5, 1, [10])]


def test_an_epoch_reaches_back_as_far_as_asked() -> None:
    frame = versions(*((i, i + 0.1, float(i)) for i in range(1, 8)), (1, 7.5, 99))
    first, second = epochs(frame, HOURLY, 3)
    assert first.bars.close.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert second.bars.close.tolist() == [4, 5, 6, 7]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(0, 6), st.integers(1, 5)),
        min_size=1,
        max_size=20,
    )
)
def test_epochs_agree_with_looking_at_each_instant_alone(made: list[tuple[int, int, int]]) -> None:
    frame = versions(*((slot, slot + 0.1 + delay, float(price)) for slot, delay, price in made))
    expected = []
    for at in frame["available_at"].unique().sort():
        past = frame.filter(pl.col("available_at") <= at).sort("available_at", "ingested_at", "close")
        now = past.unique("observed_at", keep="last", maintain_order=True).sort("observed_at")
        closes = dict(zip([(close - T0) // HOUR for close in now["observed_at"]], now["close"], strict=True))
        oldest = int((frame["observed_at"].min() - T0) / HOUR)
        newest = max(closes)
        expected.append((round((at - T0) / HOUR, 6), newest, [closes.get(slot) for slot in range(oldest, newest + 1)]))
    assert [(at, slot, closes) for at, slot, closes in known(frame)] == expected


def test_bars_off_the_grid_are_left_out() -> None:
    odd = versions((1, 1.1, 10), (2, 2.1, 20)).with_columns(
        observed_at=pl.when(pl.col("close") == 20)
        .then(pl.col("observed_at") + timedelta(minutes=28))
        .otherwise("observed_at")
    )
    assert known(odd) == [(1.1, 1, [10])]


def test_weekly_bars_close_on_mondays() -> None:
    monday = to_us(datetime(2024, 1, 8, tzinfo=UTC))
    grid = BarSeries.parse("v:BTC-USD:1w").grid
    assert (monday - grid.origin_us) % grid.step_us == 0


def test_rows_carry_the_close_of_the_newest_bar() -> None:
    (epoch,) = epochs(versions((1, 1.25, 10)), HOURLY, 10)
    assert rows(epoch, HOURLY).rows() == [(T0 + HOUR, T0 + 1.25 * HOUR)]


def test_quote_volume_stands_in_for_volume() -> None:
    frame = versions((1, 1.1, 10), (2, 2.1, 20)).with_columns(
        volume=pl.when(pl.col("close") == 10).then("volume"), quote_volume=pl.lit(60.0)
    )
    (epoch,) = epochs(frame, HOURLY, 10)
    assert epoch.bars.volume.tolist() == [1, 3]


def test_a_series_that_is_not_in_the_lake(tmp_path, bars_of: Callable) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(BadInput, match="no bars v:BTC-USD:4h in the lake; there are none at all"):
        read(Snapshot.take(lake), BarSeries.parse("v:BTC-USD:4h"))
    lake.append(BARS, bars_of(np.array([1.0, 2.0])), now=T0)
    with pytest.raises(BadInput, match="no bars v:BTC-USD:4h in the lake; there are v:BTC-USD:1h"):
        read(Snapshot.take(lake), BarSeries.parse("v:BTC-USD:4h"))
    assert read(Snapshot.take(lake), BarSeries.parse("v:BTC-USD:1h")).height == 2


def test_a_series_that_is_all_off_its_grid(tmp_path, bars_of: Callable) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars_of(np.array([1.0, 2.0]), start=T0 + timedelta(minutes=7)), now=T0)
    with pytest.raises(BadInput, match="closes on the 1h grid"):
        read(Snapshot.take(lake), BarSeries.parse("v:BTC-USD:1h"))


@pytest.mark.parametrize("hours", [(0, 1), (1, 0)], ids=["in order", "out of order"])
def test_of_two_versions_at_one_instant_the_one_that_counts_is_read_last(
    tmp_path, bars_of: Callable, hours: tuple[int, int]
) -> None:
    lake = Lake(tmp_path)
    for hour in hours:
        bar = bars_of(np.array([200.0 - 100 * hour]), start=T0).drop("ingested_at")
        lake.append(BARS, bar, now=T0 + (1 + hour) * HOUR)
    stored = read(Snapshot.take(lake), BarSeries.parse("v:BTC-USD:1h"))
    assert stored["close"].to_list() == [200.0, 100.0]
    assert known(stored)[0][2] == [100.0]


def test_a_snapshot_does_not_see_what_is_written_later(tmp_path, bars_of: Callable) -> None:
    lake = Lake(tmp_path)
    nothing = Snapshot.take(lake)
    lake.append(BARS, bars_of(np.array([1.0])), now=T0)
    first = Snapshot.take(lake)
    lake.append(BARS, bars_of(np.array([2.0]), start=T0), now=T0 + HOUR)
    assert [s.scan(BARS).collect().height for s in (nothing, first, Snapshot.take(lake))] == [0, 1, 2]
    assert Snapshot.take(lake, ingested_until=T0).scan(BARS).collect().height == 1


@settings(deadline=None, max_examples=60)
@example(rows_=[(0, 0, 1), (0, 0, 1), (2, 0, 1)], came={0, 1}, memory=1)
@given(
    rows_=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(1, 99)), min_size=2, max_size=40),
    came=st.sets(st.integers(0, 39), max_size=6),
    memory=st.integers(0, 6),
)
def test_what_is_remembered_differs_only_where_bars_that_came_in_affect_it(
    rows_: list[tuple[int, int, int]], came: set[int], memory: int
) -> None:
    all_ = versions(*((slot, max(slot, known), float(close)) for slot, known, close in rows_))
    new = pl.Series([i in came for i in range(all_.height)])

    def remembered(frame: pl.DataFrame) -> dict[float, tuple[int, list[float | None]]]:
        # A slot before the first bar is as empty as one without a bar.
        begin = [None] * memory
        return {at: (slot, [*begin, *closes][-memory - 1 :]) for at, slot, closes in known(frame, memory)}

    with_, without = remembered(all_), remembered(all_.filter(~new))
    differ = {at for at in with_ if with_[at] != without.get(at)}
    spans = affected(all_.filter(new), clocks(all_.filter(~new), HOURLY), HOURLY, memory)
    held = {at for at in with_ if any(span.start <= to_us(T0) + round(at * 3.6e9) < span.stop for span in spans)}
    assert differ <= held
    assert set(without) <= set(with_)
