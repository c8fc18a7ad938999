"""Drift is seen where it was planted, is not where there is none, and nothing is read that was not known."""

import json

import numpy as np
import pytest
from backsight_model.drift import RECENT, Drift, Reference, index, look, references, worse

HORIZON = 24
START = np.datetime64("2023-01-01", "us")


def overlapping(seed: int, hours: int, *, doubled_from: int | None = None) -> np.ndarray:
    """Squared errors of a day's log variance at each hour: neighbours share 23 of 24 shocks."""
    rng = np.random.default_rng(seed)
    shocks = np.convolve(rng.standard_normal(hours + HORIZON - 1), np.ones(HORIZON) / np.sqrt(HORIZON), mode="valid")
    scale = np.ones(hours) if doubled_from is None else np.where(np.arange(hours) < doubled_from, 1.0, np.sqrt(2.0))
    return np.square(scale * shocks)


def at(count: int) -> np.ndarray:
    return START + np.arange(count) * np.timedelta64(1, "h")


def test_the_index_is_that_of_a_hand_calculation() -> None:
    # Half a count in each of two bins: q = (50.5, 50.5) / 101, p = (80.5, 20.5) / 101.
    q, p = np.array([0.5, 0.5]), np.array([80.5, 20.5]) / 101
    by_hand = (p[0] - q[0]) * np.log(p[0] / q[0]) + (p[1] - q[1]) * np.log(p[1] / q[1])
    assert index(np.array([50, 50]), np.array([80, 20])) == pytest.approx(by_hand)
    assert index(np.array([10, 30]), np.array([10, 30])) == 0
    assert np.isfinite(index(np.array([40, 0]), np.array([0, 40])))


def test_the_feature_that_moved_is_named_and_a_slow_one_is_not() -> None:
    rng = np.random.default_rng(1)
    steps = np.repeat(np.arange(12.0), 400)  # like a monthly level: each stretch holds one or two values
    reference = np.column_stack([rng.standard_normal((4800, 2)), steps, np.ones(4800)]).astype(np.float32)
    recent = np.column_stack(
        [rng.standard_normal(400), 1.5 + rng.standard_normal(400), np.full(400, 11.0), np.ones(400)]
    )
    learnt = Reference.of(reference, ("still", "shifted", "slow", "constant"), stretch=400)
    found = learnt.against(recent.astype(np.float32), since=START)
    assert found.moved == ("shifted",)
    assert found.drifted, "one of four"
    assert found.psi["shifted"] > 1
    assert found.psi["slow"] > 1, "yet no more than any stretch of its past"
    assert found.usual["slow"] >= found.psi["slow"]
    assert found.psi["constant"] == pytest.approx(0, abs=0.01)
    assert "1 of 4 features moved, most shifted (PSI" in found.words


def test_a_source_that_falls_silent_is_a_move() -> None:
    values = np.random.default_rng(2).standard_normal((4000, 1)).astype(np.float32)
    found = Reference.of(values, ("news",), stretch=400).against(np.full((400, 1), np.nan, np.float32), since=START)
    assert found.moved == ("news",)


def test_what_was_learnt_from_is_kept_with_the_model_bit_for_bit_and_each_symbol_has_its_own() -> None:
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((3000, 2)).astype(np.float32)
    rows[rng.random(3000) < 0.1, 1] = np.nan
    symbol = np.array(["A", "B"] * 1500, dtype=object)
    both = references(rows, symbol, ("x", "y"))
    again = Reference.from_json(json.loads(json.dumps(both["B"].to_json())))
    recent = rows[symbol == "B"][:RECENT]
    assert again.against(recent, since=START) == both["B"].against(recent, since=START)
    assert again.against(recent, since=START) != both["A"].against(recent, since=START)
    assert [edges.dtype for edges in again.edges] == [np.float32] * 2


def test_usual_is_the_largest_of_all_stretches_wherever_they_begin() -> None:
    values = np.zeros(2400, dtype=np.float32)
    values[:] = np.random.default_rng(7).standard_normal(2400)
    values[660:1140] += 3  # no stretch that begins at a multiple of 480 is this one
    learnt = Reference.of(values[:, None], ("x",), stretch=480)
    unusual = learnt.against(values[672:1152, None], since=START)
    assert learnt.usual[0] >= unusual.psi["x"] > 2
    assert unusual.moved == ()


def test_a_doubled_loss_is_found_within_weeks() -> None:
    days = []
    for seed in range(12):
        tail, since = np.arange(100 * HORIZON), np.arange(100 * HORIZON, 300 * HORIZON)
        switch = 160 * HORIZON
        lost = overlapping(seed, 300 * HORIZON, doubled_from=switch)
        for day in range(165, 300, 5):
            found = worse("x", at(len(lost)), lost, tail=tail, since=since[: (day - 100) * HORIZON], horizon=HORIZON)
            assert found is not None
            if found.drifted:
                assert found.after > found.before
                days.append(day - 160)
                break
    print(f"found in {len(days)} of 12, after {np.median(days)} days in the middle, {max(days)} at most")
    assert len(days) >= 11
    assert np.median(days) <= 40


def test_a_loss_that_stays_what_it_was_is_no_drift() -> None:
    tail, since = np.arange(100 * HORIZON), np.arange(100 * HORIZON, 465 * HORIZON)
    drifted = 0
    for seed in range(100, 140):
        found = worse("x", at(465 * HORIZON), overlapping(seed, 465 * HORIZON), tail=tail, since=since, horizon=HORIZON)
        assert found is not None
        drifted += found.drifted
    print(f"a false alarm in {drifted} of 40 years")
    assert drifted <= 4


def test_a_loss_that_falls_is_no_drift_and_too_few_say_nothing() -> None:
    lost = overlapping(3, 300 * HORIZON, doubled_from=150 * HORIZON)[::-1]
    tail, since = np.arange(100 * HORIZON), np.arange(100 * HORIZON, 300 * HORIZON)
    found = worse("x", at(len(lost)), lost, tail=tail, since=since, horizon=HORIZON)
    assert found is not None
    assert not found.drifted
    assert worse("x", at(len(lost)), lost, tail=tail[:239], since=since, horizon=HORIZON) is None
    assert worse("x", at(len(lost)), lost, tail=tail, since=since[:23], horizon=HORIZON) is None


def seen(lost: np.ndarray, newest: np.ndarray, *, until: int) -> Drift:
    train = np.arange(2000)
    return look(
        at(len(lost)),
        newest,
        {"volatility": lost},
        features=("a", "b"),
        train=train,
        tail=train[-600:],
        since=np.arange(2024, until),
        horizon=HORIZON,
    )


def test_nothing_is_read_but_what_was_named() -> None:
    newest = np.random.default_rng(4).standard_normal((4000, 2)).astype(np.float32)
    lost = overlapping(4, 4000)
    before = seen(lost, newest, until=3000)
    changed, other = lost.copy(), newest.copy()
    for values in (changed, other):
        values[3000:] = 1e6
        values[2000:2024] = np.nan
    assert seen(changed, other, until=3000).to_json() == before.to_json()
    assert seen(changed, other, until=4000).to_json() != before.to_json()
    assert seen(lost, newest, until=2024 + RECENT - 1).inputs is None
    assert "no change that ADWIN sees" in before.words
    assert "features moved" in before.words
