"""Trading by hand: one bar late, at a cost, against the same positions at other times."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import numpy as np
import polars as pl
import pytest
from backsight_model import performance
from backsight_model.trading import RULES, Costs, Tape, Trading, book, delayed, spread, trade, trade_walk
from backsight_model.training import TrainingSet
from backsight_model.walk import MODEL, Walk

HOUR = timedelta(hours=1)
START = np.datetime64("2024-01-01T00:00", "us")
FREE = Costs(fee_bp=0, half_spread_bp=0, slippage_bp=0)
PROVEN = {"volatility": True, "direction": True}


def tape_of(returns: np.ndarray) -> Tape:
    return Tape(closed_at=START + np.arange(len(returns)) * np.timedelta64(1, "h"), returns=returns, step=HOUR)


def traded(
    tape: Tape, p_up: np.ndarray, *, volatility: np.ndarray | None = None, horizon: int = 1, costs: Costs = FREE
) -> Trading:
    m = len(p_up)
    held = book(
        tape,
        tape.closed_at[:m],
        p_up=p_up,
        volatility=np.full(m, 0.01) if volatility is None else volatility,
        usual=0.01,
        horizon=horizon,
    )
    return trade({"BTC-USD": held}, horizon=horizon, lag=4 * horizon, costs=costs)


def test_every_figure_of_a_small_tape() -> None:
    # Forecasts at the closes of bars 0, 1, 2; traded at the closes of 1, 2, 3; earned over bars 2, 3, 4.
    tape = tape_of(np.array([0.0, 0.50, 0.01, -0.02, 0.03, 0.50]))
    made = traded(tape, np.array([0.9, 0.9, 0.1]), costs=Costs(fee_bp=8, half_spread_bp=1, slippage_bp=1))
    sign, sized, targeted, managed = made.rules
    np.testing.assert_allclose(sign.held, [0, 0, 1, 1, -1, 0])
    np.testing.assert_allclose(sign.gross, [0, 0, 0.01, -0.02, -0.03, 0])
    np.testing.assert_allclose(sign.net, [0, 0, 0.01 - 0.001, -0.02, -0.03 - 0.002, -0.001])
    assert sign.turnover == pytest.approx(4 / 6 * 365 * 24)
    assert sign.gross_year == pytest.approx(-0.04 / 6 * 365 * 24)
    assert sign.net_year == pytest.approx(-0.044 / 6 * 365 * 24)
    assert sign.break_even_bp == pytest.approx(1e4 * -0.04 / 4)
    assert sign.exposure == pytest.approx(0.5)
    assert sign.drawdown == pytest.approx(1 - 0.98 * 0.968 * 0.999)
    assert sign.sharpe == pytest.approx(sign.net.mean() / sign.net.std() * np.sqrt(365 * 24))
    loss = np.sqrt(np.square([0.02, 0.032, 0.001]).sum() / 6)
    assert sign.sortino == pytest.approx(sign.net.mean() / loss * np.sqrt(365 * 24))
    np.testing.assert_allclose(sized.held, [0, 0, 0.8, 0.8, -0.8, 0])
    np.testing.assert_allclose(targeted.held, [0, 0, 0.5, 0.5, -0.5, 0])
    np.testing.assert_allclose(managed.held, [0, 0, 0.5, 0.5, 0.5, 0], atol=1e-15)
    np.testing.assert_allclose(made.hold.held, [0, 0, 1, 1, 1, 1])
    assert made.hold.net.sum() == pytest.approx(0.01 - 0.02 + 0.03 + 0.5 - 0.002)


@pytest.mark.parametrize(("ahead", "earns"), [(0, False), (1, False), (2, True), (3, False)])
def test_who_knows_the_bar_that_is_gone_when_the_trade_is_made_earns_nothing(ahead: int, earns: bool) -> None:
    moves = 0.01 * np.random.default_rng(0).standard_normal(4000)
    known = np.roll(moves, -ahead)[:-4]
    sign = traded(tape_of(moves), np.where(known > 0, 0.9, 0.1)).rules[0]
    if earns:
        np.testing.assert_allclose(sign.gross[2:-2], np.abs(moves[2:-2]))
        assert sign.p_value < 0.002
    else:
        assert abs(sign.gross.mean()) < 3 * moves.std() / np.sqrt(4000)
        assert sign.p_value > 0.05


def test_overlapping_forecasts_earn_every_bar_once() -> None:
    moves = np.random.default_rng(1).normal(0, 0.01, 200)
    made = traded(tape_of(moves), np.full(100, 0.9), horizon=24).rules[0]
    assert made.held.max() == pytest.approx(1)
    assert made.held[2] == pytest.approx(1 / 24)
    # Each of the 100 forecasts has one part of 24 in it, over the 24 bars from the trade on.
    singly = sum(moves[start + 2 : start + 26].sum() / 24 for start in range(100))
    assert made.gross.sum() == pytest.approx(singly)
    np.testing.assert_allclose(made.held[126:], 0, atol=1e-12)
    assert made.turnover == pytest.approx(2 / 200 * 365 * 24)


def test_volatility_targeting_uses_no_more_than_all() -> None:
    tape = tape_of(np.zeros(6))
    managed = traded(tape, np.full(4, 0.5), volatility=np.array([0.001, 0.005, 0.02, 0.04])).rules[3]
    np.testing.assert_allclose(managed.held, [0, 0, 1, 1, 0.25, 0.125])


def test_no_forecast_is_no_position_and_a_missing_bar_is_caught_up() -> None:
    closes = START + np.array([0, 1, 2, 5, 6, 7]) * np.timedelta64(1, "h")
    tape = Tape(closed_at=closes, returns=np.array([0, 0.01, 0.01, 0.09, 0.01, 0.01]), step=HOUR)
    asked = spread(tape, closes[[0, 1, 2, 4]], np.ones(4), horizon=2)
    np.testing.assert_allclose(asked, [0.5, 1, 1, 0, 0.5, 0.5])
    np.testing.assert_allclose(delayed(asked), [0, 0, 0.5, 1, 1, 0])


def test_a_tape_is_read_from_bars_as_they_were_corrected() -> None:
    closes = [f"2024-01-01T0{hour}:00:00Z" for hour in (1, 2, 2, 3, 5, 6)]
    bars = pl.DataFrame({"observed_at": closes, "close": [100.0, 999.0, 110.0, 99.0, 198.0, 1.0]}).with_columns(
        pl.col("observed_at").str.to_datetime(time_unit="us", time_zone="UTC")
    )
    tape = Tape.read(bars, first=np.datetime64("2024-01-01T01:00"), last=np.datetime64("2024-01-01T05:00"), step=HOUR)
    np.testing.assert_allclose(tape.returns, [0, 0.1, -0.1, 1.0])
    assert tape.closed_at[-1] == np.datetime64("2024-01-01T05:00")
    assert tape.per_year == 365 * 24


@pytest.mark.parametrize(("hours_late", "held_over"), [(0, 102), (3, 105)])
def test_a_bar_that_came_late_is_traded_late(
    world: Callable[..., TrainingSet], hours_late: int, held_over: int
) -> None:
    data = world(0, hours=900, horizon=1)
    samples = np.delete(np.arange(200, 320), [101, 102, 103])
    closes = data.windows.observed_at[200] + np.arange(120) * np.timedelta64(1, "h")
    at = data.at.copy()
    at[300] += np.timedelta64(hours_late, "h")
    p_up = np.full(len(samples), 0.5)
    p_up[100] = 0.9
    late = replace(data, windows=replace(data.windows, at=at))
    zeros = {MODEL: np.zeros(len(samples))}
    walk = cast("Walk", SimpleNamespace(samples=samples, p_up={MODEL: p_up}, log_rv=zeros, below_mean=zeros))
    bars = pl.DataFrame({"observed_at": closes, "close": np.exp(np.arange(120) / 100)}).with_columns(
        pl.col("observed_at").dt.replace_time_zone("UTC")
    )
    made = trade_walk(late, walk, {"BTC-USD": bars}, lag=4, costs=FREE)
    assert np.flatnonzero(made.rules[0].held).tolist() == [held_over]
    usual = np.exp(0.5 * data.log_rv[data.label_at <= data.at[200]].mean())
    assert made.rules[3].held[50] == pytest.approx(min(1.0, usual / 2))


def test_costs_are_paid_for_what_is_traded_and_break_even_is_where_nothing_is_left() -> None:
    rng = np.random.default_rng(2)
    tape, p_up = tape_of(rng.normal(0.0005, 0.01, 500)), rng.uniform(0.3, 0.8, 490)
    free = traded(tape, p_up, horizon=4)
    for one in free.rules:
        assert one.break_even_bp is not None
        np.testing.assert_array_equal(one.net, one.gross)
        costs = Costs(fee_bp=one.break_even_bp, half_spread_bp=0, slippage_bp=0)
        again = next(other for other in traded(tape, p_up, horizon=4, costs=costs).rules if other.rule == one.rule)
        assert again.net.sum() == pytest.approx(0, abs=1e-12)
        assert again.turnover == one.turnover
    assert Costs().per_side_bp == 12


def test_random_positions_trade_as_much_and_are_counted_by_hand() -> None:
    rng = np.random.default_rng(3)
    held, returns = np.concatenate([[0, 0], rng.choice([-1.0, 0.0, 1.0], 298)]), rng.normal(0, 0.01, 300)
    means = performance.shifted(held, returns, apart=20)
    assert len(means) == 300 - 2 * 20 + 1 >= 200
    one_by_one = [(np.roll(held, shift) * returns).mean() for shift in range(20, 281)]
    np.testing.assert_allclose(means, one_by_one, atol=1e-12)
    around = [np.abs(np.diff(np.roll(held, shift), append=np.roll(held, shift)[0])).sum() for shift in (0, 20, 133)]
    assert around[0] == around[1] == around[2]
    actual = float((held * returns).mean())
    assert performance.rank(actual, means) == (1 + sum(mean >= actual for mean in one_by_one)) / 262


def test_holding_is_never_better_timed_than_itself() -> None:
    made = traded(tape_of(np.random.default_rng(4).normal(0.002, 0.01, 900)), np.full(890, 0.9))
    assert made.hold.over_cash.p_value < 0.001
    assert made.hold.random_p > 0.05
    assert made.hold.over_hold.gain == 0
    assert not made.tradable(PROVEN)


def test_a_tape_too_short_for_luck_to_be_told_proves_nothing() -> None:
    made = traded(tape_of(np.full(30, 0.01)), np.full(10, 0.9), horizon=16)
    assert made.rules[0].shifts == 0
    assert made.rules[0].random_p == 1


def planted(seed: int, *, edge: float, lasts: int = 48, states: int = 150, costs: Costs | None = None) -> Trading:
    """Hourly bars whose drift changes its sign now and then; forecasts know that sign."""
    rng = np.random.default_rng(seed)
    state = np.repeat(rng.choice([-1.0, 1.0], states), lasts)
    moves = 0.005 * rng.standard_normal(len(state)) + edge * state
    p_up = np.where(state > 0, 0.6, 0.4)[: -lasts - 4]
    return traded(tape_of(moves), p_up, horizon=lasts // 4, costs=costs or Costs())


def test_a_planted_edge_is_tradable() -> None:
    made = planted(0, edge=0.001)
    rules = made.tradable(PROVEN)
    assert {one.rule for one in rules} >= {"sign", "sized by P(up)"}
    assert all(one.break_even_bp is not None and one.break_even_bp > 12 and one.net_year > 0 for one in rules)
    assert not made.tradable({"volatility": True, "direction": False}), "without skill it was luck"


def test_an_edge_that_costs_eat_is_not_tradable() -> None:
    fast = {"edge": 0.0004, "lasts": 4, "states": 4000}
    free, dear = (planted(0, costs=costs, **fast) for costs in (FREE, Costs()))
    assert "sign" in {one.rule for one in free.tradable(PROVEN)}
    assert dear.rules[0].random_p < 0.01, "better than luck all the same"
    assert dear.rules[0].break_even_bp is not None
    assert 0 < dear.rules[0].break_even_bp < 12
    assert dear.rules[0].net_year < 0
    assert not dear.tradable(PROVEN)


def test_noise_is_hardly_ever_tradable() -> None:
    assert sum(bool(planted(seed, edge=0.0).tradable(PROVEN)) for seed in range(20)) <= 1


def persistent(seed: int) -> Trading:
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(2100), np.ones(100), mode="valid")[:2000]
    return traded(tape_of(rng.normal(0, 0.01, 2000)), 0.5 + 0.01 * slow.clip(-40, 40), horizon=24)


@pytest.mark.prove
def test_random_positions_give_honest_p_values_for_slow_forecasts() -> None:
    drawn = np.array([[one.random_p for one in persistent(seed).rules[:2]] for seed in range(400)])
    rejected = (drawn <= 0.05).mean(axis=0)
    print(f"random positions beaten at 5 %: {rejected}")
    assert (rejected <= 0.08).all()


def test_figures_are_the_same_every_time_and_plain_in_json() -> None:
    one, other = planted(5, edge=0.001).to_json(), planted(5, edge=0.001).to_json()
    assert one == other
    assert [row["rule"] for row in one["rules"]] == list(RULES)
    assert set(one["rules"][0]).isdisjoint({"held", "gross", "net"})
    assert one["costs"]["per_side_bp"] == 12


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(60):
        returns = np.random.default_rng(seed).normal(0.02, 1.0, 2000)
        (low, high), (below, above) = performance.intervals(returns, per_year=1.0, block=20, seed=1)
        assert below < performance.sortino(returns, per_year=1.0) < above
        inside += low < 0.02 < high
    assert 51 <= inside <= 60


@pytest.mark.parametrize("ratio", [performance.sharpe, performance.sortino])
def test_what_never_moves_has_no_ratio(ratio: Callable[..., float]) -> None:
    assert ratio(np.zeros(5), per_year=365.0) == 0
    assert performance.intervals(np.zeros(5), per_year=365.0, block=2, seed=0) == ((0.0, 0.0), (0.0, 0.0))


def test_what_is_lost_whole_stays_lost() -> None:
    np.testing.assert_array_equal(performance.equity(np.array([0.5, -2.0, 1.0])), [1.5, 0.0, 0.0])
    assert performance.drawdown(np.array([0.5, -2.0, 1.0]))[-1] == 1
