"""Samples: what is in them, what is not, and that the future has no say."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from backsight_features.errors import BadInput
from backsight_features.windows import Windows
from backsight_model.training import TrainingSet, label

HOURS = 900
World = Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]
Cut = Callable[[pl.DataFrame, int], Windows]


@pytest.fixture(scope="module")
def facts(bars_and_states: World) -> tuple[pl.DataFrame, pl.DataFrame]:
    return bars_and_states(3, HOURS)


def test_samples_are_windows_whose_label_exists(facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut) -> None:
    bars, states = facts
    data = label(cut(states, 6), {"BTC-USD": bars}, horizon=24)
    assert data.left_out == {
        "no bar at the instant": 0,
        "history too short or broken": 527,
        "a bar ahead is missing": 24,
    }
    assert len(data) == HOURS - 527 - 24
    close = np.log(bars["close"].to_numpy())
    np.testing.assert_allclose(data.log_return[0], close[527 + 24] - close[527], rtol=1e-9)
    assert data.windows.observed_at[0] == np.datetime64("2023-01-01T00:00:00") + np.timedelta64(528, "h")
    assert data.label_at[0] == data.at[0] + np.timedelta64(24, "h")
    np.testing.assert_allclose(data.newest("ret_log_1h")[5], np.float32(close[532] - close[531]), rtol=1e-4, atol=1e-7)


def test_a_gap_in_the_bars_takes_the_labels_across_it(facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut) -> None:
    bars, states = facts
    holed = bars.filter(pl.int_range(pl.len()) != 700)
    data = label(cut(states, 6), {"BTC-USD": holed}, horizon=24)
    assert data.left_out["a bar ahead is missing"] == 24 + 25


def future_facts(bars: pl.DataFrame, states: pl.DataFrame, at: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Change every fact that became available after an instant, and correct old ones then."""
    later = pl.col("available_at") > at
    corrected = bars.filter(~later).with_columns(
        pl.col("close") * 1.5, available_at=pl.col("available_at") + timedelta(days=400)
    )
    changed = bars.with_columns(pl.when(later).then(pl.col("close") * 3).otherwise("close").alias("close"))
    values = pl.selectors.float()
    return (
        pl.concat([changed, corrected]),
        states.with_columns(pl.when(later).then(values * -7).otherwise(values)),
    )


@pytest.mark.parametrize("hour", [620, 800])
def test_facts_after_an_instant_change_no_sample_known_by_then(
    facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut, hour: int
) -> None:
    bars, states = facts
    instant = np.datetime64("2023-01-01", "us") + np.timedelta64(hour, "h")
    before = label(cut(states, 6), {"BTC-USD": bars}, horizon=24)
    after = label(cut(states, 6), {"BTC-USD": bars}, horizon=24)
    changed = label(
        *(lambda b, s: (cut(s, 6), {"BTC-USD": b}))(
            *future_facts(bars, states, pl.lit(instant).dt.replace_time_zone("UTC"))
        ),
        horizon=24,
    )

    def known(data: TrainingSet) -> tuple[np.ndarray, ...]:
        which = np.flatnonzero(data.label_at <= instant)
        return (
            data.windows.gather(which),
            data.at[which],
            data.label_at[which],
            data.log_rv[which],
            data.log_return[which],
        )

    assert len(known(before)[1]) == hour - 527 - 24 - 1
    for one, same, other in zip(known(before), known(after), known(changed), strict=True):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, other)
    assert before.sha256() == after.sha256() != changed.sha256()


def test_the_digest_covers_values_labels_and_order_of_features(world: Callable[..., TrainingSet]) -> None:
    from dataclasses import replace

    data = world(0, hours=700)
    assert data.sha256() == world(0, hours=700).sha256()
    bent = data.windows.rows.copy()
    bent[-2, 0] += 1
    features = data.windows.features
    others = [
        world(1, hours=700),
        replace(data, log_rv=data.log_rv + 1e-12),
        replace(data, windows=replace(data.windows, rows=bent)),
        replace(data, windows=replace(data.windows, features=(features[1], features[0], *features[2:]))),
    ]
    assert len({data.sha256(), *(other.sha256() for other in others)}) == 5


def test_what_the_baselines_need_must_be_there(facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut) -> None:
    bars, states = facts
    with pytest.raises(BadInput, match="log_rv_120h are absent"):
        label(cut(states.drop("log_rv_120h"), 6), {"BTC-USD": bars}, horizon=24)
    with pytest.raises(BadInput, match="no sample: 0 without a bar, 100 without history"):
        label(cut(states.head(100), 6), {"BTC-USD": bars}, horizon=24)


def test_a_sample_has_the_labels_of_all_horizons(facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut) -> None:
    bars, states = facts
    data, alone = (label(cut(states, 6), {"BTC-USD": bars}, horizon=6, further=further) for further in ((1, 48), ()))
    assert data.horizons == (6, 1, 48)
    assert len(data) == HOURS - 527 - 48 == len(alone) - 42
    main, soon, late = data.views
    for view, hours in ((main, 6), (soon, 1), (late, 48)):
        single = label(cut(states, 6), {"BTC-USD": bars}, horizon=hours)
        np.testing.assert_array_equal(view.log_rv, single.log_rv[: len(data)])
        np.testing.assert_array_equal(view.log_return, single.log_return[: len(data)])
        assert view.horizons == (hours,)
        # What splits time waits for the longest.
        np.testing.assert_array_equal(view.label_at, late.at + np.timedelta64(48, "h"))
    first = data.first(100)
    assert [len(came.log_rv) for came in first.further.values()] == [100, 100]


def test_the_digest_covers_every_horizon(facts: tuple[pl.DataFrame, pl.DataFrame], cut: Cut) -> None:
    from dataclasses import replace

    bars, states = facts
    data = label(cut(states, 6), {"BTC-USD": bars}, horizon=24, further=(1,))
    bent = replace(data.further[1], log_return=data.further[1].log_return + 1e-12)
    others = [replace(data, further={1: bent}), replace(data, further={2: data.further[1]}), replace(data, further={})]
    assert len({data.sha256(), *(other.sha256() for other in others)}) == 4
    with pytest.raises(BadInput, match="horizons of 24, 6, 24 bars: name each of them once"):
        label(cut(states, 6), {"BTC-USD": bars}, horizon=24, further=(6, 24))
